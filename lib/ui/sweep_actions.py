"""What a user can do to a sweep: stop it (asked first), resume it, delete it with or without its runs (with undo)."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lib.sweeps import Sweep, launch, list_sweeps, trash
from lib.ui.cluster import SLURM, cluster_form, script_box
from lib.ui.context import Jobs, guard, plain, query, set_query
from lib.ui.rundata import ACTIVE
from lib.ui.words import t

ASKED = "asked-of-sweep"  # session: (action, id of the sweep), from the button until it is done, refused or closed
DELETED = "deleted-sweeps"  # session: [(task, name, folder in the trash)], newest last


def sweep_buttons(sweep: Sweep, state: str) -> None:
    """The buttons of what can be done now. They only note the wish: a dialog opened in a live fragment would close again."""
    if state in ACTIVE and st.button(t("Stop"), icon=":material/stop_circle:", key="stop-sweep"):
        _ask("stop", sweep)
    if state in ("cancelled", "lost") and st.button(t("Resume"), icon=":material/resume:", key="resume-sweep"):
        _ask("resume", sweep)
    if state not in ACTIVE and st.button(t("Delete"), icon=":material/delete:", key="delete-sweep"):
        _ask("delete", sweep)


def _ask(action: str, sweep: Sweep) -> None:
    st.session_state[ASKED] = (action, sweep.id)
    st.rerun()


def show_asked_of_sweep(jobs: Jobs) -> None:
    """Do, or ask about, what the last button wished. Call once, at the end of the page."""
    action, sweep_id = st.session_state.get(ASKED, ("", ""))
    if not action:
        return
    sweep = next((one for one in list_sweeps() if one.id == sweep_id), None)
    if sweep is None or sweep_id != query("sweep"):
        _forget()
    elif action == "stop":
        st.dialog(t("Stop this sweep?"), icon=":material/stop_circle:", on_dismiss=_forget)(_stop_dialog)(sweep)
    elif action == "delete":
        st.dialog(t("Delete this sweep?"), icon=":material/delete:", on_dismiss=_forget)(_delete_dialog)(sweep)
    elif sweep.executor == SLURM:
        title = t("Resume this sweep?")
        st.dialog(title, width="large", icon=":material/resume:", on_dismiss=_forget)(_resume_dialog)(sweep, jobs)
    else:
        _forget()
        with guard():
            _resume(sweep)


def _forget() -> None:
    st.session_state.pop(ASKED, None)


def _resume(sweep: Sweep) -> None:
    launch.start(sweep)
    st.toast(t("Resumed {name}", name=plain(sweep.name)), icon=":material/resume:")
    st.rerun()


def _resume_dialog(sweep: Sweep, jobs: Jobs) -> None:
    """On a cluster: what its next job array asks for, which may be more than the last one had."""
    with guard():
        slurm = jobs.executors()[SLURM]
        values = cluster_form(slurm, f"resume-{sweep.id}", launch.cluster_settings(sweep))
        if values is not None:
            script_box(launch.script(sweep, slurm.Settings.parse(values)))
        if st.button(t("Resume"), type="primary", key="confirm-resume-sweep", disabled=values is None) and values is not None:
            _forget()
            launch.assign(sweep, slurm.Settings.parse(values))
            _resume(sweep)


def _stop_dialog(sweep: Sweep) -> None:
    with guard():
        text = t("The trials of **{name}** that train now stop. Nothing that was trained is lost; Resume goes on.",
                 name=plain(sweep.name))  # fmt: skip
        st.markdown(text)
        with st.container(horizontal=True):
            if st.button(t("Stop it"), type="primary", key="confirm-stop-sweep"):
                _forget()
                with st.spinner(t("Stopping every process of the sweep…")):
                    launch.stop(sweep)
                st.rerun()
            if st.button(t("Keep running"), key="refuse-stop-sweep"):
                _forget()
                st.rerun()


def _delete_dialog(sweep: Sweep) -> None:
    with guard():
        n = len(trash.runs_of(sweep))
        st.markdown(t("**{name}** leaves the list; it can be brought back.", name=plain(sweep.name)))
        with_runs = n > 0 and st.checkbox(
            t("Delete its {n} runs too", n=n), key="delete-sweep-runs",
            help=t("Otherwise they stay on the Results and Jobs pages, as runs like any other."),
        )  # fmt: skip
        with st.container(horizontal=True):
            if st.button(t("Delete"), type="primary", key="confirm-delete-sweep"):
                _forget()
                name, place = sweep.name, trash.delete(sweep, with_runs)
                st.session_state.setdefault(DELETED, []).append((sweep.task, name, str(place)))
                set_query("sweep", "")
                st.rerun()
            if st.button(t("Keep it"), key="refuse-delete-sweep"):
                _forget()
                st.rerun()


def show_undo_of_sweep(task: str) -> None:
    """A line for the sweep of this task deleted last, with a button that brings it back."""
    deleted: list[tuple[str, str, str]] = st.session_state.get(DELETED, [])
    ours = [one for one in deleted if one[0] == task]
    if not ours:
        return
    _, name, folder = ours[-1]
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(t(":material/delete: Deleted **{name}**.", name=plain(name)), width="stretch")
        if st.button(t("Undo"), key="undo-delete-sweep", icon=":material/undo:"):
            deleted.remove(ours[-1])
            set_query("sweep", trash.restore(Path(folder)).id)
            st.rerun()
        if st.button("", key="forget-delete-sweep", icon=":material/close:", type="tertiary", help=t("Hide this line")):
            st.session_state[DELETED] = [one for one in deleted if one[0] != task]
            st.rerun()
