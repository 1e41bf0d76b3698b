"""What the task says to a French reader: every refusal, every remark, every figure of its pages."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib import labels, looking
from lib.task import InputError
from lib.tasks.bragg import TASK, files, hdf5, sheet_views
from lib.tasks.bragg.config import Acquisition
from lib.tasks.bragg.settings import Training
from tests.bragg.bad_frames import BAD_FILES, bad_map, frames, write_cbf, write_cxi, write_nxmx
from tests.french import refused, words_of

FRENCH = TASK.speaking("fr")
ENGLISH = re.compile(r"\b(the|of|and|with|which|frames|peaks|spots|found)\b")


@pytest.mark.parametrize("case", BAD_FILES)
def test_every_broken_file_is_refused_in_french(case: str, tmp_path: Path) -> None:
    name, write, _ = BAD_FILES[case]
    folder = tmp_path / "ici"
    folder.mkdir()
    write(folder / name)
    with pytest.raises(InputError) as caught:
        files.read(folder / name, Acquisition())
    refused(TASK, caught.value)
    hdf5.close_files()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"beam_center_y_px": 5}, "vont ensemble"),
        ({"wavelength_angstrom": 1, "photon_energy_ev": 9000}, "correspond à une longueur d'onde de 1.3776 Å"),
        ({"bad_rectangles": "1:2:3"}, "n'est pas y0:y1:x0:x1 en pixels entiers"),
        ({"bad_rectangles": "9:2:3:5"}, "est vide : y1 doit dépasser y0"),
        ({"px_size_um": -1}, "px_size_um = -1 : il faut plus de 0"),
    ],
)
def test_wrong_settings_are_refused_in_french(typed: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Acquisition.parse(typed)
    assert words in refused(TASK, caught.value).problem


def test_wrong_trainings_and_cells_are_refused_in_french() -> None:
    for values in ({"labels": "mine"}, {"batch_size": 9, "frames_per_epoch": 8}):
        with pytest.raises(InputError) as caught:
            Training.parse(values)
        refused(TASK, caught.value)
    with pytest.raises(InputError) as caught:
        TASK.Simulation.parse({"cell_alpha_deg": 40.0, "cell_gamma_deg": 145.0})
    assert "aucune maille n'a les angles 40°" in refused(TASK, caught.value).problem


def test_remarks_on_files_are_told_in_french(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a_mask.h5", "w") as file:
        file["mask"] = bad_map()
    write_cxi(tmp_path / "a.cxi", frames())
    remarks = files.read(tmp_path / "a.cxi", Acquisition(mask_file="a_mask.h5")).remarks
    assert [FRENCH.tell(remark) for _, remark in remarks] == ["masque de a_mask.h5"]


def test_a_frame_that_cannot_be_read_says_why_in_french_everywhere(tmp_path: Path) -> None:
    data = frames().astype("f4")
    data[1] = np.nan
    samples = files.read(write_nxmx(tmp_path / "a.h5", data), Acquisition())
    why = "n'a aucun bon pixel dans l'image 1 : tous sont masqués"
    assert why in FRENCH.inspect(samples, Acquisition())["problem"].iloc[1]
    spoken: list[str] = []
    small, failures = looking.thumbnails(FRENCH, samples, [0, 1], lambda _share, text: spoken.append(text))
    assert spoken[0] == "image 1 sur 2" and why in failures[0]["error"] and len(small) == 2
    notes = FRENCH.parts(samples).table.groupby("of")["note"].first()
    assert notes[0] == "" and notes[1].startswith("error: ") and why in notes[1], "pages know a failure by its English beginning"


def test_pages_of_simulating_and_cleaning_are_in_french(tmp_path: Path) -> None:
    config = TASK.Simulation.parse({"height_px": 128, "width_px": 128})
    panels = FRENCH.simulation_panels(config, np.random.default_rng(0))
    samples = files.read(write_cbf(tmp_path / "a.cbf", frames()[0]), Acquisition())
    panels += FRENCH.sample_panels(samples, 0, Acquisition())
    readings = FRENCH.inspect(samples, Acquisition())
    views = FRENCH.overview(samples, readings, pd.Series([True]), TASK.Rules())
    panels += [view.make() for view in views]
    text = words_of(panels)
    assert not ENGLISH.findall(text), text
    assert "Profil radial" in text and "taches fortes" in text and next(view.title for view in views) == "Luminosité"


def judged(n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Judged candidates of two frames, their labels and table, as a test run has them."""
    rng = np.random.default_rng(0)
    spot = np.arange(n) % 2 == 0
    score = np.where(spot, 0.9, 0.2) + rng.uniform(-0.1, 0.09, n)
    score[[1, 3]] = 0.95
    at = rng.uniform(10, 90, (n, 2))
    samples = pd.DataFrame({
        "file": "a", "frame": np.arange(n) // (n // 2), "y_px": at[:, 0], "x_px": at[:, 1], "true_y_px": at[:, 0],
        "true_x_px": at[:, 1] + 0.2, "true_snr": 9.0, "resolution_angstrom": rng.uniform(2, 9, n), "off_px": 0.2,
        "megapixels": 1.0, "proposed": True, "beside_gap": False, "nearest_px": 50.0, "max_value": 20.0, "background": 10.0,
        "intensity": 100.0,
    })  # fmt: skip
    predicted = samples[["file", "frame"]].assign(score=score, is_peak=score > 0.5)
    return predicted, pd.DataFrame({"is_peak": spot, "wanted": spot}), samples


def test_the_sheet_is_in_french() -> None:
    predicted, truth, samples = judged()
    panels = sheet_views.sheet_panels(predicted, truth, samples, {"threshold": 0.5}, FRENCH.say)
    text = words_of(panels)
    assert not ENGLISH.findall(text), text
    assert {"Précision et rappel", "Ce que sont les faux pics", "Pires images"} <= {panel.title for panel in panels}
    assert "Le seuil, 0.500, a été choisi" in text


def test_refusals_of_labels_and_finders_are_in_french(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    labels.create("bragg", "mine")
    for make in (
        lambda: labels.create("bragg", "../x"), lambda: labels.create("bragg", "mine"), lambda: labels.load(tmp_path / "none"),
        lambda: looking.Asked.of(FRENCH, {"name": "robust"}),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            make()
        assert refused(TASK, caught.value).subject != caught.value.subject


def test_finders_and_projections_have_french_names() -> None:
    assert FRENCH.say(TASK.labels["local_maxima"][0]) == "seuil et maxima locaux"
    assert [FRENCH.say(name) for name in ("Largest", "Mean", "Sum")] == ["Maximum", "Moyenne", "Somme"]
