"""What readers say to a French reader: every refusal and every remark of theirs, whatever its values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib import cleaning
from lib.task import InputError, Phrase, Samples, Task
from lib.tasks.spectra import TASK, arrays, checks, clean, sheet_strata, verdicts
from lib.tasks.spectra.files import Columns, read
from lib.tasks.spectra.sheet_rows import scored
from lib.tasks.spectra.table import Channel, SpectraTable
from lib.tasks.spectra.tabular import note_in, sample_notes
from lib.tasks.spectra.targets import Target, classify, settle_rare
from lib.words import plain
from tests.french import refused
from tests.spectra import bad_tables as tables
from tests.spectra.test_files import DIALECTS
from tests.spectra.toy_runs import certified, draw

FRENCH = TASK.speaking("fr")


def told(error: InputError, file: bool = True) -> InputError:
    """The error in French, which no part of it may escape; the name of a file stays."""
    french = refused(TASK, error)
    assert french.subject == error.subject or not file
    return french


@pytest.mark.parametrize("case", tables.BAD_CONTENTS)
def test_every_bad_table_is_refused_in_french(tmp_path: Path, case: str) -> None:
    (tmp_path / "mauvais.csv").write_bytes(tables.BAD_CONTENTS[case][0])
    with pytest.raises(InputError) as caught:
        read(tmp_path / "mauvais.csv")
    told(caught.value)


@pytest.mark.parametrize("case", tables.BAD_HDF5)
def test_every_bad_hdf5_is_refused_in_french(tmp_path: Path, case: str) -> None:
    with h5py.File(tmp_path / "mauvais.h5", "w") as file:
        tables.BAD_HDF5[case][0](file, tmp_path)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "mauvais.h5")
    told(caught.value)


def _lacks_channel(folder: Path) -> None:
    (folder / "EX_380_2018.txt").unlink()


def _other_samples(folder: Path) -> None:
    tables.channel_frame("380", 5).to_csv(folder / "EX_380_2018.txt", sep="\t", index=False)


def _two_of_a_channel(folder: Path) -> None:
    tables.channel_frame("277").to_csv(folder / "EX_277_2019.txt", sep="\t", index=False)


def _repeated(folder: Path) -> None:
    tables.channel_frame("380").assign(sequence=["7"] * 6).to_csv(folder / "EX_380_2018.txt", sep="\t", index=False)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lacks_channel, "manque : le canal 380 était attendu à côté de EX_277_2018.txt"),
        (_other_samples, "n'a pas 1 échantillons que EX_277_2018.txt a (sequence 1005)"),
        (_two_of_a_channel, "contient le canal 277, et EX_277_2018.txt aussi"),
        (_repeated, "a 5 valeurs répétées de 'sequence'"),
    ],
)
def test_a_set_that_does_not_fit_is_refused_in_french(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    tables.write_original(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert words in told(caught.value).problem


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": "grade"}, "n'a pas de colonne 'grade', choisie comme étiquette"),
        ({"tabular": ("brix",)}, "n'a pas de colonne 'brix', choisie comme valeur tabulaire"),
        ({"channels": ("277",)}, "n'a pas de canal 277 (il a spectrum)"),
    ],
)
def test_a_column_that_is_not_there_is_refused_in_french(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    tables.generic().to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.csv", Columns.model_validate(columns))
    assert words in told(caught.value).problem


def test_tables_that_do_not_join_are_refused_in_french(tmp_path: Path) -> None:
    for name, n in (("a.csv", 8), ("b.csv", 6)):
        tables.generic(n).rename(columns={"specimen": "x"}).to_csv(tmp_path / name, index=False)
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for columns in (Columns(), Columns(together="channels")):
        with pytest.raises(InputError) as caught:
            read(paths, columns)
        told(caught.value)


def test_labels_that_cannot_be_learnt_are_refused_in_french() -> None:
    rows = pd.DataFrame({"grade": ["a"] * 5 + ["b"]})
    for target, choice in ((Target("AVA", "", "grade"), "refuse"), (Target("AVA", "", "grade"), "drop")):
        with pytest.raises(InputError) as caught:
            settle_rare(classify(rows, target), 3, choice)
        told(caught.value, file=False)
    for target in (Target("AVA", "", "taste"), Target("OVA", "c", "grade")):
        with pytest.raises(InputError) as caught:
            classify(rows, target)
        assert caught.value.spoken(FRENCH.tell).problem != caught.value.problem


def test_a_table_that_the_model_cannot_take_is_refused_in_french(tmp_path: Path) -> None:
    tables.generic().to_csv(tmp_path / "a.csv", index=False)
    samples = TASK.read(tmp_path / "a.csv", TASK.Acquisition())
    spectrum = samples.common["channels"][0]
    for facts in ({"channels": [{"name": "277", "axis": [1.0]}], "tabular": []}, {"channels": [spectrum], "tabular": ["brix"]}):
        with pytest.raises(InputError) as caught:
            arrays.model_inputs(samples, facts)
        assert "n'a pas" in told(caught.value).problem


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs = 0 : il faut au moins 1"),
        ({"validation_percent": 99.0}, "il faut au plus 40"),
        ({"n_splits": 2.5}, "il faut un nombre entier, sans décimales"),
        ({"learning_rate": "fast"}, "il faut un nombre, et ce texte n'en est pas un"),
        ({"kind": "EVA"}, "kind = 'EVA' : il faut 'OVA' ou 'AVA'"),
        ({"find_learning_rate": "maybe"}, "il faut oui ou non"),
        ({"current_split": 7}, "le dernier est 4"),
        ({"test_source": "file"}, "donnez les deux, ou aucun"),
        ({"epochs": 0, "kind": "EVA"}, "au moins 1; kind"),
        ({"speed": 1}, "clé inconnue 'speed'"),
    ],
)
def test_a_wrong_setting_is_told_in_french(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        TASK.Training.parse(values)
    assert words in told(caught.value, file=False).problem


def test_a_training_that_failed_says_why_in_french(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib import runs, train

    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    run = runs.create("spectra", TASK.Training.parse({"data": "nowhere"}).model_dump(), "lost")
    status = train.fit(run)
    assert status.state == "failed" and status.reason.startswith("data 'nowhere': there is no such file")
    french = FRENCH.tell(run.status().why)
    assert french.startswith("données 'nowhere' : il n'y a pas de tel fichier") and "Donnez le chemin d'un fichier" in french


def test_the_checks_of_a_table_are_told_in_french() -> None:
    rows = {"severity": ["OK"] * 30 + ["VR"] * 30, "group": ["a"] * 30 + [str(i) for i in range(30)], "instrument": ["A"] * 60}
    table = SpectraTable((Channel("c", np.arange(20.0), np.random.default_rng(0).random((60, 20)).astype(np.float32), "nm"),),
                         pd.DataFrame({"sample": [str(i) for i in range(60)], **rows}))  # fmt: skip
    samples = arrays.as_samples(table, "a.csv")
    readings = clean.inspect(samples)
    shown = checks.check_view(samples, readings, FRENCH.say).picks[0].values
    panels = [checks.check_panel(samples, readings, FRENCH.say, of) for of in shown]
    text = " ".join(str(cell) for panel in panels for cell in [panel.title, panel.explanation, panel.content])
    every = panels[0].content.to_numpy().ravel().tolist()
    assert any("La classe OK se confond avec son groupe (spécimen)" in cell for cell in every)
    assert not re.search(r"\b(the|of|and|which|samples|specimens)\b", text + " ".join(every))


def test_what_a_split_may_spoil_is_told_on_the_french_sheet() -> None:
    rng = np.random.default_rng(2)
    noted = [plain(Phrase("{n} samples lack points of the chosen channels and are left out.", n=3)), "an older run's note"]
    facts = certified(2, rng, notes=noted, source=plain(Phrase("simulated population of {n} samples, seed {seed}", n=40, seed=1)))
    outputs, samples = draw(90, 2, rng)
    t = scored(verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts), samples.table, facts)
    told = sheet_strata.facts_panel(t, facts, FRENCH.say).content["valeur"].tolist()
    assert "3 échantillons manquent de points des canaux choisis et sont laissés de côté." in told
    assert "an older run's note" in told and "population simulée de 40 échantillons, germe 1" in told


@pytest.mark.parametrize(("language", "seen", "not_seen"), [(FRENCH, "Le reste", "The rest"), (TASK, "The rest", "Le reste")])
def test_a_class_that_is_made_here_is_a_word_of_the_sheet_and_of_predictions(language: Task, seen: str, not_seen: str) -> None:
    rng = np.random.default_rng(2)
    facts = certified(2, rng)
    assert facts["classes"] == ["The rest", "OK"]
    outputs, samples = draw(300, 2, rng)
    predicted, truth = verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts)
    assert set(predicted["predicted"]) == {"The rest", "OK"} and "p_The rest" in predicted, "files keep the name"
    spoken = language.knowing(facts)
    panels = [*spoken.sheet_panels(predicted, truth, samples.table), *spoken.prediction_panels(predicted, samples, predicted)]
    told = json.dumps([panel.to_json() for panel in panels], ensure_ascii=False)
    assert seen in told and not_seen not in told
    row = predicted[predicted["predicted"] == "The rest"].iloc[0]
    headline = dict(pair[:2] for pair in spoken.headline(pd.Series({**row, "prediction_set": "The rest | OK"})))
    assert seen in headline.values() and f"{seen} | OK" in headline.values()


# --- remarks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", [case for case, (_, note) in DIALECTS.items() if note])
def test_what_was_mended_is_told_in_french(tmp_path: Path, case: str) -> None:
    make, _ = DIALECTS[case]
    (tmp_path / "a.csv").write_bytes(make(tables.generic()))
    samples = TASK.read(tmp_path / "a.csv", TASK.Acquisition())
    assert samples.remarks and all(FRENCH.tell(remark) != remark for _, remark in samples.remarks)


def test_remarks_are_told_once_for_each_file_and_survive_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "home"))
    files = []
    for name in ("a.csv", "b.csv"):
        tables.one_table(lspr=False).to_csv(tmp_path / name, index=False, sep=";", decimal=",")
        files.append((tmp_path / name, name))
    first, again = (cleaning.inspect(FRENCH, files, TASK.Acquisition(), lambda _share, _text: None) for _ in range(2))
    expected = ["points-virgules entre les colonnes", "virgule comme signe décimal"]
    assert [remark for file, remark in first.remarks if file == "b.csv"] == expected
    assert again.remarks == first.remarks and len(first.remarks) == 4
    assert first.samples is not None
    first.samples.save(tmp_path)
    assert Samples.load(tmp_path).remarks == first.samples.remarks
    assert [FRENCH.tell(remark) for _, remark in Samples.load(tmp_path).remarks][:2] == expected


def test_notes_of_samples_are_told_in_french() -> None:
    table = tables.full_table()
    table.channels[0].values[0], table.channels[0].values[1, 3] = -5.0, 1e5
    said, _ = sample_notes(table.channels)
    assert said[:3] == ["425 negative; 425 constant", "425 saturated", "277 1 points missing"]
    french = [note_in(note, FRENCH.tell) for note in said]
    assert french[:3] == ["425 négatif; 425 constant", "425 saturé", "277 1 points manquants"]
    assert [note_in(note, TASK.tell) for note in said] == said and note_in("anything else", FRENCH.tell) == "anything else"
