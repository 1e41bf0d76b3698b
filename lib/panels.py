"""What users look at: panels of figures, pictures, tables and texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go


@dataclass(frozen=True)
class Picture:
    """A picture that needs no axes: drawn at once, where a figure takes the browser a tenth of a second."""

    png: bytes


@dataclass(frozen=True)
class Panel:
    """One thing to look at: a figure, a picture, a table or a Markdown text, with its title and what it tells."""

    key: str
    title: str
    content: go.Figure | Picture | pd.DataFrame | str
    explanation: str = ""
    wide: bool = False  # takes the page's whole width

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        kind: str = "text"
        content: Any = self.content
        if isinstance(content, go.Figure):
            kind, content = "figure", json.loads(content.to_json())
        elif isinstance(content, Picture):
            kind, content = "picture", base64.b64encode(content.png).decode()
        elif isinstance(content, pd.DataFrame):
            kind, content = "table", json.loads(content.to_json(orient="split", double_precision=12))
        return {
            "key": self.key, "title": self.title, "explanation": self.explanation, "wide": self.wide,
            "kind": kind, "content": content,
        }  # fmt: skip

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Panel:
        """The panel that `to_json` wrote."""
        content = values["content"]
        if values["kind"] == "figure":
            content = go.Figure(content, skip_invalid=True)
        elif values["kind"] == "picture":
            content = Picture(base64.b64decode(content))
        elif values["kind"] == "table":
            content = pd.DataFrame(content["data"], columns=content["columns"], index=content["index"])
        return Panel(values["key"], values["title"], content, values["explanation"], values["wide"])


@dataclass(frozen=True)
class View:
    """A panel that is made when it is asked for."""

    title: str
    make: Callable[[], Panel]
