"""On the Results page: the same model under another promise, and the joint sheet of all folds. Both make a new run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lib.runs import Run
from lib.task import Task
from lib.ui.context import WorkerLike, guard, set_query
from lib.ui.forms import config_form
from lib.ui.words import t

TURN = "runs-turn"  # a new one starts the table of runs anew, from the runs in the address


def another_promise(task: Task, run: Run, worker: WorkerLike) -> None:
    """The settings of the promise and a button that certifies them on the kept calibration predictions."""
    if not (run.folder / "calibration_predictions.parquet").exists():
        st.caption(t("The calibration predictions of this run were not kept, so its promise cannot be changed without training."))
        return
    told = t(
        "Cut-offs are chosen anew on the same calibration samples; the model stays as it is and nothing is trained. A new run is "
        "made, because this sheet may have been signed. Choose the promise by what a mistake means to you, not by how its sheet "
        "looks: a promise picked because it came out well is worth less than it says."
    )
    st.caption(told)
    hidden = [name for name in task.Training.model_fields if name not in task.decides]
    values = config_form(
        task.Training, f"promise-{run.id}", values=run.config(), hide=hidden, subject=t("promise"), say=task.say
    )  # fmt: skip
    if st.button(t("Make this promise"), key=f"promise-go-{run.id}", icon=":material/balance:", disabled=values is None):
        assert values is not None
        before = task.Training.parse(run.config()).model_dump()
        changes = {name: values[name] for name in task.decides if values[name] != before[name]}
        _made(task, worker, "certify", {"run": f"{run.task}/{run.id}", "changes": changes})


def joint_sheet(task: Task, runs: Sequence[Run], worker: WorkerLike) -> None:
    """A button that joins these runs, where they are all folds of one training."""
    told = t("One sheet of all test samples, each predicted by the model that did not see it. For all folds of one training.")
    if st.button(t("Joint sheet of these folds"), key="join-folds", icon=":material/join:", help=told):
        _made(task, worker, "join", {"runs": [run.id for run in runs]})


def _made(task: Task, worker: WorkerLike, op: str, payload: dict[str, Any]) -> None:
    """Have a run made and show it."""
    with guard(), st.spinner(t("Making the sheet…")):
        made = worker.request(op, {"task": task.name, "language": task.language, **payload})["run"]
        set_query("run", made)
        st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
        st.rerun()
