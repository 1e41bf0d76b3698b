"""The catalogues: every text that is said is in each of them, with the same fields, and nothing else is.

Texts are collected from the source: the literal first argument of every `say(…)` and `t(…)`. What is said by a variable comes
from tables of words, which are listed here by name, and from the task's settings.
"""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import get_args

import pandas as pd
import pytest

from lib import sheet, splits, tasks
from lib.jobs import slurm
from lib.jobs.profiles import ClusterProfile
from lib.sweeps import study
from lib.task import Task
from lib.tasks.diffusion import score
from lib.tasks.diffusion.views import METHOD_COLOURS
from lib.tasks.reflectance import clean_views, sample_views
from lib.tasks.reflectance import simulate_views as scale_views
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.scale import SWEPT
from lib.tasks.spectra import fluorophores, sheet_strata, simulate_views, verdicts
from lib.ui import actions, clean, cluster, columns, context, curves, files, forms, home, look, sweep_form, theme
from lib.words import LANGUAGES, Phrase, core, english, from_plain, plain, speaker, spoken

ROOT = Path(__file__).parents[1]
UI = ROOT / "lib" / "ui"
CORE = [
    ROOT / "lib" / f"{name}.py"
    for name in (
        "sheet", "report", "predict", "uploads", "cleaning", "config", "splits", "player", "derived", "disk", "export", "model",
        "recipe", "runs", "train", "ranks", "lrfinder", "jobs/__init__", "jobs/local", "looking", "labels", "bulk", "divided",
        "cli/parts", "sweeps/__init__", "sweeps/space", "sweeps/study", "sweeps/launch", "sweeps/trash", "cli/trials",
        "drawn",
    )
]  # fmt: skip
PLAYER = ROOT / "lib" / "player.py"  # on pages too
# What a split keeps together, in sentences on it, and its parts.
UNITS = {f"{unit}{s}" for unit in ("row", "group", "specimen", "instrument", "day") for s in ("", "s")}
PARTS = {"train", "validation", "calibration", "test"}
SUBJECTS = {"settings", "training settings", "promise"}  # of settings that are read
CLUSTER = sorted((ROOT / "lib" / "jobs").glob("*.py"))  # what they refuse may be said
BOUNDS = "Input should be"  # how pydantic begins: which of its sentences are met depends on the fields
OTHERS = [code for code in LANGUAGES if code != "en"]
TRANSLATED = [name for name in tasks.names() if len(tasks.get(name).languages()) > 1]
# Functions of streamlit whose first argument a reader sees, and arguments that are seen in any of them.
SHOWN_FIRST = {
    "button", "caption", "markdown", "subheader", "title", "header", "error", "warning", "info", "success", "toast", "spinner",
    "expander", "popover", "selectbox", "text_input", "number_input", "toggle", "segmented_control", "pills", "metric", "badge",
    "download_button", "file_uploader", "dialog", "select_slider", "slider", "progress", "empty_state",
}  # fmt: skip
SHOWN_BY_NAME = {"help", "placeholder", "label", "text", "alt"}


# --- what is said -----------------------------------------------------------------------------------------------------
def _is_speaker(call: ast.Call) -> bool:
    return _name(call) in ("say", "t", "tell", "Phrase") and bool(call.args)


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of a `say` or a `t`; a function whose `say` takes plain sentences for the log is another matter."""
    values = [(ast.unparse(n.targets[0]), ast.unparse(n.value)) for n in ast.walk(tree) if isinstance(n, ast.Assign)]
    logs = ("Callable[[str]", *(name for name, value in values if value.startswith("Callable[[str]")))
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef):
            kinds = [ast.unparse(arg.annotation) for arg in node.args.args if arg.arg == "say" and arg.annotation]
            if any(kind.startswith(logs) for kind in kinds):
                yield from (call for call in ast.walk(node) if isinstance(call, ast.Call) and _name(call) == "Phrase")
                continue
        if isinstance(node, ast.Call) and _is_speaker(node):
            yield node
        pending.extend(ast.iter_child_nodes(node))


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)


@cache
def said_in(paths: tuple[Path, ...]) -> frozenset[str]:
    """Every literal text that these files say."""
    return frozenset(
        text for path in paths for call in _calls(ast.parse(path.read_text("utf-8"))) for text in _literals(call.args[0])
    )


@cache
def refused_in(paths: tuple[Path, ...]) -> frozenset[str]:
    """Every literal problem and remedy of an error that these files raise; those with values are phrases."""
    calls = [node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    errors = [call for call in calls if _name(call) in ("InputError", "BadCell")]
    return frozenset(text for call in errors for node in call.args[:3] for text in _literals(node)) | _named_in(paths)


def _named_in(paths: tuple[Path, ...]) -> frozenset[str]:
    """Literal sentences that get a name before they are raised or said."""
    found: set[str] = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Assign)):
        target, value = node.targets[0], node.value
        several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        pairs = zip(target.elts, value.elts, strict=False) if several else [(target, value)]
        named = [given for name, given in pairs if ast.unparse(name) in ("problem", "remedy", "told")]
        found |= {text for given in named for text in _literals(given) if " " in text}
    return frozenset(found)


def cluster_texts() -> set[str]:
    """What pages say of a cluster by a variable: its profile, its reasons, and how Slurm ends a job."""
    entries = forms.entries(ClusterProfile)
    labels = {cluster.LABELS.get(entry.label, entry.label) for entry in entries if entry.name not in cluster.AREAS}
    groups = {entry.group.capitalize() for entry in entries}
    return {
        *labels, *groups, *(entry.description for entry in entries), *cluster.REASONS.values(), *cluster.PLACES.values(),
        *slurm.SAID.values(), slurm.NO_SBATCH,
    }  # fmt: skip


def sweep_texts() -> set[str]:
    """What the Sweep page says by a variable."""
    tables = (sweep_form.PURPOSES, sweep_form.SAMPLERS, sweep_form.PRUNERS)
    return {*sweep_form.PURPOSES, *(text for table in tables for text in table.values()), *get_args(study.TrialState)}


def ui_tables() -> set[str]:
    """Words that pages say by a variable."""
    titles = [title for title, _ in (*context.STAGES.values(), *actions.BUTTONS.values())]
    planned = [text for pair in home.PLANNED.values() for text in pair]
    choices = [*look.MODES, *clean.VIEWS, *clean.SHOWN, *clean.PICKS, files.UPLOAD, files.FOLDER, files.SAMPLE]
    return {
        *titles, *planned, *choices, *forms.GROUP_TITLES.values(), forms.EMPTY, *columns.OWN, *curves.LOSSES.values(),
        *theme.STATES, *cluster_texts(), *sweep_texts(),
    }  # fmt: skip


def task_texts(task: Task) -> set[str]:
    """Texts of a task that its pages say: of its settings, its labels and itself."""
    configs = (task.Simulation, task.Acquisition, task.Rules, task.Training, *task.finders.values())
    entries = [entry for config in configs for entry in forms.entries(config)]
    groups = {entry.group for entry in entries} - set(forms.GROUP_TITLES)
    return {
        *(entry.label for entry in entries), *(entry.description for entry in entries), *(group.capitalize() for group in groups),
        *(entry.empty for entry in entries if entry.empty),
        *(words for words, _ in task.labels.values()), task.title, task.summary, task.input_label, task.output_label,
        task.monitor.name, *([task.loss_note] if task.loss_note else []),
    }  # fmt: skip


def task_names(task: Task) -> set[str]:
    """Names that may be translated, or stay as they are: choices, presets and what stands in a task's own tables."""
    configs = (task.Simulation, task.Acquisition, task.Rules, task.Training, *task.finders.values())
    choices = {str(choice) for config in configs for entry in forms.entries(config) for choice in entry.choices}
    return (
        choices | set(task.finders) | set(task.simulation_presets) | set(task.training_presets) | OWN_TABLES.get(task.name, set())
    )


OWN_TABLES = {
    "bragg": {"Sum", "f1", "best_f1", "ece", "precision", "recall"},
    "diffusion": {
        *METHOD_COLOURS, *score.score(pd.DataFrame({score.D: []}), pd.DataFrame({score.D: []})),
    },
    "reflectance": {
        *(text for texts in clean_views.CHECKS.values() for text in texts),
        *(text for *texts, _ in clean_views.READINGS.values() for text in texts),
        *(words for _, words in clean_views.COPY_OF), *map(scale_views.in_words, (*SWEPT, *GEOMETRY)), *sample_views.INSTRUMENT,
        "train", "validation", "calibration", "test", "bias_pp", "coverage_percent", "rmse_pp",
        "r2", *(f"mae_{name}_pp" for name in (*CHANNELS, *GEOMETRY)),
    },
    "spectra": {
        *fluorophores.NAMES, simulate_views.SCATTER, verdicts.PASS, verdicts.TASTE, verdicts.REJECT, verdicts.UNCERTIFIED,
        "train", "validation", "calibration", "test", *sheet_strata.CANDIDATE_TITLES.values(), "candidate", "preprocessing",
        "model", "setting", "preset", "date", "risk", "target",
        *verdicts.score(pd.DataFrame({"p_a": []}), pd.DataFrame({"p_a": []})),
    },
}  # fmt: skip


def catalogue(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


# --- the catalogues ---------------------------------------------------------------------------------------------------
def check(path: Path, needed: set[str], allowed: set[str] = frozenset()) -> None:
    """All of `needed`, nothing beyond `allowed`, with the same fields."""
    known = catalogue(path)
    assert not (missing := sorted(needed - set(known))), f"{path} lacks {len(missing)}: {missing}"
    assert not (orphans := sorted(set(known) - needed - allowed)), f"{path}: nothing says {orphans}"
    for text, told in known.items():
        assert told.strip(), f"{path}: {text!r} is empty"
        if fields(text):
            assert fields(told) == fields(text), f"{path}: {text!r} has other fields than {told!r}"


@pytest.mark.parametrize("language", OTHERS)
def test_the_pages_say_everything(language: str) -> None:
    check(UI / f"{language}.json", set(said_in((PLAYER, *sorted(UI.glob("*.py"))))) | ui_tables())


@pytest.mark.parametrize("language", OTHERS)
def test_sheets_and_reports_say_everything(language: str) -> None:
    check(
        ROOT / "lib" / f"{language}.json",
        set(said_in(tuple(CORE))) | refused_in(tuple(CORE)) | {sheet.UNSEEN, sheet.UNSEEN_BY_FOLD},
        UNITS | PARTS | SUBJECTS | said_in(tuple(CLUSTER)) | refused_in((*CLUSTER, ROOT / "lib" / "serve.py")) | bounds(language),
    )


def bounds(language: str) -> set[str]:
    """Sentences of pydantic that are in the catalogue."""
    return {text for text in catalogue(ROOT / "lib" / f"{language}.json") if text.startswith(BOUNDS)}


@pytest.mark.parametrize("name", TRANSLATED)
@pytest.mark.parametrize("language", OTHERS)
def test_a_task_with_a_catalogue_says_everything(name: str, language: str) -> None:
    task, folder = tasks.get(name), ROOT / "lib" / "tasks" / name
    files = tuple(sorted(folder.glob("*.py")))
    needed = set(said_in(files)) | task_texts(task) | refused_in(files)
    check(folder / f"{language}.json", needed, task_names(task))


def test_every_task_speaks_every_language() -> None:
    assert all(tasks.get(name).languages() == tuple(LANGUAGES) for name in tasks.names())


# --- the source -------------------------------------------------------------------------------------------------------
SPEAKING = [*UI.glob("*.py"), *CORE, *(path for name in TRANSLATED for path in (ROOT / "lib" / "tasks" / name).glob("*.py"))]


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_with_values_have_fields(path: Path) -> None:
    """A text that is put together before it is said cannot be found in a catalogue."""
    made = [call for call in _calls(ast.parse(path.read_text("utf-8"))) if _put_together(call.args[0])]
    assert not made, [f"{path.name}:{call.lineno}: {ast.unparse(call)[:80]}" for call in made]


def _put_together(node: ast.expr) -> bool:
    parts = ast.walk(node) if isinstance(node, ast.BinOp) else ()
    return isinstance(node, ast.JoinedStr) or any(isinstance(p, ast.Constant) and isinstance(p.value, str) for p in parts)


def unsaid(source: str) -> list[str]:
    """Words that a page shows without saying them: in streamlit's calls, and in literals put together with values."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        shown = [call.args[0]] if name in SHOWN_FIRST and call.args else []
        shown += [word.value for word in call.keywords if word.arg in SHOWN_BY_NAME and name != "dict"]
        for node in shown:
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if any(re.search(r"[A-Za-z]{3}", _without_marks(text)) for text in texts):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def _without_marks(text: str) -> str:
    """Without what Streamlit's Markdown spells with letters, and without file names."""
    return re.sub(r":material/\w+:|:gray\[|:small\[|\w+\.json", "", text)


@pytest.mark.parametrize("path", sorted(UI.glob("*.py")), ids=lambda path: path.name)
def test_pages_show_nothing_that_they_do_not_say(path: Path) -> None:
    assert not unsaid(path.read_text("utf-8"))


def test_what_is_not_said_is_found() -> None:
    assert unsaid('st.button("Press here")') and unsaid('st.caption(f"Read from {n} samples")')
    assert unsaid('st.toggle(t("Log"), help="Says more")')
    assert not unsaid('st.button(t("Press here"), key="go", icon=":material/check:", help=t("x"))')
    assert not unsaid('st.markdown(f"##### {title} :gray[{more}]")')


# --- saying -----------------------------------------------------------------------------------------------------------
def test_what_a_catalogue_lacks_stays_english(tmp_path: Path) -> None:
    path = tmp_path / "fr.json"
    path.write_text('{"{n} files": "{n} fichiers"}', encoding="utf-8")
    say = speaker("fr", path)
    assert say("{n} files", n=3) == "3 fichiers" and say("{n} files in {place}", n=3, place="a") == "3 files in a"
    assert speaker("en", path) is english and speaker("fr", tmp_path / "none.json") is english


def test_a_phrase_is_its_english_text_and_can_be_said_later(tmp_path: Path) -> None:
    path = tmp_path / "fr.json"
    path.write_text('{"{n:,} rows of {what}": "{n:,} lignes de {what}", "spectra": "spectres"}', encoding="utf-8")
    say = speaker("fr", path)
    phrase = Phrase("{n:,} rows of {what}", n=1000, what=Phrase("spectra"))
    assert phrase == "1,000 rows of spectra" and spoken(phrase, english, say) == "1,000 lignes de spectres"
    stored = json.loads(json.dumps(plain(phrase)))
    assert spoken(from_plain(stored), say) == spoken(copy.deepcopy(phrase), say) == "1,000 lignes de spectres"
    name = Phrase("{n:,} rows of {what}", n=1, what="spectra")  # a value that is no phrase is somebody's own word
    assert spoken(name, say) == "1 lignes de spectra" and spoken(Phrase("{n} more", n=2), say) == "2 more"


def test_warnings_of_a_split_are_told_in_french() -> None:
    classes, groups = ["a"] * 4 + ["b"] * 6, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    told = [tasks.get("spectra").speaking("fr").tell(sentence) for sentence in splits.warnings_of(classes, groups, 5, "specimen")]
    assert told[0].startswith("La classe a se confond") and told[1].startswith("La classe b a 3 spécimens, trop peu pour 5 plis")


def test_braces_of_a_text_without_values_are_left_alone() -> None:
    assert english("{not a field") == "{not a field" and core("fr")("{not a field") == "{not a field"


def test_a_task_speaks_without_changing_for_others() -> None:
    task = tasks.get("spectra")
    assert task.speaking("fr").say("recall") == "rappel" and task.say("recall") == "recall"
    assert core("fr")("Name and signature") == "Nom et signature"
