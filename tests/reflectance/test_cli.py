"""The command line on micrographs: exit status, the sentence that names the file, and good pictures beside bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import model as models
from lib import runs, tasks
from lib.__main__ import main
from lib.runs import Run
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.training import Training
from tests.reflectance.bad_pictures import REFUSED, REFUSED_TABLES, TAKEN, lab, write_png

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(home: Path) -> Run:
    """An untrained network: what it predicts does not matter here, only that it does."""
    task, config = tasks.get("reflectance"), Training.parse({"width": 8, "members": 2})
    made = runs.create("reflectance", config.model_dump(mode="json"), "tiny")
    made.save_facts({"stage": "channels", "nm_per_px": [20.0, 30.0], "references": []})
    models.save_weights(made, task.network(config))
    return made


def predict(run: Run, output: Path, *inputs: Path) -> tuple[int, pd.DataFrame]:
    """Exit status and predictions.csv; an empty table where there is none."""
    words = ["predict", "reflectance", "--model", run.id, "--output", str(output), "--input", *map(str, inputs)]
    status = main(words)
    written = output / "predictions.csv"
    return status, pd.read_csv(written, keep_default_na=False, na_values=[""]) if written.exists() else pd.DataFrame()


def test_bad_pictures_are_named_and_good_ones_unaffected(run: Run, tmp_path: Path, capsys: Capture) -> None:
    bad = {}
    for number, (ending, write, words) in enumerate(REFUSED.values()):
        path = tmp_path / f"wrong-{number}{ending}"
        write(path)
        bad[path] = words
    good = write_png(tmp_path / "good.png")
    status, table = predict(run, tmp_path / "out", good, *bad)
    lines = capsys.readouterr().err.splitlines()
    assert status == 1 and table["file"][0] == "good.png" and table[list(CHANNELS)].iloc[0].notna().all()
    assert [path.name for path, words in bad.items() if not any(path.name in line and words in line for line in lines)] == []
    assert table["note"][1:].str.startswith("error: ").all() and len(table) == 1 + len(bad)


def test_every_picture_that_can_be_read_is_predicted(run: Run, tmp_path: Path) -> None:
    paths = []
    for number, (ending, write, _, _) in enumerate(TAKEN.values()):
        paths.append(tmp_path / f"taken-{number}{ending}")
        write(paths[-1])
    status, table = predict(run, tmp_path / "out", *paths)
    assert status == 0 and table[list(CHANNELS)].notna().all().all() and len(table) == len(TAKEN)
    off = [channel for channel in CHANNELS if not table[channel].between(table[f"{channel}_lo"], table[f"{channel}_hi"]).all()]
    assert off == []


@pytest.mark.parametrize("case", sorted(REFUSED_TABLES))
def test_a_bad_table_is_a_sentence_and_leaves_no_half_result(case: str, run: Run, tmp_path: Path, capsys: Capture) -> None:
    content, words = REFUSED_TABLES[case]
    table = lab(tmp_path / "lab")
    table.write_bytes(content)
    before = {path: path.read_bytes() for path in table.parent.iterdir()}
    status, found = predict(run, tmp_path / "out", table)
    said = capsys.readouterr().err
    assert status != 0 and "targets.csv" in said and words in said and "Traceback" not in said
    assert found.empty or found["note"].str.startswith("error: ").all()
    assert {path: path.read_bytes() for path in table.parent.iterdir()} == before


def test_a_table_with_missing_and_damaged_pictures_gives_the_rest(run: Run, tmp_path: Path, capsys: Capture) -> None:
    table = lab(tmp_path / "lab", rows=6)
    (table.parent / "1.png").unlink()
    (table.parent / "2.png").write_bytes(b"%PDF-1.7")
    status, found = predict(run, tmp_path / "out", table)
    said = capsys.readouterr()
    assert status == 0 and found["image"].tolist() == ["0.png", "3.png", "4.png", "5.png"]
    assert "1.png (is not there)" in said.out + said.err and "2.png (is not a picture but a PDF)" in said.out + said.err


def test_a_bad_set_is_refused_before_training(home: Path, tmp_path: Path, capsys: Capture) -> None:
    table = lab(tmp_path / "lab", rows=3)
    assert main(["train", "reflectance", "--set", f"data={table}", "epochs=1", "threads=1"]) == 1
    assert "only 3 labelled images" in capsys.readouterr().err
    unmeasured = tmp_path / "lab" / "targets.csv"
    frame = pd.read_csv(table)
    frame[frame.columns[1:]] = np.nan
    frame.to_csv(unmeasured, index=False)
    assert main(["train", "reflectance", "--set", f"data={unmeasured}", "epochs=1", "threads=1"]) == 1
    assert "no picture has a measured channel" in capsys.readouterr().err
