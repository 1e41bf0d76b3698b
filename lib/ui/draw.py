"""Drawing a mask over the picture: rectangles, brush, suggested bad pixels, undo, and the file it is kept in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from lib import drawn
from lib.drawn import Stroke, of_pixels, paint
from lib.plate import Plate
from lib.task import Task
from lib.ui.context import plain
from lib.ui.desk import Desk, Dressing, attempt
from lib.ui.forms import fill_form
from lib.ui.plate import Edit
from lib.ui.predict import acquisition_key
from lib.ui.words import t
from lib.ui.work import begin


def draw_section(desk: Desk) -> Dressing:
    """The controls; the picture gets the tools to draw with."""

    def edited(edit: Edit) -> None:
        if edit["kind"] == "stroke":
            desk.strokes.append(Stroke.from_json(edit["stroke"]))
            desk.unstroked.clear()
        elif edit["kind"] == "undo":
            _undo(desk)
        elif edit["kind"] == "redo":
            _redo(desk)

    st.markdown(t(
        "Draw over pixels that are no measurement: **Rectangle** and **Brush** mask, **Erase** takes back. "
        "What is drawn holds for every frame of this detector."
    ))  # fmt: skip
    with st.container(horizontal=True):
        st.button(
            t("Undo"), key=desk.key("unstroke"), icon=":material/undo:", disabled=not desk.strokes, on_click=_undo, args=(desk,)
        )
        st.button(
            t("Redo"), key=desk.key("restroke"), icon=":material/redo:", disabled=not desk.unstroked, on_click=_redo, args=(desk,)
        )
    if type(desk.task).suggest_mask is not Task.suggest_mask:
        pressed = st.button(
            t("Find hot and dead pixels"), key=desk.key("suggest-go"), icon=":material/search:",
            help=t("Looks at frames spread over those shown, for pixels that always read high or never read."),
        )  # fmt: skip
        if pressed:
            output = str(Path(desk.folder.name) / "suggested.npy")
            payload = desk.payload(rows=list(desk.pictures.rows), output=output)
            begin(desk.key("suggest"), desk.worker, "suggest_mask", payload, t("looking for bad pixels"))
            st.rerun()
    _keep(desk)
    keys = {"u": "undo", "r": "redo"}
    return Dressing(strokes=desk.strokes, tools=("box", "brush", "erase", "move"), keys=keys, on_edit=edited)


def _undo(desk: Desk) -> None:
    if desk.strokes:
        desk.unstroked.append(desk.strokes.pop())


def _redo(desk: Desk) -> None:
    if desk.unstroked:
        desk.strokes.append(desk.unstroked.pop())


def receive_suggestion(desk: Desk, value: dict[str, Any]) -> None:
    """Lay the suggested bad pixels over the picture, as one stroke; those that its own mask has already stay out."""
    points = np.load(Path(desk.folder.name) / "suggested.npy", allow_pickle=False)
    bad = Plate.from_bytes(desk.sheet().path.read_bytes()).mask.copy()
    known = np.ones(bad.shape, bool)
    known[points[:, 0], points[:, 1]] = False
    bad &= ~known
    if bad.any():
        desk.strokes.append(of_pixels(bad))
        desk.unstroked.clear()
    desk.told = t("{n} bad pixels found that were not masked yet; they are drawn into the mask.", n=int(bad.sum()))


def _keep(desk: Desk) -> None:
    """A name and the button that writes the mask and has it used."""
    whole = st.toggle(
        t("Include the mask of this frame"), key=desk.key("mask-whole"), persist_state="session",
        help=t("The file then holds every pixel that is masked here, for other programs; otherwise what was drawn alone."),
    )  # fmt: skip
    name = st.text_input(t("Name of the mask"), f"mask-{time.strftime('%Y%m%d-%H%M')}", key=desk.key("mask-name"))

    def save() -> None:
        base = Plate.from_bytes(desk.sheet().path.read_bytes()).mask
        mask = paint(base if whole else np.ones_like(base), desk.strokes)
        path = drawn.save(desk.task.name, name, mask)
        fill_form(acquisition_key(desk.task), desk.task.mask_settings(path))
        desk.told = t(
            "Saved as `{path}` and filled into the instrument settings: **Read the same files again** to use it.",
            path=plain(str(path)),
        )

    if st.button(t("Save and use the mask"), key=desk.key("mask-save"), icon=":material/save:", type="primary",
                 disabled=not desk.strokes and not whole):  # fmt: skip
        attempt(desk, save)
        st.rerun()
