"""What users look at: panels of figures, pictures, films, tables and texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go

Behind = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture that needs no axes: drawn at once, where a figure takes the browser a tenth of a second."""

    png: bytes


@dataclass(frozen=True)
class Reel:
    """Frames of one kind as one picture: all of the same size, in rows of `columns`, `gap_px` of its pixels apart.

    `zoom` says how many pixels of the picture stand for one of the detector, for frames that are finer or coarser than it.
    """

    png: bytes
    width_px: int  # of one frame in the picture
    height_px: int
    title: str = ""
    zoom: float = 1
    columns: int = 8
    gap_px: int = 1


@dataclass(frozen=True)
class Marks:
    """Points to lay over frames: `points[i]` are those of frame i, each (x, y) in detector pixels, (0, 0) the first one's centre.

    Each point of the frame shown gets a ring. `joined` draws a line through the points of all frames, in their order.
    """

    name: str
    points: tuple[tuple[tuple[float, float], ...], ...]
    joined: bool = False
    shown: bool = True  # at first; the reader switches it
    radius_px: float = 3
    colour: str = "#C58A00"


@dataclass(frozen=True)
class Film:
    """Reels of as many frames as there are `labels`, side by side, which play together; a label says when, or where.

    `spread` begins with all frames side by side, which is also what paper shows.
    """

    reels: tuple[Reel, ...]
    labels: tuple[str, ...]
    marks: tuple[Marks, ...] = ()
    frame_ms: int = 120
    spread: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, pictures in base64; `from_json` reads them back."""
        reels = [vars(reel) | {"png": base64.b64encode(reel.png).decode()} for reel in self.reels]
        marks = [vars(mark) | {"points": [[list(point) for point in frame] for frame in mark.points]} for mark in self.marks]
        return {
            "reels": reels, "labels": list(self.labels), "marks": marks, "frame_ms": self.frame_ms, "spread": self.spread,
        }  # fmt: skip

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Film:
        """The film that `to_json` wrote."""
        reels = tuple(Reel(**reel | {"png": base64.b64decode(reel["png"])}) for reel in values["reels"])
        marks = tuple(
            Marks(**mark | {"points": tuple(tuple((x, y) for x, y in frame) for frame in mark["points"])})
            for mark in values["marks"]
        )
        return Film(reels, tuple(values["labels"]), marks, values["frame_ms"], values["spread"])


@dataclass(frozen=True)
class Panel:
    """One thing to look at: a figure, a picture, a film, a table or a Markdown text, with its title and what it tells.

    `behind` are numbers of the samples behind each row of a table, or behind a figure's points, whose `customdata` is then a
    place in it: a reader who picks one is shown them.
    """

    key: str
    title: str
    content: go.Figure | Picture | Film | pd.DataFrame | str
    explanation: str = ""
    wide: bool = False  # takes the page's whole width
    behind: Behind = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        kind: str = "text"
        content: Any = self.content
        if isinstance(content, go.Figure):
            kind, content = "figure", json.loads(content.to_json())
        elif isinstance(content, Picture):
            kind, content = "picture", base64.b64encode(content.png).decode()
        elif isinstance(content, Film):
            kind, content = "film", content.to_json()
        elif isinstance(content, pd.DataFrame):
            kind, content = "table", json.loads(content.to_json(orient="split", double_precision=12))
        return {
            "key": self.key, "title": self.title, "explanation": self.explanation, "wide": self.wide,
            "kind": kind, "content": content, "behind": [list(rows) for rows in self.behind],
        }  # fmt: skip

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Panel:
        """The panel that `to_json` wrote."""
        content = values["content"]
        if values["kind"] == "figure":
            content = go.Figure(content, skip_invalid=True)
        elif values["kind"] == "picture":
            content = Picture(base64.b64decode(content))
        elif values["kind"] == "film":
            content = Film.from_json(content)
        elif values["kind"] == "table":
            content = pd.DataFrame(content["data"], columns=content["columns"], index=content["index"])
        behind = tuple(tuple(rows) for rows in values.get("behind", ()))
        return Panel(values["key"], values["title"], content, values["explanation"], values["wide"], behind)


@dataclass(frozen=True)
class Pick:
    """One thing to choose before a view is made: the name of `make`'s argument, its label, and its values, the first at first."""

    name: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """A panel that is made when it is asked for, of what was chosen.

    What is made of the same files, picks and `made_of` is the same; None where that cannot be told, and it is made anew each
    time. `carry`: what a button is called, and the training settings that it fills in for what was chosen.
    """

    title: str
    make: Callable[..., Panel]
    made_of: Hashable = None
    picks: tuple[Pick, ...] = ()
    carry: Mapping[str, Callable[..., dict[str, Any]]] = field(default_factory=dict)
