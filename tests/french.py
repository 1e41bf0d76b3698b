"""What a French reader is told: of an error, and of the panels of a page."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lib.task import Film, InputError, Panel, Task


def refused(task: Task, error: InputError) -> InputError:
    """The error in French, which neither problem nor remedy may escape."""
    french = error.spoken(task.speaking("fr").tell)
    assert french.problem != error.problem and french.remedy != error.remedy, str(french)
    assert "{" not in str(french)
    return french


def words_of(panels: list[Panel]) -> str:
    """All that a reader of some panels sees, with plain spaces: titles, explanations, axes, legends, tables, films."""
    seen: list[str] = []
    for panel in panels:
        seen += [panel.title, panel.explanation]
        content = panel.content
        if isinstance(content, pd.DataFrame):
            seen += [*map(str, content.columns), *map(str, content.to_numpy().ravel())]
        elif isinstance(content, go.Figure):
            layout = content.layout
            seen += [str(layout.xaxis.title.text), str(layout.yaxis.title.text), str(layout.title.text)]
            seen += [f"{trace.name} | {trace.text} | {trace.hovertemplate}" for trace in content.data]
        elif isinstance(content, Film):
            seen += [*(reel.title for reel in content.reels), *(marks.name for marks in content.marks)]
        elif isinstance(content, str):
            seen.append(content)
    return " | ".join(text for text in seen if text and text != "None").replace("\u00a0", " ")
