"""What the task says to a French reader: notes and refusals of files, calibration, and every panel of its pages and its sheet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from lib import serve
from lib.task import InputError, Samples
from lib.tasks.diffusion import TASK, files
from lib.tasks.diffusion.config import Acquisition, Simulation, Training
from lib.tasks.diffusion.simulate import simulate_clips
from tests.diffusion.bad_files import write_bad_tiffs
from tests.french import refused, words_of

FRENCH = TASK.speaking("fr")
ENGLISH = re.compile(r"\b(the|of|and|with|which|clips? is|frames?|spots?|molecule|true|lag|background|error)\b")


def predicted(d: np.ndarray) -> pd.DataFrame:
    """D with its intervals, 20 % to either side for 68 %."""
    ends = {"": 1.0, "_lo": 0.8, "_hi": 1.2, "_lo95": 0.6, "_hi95": 1.5}
    return pd.DataFrame({f"d_px2_per_frame{end}": d * factor for end, factor in ends.items()})


@pytest.fixture(scope="module")
def clips() -> Samples:
    return simulate_clips(Simulation(d_um2_s=0.3), 14, np.random.default_rng(0))


def test_every_broken_file_is_refused_in_french(tmp_path: Path, clips: Samples) -> None:
    for path in write_bad_tiffs(tmp_path / "ici", clips.inputs["clip_adu"][0]):
        with pytest.raises(InputError) as caught:
            FRENCH.read(path, Acquisition())
        refused(TASK, caught.value)


def test_the_note_of_a_clip_is_in_french_and_its_english_is_as_before(tmp_path: Path, clips: Samples) -> None:
    about = {"axes": "TYX", "unit": "um", "finterval": 0.02}
    path = tmp_path / "clip.tif"
    tifffile.imwrite(path, clips.inputs["clip_adu"][0][:9], imagej=True, resolution=(10.0, 10.0), metadata=about)
    typed = Acquisition(read_sigma_e=2.0)
    note = FRENCH.read(path, typed).table["note"][0].replace("\u00a0", " ")
    assert note.startswith(
        "seulement 9 images : l'erreur est plus grande; taille du pixel 100 nm et intervalle entre images 0.02 s "
    )
    assert "caméra estimée : décalage (offset) " in note and note.endswith("; read_sigma_e non employé : e_per_adu est inconnu")
    assert not ENGLISH.findall(note)
    note = files.read(path, typed).table["note"][0]
    assert note.startswith(
        "only 9 frames: the error is larger; pixel size 100 nm and frame interval 0.02 s from the file; camera "
    )


def test_what_stands_against_a_prediction_is_in_french(clips: Samples) -> None:
    dark = clips.take([0, 1])
    dark.inputs["clip_adu"][:] = np.random.default_rng(0).normal(100, 3, dark.inputs["clip_adu"].shape)
    judged = predicted(np.array([0.5, 29.0])).assign(note=["", ""], in_domain=True)
    noted, _ = FRENCH.whole(judged, dark)
    assert all("une molécule se voit dans " in note for note in noted["note"])
    assert "aussi rapide que les plus rapides de l'entraînement" in noted["note"][1]
    assert not ENGLISH.findall(" ".join(noted["note"])) and "a molecule is seen in" in TASK.whole(judged, dark)[0]["note"][0]
    outputs = {name: column.to_numpy() for name, column in predicted(np.array([0.5])).items()} | {
        "out_of_range": np.array([33.0])
    }
    note = FRENCH.decode(outputs, clips.take([0]))["note"][0]
    assert note == "luminosité hors des données d'entraînement; un pas plus long que tous ceux des données d'entraînement"


def test_what_clips_have_in_common_is_told_in_french() -> None:
    still = simulate_clips(Simulation(d_um2_s=0.01, photons=2000.0), 6, np.random.default_rng(0))
    sentence = FRENCH.learn(still, Acquisition())[1]
    assert sentence.startswith("largeur d'une tache immobile ") and sentence.endswith(
        " px, tirée de 6 clips presque sans mouvement"
    )
    assert TASK.learn(still, Acquisition())[1].startswith("width of a still spot ")


def test_wrong_settings_are_refused_in_french() -> None:
    wrong = [(Acquisition, {"exposure_s": 0.1, "frame_interval_s": 0.05}), (Simulation, {"exposure_s": 9})]
    for config, values in [*wrong, (Training, {"photons_min": 9e4})]:
        with pytest.raises(InputError) as caught:
            config.parse(values)
        refused(TASK, caught.value)


def test_pages_of_simulating_and_cleaning_are_in_french(tmp_path: Path, clips: Samples) -> None:
    panels = FRENCH.simulation_panels(Simulation(), np.random.default_rng(0)) + FRENCH.sample_panels(clips, 0, Acquisition())
    found = FRENCH.calibrate(clips, Acquisition(), np.random.default_rng(0))
    assert found is not None
    text = words_of(panels + found.panels)
    assert not ENGLISH.findall(text), ENGLISH.findall(text)
    assert "vraie trajectoire" in text and "précision de localisation" in text and "14 clips, une caméra sans gain EM : " in text
    clips.save(tmp_path)
    asked = {"task": "diffusion", "folder": str(tmp_path), "acquisition": {}, "language": "fr"}
    assert serve.OPERATIONS["calibrate"](asked, print)["panels"][0]["title"] == "Ce qui a été lu dans les clips"
    with pytest.raises(InputError) as caught:
        FRENCH.calibrate(clips.take([]), Acquisition(), np.random.default_rng(0))
    assert "il n'y a pas de clip" in refused(TASK, caught.value).problem


def test_predictions_and_the_sheet_are_in_french(clips: Samples) -> None:
    true = clips.table["true_d_px2_per_frame"].to_numpy(float)
    base = TASK.baselines(clips)
    table = predicted(true * np.linspace(0.8, 1.2, 14)).assign(file=clips.table["file"], in_domain=True, note="")
    table = table.assign(**{name: base[name] for name in ("d_mle_px2_per_frame", "d_cve_px2_per_frame")})
    panels = FRENCH.prediction_panels(table, clips, pd.DataFrame())
    panels += FRENCH.prediction_panels(table[:1], clips.take([0]), pd.DataFrame())
    sheet = FRENCH.sheet_panels(table, TASK.truth(clips), clips.table.assign(**base))
    text = words_of(panels + sheet)
    assert not ENGLISH.findall(text), ENGLISH.findall(text)
    assert {"Erreur selon la vitesse", "Pires clips", "Biais selon la vitesse"} <= {panel.title for panel in sheet}
    assert "borne de la trajectoire" in text and "px²/image" in text
