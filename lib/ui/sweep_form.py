"""The start form of the Sweep page: what varies and how, then the settings that all trials share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from lib import sweeps
from lib.sweeps import SINGLE, Plan, Range, Sweep, Values, launch, space
from lib.task import InputError, Task, TrainConfig
from lib.ui.cluster import SLURM, cluster_form, script_box
from lib.ui.context import Jobs, plain, set_query, show_error
from lib.ui.forms import Entry, spoken
from lib.ui.rundata import Overview
from lib.ui.train import executor_choice, settings_form
from lib.ui.words import kept, t

TUNE, SEEDS, FOLDS = "Better settings", "Seed ensemble", "All folds"
PURPOSES = {
    TUNE: "Find the settings with the best value on validation.",
    SEEDS: "Train the same model from several seeds, to see how much is luck, or to average their predictions.",
    FOLDS: "Train one model for each fold, so that every sample is tested once.",
}
SAMPLERS = {"tpe": "TPE: learns from earlier trials", "random": "At random", "grid": "Grid: every combination"}
PRUNERS = {"none": "Never", "median": "Below the median of the others", "hyperband": "Hyperband"}
N_SEEDS = 5
FIRST = "learning_rate"  # varies until something else is chosen


def new_sweep(task: Task, jobs: Jobs, rows: Sequence[Overview]) -> None:
    """The form, and its start button."""
    st.subheader(t("New sweep"), anchor=False)
    start, place = st.container(border=True), st.container()
    st.markdown(f"###### {t('Settings that all trials share')}")
    st.caption(t("They are those of the Train page. What varies above takes their place, and they are the first trial."))
    values = settings_form(task, rows)
    config = task.Training.parse(values) if values else None
    with start:
        key = f"{task.name}-sweep"
        folds = task.folds(config) if config else []
        name = st.text_input(
            t("Name"), key=f"{key}-name", max_chars=40, placeholder=t("optional, to find it again"), persist_state="session"
        )
        _purpose(task, key, folds)
        asked = _plan(task, key, config)
        executor = executor_choice(jobs, f"{key}-executor")
    with place:
        cluster = _cluster(task, jobs, f"{key}-cluster", name or "", asked) if executor == SLURM else {}
    with start:
        ready = config is not None and asked is not None and executor is not None and cluster is not None
        label = t("Start {n} trials", n=asked[1]) if asked else t("Start the sweep")
        pressed = st.button(
            label, type="primary", icon=":material/play_arrow:", key="start-sweep", disabled=not ready, width="stretch"
        )
    if pressed and config is not None and asked is not None and executor is not None:
        _start(task, jobs, config, asked[0], (name or "").strip(), executor, cluster)


def _cluster(task: Task, jobs: Jobs, key: str, name: str, asked: tuple[Plan, int] | None) -> dict[str, Any] | None:
    """What to ask the cluster for, and the script of the job array that asks; None while a value is wrong."""
    values = cluster_form(jobs.executors()[SLURM], key)
    if values is not None and asked is not None:
        script_box(launch.preview(task.name, name.strip(), asked[0].workers, values))
    return values


def _start(
    task: Task, jobs: Jobs, config: TrainConfig, plan: Plan, name: str, executor: str, cluster: dict[str, Any] | None
) -> None:
    sweep = sweeps.create(task, config, plan, name, executor)
    if cluster:
        launch.assign(sweep, jobs.executors()[executor].Settings.parse(cluster))
    launch.start(sweep)
    set_query("sweep", sweep.id)
    st.toast(t("Started {name}", name=plain(sweep.name)), icon=":material/play_arrow:")
    st.rerun()


# --- presets ----------------------------------------------------------------------------------------------------------
def _purpose(task: Task, key: str, folds: Sequence[TrainConfig]) -> None:
    """What the sweep is for: one press fills in the rest."""
    differing = [name for name in task.Training.model_fields if len({repr(getattr(fold, name)) for fold in folds}) > 1]
    fills: dict[str, dict[str, Sequence[Any]]] = {TUNE: {FIRST: ()}, SEEDS: {"seed": range(N_SEEDS)}}
    if len(differing) == 1:
        fills[FOLDS] = {differing[0]: [getattr(fold, differing[0]) for fold in folds]}
    chooser = kept(f"{key}-purpose")

    def fill() -> None:
        chosen = fills[st.session_state[chooser]]
        st.session_state[f"{key}-vary"] = list(chosen)
        tuned = chosen == fills[TUNE]
        st.session_state[f"{key}-sampler"] = "tpe" if tuned else "grid"
        st.session_state[f"{key}-pruner"] = "median" if tuned else "none"
        for name, values in chosen.items():
            st.session_state[f"{key}.{name}.values"] = ", ".join(map(str, values)) if values else None

    chosen = st.segmented_control(
        t("What for"), list(fills), default=TUNE, required=True, key=chooser, on_change=fill, persist_state="session",
        format_func=lambda word: t(word or ""),
    )  # fmt: skip
    st.caption(t(PURPOSES[chosen or TUNE]))


# --- what varies ------------------------------------------------------------------------------------------------------
def _plan(task: Task, key: str, config: TrainConfig | None) -> tuple[Plan, int] | None:
    """What was chosen and how many trials that makes; None while something is wrong, which is told."""
    entries = {entry.name: entry for entry in spoken(task.Training, task.say) if entry.name not in SINGLE}
    st.session_state.setdefault(f"{key}-vary", [FIRST])
    chosen = st.multiselect(
        t("What varies"), list(entries), key=kept(f"{key}-vary"), format_func=lambda name: entries[name].label,
        placeholder=t("Choose at least one setting"), persist_state="session",
    )  # fmt: skip
    st.session_state.setdefault(f"{key}-sampler", "tpe")
    sampler = st.selectbox(
        t("How settings are chosen"), list(SAMPLERS), key=kept(f"{key}-sampler"), persist_state="session",
        format_func=lambda name: t(SAMPLERS[name]),
    )  # fmt: skip
    try:
        vary = {name: _varied(entries[name], f"{key}.{name}", task, config, sampler == "grid") for name in chosen}
        values = {"sampler": sampler, "vary": vary, **_numbers(key, sampler == "grid")}
        if not vary:
            st.caption(t("Choose at least one setting that varies."))
            return None
        plan = Plan.parse(values, t("sweep"))
        checked = {name: space.checked(task.Training, name, one) for name, one in plan.vary.items()}
        trials = len(sweeps.grid(checked)) if sampler == "grid" else plan.trials
    except InputError as error:
        show_error(error)
        return None
    return plan, trials


def _numbers(key: str, grid: bool) -> dict[str, Any]:
    """How many trials, how many at once, and when one stops early."""
    cells = st.columns(1 if grid else 2, vertical_alignment="bottom")
    values: dict[str, Any] = {}
    if not grid:
        values["trials"] = int(cells[0].number_input(t("Trials"), 1, 10_000, 20, key=f"{key}-trials", persist_state="session"))
    told = t("Runs that train side by side; each takes its share of the cores. On a cluster: tasks of the job array.")
    values["workers"] = int(
        cells[-1].number_input(t("At once"), 1, 256, 2, key=f"{key}-workers", help=told, persist_state="session")
    )
    st.session_state.setdefault(f"{key}-pruner", "median")
    values["pruner"] = st.selectbox(
        t("Stop a trial early"), list(PRUNERS), key=kept(f"{key}-pruner"), persist_state="session",
        format_func=lambda name: t(PRUNERS[name]),
    )  # fmt: skip
    return values


def _varied(entry: Entry, key: str, task: Task, config: TrainConfig | None, grid: bool) -> Range | Values:
    """The widgets of one setting. Raises InputError."""
    here = getattr(config, entry.name) if config is not None else entry.default
    if entry.kind in ("choice", "switch"):
        options = list(entry.choices) if entry.kind == "choice" else [False, True]
        words = {False: t("off"), True: t("on"), None: t("automatic")}
        picked = st.multiselect(
            entry.label, options, default=options, key=kept(f"{key}.choices"), help=entry.help, persist_state="session",
            format_func=lambda value: words[value] if isinstance(value, bool | None) else task.say(str(value)),
        )  # fmt: skip
        return Values(values=tuple(picked))
    if grid or entry.kind in ("text", "list"):
        return _typed_values(entry, key, task, here)
    return _range(entry, key, here)


def _typed_values(entry: Entry, key: str, task: Task, here: Any) -> Values:
    """Values separated by commas, or by semicolons where they hold commas themselves."""
    known = [preset[entry.name] for preset in task.training_presets.values() if entry.name in preset]
    listed = [str(value) for value in dict.fromkeys([*map(str, known), str(here)]) if value]
    low, high = _around(entry, here)
    numbers = [f"{value:.4g}" for value in sorted({low, float(here or low), high})]
    start = ", ".join(numbers if entry.kind in ("number", "integer") else listed)
    if st.session_state.get(f"{key}.values") is None:
        st.session_state[f"{key}.values"] = start
    text = st.text_input(
        entry.label, key=f"{key}.values", help=entry.help, max_chars=500, placeholder=t("separated by commas"),
        persist_state="session",
    )  # fmt: skip
    parsed = space.typed({entry.name: text or ""})[entry.name]
    return parsed if isinstance(parsed, Values) else Values(values=tuple(parsed.points() or (parsed.low, parsed.high)))


def _range(entry: Entry, key: str, here: Any) -> Range:
    """Lowest and highest value, and whether their logarithm is drawn evenly."""
    whole = entry.kind == "integer"
    cast: Any = int if whole else float
    low, high = (cast(value) for value in _around(entry, here))
    number = partial(
        st.number_input, min_value=None if entry.low is None else cast(entry.low), step=1 if whole else None,
        max_value=None if entry.high is None else cast(entry.high), format="%d" if whole else "%g", persist_state="session",
    )  # fmt: skip
    cells = st.columns([3, 3, 2.7], vertical_alignment="bottom")
    with cells[0]:
        least = number(t("{setting}, from", setting=entry.label), value=low, key=f"{key}.low", help=entry.help)
    with cells[1]:
        most = number(t("to"), value=high, key=f"{key}.high")
    log = cells[2].toggle(
        t("log"), value=entry.log, key=f"{key}.log", help=t("Draw its logarithm evenly"), persist_state="session"
    )
    return Range(low=cast(least), high=cast(most), log=log)


def _around(entry: Entry, here: Any) -> tuple[float, float]:
    """A range to begin with: a decade either side of a logarithmic setting, else half to twice, within the bounds."""
    low, high = entry.low, entry.high
    centre = float(here) if isinstance(here, int | float) and here else float(entry.default or 1)
    factor = 10.0 if entry.log else 2.0
    least, most = centre / factor, centre * factor
    if entry.kind == "integer":
        least, most = max(1.0, round(least)) if centre >= 1 else 0.0, max(2.0, round(most))
    bounded = (max(least, low) if low is not None else least), (min(most, high) if high is not None else most)
    return bounded if bounded[0] < bounded[1] else (low or 0.0, high or most)


def vary_text(vary: Mapping[str, Range | Values]) -> str:
    """What varies, in one line."""
    parts = []
    for name, one in vary.items():
        within = f"{one.low:g} – {one.high:g}" if isinstance(one, Range) else ", ".join(map(str, one.values))
        parts.append(f"{name}: {within}")
    return " · ".join(parts)


def choices_of(sweep: Sweep) -> str:
    """Sampler, pruner and workers, in one line."""
    plan = sweep.plan()
    at_once = t("{n} at once", n=plan.workers)
    return " · ".join([t(SAMPLERS[plan.sampler]), t("stops early: {how}", how=t(PRUNERS[plan.pruner]).lower()), at_once])
