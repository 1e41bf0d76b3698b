"""What a user can do to a run: cancel (asked first), resume, delete (with undo), read the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import streamlit as st

from lib.bulk import ask_again, is_bulk, open_parts, part_command, request_of
from lib.runs import Run, delete, restore
from lib.ui.cluster import SLURM, cluster_form, log_text, script_box
from lib.ui.context import PAGE_PATH, Jobs, guard, plain
from lib.ui.rundata import OPEN_END, Overview
from lib.ui.words import t

Action = Literal["cancel", "resume", "delete", "log"]
BUTTONS: dict[Action, tuple[str, str]] = {
    "log": ("Log", ":material/article:"),
    "cancel": ("Cancel", ":material/stop_circle:"),
    "resume": ("Resume", ":material/resume:"),
    "delete": ("Delete", ":material/delete:"),
}
ASKED = "asked-of-run"  # session: (page, action, run folder), from the button until it is done, refused or closed
DELETED = "deleted-runs"  # session: [(name, folder in the trash)], newest last


def run_actions(row: Overview) -> list[Action]:
    """What can be done to a run in its state."""
    if row.run.shipped:
        return []
    if row.active:
        return ["cancel"]
    return ["resume"] if row.state in OPEN_END else []


def ask(row: Overview, action: Action, *, icon_only: bool = False) -> None:
    """The button of one action. It only notes the wish: a dialog opened inside a live fragment would close at its next turn."""
    label, icon = t(BUTTONS[action][0]), BUTTONS[action][1]
    told = t("{action}: {name}", action=label, name=plain(row.name))
    shape: dict[str, Any] = {"help": told, "type": "tertiary"} if icon_only else {}
    if st.button("" if icon_only else label, icon=icon, key=f"{action}-{row.run.id}", **shape):
        st.session_state[ASKED] = (st.session_state.get(PAGE_PATH), action, str(row.run.folder))
        st.rerun()


def show_asked(jobs: Jobs) -> None:
    """Do, or ask about, what the last button wished. Call once, at the end of the page."""
    page, action, folder = st.session_state.get(ASKED, (None, None, ""))
    if action is None or page != st.session_state.get(PAGE_PATH):
        _forget()
        return
    run = Run(Path(folder))
    if action == "cancel":
        st.dialog(t("Cancel this run?"), icon=":material/stop_circle:", on_dismiss=_forget)(_cancel_dialog)(run, jobs)
    elif action == "log":
        st.dialog(t("Log"), width="large", icon=":material/article:", on_dismiss=_forget)(_log_dialog)(run, jobs)
    elif action == "resume" and _executor(run) == SLURM:
        st.dialog(t("Resume this run?"), width="large", icon=":material/resume:", on_dismiss=_forget)(_resume_dialog)(run, jobs)
    else:
        _forget()
        with guard():
            _do(run, action, jobs)
            st.rerun()


def _executor(run: Run) -> str:
    """Where its next job will compute: a prediction in parts is planned here, wherever the parts are done."""
    return request_of(run.folder).executor if is_bulk(run.folder) else str(run.about().get("executor") or "")


def _forget() -> None:
    st.session_state.pop(ASKED, None)


def _do(run: Run, action: Action, jobs: Jobs) -> None:
    if action == "resume":
        jobs.resume(run)
        st.toast(t("Resumed {name}", name=plain(run.name)), icon=":material/resume:")
    else:
        name = run.name
        st.session_state.setdefault(DELETED, []).append((name, str(delete(run))))


def show_undo() -> None:
    """A line for the run deleted last, with a button that brings it back."""
    deleted: list[tuple[str, str]] = st.session_state.get(DELETED, [])
    if not deleted:
        return
    name, folder = deleted[-1]
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(t(":material/delete: Deleted **{name}**.", name=plain(name)), width="stretch")
        if st.button(t("Undo"), key="undo-delete", icon=":material/undo:"):
            deleted.pop()
            restore(Path(folder))
            st.rerun()
        if st.button("", key="forget-delete", icon=":material/close:", type="tertiary", help=t("Hide this line")):
            deleted.clear()
            st.rerun()


def _cancel_dialog(run: Run, jobs: Jobs) -> None:
    with guard():
        name = plain(run.name)
        st.markdown(
            t("**{name}** stops at once. Its finished parts stay, and it can be resumed.", name=name)
            if is_bulk(run.folder)
            else t(
                "**{name}** stops at once. Its best weights so far stay, and it can be resumed from its last epoch.", name=name
            )
        )
        with st.container(horizontal=True):
            if st.button(t("Stop it"), type="primary", key="confirm-cancel"):
                _forget()
                with st.spinner(t("Stopping every process of the run…")):
                    jobs.cancel(run)
                st.toast(t("Cancelled {name}", name=plain(run.name)), icon=":material/block:")
                st.rerun()
            if st.button(t("Keep running"), key="refuse-cancel"):
                _forget()
                st.rerun()


def _resume_dialog(run: Run, jobs: Jobs) -> None:
    """On a cluster: what its next job asks for, which may be more than the last one had."""
    with guard():
        slurm = jobs.executors()[SLURM]
        request = request_of(run.folder) if is_bulk(run.folder) else None
        before = slurm.settings(run) if request is None else slurm.Settings.parse(request.cluster)
        values = cluster_form(slurm, f"resume-{run.id}", before)
        if values is not None and request is None:
            script_box(slurm.script(run, slurm.Settings.parse(values)))
        elif values is not None and request is not None and (left := open_parts(run.folder)):
            script_box(slurm.preview_parts(run.folder, part_command(request.task, run.folder), left, values))
        if st.button(t("Resume"), type="primary", key="confirm-resume", disabled=values is None) and values is not None:
            _forget()
            if request is None:
                slurm.assign(run, slurm.Settings.parse(values))
            else:
                ask_again(run.folder, request, values)
            _do(run, "resume", jobs)
            st.rerun()


def _log_dialog(run: Run, jobs: Jobs) -> None:
    with guard():
        st.caption(f"{plain(run.name)} · {run.id}")
        st.fragment(_log_tail, run_every=2)(run, jobs)


def _log_tail(run: Run, jobs: Jobs) -> None:
    with st.container(height=480, autoscroll=True, border=False):
        st.code(log_text(jobs, run, 400) or t("Nothing logged yet."), language=None, wrap_lines=True)
