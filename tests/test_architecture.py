"""The drawing of the architecture, checked: who imports whom, what stays out of the dashboard, and the house style.

Each rule is a function from one parsed file to a list of findings; `test_rule_finds_*` feeds each rule bad source.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = "pages"
PLANNED_TASKS = ("diffusion", "spectra", "bragg", "reflectance")

# Layer -> the layers of ours that it may import. Nothing else is allowed; a layer may always import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "app": {"tasks", "ui"},
    "pages": {"ui", "tasks", "jobs", "runs"},
    "ui": {
        "bulk", "task", "runs", "figures", "player", "words", "recipe", "uploads", "plate", "labels", "drawn", "sweeps",
        "threads",
    },
    "__main__": {"bulk", "cli", "tasks", "sheet", "export", "runs", "jobs", "task", "serve", "words"},
    "ranks": {"runs", "task"},
    "cli": {
        "ranks", "words", "sweeps", "tasks", "train", "predict", "sheet", "derived", "runs", "jobs", "task", "model", "uploads",
        "cleaning", "recipe", "kept", "bulk", "divided", "signals", "reporter",
    },
    "serve": {"tasks", "predict", "sheet", "derived", "export", "runs", "task", "model", "uploads", "cleaning", "looking"},
    "jobs": {"runs", "task"},
    "sweeps": {"jobs", "runs", "task", "disk"},
    "train": {"task", "runs", "splits", "model", "figures", "tasks", "batches", "lrfinder", "ranks", "signals", "reporter"},
    "kept": {"task", "runs"},
    "bulk": {"task", "runs", "words"},
    "divided": {"bulk", "kept", "task", "runs", "model", "predict", "tasks", "uploads", "words"},
    "predict": {"kept", "task", "runs", "splits", "model", "figures", "tasks", "uploads", "report", "words"},
    "sheet": {"task", "runs", "splits", "model", "figures", "tasks", "report", "words"},
    "derived": {"task", "runs", "tasks", "sheet"},
    "export": {"task", "runs", "splits", "model", "figures", "tasks"},
    "batches": {"task", "model"},
    "lrfinder": {"task", "batches"},
    "model": {"task", "runs"},
    "tasks": {"task"},
    "one task": {"disk", "task", "nn", "splits", "figures", "words", "labels", "drawn", "threads"},
    "cleaning": {"task", "predict", "recipe", "uploads"},
    "recipe": {"task", "version"},
    "looking": {"task", "labels", "drawn"},
    "labels": {"disk", "task", "runs", "uploads"},
    "drawn": {"disk", "task", "runs", "uploads"},
    "disk": {"config", "words"},
    "runs": {"disk", "task", "words"},
    "reporter": {"runs", "words"},
    "uploads": {"disk", "task"},
    "report": {"task", "figures", "player", "words"},
    "nn": set(),
    "splits": {"words"},
    "words": set(),
    "task": {"words", "panels", "config", "samples", "plate"},
    "config": {"words"},
    "samples": {"words"},
    "panels": set(),
    "plate": set(),
    "figures": {"panels"},
    "player": {"panels", "words"},
    "version": set(),
    "threads": set(),
    "signals": set(),
}  # fmt: skip
DASHBOARD = ("app", "pages", "ui", "jobs", "runs", "sweeps")  # these run in the server process
HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "onnx", "onnxscript", "onnxruntime", "tensorboard"}
LINES_PER_FILE, LINES_PER_PAGE = 500, 40
LINES_PER_FUNCTION, LINES_PER_LONGEST_FUNCTION, SHARE_OF_SHORT_FUNCTIONS = 50, 60, 0.95


@dataclass(frozen=True)
class Source:
    """One Python file: its path inside the repository and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def layer(self) -> str:
        """The row of the import table this file belongs to; empty for tests and benchmarks."""
        return layer_of(self.module)

    @property
    def package(self) -> str:
        return self.module if self.path.endswith("__init__.py") else self.module.rpartition(".")[0]


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def layer_of(module: str) -> str:
    """`lib.tasks.x.y` -> "one task" and so on; empty for what is not in the table."""
    first, *rest = module.split(".")
    if first in ("app", PAGES):
        return "pages" if first == PAGES else first
    if first != "lib":
        return ""
    if not rest:
        return "version"
    if rest[0] == "tasks":
        return "one task" if len(rest) > 1 else "tasks"
    return rest[0]


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the repository."""
    folders = ("lib", PAGES, "tests", "benchmarks")
    files = [ROOT / "app.py", *(f for folder in folders for f in sorted((ROOT / folder).rglob("*.py")))]
    return tuple(Source(f.relative_to(ROOT).as_posix(), f.read_text(encoding="utf-8")) for f in files if f.exists())


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(source: Source, *, at_import_only: bool = False) -> Iterator[tuple[str, int]]:
    """(module, line) of every import; `at_import_only` skips what runs later (in functions) or never (type checking)."""
    pending: list[ast.AST] = [source.tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name, node.lineno) for name in _from_names(node, source.package))
        elif at_import_only and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)):
            continue
        pending.extend(ast.iter_child_nodes(node))


def _from_names(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """Full dotted names; `from lib import runs` gives `lib.runs`, because a name may be a module."""
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
    if base.split(".")[0] in ("lib", PAGES):
        yield from (f"{base}.{alias.name}" for alias in node.names)
    else:
        yield base


def _ours(name: str) -> str:
    """The layer of an imported name, resolving `lib.runs.home` to `runs` and `lib.tasks.get` to `tasks`."""
    if name.startswith("lib.tasks."):
        is_folder = name.split(".")[2] in PLANNED_TASKS or (ROOT / "lib" / "tasks" / name.split(".")[2]).is_dir()
        return "one task" if is_folder else "tasks"
    if name.startswith("lib.__"):
        return "version"
    return layer_of(name)


# --- rules: one file in, findings out ---------------------------------------------------------------------------------
def rule_import_table(source: Source) -> list[str]:
    """Only what the table allows; a task may import itself, never another task."""
    if not source.layer:
        return []
    found = []
    allowed = MAY_IMPORT.get(source.layer)
    if allowed is None:
        return [f"{source.path}: the layer {source.layer!r} is not in the import table"]
    for name, line in imports(source):
        target = _ours(name)
        if not target or target == "version" or target in allowed:
            continue
        same_task = source.layer == "one task" and name.split(".")[:3] == source.module.split(".")[:3]
        if same_task or (target == source.layer and target != "one task"):
            continue
        found.append(f"{source.path}:{line}: {source.layer} may not import {name}")
    return found


def rule_streamlit_only_in_ui(source: Source) -> list[str]:
    """Streamlit lives in app, pages and lib/ui."""
    if not source.path.startswith("lib/") or source.layer == "ui":
        return []
    return [f"{source.path}:{line}: imports {name}" for name, line in imports(source) if name.split(".")[0] == "streamlit"]


def rule_no_torch_in_dashboard(source: Source) -> list[str]:
    """Not even inside a function."""
    if source.layer not in DASHBOARD:
        return []
    return [f"{source.path}:{line}: imports {name}" for name, line in imports(source) if name.split(".")[0] in HEAVY]


def rule_no_pickle(source: Source) -> list[str]:
    """A foreign pickle runs code: neither the modules nor the functions that read one."""
    if source.path == "lib/cli/convert.py":  # opens one on the word of its owner, and says so
        return []
    banned = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = [f"{source.path}:{line}: imports {name}" for name, line in imports(source) if name.split(".")[0] in banned]
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        words = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called.endswith(("read_pickle", "to_pickle")) or words.get("allow_pickle") == "True":
            found.append(f"{source.path}:{node.lineno}: {called} reads or writes a pickle")
        if called == "torch.load" and words.get("weights_only") != "True":
            found.append(f"{source.path}:{node.lineno}: torch.load without weights_only=True")
    return found


def rule_no_swallowed_errors(source: Source) -> list[str]:
    """`except Exception: pass` hides faults; a named exception may be ignored."""
    found = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = "bare" if node.type is None else ast.unparse(node.type)
        empty = all(isinstance(s, ast.Pass | ast.Continue) or _is_ellipsis(s) for s in node.body)
        if kinds == "bare" or (empty and re.search(r"\b(Base)?Exception\b", kinds)):
            found.append(f"{source.path}:{node.lineno}: except {kinds} with nothing done about it")
    return found


def _is_ellipsis(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def rule_no_global_random_state(source: Source) -> list[str]:
    """Randomness comes in as an argument; only the training loop (and a test of it) seeds the libraries it drives."""
    fine = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "PCG64DXSM", "Philox", "SFC64"}
    seeds = {"torch.manual_seed", "torch.cuda.manual_seed_all", "seed_everything", "pl.seed_everything", "L.seed_everything"}
    may_seed = source.path == "lib/train.py" or source.path.startswith("tests/")
    found = [f"{source.path}:{line}: imports random" for name, line in imports(source) if name == "random"]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            legacy = re.fullmatch(r"(np|numpy)\.random\.(\w+)", name)
            if legacy and legacy[2] not in fine:
                found.append(f"{source.path}:{node.lineno}: {name} uses NumPy's global state")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in seeds and not may_seed:
            found.append(f"{source.path}:{node.lineno}: {ast.unparse(node.func)} seeds globally")
    return found


def rule_core_names_no_task(source: Source) -> list[str]:
    """A task's name stands in its own folder alone; Home may say what is planned."""
    core = source.path == "app.py" or source.path.startswith(("lib/", f"{PAGES}/"))
    if not core or source.layer == "one task" or source.path == "lib/ui/home.py":
        return []
    docstrings = {id(node) for node in _docstrings(source.tree)}
    word = re.compile(rf"\b({'|'.join(PLANNED_TASKS)})\b", re.IGNORECASE)
    return [
        f"{source.path}:{node.lineno}: names the task in {node.value[:40]!r}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if word.search(node.value)
    ]  # fmt: skip


def rule_file_names(source: Source) -> list[str]:
    """A module says what it holds."""
    vague = {"utils.py", "util.py", "common.py", "helpers.py", "helper.py", "misc.py", "tools.py"}
    name = source.path.rpartition("/")[2]
    return [f"{source.path}: {name} says nothing about what is in it"] if name in vague or source.path == "lib/data.py" else []


def rule_file_length(source: Source) -> list[str]:
    """Short files, thin pages."""
    limit = LINES_PER_PAGE if source.layer in ("pages", "app") else LINES_PER_FILE
    lines = source.text.count("\n")
    return [f"{source.path}: {lines} lines, at most {limit}"] if lines > limit else []


def rule_longest_function(source: Source) -> list[str]:
    """No function is longer than a screen."""
    return [
        f"{source.path}:{line}: {name} has {n} lines of code, at most {LINES_PER_LONGEST_FUNCTION}"
        for name, line, n in function_lengths(source)
        if n > LINES_PER_LONGEST_FUNCTION
    ]


def rule_no_leftovers(source: Source) -> list[str]:
    """Nothing half-done lands."""
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    found = [f"{source.path}:{i}: {line.strip()}" for i, line in enumerate(source.text.splitlines(), 1) if marks.search(line)]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
            found.append(f"{source.path}:{node.lineno}: raises NotImplementedError")
    return found


RULES: list[Callable[[Source], list[str]]] = [
    rule_import_table,
    rule_streamlit_only_in_ui,
    rule_no_torch_in_dashboard,
    rule_no_pickle,
    rule_no_swallowed_errors,
    rule_no_global_random_state,
    rule_core_names_no_task,
    rule_file_names,
    rule_file_length,
    rule_longest_function,
    rule_no_leftovers,
]


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                yield first.value


def function_lengths(source: Source) -> list[tuple[str, int, int]]:
    """(name, line, lines of code) of every function; docstrings, comments and blank lines are not code."""
    tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
    dull = {tokenize.NL, tokenize.COMMENT, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code = {line for t in tokens if t.type not in dull for line in range(t.start[0], t.end[0] + 1)}
    for text in _docstrings(source.tree):
        code -= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    functions = [n for n in ast.walk(source.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(f.name, f.lineno, len(code & set(range(f.lineno, (f.end_lineno or f.lineno) + 1)))) for f in functions]


def share_of_short_functions(files: tuple[Source, ...]) -> float:
    lengths = [n for source in files for _, _, n in function_lengths(source)]
    return sum(n <= LINES_PER_FUNCTION for n in lengths) / len(lengths)


def reachable_at_import(start: Source, files: dict[str, Source]) -> set[str]:
    """Every module, ours or not, that importing `start` imports, through our own files."""
    seen: set[str] = set()
    pending = [start.module]
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        if module in files:
            for name, _ in imports(files[module], at_import_only=True):
                pending += [name, name.rpartition(".")[0]] if name.split(".")[0] in ("lib", PAGES) else [name]
    return seen - {""}


# --- the repository keeps the rules -----------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_repository_keeps(rule: Callable[[Source], list[str]]) -> None:
    found = [finding for source in sources() for finding in rule(source)]
    assert not found, "\n".join(["", rule.__doc__ or "", *found])


def test_most_functions_are_short() -> None:
    long_ones = [f"{s.path}:{line}: {name} {n}" for s in sources() for name, line, n in function_lengths(s) if n > 50]
    assert share_of_short_functions(sources()) >= SHARE_OF_SHORT_FUNCTIONS, "\n".join(long_ones)


def test_no_file_of_the_dashboard_reaches_torch() -> None:
    files = {source.module: source for source in sources()}
    for source in files.values():
        if source.layer in DASHBOARD:
            heavy = {name for name in reachable_at_import(source, files) if name.split(".")[0] in HEAVY}
            assert not heavy, f"{source.path} reaches {heavy} when it is imported"


def test_a_running_dashboard_holds_no_torch() -> None:
    """Import everything the pages import, every task too, in a fresh process, and look at what came along."""
    modules = {source.module for source in sources() if source.layer in ("ui", "jobs", "runs", "figures")}
    page_imports = {n for s in sources() if s.layer in ("app", "pages") for n, _ in imports(s)}
    modules |= {n for n in page_imports if (ROOT / f"{n.replace('.', '/')}.py").exists()}
    code = (
        f"import sys, importlib\nfor m in {sorted(modules)}: importlib.import_module(m)\n"
        "from lib import tasks\n[tasks.get(n) for n in tasks.names()]\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_layer_of_the_table_is_reachable_from_the_files() -> None:
    """A row for a module that is gone would be a drawing of another house; `nn` and `splits` come with the second task."""
    present = {source.layer for source in sources()} - {""}
    assert present <= MAY_IMPORT.keys()
    assert MAY_IMPORT.keys() - present <= {"nn", "splits"}


# --- each rule can fail ----------------------------------------------------------------------------------------------
BAD: list[tuple[Callable[[Source], list[str]], str, str]] = [
    (rule_import_table, "lib/runs.py", "from lib.ui import forms"),
    (rule_import_table, "lib/runs.py", "def f():\n    import lib.jobs"),
    (rule_import_table, "lib/jobs/local.py", "from .. import train"),
    (rule_import_table, "lib/ui/forms.py", "from lib import tasks"),
    (rule_import_table, "lib/tasks/diffusion/score.py", "from lib.tasks.spectra import score"),
    (rule_import_table, "lib/tasks/diffusion/score.py", "from lib.runs import home"),
    (rule_import_table, "lib/train.py", "from lib.tasks.diffusion import TASK"),
    (rule_import_table, "lib/novelty.py", "x = 1"),
    (rule_streamlit_only_in_ui, "lib/runs.py", "import streamlit as st"),
    (rule_streamlit_only_in_ui, "lib/tasks/diffusion/views.py", "def f():\n    from streamlit import cache_data"),
    (rule_no_torch_in_dashboard, "lib/ui/train.py", "def f():\n    import torch.nn"),
    (rule_no_torch_in_dashboard, "lib/jobs/worker.py", "from pytorch_lightning import Trainer"),
    (rule_no_pickle, "lib/model.py", "import pickle"),
    (rule_no_pickle, "lib/model.py", "import numpy as np\nnp.load('x', allow_pickle=True)"),
    (rule_no_pickle, "lib/model.py", "import torch\ntorch.load('x')"),
    (rule_no_pickle, "lib/model.py", "import pandas as pd\npd.read_pickle('x')"),
    (rule_no_swallowed_errors, "lib/x.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (rule_no_swallowed_errors, "lib/x.py", "try:\n    f()\nexcept (OSError, BaseException):\n    ..."),
    (rule_no_swallowed_errors, "lib/x.py", "try:\n    f()\nexcept:\n    print(1)"),
    (rule_no_global_random_state, "lib/x.py", "import numpy as np\nnp.random.normal()"),
    (rule_no_global_random_state, "tests/x.py", "import numpy as np\nnp.random.seed(1)"),
    (rule_no_global_random_state, "lib/x.py", "from random import choice"),
    (rule_no_global_random_state, "lib/model.py", "import torch\ntorch.manual_seed(0)"),
    (rule_core_names_no_task, "lib/train.py", "if name == 'diffusion': pass"),
    (rule_core_names_no_task, f"{PAGES}/train.py", "x = f'/diffusion-{y}'"),
    (rule_core_names_no_task, "lib/ui/results.py", "title = 'Bragg spots'"),
    (rule_file_names, "lib/utils.py", ""),
    (rule_file_names, "lib/data.py", ""),
    (rule_file_length, f"{PAGES}/train.py", "\n" * 41),
    (rule_file_length, "lib/train.py", "\n" * 501),
    (rule_longest_function, "lib/x.py", "def f():\n" + "    x = 1\n" * 60),
    (rule_no_leftovers, "lib/x.py", "# TO" + "DO later"),
    (rule_no_leftovers, "lib/x.py", "def f():\n    raise NotImplementedError"),
]  # fmt: skip

GOOD: list[tuple[Callable[[Source], list[str]], str, str]] = [
    (rule_import_table, f"{PAGES}/train.py", "from lib.ui import forms\nfrom lib import jobs, runs, tasks\nimport pandas"),
    (rule_import_table, "lib/tasks/diffusion/score.py", "from .config import Rules\nfrom lib.figures import figure"),
    (rule_import_table, "lib/train.py", "from lib import __version__, tasks\nfrom lib.tasks import get"),
    (rule_import_table, "lib/jobs/local.py", "from lib.jobs.base import Executor\nfrom lib.runs import Run"),
    (rule_no_pickle, "lib/train.py", "import torch\ntorch.load('x', weights_only=True)"),
    (rule_no_swallowed_errors, "lib/x.py", "try:\n    f()\nexcept ProcessLookupError:\n    pass"),
    (rule_no_global_random_state, "lib/x.py", "import numpy as np\nr = np.random.default_rng(1)\nr.normal()"),
    (rule_no_global_random_state, "lib/train.py", "import torch\ntorch.manual_seed(0)"),
    (rule_core_names_no_task, "lib/train.py", '"""As in diffusion."""\nx = \'task\''),
    (rule_longest_function, "lib/x.py", f'def f():\n    """{"text" * 80}"""\n' + "    # why\n\n" * 60 + "    x = 1\n" * 59),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_rule_finds_what_it_forbids(rule: Callable[[Source], list[str]], path: str, text: str) -> None:
    assert rule(Source(path, text))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=lambda value: getattr(value, "__name__", None))
def test_rule_lets_pass_what_it_allows(rule: Callable[[Source], list[str]], path: str, text: str) -> None:
    assert rule(Source(path, text)) == []


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in BAD} == set(RULES)


def test_reach_follows_imports_through_our_own_files() -> None:
    page = Source(f"{PAGES}/x.py", "from lib.ui import form")
    form = Source("lib/ui/form.py", "from lib.deep import work\ndef later():\n    import onnx")
    deep = Source("lib/deep.py", "if True:\n    import torch")
    reached = reachable_at_import(page, {s.module: s for s in (page, form, deep)})
    assert "torch" in reached and "onnx" not in reached


def test_share_of_short_functions_counts_code_alone() -> None:
    text = "def a():\n    pass\ndef b():\n" + "    x = 1\n" * 50
    assert share_of_short_functions((Source("lib/x.py", text),)) == pytest.approx(0.5)
