"""The documentation says what is there: links lead somewhere, commands parse, settings and columns are explained."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from lib import tasks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def links(text: str) -> list[str]:
    """Targets of Markdown links and images that point into the repository."""
    found = re.findall(r"\]\(([^)#\s]+)", text)
    return [target for target in found if "://" not in target]


def commands(text: str) -> list[str]:
    """Every `python -m lib …` line of the code blocks, continuation lines joined, comments cut."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in blocks.splitlines() if line.startswith("python -m lib")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [target for target in links(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()]
    assert not missing


def test_links_are_found() -> None:
    assert links("[a](b.md) ![c](d/e.png) [f](https://g.h) [i](#j)") == ["b.md", "d/e.png"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_parse(page: Path) -> None:
    """The words of every documented command are known to the command line's own help."""
    for line in commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line)[3:]
        found = help_of(words[0])
        for option in (w for w in words if w.startswith("--")):
            assert option in found, f"{line}: {option} is not an option of {words[0]}"


@cache
def help_of(command: str) -> str:
    """What `python -m lib <command> --help` says."""
    line = [sys.executable, "-m", "lib", command, "--help"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_has_its_page(name: str) -> None:
    task = tasks.get(name)
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert f"docs/{name}.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`]+)`", re.sub(r"(?s)```.*?```", "", page)))
    assert set(task.Acquisition.model_fields) - words == set(), "settings of the instrument that the page does not explain"
    assert set(task.prediction_columns()) - words == set(), "columns that the page does not explain"


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {t for page in PAGES for t in re.findall(r"`?\bmake ([a-z][a-z0-9-]*)", "\n".join(_code(page)))}
    assert named and named <= targets


def _code(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
