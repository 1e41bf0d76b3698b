"""Films: what a panel keeps of one, and how a report shows it without a network."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from lib import figures, player, report
from lib.task import Film, Marks, Panel
from lib.words import Language, core, english


def film(label: str = "0 s") -> Film:
    """Two frames of 4×6 px with a molecule in the first."""
    frames = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)
    spots = Marks("molecule", (((1.5, 2.0),), ()), joined=True, shown=False)
    return Film((figures.reel(frames, "clip"), figures.reel(frames, "light", zoom=0.5)), (label, "0.01 s"), (spots,), 80, True)


def test_a_film_survives_the_trip_through_json() -> None:
    panel = Panel("film", "A film", film(), "It moves.", True)
    assert Panel.from_json(json.loads(json.dumps(panel.to_json()))) == panel


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_report_plays_films_from_its_own_text_alone(language: Language) -> None:
    panels = [Panel("one", "One", film()), Panel("two", "Two", film()), Panel("words", "Words", "None")]
    text = report.page("Title", {}, panels, kicker="", language=language)
    assert text.count(player.script()) == text.count(player.style()) == 1
    assert text.count("mount(document.currentScript") == 2
    assert json.dumps(core(language)("Play")) in text
    assert "//" not in re.sub(r"//.*|http://www.w3.org/2000/svg", "", player.page_head()), "an address of elsewhere"
    assert player.script() not in report.page("Title", {}, panels[2:], kicker="")


def test_no_label_can_end_the_script() -> None:
    made = player.page_film(film("</script><script>alert(1)"), english)
    assert made.count("</script>") == 1 and made.endswith("</script>")
    given = re.search(r"mount\(document\.currentScript\.previousElementSibling, (.*)\)</script>$", made)
    assert given is not None and json.loads(given[1])["film"]["labels"][0] == "</script><script>alert(1)"
