"""Files of a folder by the names that label sets know them under."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.task import InputError
from lib.tasks.bragg import folders, hdf5
from lib.tasks.bragg.config import Acquisition
from tests.bragg.bad_frames import frames, write_cxi, write_eiger


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    for day in ("monday", "tuesday"):
        folder = tmp_path / "data" / "bragg" / "beamtime" / day
        folder.mkdir(parents=True)
        write_cxi(folder / "run.cxi", frames())
    write_cxi(tmp_path / "data" / "bragg" / "beamtime" / "other.cxi", frames())
    (tmp_path / "data" / "bragg" / "beamtime" / ".hidden.cxi").write_text("no frames")
    return tmp_path


def test_a_file_keeps_the_name_that_the_page_gave_it(home: Path) -> None:
    name = "bragg/beamtime/monday/run.cxi"
    found = folders.of_folder("beamtime", {name: Acquisition()})
    assert found is not None and set(found.table["file"]) == {name}
    assert {Path(path).parent.name for path in found.table["path"]} == {"monday"}


def test_an_uploaded_name_is_found_by_its_end_where_only_one_file_ends_so(home: Path) -> None:
    found = folders.of_folder("beamtime", {"other.cxi": Acquisition()})
    assert found is not None and set(found.table["file"]) == {"other.cxi"}
    assert folders.of_folder("beamtime", {"run.cxi": Acquisition()}) is None, "two files end so: neither is guessed"
    found = folders.of_folder("beamtime/tuesday", {"run.cxi": Acquisition()})
    assert found is not None and {Path(path).parent.name for path in found.table["path"]} == {"tuesday"}


def test_files_that_nobody_labelled_are_not_read(home: Path) -> None:
    (home / "data" / "bragg" / "beamtime" / "broken.cxi").write_text("no frames")
    assert folders.of_folder("beamtime", {"other.cxi": Acquisition()}) is not None
    with pytest.raises(InputError, match=r"broken\.cxi"):
        folders.of_folder("beamtime", {"broken.cxi": Acquisition()})


def test_a_folder_from_elsewhere_a_single_file_and_none(home: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    write_cxi(away / "run.cxi", frames())
    for data in (away, away / "run.cxi"):
        found = folders.of_folder(str(data), {"run.cxi": Acquisition()})
        assert found is not None and len(found) == len(frames())
    (away / "empty").mkdir()
    with pytest.raises(InputError, match="holds none of HDF5"):
        folders.of_folder(str(away / "empty"), {"run.cxi": Acquisition()})
    with pytest.raises(InputError, match="neither in data/bragg"):
        folders.of_folder("gone", {"run.cxi": Acquisition()})


def test_a_master_brings_its_data_files_along_whatever_it_is_called(home: Path) -> None:
    folder = home / "data" / "bragg" / "eiger"
    folder.mkdir()
    write_eiger(folder, frames(5))
    found = folders.of_folder("eiger", {"run_master.h5": Acquisition()})
    assert found is not None and list(found.table["file"]) == ["run_master.h5"] * 5
    assert list(found.table["frame"]) == [0, 1, 2, 3, 4]
    hdf5.close_files()
