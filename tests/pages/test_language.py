"""French and English: the switch, what it keeps, and the pages of a task that has both, read for words of the other language."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import streamlit as st
from google.protobuf.json_format import MessageToDict
from streamlit.testing.v1 import AppTest

import lib.tasks
from lib import runs
from lib.task import Task
from lib.tasks.spectra import TASK
from lib.ui import files, words
from lib.ui.context import STAGES, page_task
from lib.ui.work import Work
from tests.pages.conftest import PAGES
from tests.pages.fake_worker import Here

ROOT = Path(__file__).parents[2]
CATALOGUES = [ROOT / "lib" / "ui" / "fr.json", ROOT / "lib" / "fr.json", ROOT / "lib" / "tasks" / "spectra" / "fr.json"]
LONG, PHRASE = 25, 20  # characters from which a text, or a part of one with fields, is looked for inside others
UNSEEN = {"legendgroup", "id", "key", "icon", "bdata", "jsContent", "cssContent"}  # of an element or a figure: told to nobody
ENGLISH_WORDS = re.compile(
    r"\b(?:the|of|and|with|without|is|are|was|were|be|been|not|no|from|which|what|when|where|than|that|this|these|those|each|every|"
    r"has|have|had|it|its|they|there|their|by|for|in|at|into|only|other|more|less|most|least|between|both|too|few|must|should|give|"
    r"choose|use)\b",
    re.IGNORECASE,
)  # none of them is a French word
NAMES = re.compile(  # of classes, settings and families: the same in every language
    r"`[^`]*`|\bIN\b|\bThe rest\b|\bbest of\b|\bis-val\b|\w+>\w+=\d+"
)
LOG = re.compile(r"\d{4}-\d\d-\d\d \d\d:")  # the log of a training is in English
TINY = {"model": "PLS-DA", "simulated_samples": 200, "threads": 1}
Open = Callable[..., AppTest]


@pytest.fixture(scope="module", autouse=True)
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder with the task's example in data/."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data" / "spectra" / "syrup").mkdir(parents=True)
    shutil.copy(TASK.example()[0], folder / "data" / "spectra" / "syrup" / "table.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTBENCH_HOME", str(folder))
        patch.setattr("lib.runs.SHIPPED_HERE", folder / "nothing shipped")
        yield folder


@pytest.fixture(scope="module")
def trained(bench: Path) -> runs.Run:
    """A tiny run with its sheet."""
    from lib import sheet, train

    run = runs.create("spectra", TASK.Training.parse(TINY).model_dump(), "tiny")
    assert train.fit(run).state == "done"
    sheet.build(run)
    return run


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens `pages/<stage>.py` for the task in a language; keyword arguments go into the session."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr("lib.jobs.worker.Worker", Here)

    def opened(stage: str, language: str = "fr", **session: Any) -> AppTest:
        page = AppTest.from_file(str(PAGES / f"{stage}.py"), default_timeout=300)
        page.session_state["page_path"] = f"spectra-{stage}"
        page.session_state[words.LANGUAGE] = language
        for key, value in session.items():
            page.session_state[key] = value
        return page.run()

    return opened


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Opens a page of the task with the switch in the sidebar, as app.py draws it; arguments are the address's parameters."""
    st.cache_resource.clear()
    monkeypatch.setattr("lib.jobs.worker.Worker", Here)

    def with_switch(get: Callable[[str], Task]) -> Task:
        words.settle_language()
        words.language_switch()
        return page_task(get)

    monkeypatch.setattr("lib.ui.context.page_task", with_switch)

    def opened(stage: str = "simulate", **params: str) -> AppTest:
        page = AppTest.from_file(str(PAGES / f"{stage}.py"), default_timeout=300)
        page.session_state["page_path"] = f"spectra-{stage}"
        for key, value in params.items():
            page.query_params[key] = value
        return page.run()

    return opened


def speak(page: AppTest, language: str) -> AppTest:
    """Press the switch."""
    page.segmented_control(key=words.SWITCH).set_value(language).run()
    assert not page.exception and not page.error
    return page


def done(page: AppTest, stage: str) -> AppTest:
    """The page after its request has ended, however long it took."""
    key = f"spectra-{stage}-work"
    if key in page.session_state:
        work: Work = page.session_state[key]
        assert work.ended.wait(120)
    page.run()
    assert not page.exception and not page.error, [error.value for error in page.error]
    return page


# --- reading a page ---------------------------------------------------------------------------------------------------
def shown(page: AppTest) -> list[str]:
    """Every text in the page's elements, figures and column headings included."""
    found: list[str] = []

    def take(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key not in UNSEEN:
                    take(item)
        elif isinstance(value, list):
            for item in value:
                take(item)
        elif isinstance(value, str):
            if value[:1] in "{[":
                try:
                    take(json.loads(value))
                    return
                except ValueError:
                    pass
            found.append(value)

    for block in (page.main, page.sidebar):
        for element in block:
            if element.proto is not None:
                take(MessageToDict(element.proto))
    return found


@cache
def english() -> tuple[frozenset[str], frozenset[str]]:
    """Texts of several words that have a French form, and parts of texts that are long enough to be looked for anywhere."""
    known = {text: told for path in CATALOGUES for text, told in json.loads(path.read_text("utf-8")).items()}
    whole = frozenset(text for text, told in known.items() if told != text and " " in text)
    parts = [(text, [part for part, _, _, _ in Formatter().parse(text) if part]) for text in whole if "{" in text]
    inside = [max(pieces, key=len) for _, pieces in parts if pieces] + [text for text in whole if "{" not in text]
    limit = {True: PHRASE, False: LONG}
    return whole, frozenset(part for part in inside if len(part) >= limit[part not in whole])


def english_on(page: AppTest) -> list[str]:
    """What a reader of French finds on the page that is English."""
    whole, inside = english()
    texts = shown(page)
    every = "\n".join(texts)
    known = [text for text in texts if text in whole] + [part for part in inside if part in every]
    others = {text for task in map(lib.tasks.get, lib.tasks.names()) if task.name != TASK.name for text in told_on_home(task)}
    strange = [text for text in texts if " " in text and not LOG.match(text) and not any(other in text for other in others)]
    return known + [text for text in strange if ENGLISH_WORDS.search(NAMES.sub("", text))]


def told_on_home(task: Task) -> tuple[str, ...]:
    """What Home says of a task that speaks English alone."""
    return (task.summary, task.input_label, task.output_label) if task.languages() == ("en",) else ()


# --- pages ------------------------------------------------------------------------------------------------------------
def test_a_page_in_english_is_found_to_be_so(open_page: Open) -> None:
    assert len(english_on(open_page("train", "en"))) > 50


@pytest.mark.parametrize("stage", [*STAGES, "home", "jobs"])
def test_every_page_opens_in_french(open_page: Open, stage: str) -> None:
    page = open_page(stage)
    assert not page.exception and not page.error, [error.value for error in page.error]
    assert english_on(page) == []


@pytest.mark.slow
def test_clean_in_french(open_page: Open) -> None:
    page = open_page("clean", **{"spectra-clean-files-where": files.FOLDER, "spectra-clean-files-folder": "spectra/syrup"})
    assert page.title[0].value == "Nettoyer"
    page.button(key="spectra-clean-read").click().run()
    done(page, "clean")
    assert [heading.value for heading in page.subheader] == ["Règles", "Échantillons", "Exporter"]
    assert {metric.label for metric in page.metric} == {"Conservé", "Retirés par les règles"}
    views = page.get("button_group")[-1]
    assert "Intégrales" in views.options and "Vérifications" in views.options
    for number in range(len(views.options)):
        page.session_state["spectra-clean-overview-view"] = number
        page.run()
        assert not page.exception and english_on(page) == []
    page.session_state["spectra-clean-view"] = "Table"
    assert english_on(page.run()) == []


@pytest.mark.slow
def test_results_and_train_in_french(open_page: Open, trained: runs.Run) -> None:
    page = open_page("results")
    told = shown(page)
    assert {"##### Matrice de confusion sans seuils", "##### Ensembles de prédiction", "macro-F1"} <= set(told)
    assert "rappel et précision (%)" in "\n".join(told)
    assert english_on(page) == []
    train = open_page("train")
    assert {"Nouvel entraînement", "Entraînements"} == {heading.value for heading in train.subheader}
    assert "Meilleure valeur : macro-F1" in {metric.label.replace("\u00a0", " ") for metric in train.metric}
    assert english_on(train) == []


@pytest.mark.slow
def test_predict_in_french(open_page: Open, trained: runs.Run) -> None:
    page = open_page("predict")
    page.button(key="spectra-predict-sample").click().run()
    done(page, "predict")
    assert page.subheader[0].value == "Résultat" and english_on(page) == []
    table = next(frame.value for frame in page.dataframe if "decision" in frame.value)
    assert set(table["decision"]) <= {"passer", "goûter", "rejeter"} and set(table["in_domain"]) <= {"oui", "non"}
    outcome = page.session_state["spectra-predict-outcome"]
    assert set(outcome.table["decision"]) <= {"pass", "taste", "reject"}, "files keep one language"
    html = (Path(outcome.folder.name) / "figures.html").read_text(encoding="utf-8")
    assert '<html lang="fr">' in html and "Valeurs prédites" in html
    page.session_state[words.LANGUAGE] = "en"
    assert "Notes and figures were made in Français" in "\n".join(caption.value for caption in page.run().caption)


@pytest.mark.slow
def test_the_sheet_in_both_languages(trained: runs.Run, tmp_path: Path) -> None:
    from lib import __main__ as command_line
    from lib import sheet

    pages = {language: sheet.html(trained, language) for language in ("en", "fr")}
    assert "Confusion without cut-offs" in pages["en"] and "Name and signature" in pages["en"]
    assert "Matrice de confusion sans seuils" in pages["fr"] and "Nom et signature" in pages["fr"]
    assert '<html lang="fr">' in pages["fr"] and "Name and signature" not in pages["fr"]
    inside = english()[1]
    assert [part for part in inside if f">{part}<" in pages["fr"]] == []
    target = tmp_path / "fiche.html"
    assert command_line.main(["sheet", trained.id, "--language", "fr", "--output", str(target)]) == 0
    assert "Nom et signature" in target.read_text(encoding="utf-8")


# --- the switch -------------------------------------------------------------------------------------------------------
def test_the_app_draws_the_switch_for_every_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.tasks, "names", cache(lambda: ("spectra",)))
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    assert not page.exception and not page.error
    assert page.sidebar.get("button_group")[0].options == ["English", "Français"]


def test_the_browser_decides_until_the_reader_does(app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    assert app().title[0].value == "Simulate"
    monkeypatch.setattr(words, "browsers_language", lambda: "fr")
    page = app()
    assert page.title[0].value == "Simuler" and "lang" not in page.query_params
    speak(page, "en")
    assert page.title[0].value == "Simulate"
    assert page.query_params["lang"] == "en", "it is not the browser's own, so the address says it"
    page.run()
    assert page.title[0].value == "Simulate"


def test_the_choice_is_in_the_address(app: Callable[..., AppTest]) -> None:
    page = speak(app(), "fr")
    assert page.title[0].value == "Simuler" and page.query_params["lang"] == "fr"
    speak(page, "en")
    assert page.title[0].value == "Simulate" and "lang" not in page.query_params


def test_an_address_asks_for_its_language(app: Callable[..., AppTest]) -> None:
    page = app(lang="fr")
    assert page.title[0].value == "Simuler"
    page.query_params.pop("lang")  # as a link of the menu leaves it
    assert page.run().title[0].value == "Simuler" and page.query_params["lang"] == "fr"
    assert app(lang="xx").title[0].value == "Simulate"


def test_the_switch_keeps_what_was_on_the_page(app: Callable[..., AppTest]) -> None:
    page = app("train")
    key = "spectra-train"
    page.selectbox(key=f"{key}:preset").set_value("linear SVM").run()
    page.selectbox(key=f"{key}.class_weights").set_value("square root")
    page.selectbox(key=f"{key}.rare").set_value("merge")
    page.number_input(key=f"{key}.n_splits").set_value(7)
    page.text_input(key=f"{key}-name").set_value("mon essai").run()
    for language, label in (("fr", "racine carrée"), ("en", "square root"), ("fr", "racine carrée")):
        speak(page, language)
        chosen = page.selectbox(key=f"{key}.class_weights")
        assert chosen.value == "square root" and chosen.proto.raw_value == label
        assert page.selectbox(key=f"{key}:preset").value == "linear SVM"
        assert page.selectbox(key=f"{key}.model").value == "linear SVM"
        assert page.selectbox(key=f"{key}.rare").value == "merge" and page.selectbox(key=f"{key}.data").value == ""
        assert page.number_input(key=f"{key}.n_splits").value == 7
        assert page.text_input(key=f"{key}-name").value == "mon essai"


@pytest.mark.slow
def test_the_switch_keeps_files_rules_and_views(app: Callable[..., AppTest]) -> None:
    page = app("clean")
    page.segmented_control(key="spectra-clean-files-where").set_value(files.FOLDER).run()
    page.selectbox(key="spectra-clean-files-folder").set_value("spectra/syrup").run()
    page.button(key="spectra-clean-read").click().run()
    done(page, "clean")
    page.select_slider(key="spectra-clean-rules.max_425").set_value(5000.0).run()
    page.pills(key="spectra-clean-overview-view").set_value(3).run()
    kept = page.metric[0].value.split()[0]
    for language in ("fr", "en"):
        speak(page, language)
        assert page.metric[0].value.split()[0] == kept
        assert page.selectbox(key="spectra-clean-files-folder").value == "spectra/syrup"
        assert page.select_slider(key="spectra-clean-rules.max_425").value == 5000.0
        assert page.pills(key="spectra-clean-overview-view").value == 3
