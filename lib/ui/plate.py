"""The viewer of large pictures on a page: pixels go to the browser once, marks and strokes as often as they change."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from lib.drawn import Stroke
from lib.ui.words import t

FOLDER = Path(__file__).parent
SCRIPT = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("plate_paint.js", "plate.js"))
Tool = Literal["move", "mark", "box", "brush", "erase"]
Edit = Mapping[str, Any]  # what a hand did: `kind`, the `row` it was done to, and more by kind
Neighbour = Mapping[str, Any]  # `row`, `label` and `token` of a picture that a key leads to
# A picture: its `row`, `label` and `token`, `at` what time (s) it was sent, and whether the viewer `key` shall `show` it.
Turn = Mapping[str, Any]
FOUND, LABELLED, TRUE = 0, 1, 2  # colours of marks

_pixels = st.components.v2.component("plate_pixels", js=SCRIPT + "\nexport default ({data}) => { if (data) put(data); };")
_turn = st.components.v2.component("plate_turn", js=SCRIPT + "\nexport default ({data}) => { if (data) turn(data); };")
_viewer = st.components.v2.component(
    "plate_viewer", css=(FOLDER / "plate.css").read_text(encoding="utf-8"),
    js=SCRIPT + "\nexport default ({parentElement, data, setStateValue}) => "
    "mountPlate(parentElement, data, (edits) => setStateValue('edits', [...edits]));",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """Marks (y, x) in pixels laid over a picture, under one name of the legend."""

    name: str
    points: pd.DataFrame  # y_px, x_px
    colour: int = FOUND

    def to_json(self) -> dict[str, Any]:
        """As the viewer takes them."""
        return {"name": self.name, "colour": self.colour, "points": self.points[["y_px", "x_px"]].to_numpy(float).tolist()}


@dataclass(frozen=True)
class Sheet:
    """A picture as its file lies on disk (what `Plate.to_bytes` wrote), and a token that tells it from any other."""

    row: int
    label: str
    path: Path
    token: str

    @staticmethod
    def of(row: int, label: str, path: Path) -> Sheet:
        """The picture of one sample."""
        return Sheet(row, label, path, secrets.token_hex(8))


def show_plate(
    sheet: Sheet, key: str, on_edit: Callable[[Edit], None], *, marks: Sequence[Shown] = (), editable: str = "",
    strokes: Sequence[Stroke] = (), tools: Sequence[Tool] = ("move",), keys: Mapping[str, str] | None = None,
    beside: Mapping[str, Neighbour] | None = None,
) -> None:  # fmt: skip
    """The picture with its marks and strokes, once `send_pixels` has sent it.

    `on_edit` gets what hands do, each once and in order, before the page is redrawn.

    Edits: `add` and `remove` with `y`, `x` to the marks named `editable`; `stroke` with a Stroke's JSON; and whatever kind a key
    of the keyboard stands for in `keys`. Where such a kind is in `beside` and the browser holds that picture already, it is
    shown before Python knows of it; its marks come later.
    """
    seen = f"{key}:seen"

    def heard() -> None:
        edits = (st.session_state.get(key) or {}).get("edits") or []
        for edit in edits:
            if int(edit["n"]) > st.session_state.get(seen, 0):
                st.session_state[seen] = int(edit["n"])
                on_edit(edit)

    data = {
        "key": key, "token": sheet.token, "row": sheet.row, "label": sheet.label, "editable": editable, "tools": list(tools),
        "marks": [mark.to_json() for mark in marks], "strokes": [stroke.to_json() for stroke in strokes],
        "keys": dict(keys or {}), "beside": dict(beside or {}), "seen": st.session_state.get(seen, 0), "words": _words(),
        "at": time.time(),
    }  # fmt: skip
    _viewer(key=key, data=data, on_edits_change=heard)


def send_pixels(sheet: Sheet, key: str, slot: int, sent: dict[int, Turn], *, show: bool = False) -> bool:
    """Have the browser hold a picture, in place of the one it held under the number `slot`; it may be shown later.

    With `show` the viewer turns to it at once, before `show_plate` brings its marks. `sent` is the session's note of what was
    said with the pixels in each slot: while that stays the same they do not travel again. True where they travel now.
    """
    now: Turn = {"key": key, "at": time.time(), "row": sheet.row, "label": sheet.label, "token": sheet.token, "show": show}
    if new := slot not in sent or sent[slot]["token"] != sheet.token:
        sent[slot] = now
    header = json.dumps({"slot": slot, **sent[slot]}).encode()
    _pixels(key=f"{key}-pixels-{slot}", data=len(header).to_bytes(4, "little") + header + sheet.path.read_bytes())
    if show:
        _turn(key=f"{key}-turn", data=dict(now))
    return new


def _words() -> dict[str, str]:
    return {
        "picture": t("Picture"), "tools": t("Tools"), "move": t("Move"), "mark": t("Mark"), "box": t("Rectangle"),
        "brush": t("Brush"), "erase": t("Erase"), "radius": t("Radius"), "smaller": t("Zoom out"), "larger": t("Zoom in"),
        "fit": t("Whole picture"), "scale": t("Scale"), "linear": t("linear"), "sqrt": t("square root"), "log": t("logarithmic"),
        "low": t("Dark at"), "high": t("Bright at"), "colours": t("Colours"), "grey": t("grey"), "viridis": "viridis",
        "inverted": t("Inverted"), "rings": t("Rings"), "mask": t("Mask"), "masked": t("masked"),
    }  # fmt: skip
