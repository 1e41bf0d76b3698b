"""How a film is shown: one small player in the browser, the same on a page of the bench and in a report.

`player.js` and `player.css` beside this file are the player; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from lib.panels import Film
from lib.words import Say

FOLDER = Path(__file__).parent


@cache
def script() -> str:
    """The player's JavaScript: defines `mount(element, {film, words})`."""
    return (FOLDER / "player.js").read_text(encoding="utf-8")


@cache
def style() -> str:
    """The player's CSS; colours and font are the page's, in Streamlit's variables where it has them."""
    return (FOLDER / "player.css").read_text(encoding="utf-8")


def told(film: Film, say: Say) -> dict[str, Any]:
    """What `mount` takes, as plain JSON values: the film, and the player's own words in the reader's language."""
    words = {
        "film": say("Film"), "play": say("Play"), "pause": say("Pause"), "frame": say("Frame"), "all": say("All frames"),
    }  # fmt: skip
    return {"film": film.to_json(), "words": words}


def page_head() -> str:
    """Style and script, once in a page of HTML that holds films."""
    return f"<style>{style()}</style><script>{script()}</script>"


def page_film(film: Film, say: Say) -> str:
    """One film in a page that has `page_head`."""
    data = json.dumps(told(film, say)).replace("<", "\\u003c")  # no label can end the script
    return f"<div></div><script>mount(document.currentScript.previousElementSibling, {data})</script>"
