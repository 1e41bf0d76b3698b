"""Panels as one self-contained HTML page: for result sheets and for the figures of a prediction.

The page holds Plotly.js and all data, so it opens without a network, can be mailed, and prints on A4.
"""

from __future__ import annotations

import base64
import html
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from lib import player
from lib.figures import ACCENT, FONT, themed
from lib.task import Film, InputError, Panel, Phrase, Picture
from lib.words import Language, Say, core

WIDE_PX, CELL_PX, CHARACTER_PX, BOLD_PX = 688, 10, 7.0, 8.0  # of a page's content; around and of a character of a table
FONT_PX, SMALLEST_PX = 12.5, 7.0  # of a table's text; 7 px are 5.3 pt on paper
UNBROKEN = 16  # characters: a word is broken only if it is longer, and only where the smallest text does not do
MAX_TABLE_ROWS = 200  # a browser lays out no more in reasonable time; the CSV has them all

# The content is as wide on the screen as on A4 paper with these margins, so figures drawn for one fit the other.
_STYLE = f"""
@page {{ size: A4; margin: 14mm 14mm 16mm; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #eef1f4; color: #1f2933; font: 14px/1.5 {FONT}; }}
main {{ width: 210mm; max-width: 100%; margin: 24px auto; padding: 14mm; background: #fff; box-shadow: 0 1px 8px #0002; }}
header {{ border-top: 4px solid {ACCENT}; padding-top: 12px; margin-bottom: 20px; }}
.kicker {{ color: {ACCENT}; font-weight: 600; font-size: 12px; letter-spacing: .06em; text-transform: uppercase; }}
h1 {{ margin: 2px 0 12px; font-size: 26px; line-height: 1.2; overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 4px; font-size: 17px; break-after: avoid; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; }}
dt {{ color: #52606d; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
section {{ margin: 0 0 26px; break-inside: avoid; }}
section.long {{ break-inside: auto; }}
p {{ margin: 4px 0 8px; }} .explanation {{ color: #52606d; font-size: 13px; }}
.scroll {{ overflow-x: auto; font-size: {FONT_PX}px; }}
table {{ border-collapse: collapse; width: 100%; font-size: inherit; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; border-bottom: 1.5px solid #9aa5b1; padding: .3em .8em .3em 0; vertical-align: bottom; }}
td {{ border-bottom: 1px solid #e4e8ec; padding: .25em .8em .25em 0; vertical-align: top; }}
td.number {{ white-space: nowrap; }}
td.long {{ overflow-wrap: anywhere; min-width: {UNBROKEN * CHARACTER_PX / FONT_PX:.0f}em; }}
tr {{ break-inside: avoid; }}
code, pre {{ font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: #f1f4f6; border-radius: 3px; }}
code {{ padding: 1px 4px; overflow-wrap: anywhere; }} pre {{ padding: 8px 10px; white-space: pre-wrap; overflow-wrap: anywhere; }}
.signature {{ display: flex; gap: 12mm; margin-top: 14mm; break-inside: avoid; }}
.signature div {{ flex: 1; border-top: 1px solid #1f2933; padding-top: 4px; color: #52606d; font-size: 12px; }}
footer {{ margin-top: 20px; color: #52606d; font-size: 12px; }}
@media print {{
  body {{ background: #fff; }}
  main {{ margin: 0; padding: 0; width: auto; box-shadow: none; }}
  .modebar-container {{ display: none; }} .scroll {{ overflow: visible; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
}}
"""


def page(
    title: str,
    facts: Mapping[str, str],
    panels: Sequence[Panel],
    *,
    kicker: str,
    footer: str = "",
    signature: bool = False,
    language: Language = "en",
) -> str:
    """The whole page: heading, `facts` as a list of name and value, every panel, and lines to sign where wanted.

    `language` is that of the texts; the page's own words follow it.
    """
    say = core(language)
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in (say("Name and signature"), say("Place and date")))
    films = player.page_head() if any(isinstance(panel.content, Film) for panel in panels) else ""
    signed = f'<div class="signature">{lines}</div>' if signature else ""
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script>{films}</head><body><main>"
        f'<header><div class="kicker">{html.escape(kicker)}</div><h1>{html.escape(title)}</h1><dl>{listed}</dl></header>'
        f"{''.join(_section(panel, say) for panel in panels)}{signed}<footer>{markdown(footer)}</footer></main></body></html>\n"
    )


def _section(panel: Panel, say: Say) -> str:
    """One panel as HTML. Long tables may break over pages, nothing else."""
    content, long = panel.content, False
    if isinstance(content, go.Figure):
        body = themed(content, "light").to_html(
            full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
        )
    elif isinstance(content, Picture):
        body = f'<img alt="" src="data:image/png;base64,{base64.b64encode(content.png).decode()}">'
    elif isinstance(content, Film):
        body = player.page_film(content, say)
    elif isinstance(content, pd.DataFrame):
        body, long = _table(content, say), len(content) > 12
    else:
        body = markdown(content)
    told = f'<div class="explanation">{markdown(panel.explanation)}</div>' if panel.explanation else ""
    return f'<section class="{"long" if long else ""}"><h2>{html.escape(panel.title)}</h2>{told}{body}</section>'


def _table(table: pd.DataFrame, say: Say) -> str:
    """At most MAX_TABLE_ROWS rows, numbers to four digits."""
    shown = table.head(MAX_TABLE_ROWS)
    body = shown.to_html(index=False, border=0, escape=True, na_rep="–", float_format=lambda value: f"{value:.4g}")
    more = len(table) - len(shown)
    font_px, broken = _fit(shown)
    body = re.sub("<td>(.*?)</td>", lambda cell: _cell(cell[1], broken), body, flags=re.DOTALL)
    told = html.escape(say("… and 1 more row.") if more == 1 else say("… and {n} more rows.", n=more))
    size = f' style="font-size:{font_px:.1f}px"' if font_px < FONT_PX else ""
    return f'<div class="scroll"{size}>{body}</div>' + (f'<p class="explanation">{told}</p>' if more else "")


def _fit(table: pd.DataFrame) -> tuple[float, bool]:
    """(size of the text (px), whether long words are broken) with which all columns stand side by side, if any size does."""
    shown = table.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    words = [(_longest([str(name)]), _longest(shown.iloc[:, place])) for place, name in enumerate(shown)]
    whole, broken = (
        sum(CELL_PX + max(BOLD_PX * head, CHARACTER_PX * min(cell, most)) for head, cell in words)
        for most in (math.inf, UNBROKEN)
    )
    if whole * SMALLEST_PX <= WIDE_PX * FONT_PX:
        return min(1.0, WIDE_PX / whole) * FONT_PX, False
    return max(SMALLEST_PX, min(1.0, WIDE_PX / broken) * FONT_PX), True


def _longest(texts: Iterable[str]) -> int:
    return max((len(word) for text in texts for word in text.split()), default=0)


def _cell(text: str, broken: bool) -> str:
    """A cell of escaped text, marked as a number or date, which never breaks, or as one with a word that may be broken."""
    if re.fullmatch(r"[-+−]?\d[-+−\d.,:e]*%?", text):
        return f'<td class="number">{text}</td>'
    return f'<td class="long">{text}</td>' if broken and _longest([html.unescape(text)]) > UNBROKEN else f"<td>{text}</td>"


def markdown(text: str) -> str:
    """The Markdown that panels use, as HTML: paragraphs, `- ` lists, fenced code, `code`, **bold**. All else is escaped."""
    blocks = []
    for block in re.split(r"(```.*?```)|\n\s*\n", text.strip(), flags=re.DOTALL):
        if not block or not block.strip():
            continue
        lines = [html.escape(line, quote=False) for line in block.strip().splitlines()]
        if block.startswith("```"):
            blocks.append(f"<pre>{chr(10).join(lines[1:-1])}</pre>")
        elif all(line.startswith("- ") for line in lines):
            blocks.append(f"<ul>{''.join(f'<li>{_inline(line[2:])}</li>' for line in lines)}</ul>")
        else:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(blocks)


def _inline(text: str) -> str:
    """`code` and **bold** of escaped text."""
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", re.sub(r"`([^`]+)`", r"<code>\1</code>", text))


# --- PDF ------------------------------------------------------------------------------------------------------------
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge")
USUAL_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
USUAL_PLACES_WINDOWS = (
    r"Google\Chrome\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
    r"Chromium\Application\chrome.exe",
)
PDF_TIMEOUT_S = 120
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--disable-extensions", "--no-pdf-header-footer", "--virtual-time-budget=30000",
    "--window-size=900,1200",
)  # fmt: skip


def _browsers() -> Iterator[str]:
    """Every browser that may print, the one named in LIGHTBENCH_BROWSER first and alone."""
    if chosen := os.environ.get("LIGHTBENCH_BROWSER"):
        yield from filter(None, [shutil.which(chosen)])
        return
    yield from filter(None, map(shutil.which, BROWSERS))
    roots = [os.environ[key] for key in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA") if key in os.environ]
    places = [*USUAL_PLACES, *(str(Path(root) / place) for root in roots for place in USUAL_PLACES_WINDOWS)]
    yield from (place for place in places if Path(place).is_file())


def pdf(text: str, subject: str) -> bytes:
    """The page `text` as PDF, printed by a Chrome-like browser without a window.

    `subject` names the document in messages. Raises InputError where there is no such browser or it does not print.
    """
    browser = next(_browsers(), None)
    if browser is None:
        raise InputError(
            subject,
            "printing a PDF needs Chrome, Chromium or Edge, and none was found",
            "Install one (Debian: apt install chromium) or set LIGHTBENCH_BROWSER to its path; or save the HTML and print that.",
        )
    with tempfile.TemporaryDirectory(prefix="lightbench-pdf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source, target = folder / "page.html", folder / "page.pdf"
        source.write_text(text, encoding="utf-8")
        sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # Chrome refuses root otherwise
        words = [browser, *FLAGS, *sandbox, f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={target}", source.as_uri()]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=PDF_TIMEOUT_S, stdin=subprocess.DEVNULL)
            content = target.read_bytes()
        except (subprocess.SubprocessError, OSError) as error:
            raise InputError(
                subject, Phrase("{browser} did not print it", browser=browser), "Save the HTML and print that."
            ) from error
    if not content.startswith(b"%PDF"):
        raise InputError(subject, Phrase("{browser} did not print a PDF", browser=browser), "Save the HTML and print that.")
    return content
