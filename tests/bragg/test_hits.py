"""From judged candidates back to frames: what predictions.csv says of each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from lib.task import Samples
from lib.tasks.bragg import TASK, files, hits, predict_views
from lib.tasks.bragg.config import Acquisition
from tests.bragg.bad_frames import frames, write_cbf, write_eiger, write_nxmx


def judged(samples: Samples) -> pd.DataFrame:
    """Every candidate of the frames taken for a certain peak."""
    table = hits.parts(samples).table
    return table.assign(score=np.where(table["proposed"], 0.99, 0.0), is_peak=table["proposed"], wanted=False)


def written(samples: Samples, **facts: object) -> pd.DataFrame:
    """predictions.csv of the frames, as text."""
    table, _ = hits.whole(judged(samples), samples, {"hit_peaks": 0.5, **facts})
    return pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)


def test_a_frame_that_cannot_be_read_leaves_its_cells_empty_and_the_others_whole_numbers(tmp_path: Path) -> None:
    data = frames(3, dtype="f4")
    data[1] = np.nan
    table = written(files.read(write_nxmx(tmp_path / "a.h5", data, facts=False), Acquisition()))
    assert table["frame"].tolist() == ["0", "1", "2"]
    assert table["n_peaks"].str.fullmatch(r"\d+").tolist() == [True, False, True]
    assert table.loc[1, ["n_peaks", "is_hit", "in_domain"]].tolist() == ["", "", ""]
    assert table["note"].str.startswith("error: ").tolist() == [False, True, False]
    assert set(table.loc[[0, 2], "in_domain"]) == {"True"}


def test_what_cannot_be_read_is_not_called_unlike_the_training(tmp_path: Path) -> None:
    data = frames(2, dtype="f4")
    data[1] = np.nan
    samples = files.read(write_nxmx(tmp_path / "a.h5", data, facts=False), Acquisition())
    table = written(samples, range={"noise": [100.0, 200.0], "per_mpx": [0.0, 1e9]})
    assert table["in_domain"].tolist() == ["False", ""] and "outside the training" not in table["note"][1]


def test_frames_behind_a_missing_data_file_say_that_their_numbers_are_uncertain(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, frames(6))
    (tmp_path / "run_data_000002.h5").unlink()
    samples = files.read(path, Acquisition())
    table = written(samples)
    assert table["frame"].tolist() == ["0", "1", "2", "4", "5"]
    assert table["note"].str.contains("are uncertain").tolist() == [False, False, False, True, True]
    assert table["note"][2].startswith("error: data_000002 was left out: needs the file run_data_000002.h5")
    french, _ = hits.whole(judged(samples), samples, {}, TASK.speaking("fr").say)
    assert "numéros d'image incertains après data_000002" in french["note"][3]


def predicted(samples: Samples, folder: Path) -> list[str]:
    """Names of what a prediction of the frames writes, every one a hit that has a peak."""
    folder.mkdir(exist_ok=True)
    table, peaks = hits.whole(judged(samples), samples, {"hit_peaks": 0.5})
    return [path.name for path in hits.write_prediction(table, peaks, samples, folder)]


def test_peaks_and_frames_of_a_hit_are_found_in_one_file(tmp_path: Path) -> None:
    """What indexamajig -i peaks.lst --peaks=cxi opens: each line leads to a frame and to its peaks."""
    data = frames(6)
    data[3] = 20  # no peak
    path = write_eiger(tmp_path, data)
    (tmp_path / "run_data_000001.h5").unlink()
    out = tmp_path / "out"
    assert "peaks.lst" in predicted(files.read(path, Acquisition()), out)
    lines = (out / "peaks.lst").read_text().splitlines()
    peaks = pd.read_csv(out / "peaks.csv")
    assert lines == ["peaks.cxi //1", "peaks.cxi //3", "peaks.cxi //4"], "row 0 is the missing file"
    assert (out / "hits.lst").read_text().splitlines() == [f"run_master.h5 //{n}" for n in (2, 4, 5)]
    for line, number in zip(lines, (2, 4, 5), strict=True):
        name, row = line.split(" //")
        with h5py.File(out / name) as file:
            assert (file["/entry_1/data_1/data"][int(row)] == data[number]).all()
            count = file["/entry_1/result_1/nPeaks"][int(row)]
            x_px = file["/entry_1/result_1/peakXPosRaw"][int(row), :count]
        assert np.allclose(sorted(x_px), sorted(peaks.loc[peaks["frame"] == number, "x_px"]), atol=1e-3)
    told = json.loads((out / "summary.json").read_text())
    assert told["frames_linked"] and (told["n_frames"], told["n_unread"], told["hit_rate"]) == (5, 1, 0.75)


def test_images_are_not_shown_and_an_older_list_of_rows_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    predicted(files.read(write_nxmx(tmp_path / "a.h5", frames(2), facts=False), Acquisition()), out)
    assert (out / "peaks.lst").exists()
    assert "peaks.lst" not in predicted(files.read(write_cbf(tmp_path / "a.cbf", frames()[0]), Acquisition()), out)
    assert not (out / "peaks.lst").exists() and not json.loads((out / "summary.json").read_text())["frames_linked"]
    with h5py.File(out / "peaks.cxi") as file:
        assert list(file["entry_1"]) == ["result_1"]


def test_figures_over_the_run_count_frames_as_its_tables_do(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, frames(6))
    (tmp_path / "run_data_000002.h5").unlink()
    one = files.read(path, Acquisition())
    both = Samples.concat([one, files.read(write_nxmx(tmp_path / "a.h5", frames(2), facts=False), Acquisition())])
    for samples, wanted in ((one, [0, 1, 4, 5]), (both, [0, 1, 3, 4, 5, 6])):
        readings = TASK.inspect(samples, Acquisition())
        figure = TASK.overview(samples, readings, pd.Series(True, readings.index), TASK.Rules())[0].make().content
        read = readings["mean_adu"].notna().to_numpy()
        assert figure.data[0].x[read].tolist() == wanted and figure.layout.xaxis.title.text == "frame of the run"
        table, peaks = hits.whole(judged(samples), samples, {"hit_peaks": 0.5})
        (panel,) = [panel for panel in predict_views.prediction_panels(table, samples, peaks) if panel.key == "run"]
        assert sorted(np.concatenate([trace.x for trace in panel.content.data])) == wanted
