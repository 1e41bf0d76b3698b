"""The Sweep page: start many runs whose settings vary, follow them, and take the best further."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lib.sweeps import Sweep, launch, list_sweeps
from lib.sweeps.study import Trial
from lib.task import Task
from lib.ui.cluster import SLURM, script_box, why
from lib.ui.context import Jobs, empty_state, go_to, guard, page_header, plain, query, set_query, stage_link
from lib.ui.curves import words
from lib.ui.panels import show_figure
from lib.ui.rundata import ACTIVE, overview, overviews
from lib.ui.sweep_actions import show_asked_of_sweep, show_undo_of_sweep, sweep_buttons
from lib.ui.sweep_form import choices_of, new_sweep, vary_text
from lib.ui.sweep_views import (
    ENOUGH,
    ENOUGH_FOR_IMPORTANCE,
    history,
    importances,
    parallel,
    ranked,
    read,
    slices,
    trials_table,
)
from lib.ui.theme import number, state_badge
from lib.ui.words import t

EVERY_S = 3


def sweep_page(task: Task, jobs: Jobs) -> None:
    """A new sweep on the left, the one named by `?sweep=` (else the newest) on the right."""
    purpose = t("Train many models whose settings vary, and find the best by its value on validation.")
    page_header(t("Sweep"), purpose, task)
    left, right = st.columns([5, 7], gap="large")
    with left, guard():
        new_sweep(task, jobs, overviews(jobs, task.name))
    with right, guard():
        _sweeps(task, jobs)
    show_asked_of_sweep(jobs)


def _sweeps(task: Task, jobs: Jobs) -> None:
    st.subheader(t("Sweeps"), anchor=False)
    show_undo_of_sweep(task.name)
    known = {sweep.id: sweep for sweep in list_sweeps(task.name)}
    linked = query("sweep")
    if linked and linked not in known:
        st.warning(t("There is no sweep {sweep} of this task.", sweep=plain(repr(linked))), icon=":material/search_off:")
    if not known:
        empty_state(t("No sweep yet. Choose what varies on the left and start: its trials and the best settings appear here."))
        return
    ids = list(known)
    labels = {name: _label(sweep) for name, sweep in known.items()}
    chosen = st.selectbox(
        t("Sweep"), ids, index=ids.index(linked) if linked in known else 0, format_func=labels.__getitem__,
        label_visibility="collapsed",
    )  # fmt: skip
    set_query("sweep", chosen)
    sweep = known[chosen]
    _, trials = read(sweep)
    active = launch.state(sweep, trials) in ACTIVE
    st.fragment(_live, run_every=EVERY_S if active else None)(task, jobs, sweep, active)


def _label(sweep: Sweep) -> str:
    return f"{sweep.name} · {', '.join(sweep.plan().vary)}"


def _live(task: Task, jobs: Jobs, sweep: Sweep, active: bool) -> None:
    """The sweep as it stands now; when it ends, the whole page is drawn anew."""
    with guard():
        study, trials = read(sweep)
        state = launch.state(sweep, trials)
        if (state in ACTIVE) != active:
            st.rerun()
        _facts(task, sweep, trials, state)
        _actions(task, jobs, sweep, trials, state)
        if not trials:
            empty_state(t("The first trials are about to start."), ":material/hourglass_top:")
            return
        _table(task, jobs, sweep, trials)
        done = sum(trial.state == "done" for trial in trials)
        if done < ENOUGH:
            st.caption(t("Figures come with the second finished trial."))
            return
        key = sweep.id
        st.markdown(f"##### {t('History')}")
        show_figure(history(study, task, sweep), f"history-{key}")
        if len(sweep.plan().vary) > 1:
            st.markdown(f"##### {t('Parallel coordinates')}")
            show_figure(parallel(study, task, sweep), f"parallel-{key}")
        st.markdown(f"##### {t('Slice')}")
        show_figure(slices(study, task, sweep), f"slice-{key}")
        if done >= ENOUGH_FOR_IMPORTANCE and len(sweep.plan().vary) > 1:
            st.markdown(f"##### {t('Importance of each setting')}")
            with guard():
                show_figure(importances(study), f"importance-{key}")
            st.caption(t("PED-ANOVA: how far a setting alone tells the good trials from the others. Few trials tell little."))


def _facts(task: Task, sweep: Sweep, trials: Sequence[Trial], state: str) -> None:
    plan, metric = sweep.plan(), sweep.metric
    ended = launch.finished(list(trials))
    with st.container(horizontal=True, vertical_alignment="center"):
        state_badge(state)
        st.caption(" · ".join([sweep.id, sweep.executor]))
    st.progress(min(1.0, ended / plan.trials), text=t("{n} of {all} trials", n=ended, all=plan.trials))
    st.caption(plain(vary_text(plan.vary)))
    st.caption(choices_of(sweep))
    if state == "lost":
        text = t("Whoever trained its trials is gone without a word. Resume goes on, and loses no finished epoch.")
        st.warning(text, icon=":material/link_off:")
    if state == "queued" and (waiting := launch.waits_for(sweep)):
        st.caption(f":material/dns: {why(waiting)}")
    begun = any(trial.run_id for trial in trials)
    if not begun and state == "lost" and (log := launch.last_words(sweep, 20)):
        st.code(log, language=None, wrap_lines=True)
    best = launch.best_of(sweep, list(trials))
    cells = st.columns(4)
    title = t("Best {value}", value=words(metric.name, metric.unit, task.say))
    cells[0].metric(title, number(best.value if best else None, metric.unit))
    counted = {"done": t("Trained to the end"), "pruned": t("Stopped early"), "failed": t("Failed")}
    for cell, (word, label) in zip(cells[1:], counted.items(), strict=True):
        cell.metric(label, sum(trial.state == word for trial in trials))


def _actions(task: Task, jobs: Jobs, sweep: Sweep, trials: Sequence[Trial], state: str) -> None:
    """What can be done now, and the best run."""
    best = launch.best_of(sweep, list(trials))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sweep_buttons(sweep, state)
        if best is not None:
            row = overview(launch.run_of(sweep, best), jobs)
            stage_link(task.name, "results", t("Best run: {name}", name=plain(row.name)), run=row.run.id)
    if best is not None and launch.run_of(sweep, best).folder.exists():
        _longer(task, jobs, sweep, best)


def _longer(task: Task, jobs: Jobs, sweep: Sweep, best: Trial) -> None:
    """More epochs for the best."""
    run = launch.run_of(sweep, best)
    epochs = run.status().epoch
    with st.popover(t("Train the best for longer"), icon=":material/fast_forward:", key="longer"):
        text = t("A new run with these settings goes on where the best trial ended, at {n} epochs, without early stopping if "
                 "that had ended it.", n=epochs)  # fmt: skip
        st.caption(text)
        wanted = int(st.number_input(t("Epochs in all"), epochs + 1, 10_000, min(10_000, 3 * epochs), key=f"longer-{sweep.id}"))
        if sweep.executor == SLURM:
            slurm = jobs.executors()[SLURM]
            script_box(slurm.preview(task.name, slurm.settings(run).model_dump(), f"{run.name}, {wanted}"))
        if st.button(t("Train"), type="primary", key="longer-start"):
            new = launch.longer(run, wanted)
            go_to(task.name, "train", run=new.id)


def _table(task: Task, jobs: Jobs, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Every trial, the best first; a ticked one is linked to."""
    order = ranked(trials, sweep)
    table = trials_table(order, task, sweep)
    event = st.dataframe(
        table, hide_index=True, key=f"trials-{sweep.id}", on_select="rerun", selection_mode="single-row", placeholder="–",
        height="auto" if len(order) <= 8 else 330, column_config={table.columns[2]: st.column_config.NumberColumn(format="%.4g")},
    )  # fmt: skip
    picked = [order[row] for row in event["selection"]["rows"] if row < len(order)]
    if not picked:
        st.caption(t("Tick a trial to open its run."))
        return
    trial = picked[0]
    if trial.reason:
        st.caption(plain(trial.reason))
    if trial.run_id and launch.run_of(sweep, trial).folder.exists():
        row = overview(launch.run_of(sweep, trial), jobs)
        with st.container(horizontal=True):
            stage_link(task.name, "train", t("Training and log"), run=row.run.id)
            if row.state == "done":
                stage_link(task.name, "results", t("Result sheet"), run=row.run.id)
    elif trial.run_id:
        st.caption(t("Its run was deleted."))
