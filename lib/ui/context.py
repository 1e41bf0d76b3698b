"""Where a page is (which task, which stage, which run), its header, its links, and what happens when it fails.

Every page body runs inside `guard()`. A page knows its task from the URL path `<task>-<stage>`, which `app.py` leaves in
the session under `PAGE_PATH`. A test that opens one page file alone sets that session value itself:

    page = AppTest.from_file("pages/train.py")
    page.session_state["page_path"] = "diffusion-train"
    page.query_params["run"] = run.id
    page.run()
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlencode

import streamlit as st

from lib.runs import Run
from lib.task import InputError, Task
from lib.ui.live import bring_plotly
from lib.ui.words import language, t
from lib.words import core, spoken

PAGE_PATH = "page_path"
PAGE_TASK = "page_task"  # session: the task of the page shown, in the reader's language; none where it has none
PAGES_FOLDER = Path(__file__).resolve().parents[2] / "pages"
STAGES: Mapping[str, tuple[str, str]] = {  # stage: title, icon
    "simulate": ("Simulate", ":material/blur_on:"),
    "clean": ("Clean", ":material/filter_alt:"),
    "train": ("Train", ":material/model_training:"),
    "sweep": ("Sweep", ":material/tune:"),
    "results": ("Results", ":material/monitoring:"),
    "predict": ("Predict", ":material/straighten:"),
}
MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]$<>~:#|"})
T = TypeVar("T")
_log = logging.getLogger("lightbench")


class Jobs(Protocol):
    """What pages need of `lib.jobs`; the module itself keeps this protocol."""

    def executors(self) -> Mapping[str, Any]:
        """By name, each with `available() -> (bool, why not)`."""

    def state(self, run: Run) -> str:
        """State of the run as its process and its status say, "lost" included."""

    def start(self, run: Run, keep: bool = False) -> None:
        """Start a queued run in the background; one that cannot be started is deleted, unless `keep`."""

    def cancel(self, run: Run) -> None:
        """Stop a run; returns when its processes are gone."""

    def resume(self, run: Run) -> None:
        """Go on from its last checkpoint."""

    def end(self, run: Run) -> Any:
        """What became of a run that is not alive and did not end by itself; `reason` is a sentence or empty."""


class WorkerLike(Protocol):
    """What pages need of the warm worker."""

    def request(
        self,
        op: str,
        payload: dict[str, Any],
        on_progress: Callable[[float, str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Answer of one operation; setting `stop` ends it. Raises InputError."""


# --- the page --------------------------------------------------------------------------------------------------------
@contextmanager
def guard() -> Iterator[None]:
    """Run a page body: bad input becomes its sentence; anything else is logged with its traceback and becomes one sentence."""
    try:
        yield
    except InputError as error:
        show_error(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: users never see a traceback, the log always does
        _log.exception("page %s failed", st.session_state.get(PAGE_PATH, ""))
        text = t(
            "This part of the page could not be shown ({kind}). The server's log has the details. "
            "Reload the page; if it happens again, report it with that log.",
            kind=type(error).__name__,
        )
        st.error(text, icon=":material/error:")


def show_error(error: InputError) -> None:
    """What is wrong and what to do, in the reader's language: marks of Markdown in a file name are only letters."""
    task: Task | None = st.session_state.get(PAGE_TASK)
    told = error.spoken(task.speaking(language()).tell if task is not None else lambda text: spoken(text, core(language())))
    st.error(plain(str(told)), icon=":material/error:")


def plain(text: str) -> str:
    """Text whose marks of Markdown are shown, not obeyed."""
    return text.translate(MARKDOWN)


def page_header(title: str, purpose: str, task: Task | None = None) -> None:
    """The page's title and one sentence on what it is for; also the title of the browser's tab."""
    st.set_page_config(page_title=" · ".join([title, *([title_of(task)] if task else []), "Lightbench"]))
    if task is not None:
        bring_plotly()
        st.caption(f"{task.icon} {title_of(task)}")
    st.title(title, anchor=False)
    st.markdown(f":gray[{purpose}]")


def title_of(task: Task) -> str:
    """The task's title in its language."""
    return task.say(task.title)


def empty_state(text: str, icon: str = ":material/info:") -> None:
    """Nothing to show yet: say what to do next."""
    with st.container(border=True):
        st.markdown(f":gray[{icon} {text}]")


def page_task(get: Callable[[str], Task]) -> Task:
    """The task of the current page in the reader's language; `get` is `lib.tasks.get`. Raises InputError for another path."""
    path = str(st.session_state.get(PAGE_PATH, ""))
    st.session_state.pop(PAGE_TASK, None)
    name, dash, stage = path.rpartition("-")
    if not dash or stage not in STAGES:
        told = t("it belongs to no task"), t("Choose a page from the menu on the left.")
        raise InputError(t("page {path}", path=repr(path)), *told)
    task = st.session_state[PAGE_TASK] = get(name).speaking(language())
    return task


def theme() -> Literal["light", "dark"]:
    """The theme the browser shows now."""
    return "dark" if st.context.theme.type == "dark" else "light"


@st.cache_resource(show_spinner=False)
def _made(name: str, _factory: Callable[[], Any]) -> Any:
    return _factory()


def shared(factory: Callable[[], T]) -> T:
    """The one object of this server that `factory` makes, e.g. `shared(Worker)`: made once, used by every session."""
    made: T = _made(f"{factory.__module__}.{factory.__qualname__}", factory)
    return made


# --- links -----------------------------------------------------------------------------------------------------------
def stage_page(task: str, stage: str, icon: str = "") -> st.Page:
    """The page of one stage of one task. All tasks share the file `pages/<stage>.py`."""
    title, stage_icon = STAGES[stage]
    return st.Page(PAGES_FOLDER / f"{stage}.py", title=t(title), icon=icon or stage_icon, url_path=f"{task}-{stage}")


def core_page(name: Literal["home", "jobs"]) -> st.Page:
    """Home or Jobs."""
    if name == "home":
        return st.Page(PAGES_FOLDER / "home.py", title=t("Home"), icon=":material/home:", default=True)
    return st.Page(PAGES_FOLDER / "jobs.py", title=t("Jobs"), icon=":material/list_alt:", url_path="jobs")


def loaded_tasks(names: Sequence[str], get: Callable[[str], Task]) -> list[Task]:
    """The tasks that load, in the reader's language.

    One that does not (it may be a lab's own plug-in) is logged and left out; the others stay usable.
    """
    tasks = []
    for name in names:
        try:
            tasks.append(get(name).speaking(language()))
        except Exception:  # noqa: BLE001 - whatever a plug-in does wrong
            _log.exception("task %s could not be loaded", name)
    return tasks


def navigation_sections(tasks: Sequence[Task]) -> dict[str, list[st.Page]]:
    """Sections of the menu: the bench's own pages, then every task's stages."""
    own = {"Lightbench": [core_page("home"), core_page("jobs")]}
    return own | {title_of(task): [stage_page(task.name, stage) for stage in STAGES] for task in tasks}


def stage_url(task: str, stage: str, **params: str) -> str:
    """Relative URL of a page, e.g. `diffusion-train?run=…`."""
    return f"{task}-{stage}" + (f"?{urlencode(params)}" if params else "")


def stage_link(task: str, stage: str, label: str = "", icon: str | None = None, **params: str) -> None:
    """A link to a page of a task, with query parameters."""
    st.page_link(stage_page(task, stage), label=label or t(STAGES[stage][0]), icon=icon, query_params=params or None)


def go_to(task: str, stage: str, **params: str) -> None:
    """Open a page of a task at once (from a button)."""
    st.switch_page(stage_page(task, stage), query_params=params or None)


def query(name: str) -> str:
    """A query parameter of the URL, empty where it is not given."""
    return str(st.query_params.get(name, ""))


def set_query(name: str, value: str) -> None:
    """Put a query parameter into the URL, so that the address can be kept or sent; empty removes it."""
    if value and st.query_params.get(name) != value:
        st.query_params[name] = value
    elif not value and name in st.query_params:
        del st.query_params[name]
