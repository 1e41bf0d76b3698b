"""A run of which part is missing: every frame keeps its number, and what is not here is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from lib.task import InputError, Samples
from lib.tasks.bragg import TASK, files, hdf5
from lib.tasks.bragg.config import Acquisition
from tests.bragg.bad_frames import SHAPE, frames, write_eiger, write_nxmx, write_sacla

DOUBT = "frame numbers behind data_000002 are uncertain: a missing file is taken to be as long as the longest, 2"


def read(path: Path) -> Samples:
    return files.read(path, Acquisition())


def here(samples: Samples) -> tuple[list[int], list[str]]:
    """Numbers of the frames that can be read, and the refusals of the others; each frame shows which it truly is."""
    refused: list[InputError] = []
    kept = list(files.frames_of(samples, lambda row, error: refused.append(error)))
    assert [int(frame.pixels.max()) - 900 for frame in kept] == [frame.number for frame in kept]
    return [frame.number for frame in kept], [error.problem for error in refused]


def told(samples: Samples) -> list[str]:
    return [str(files.told_of(row)) for _, row in samples.table.iterrows()]


def test_frames_behind_a_missing_data_file_keep_their_numbers_and_say_what_they_assume(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, frames(8))
    (tmp_path / "run_data_000002.h5").unlink()
    samples = read(path)
    numbers, refused = here(samples)
    assert numbers == [0, 1, 4, 5, 6, 7] and samples.table["frame"].tolist() == [0, 1, 2, 4, 5, 6, 7]
    why = "data_000002 was left out: needs the file run_data_000002.h5, which is not here"
    assert refused == [why] and told(samples) == ["", "", why, *[DOUBT] * 4]
    assert [remark for _, remark in samples.remarks] == [why, DOUBT]
    french = [TASK.speaking("fr").tell(files.told_of(row)) for _, row in samples.table.iterrows()]
    assert "a besoin du fichier run_data_000002.h5" in french[2] and "incertains" in french[3]


@pytest.mark.parametrize("gone", [[1], [2], [1, 2], [2, 3]])
def test_data_files_that_tell_their_numbers_leave_no_doubt(gone: Sequence[int], tmp_path: Path) -> None:
    path = write_eiger(tmp_path, frames(9), per_file=2)
    for number in range(1, 6):  # 3 more frames before the second file, as in a run whose files are not alike
        file = tmp_path / f"run_data_{number:06d}.h5"
        with h5py.File(file, "r+") as data:
            data["entry/data/data"].attrs["image_nr_low"] = 2 * number - 1 + 3 * (number > 1)
        if number in gone:
            file.unlink()
    hdf5.close_files()
    samples = read(path)
    there = [9, 10, 11] if 3 in gone else [7, 8, 9, 10, 11]
    assert samples.table.loc[samples.table["index"] >= 0, "frame"].tolist()[-len(there) :] == there
    assert not any("uncertain" in text for text in told(samples))
    assert samples.table["frame"].is_monotonic_increasing and samples.table["frame"].is_unique


def test_a_data_file_without_frames_or_with_frames_of_another_size_shifts_no_number(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, frames(8))
    write_nxmx(tmp_path / "run_data_000002.h5", frames(3, (30, 30)), facts=False)
    with h5py.File(tmp_path / "run_data_000003.h5", "w") as file:
        file.create_dataset("entry/data/data", (2, *SHAPE), "u2", chunks=(1, *SHAPE))
    samples = read(path)
    assert samples.table["frame"].tolist() == [0, 1, 5, 7, 8] and (samples.table["index"] >= 0).tolist() == [1, 1, 0, 1, 1]
    assert "none of them is written" in told(samples)[2] and told(samples)[3:] == ["", ""]


def test_a_last_data_file_that_is_missing_casts_no_doubt(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, frames(6))
    (tmp_path / "run_data_000003.h5").unlink()
    samples = read(path)
    assert here(samples)[0] == [0, 1, 2, 3] and told(samples)[:4] == [""] * 4 and samples.table["frame"].iloc[4] == 4


def test_a_data_file_that_comes_late_is_still_told_until_the_run_is_read_again(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, data := frames(6))
    away = (tmp_path / "run_data_000002.h5").rename(tmp_path / "away.h5")
    samples = read(path)
    away.rename(tmp_path / "run_data_000002.h5")
    assert here(samples)[0] == [0, 1, 4, 5] and here(read(path)) == ([*range(len(data))], [])


def test_a_tag_that_cannot_be_read_keeps_its_place(tmp_path: Path) -> None:
    path = write_sacla(tmp_path / "run.h5", frames(3))
    with h5py.File(path, "r+") as file:
        del file["tag-902/data"]
        file["tag-902/data"] = np.zeros((2, 2, 2, 2))
    samples = read(path)
    assert here(samples)[0] == [0, 2] and samples.table["event"].tolist() == ["tag-900", "tag-902", "tag-904"]
    wavelengths = samples.table["wavelength_angstrom"]
    assert (12398.4198 / wavelengths[[0, 2]]).tolist() == pytest.approx([7000, 7002])


def test_frames_of_a_virtual_run_that_are_not_written_shift_no_number(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("entry/data/data", (3, *SHAPE), "u2", chunks=(1, *SHAPE))
        made[0], made[2] = frames(3)[0], frames(3)[2]
    layout = h5py.VirtualLayout((5, *SHAPE), "u2")
    layout[2:5] = h5py.VirtualSource("a.h5", "/entry/data/data", (3, *SHAPE), "u2")
    with h5py.File(tmp_path / "all.nxs", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    samples = read(tmp_path / "all.nxs")
    assert samples.table["frame"].tolist() == [2, 4] and samples.table["index"].tolist() == [0, 2]
