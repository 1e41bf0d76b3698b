"""Runs on a cluster: what to ask it for, the batch script, and where a run stands in its queue."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import streamlit as st

from lib.bulk import is_bulk
from lib.runs import Run
from lib.task import InputError
from lib.ui.context import Jobs, plain, show_error
from lib.ui.forms import config_form
from lib.ui.rundata import Overview
from lib.ui.theme import duration
from lib.ui.words import kept, language, speaking, t
from lib.words import core, spoken

SLURM = "slurm"
PLACES = {"local": "This machine", SLURM: "Slurm"}
AREAS = {  # fields of several lines: their example
    "prologue": "module load cuda\nsource ~/envs/lab/bin/activate",
    "extra": "--exclusive\n--reservation=beamtime",
}
REASONS = {  # why a job waits, by the beginning of Slurm's own word
    "Priority": "behind jobs of higher priority",
    "Resources": "waiting for free nodes",
    "Dependency": "after another job",
    "BeginTime": "until its start time",
    "JobHeldUser": "held by its user",
    "JobHeldAdmin": "held by an administrator",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "PartitionConfig": "it asks for more than its partition has",
    "PartitionNodeLimit": "it asks for more than its partition has",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
    "ReqNodeNotAvail": "the nodes it needs are down or reserved",
    "Nodes required for job are DOWN": "the nodes it needs are down or reserved",
    "QOS": "a limit of its QOS is reached",
    "Assoc": "a limit of its account is reached",
    "MaxCpuPerAccount": "a limit of its account is reached",
}
LABELS = {"Cpus per task": "CPUs per task", "Gpus": "GPUs"}  # that a field's name does not give
State = Mapping[str, Any]


# --- what to ask for --------------------------------------------------------------------------------------------------
def cluster_form(executor: Any, key: str, start: Any = None) -> dict[str, Any] | None:
    """The settings of a cluster profile, with the names the cluster offers; None while a value is wrong.

    `executor` is the one of Slurm; `start` are settings to begin with, else a profile is chosen first.
    """
    try:
        profiles = {} if start is not None else executor.profiles()
    except InputError as error:
        show_error(error)
        return None
    name = ""
    if profiles:
        label = t("Cluster profile")
        name = st.selectbox(label, list(profiles), key=kept(f"{key}-profile"), persist_state="session") or next(iter(profiles))
    begin = (start if start is not None else profiles[name]).model_dump()
    form = f"{key}-{name}"
    values = config_form(
        executor.Settings, form, values=begin, columns=2, folded=("resources", "more"), hide=tuple(AREAS),
        groups=("queue", "resources", "more"), choices=executor.offers().choices(), subject=t("cluster profile"), say=_say,
    )  # fmt: skip
    values = _areas(executor, form, begin, values)
    if values is not None and profiles:
        _keep(executor, values, name, key)
    return values


def _say(text: str, **values: Any) -> str:
    return t(LABELS.get(text, text), **values)


def _areas(executor: Any, form: str, begin: State, values: dict[str, Any] | None) -> dict[str, Any] | None:
    """The fields of several lines."""
    typed: dict[str, Any] = {}
    with st.expander(t("Shell lines and more options"), expanded=bool(begin["prologue"] or begin["extra"])):
        for name, example in AREAS.items():
            told = executor.Settings.model_fields[name].description
            area = f"{form}.{name}"
            st.session_state.setdefault(area, begin[name])
            typed[name] = st.text_area(t(told), key=area, placeholder=example, height=90)
    try:
        return None if values is None else executor.Settings.parse(values | typed, t("cluster profile")).model_dump()
    except InputError as error:
        show_error(error)
        return None


def _keep(executor: Any, values: dict[str, Any], name: str, key: str) -> None:
    """A name to keep these settings under."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        called = st.text_input(t("Keep as profile"), value=name, key=f"{key}-save-as-{name}", max_chars=60)
        if st.button(t("Keep"), key=f"{key}-save", icon=":material/save:"):
            executor.save_profile(called, values)
            st.toast(t("Kept as {name}", name=plain(called)), icon=":material/save:")


def script_box(script: str) -> None:
    """The batch script, to be read before it is submitted."""
    with st.expander(t("The batch script, as it will be submitted"), icon=":material/terminal:"):
        st.code(script, language="bash", wrap_lines=True)


# --- where a run stands -----------------------------------------------------------------------------------------------
def place_text(jobs: Jobs, row: Overview) -> str:
    """Where an active run stands on its cluster, in one line; empty for a run that is not on one."""
    if row.executor != SLURM or not row.active:
        return ""
    place = jobs.executors()[SLURM].place(row.run)
    if place is None:
        return ""
    job = place.job
    parts = [t("job {id}", id=job.id)]
    if place.trouble:
        parts.append(t("the cluster does not answer; jobs there go on"))
    elif job.waiting:
        parts += [why(job.reason), _start(job.starts_at)]
    else:
        parts += [plain(job.node), _clock(job.elapsed_s, job.limit_s)]
    return " · ".join(part for part in parts if part)


def why(reason: str) -> str:
    """Why a job waits, from Slurm's word, which is shown as it is where it is not known here."""
    word = next((word for word in REASONS if reason.startswith(word)), None)
    return f"{t(REASONS[word])} ({plain(reason.partition(',')[0])})" if word else plain(reason)


def _start(starts_at: float | None) -> str:
    """When Slurm expects it to start, in the server's time."""
    if starts_at is None or starts_at < time.time():
        return ""
    form = "%H:%M" if starts_at - time.time() < 18 * 3600 else "%Y-%m-%d %H:%M"
    return t("starts about {time}", time=datetime.fromtimestamp(starts_at).astimezone().strftime(form))


def _clock(elapsed_s: float | None, limit_s: float | None) -> str:
    if elapsed_s is None:
        return ""
    limit = duration(limit_s) if limit_s is not None else "∞"
    return t("{elapsed} of {limit}", elapsed=duration(elapsed_s), limit=limit)


def end_text(jobs: Jobs, row: Overview) -> str:
    """What the cluster says became of a run that did not end by itself; empty where it says nothing."""
    if row.executor != SLURM or row.active or row.status.finished:
        return ""
    return spoken(jobs.executors()[SLURM].end(row.run).reason, speaking(), core(language()))


def log_text(jobs: Jobs, run: Run, lines: int) -> str:
    """The end of a run's log, and what its job on a cluster printed beside it."""
    printed = jobs.executors()[SLURM].output(run, lines) if run.about().get("executor") == SLURM or is_bulk(run.folder) else ""
    return "\n".join(part for part in (run.log(lines), printed) if part)
