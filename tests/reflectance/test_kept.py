"""What was read is kept: the same pictures open from the cache, changed ones are read anew, and a damaged cache costs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.tasks.reflectance import files, kept, kept_pictures
from lib.tasks.reflectance.settings import Acquisition
from tests.reflectance.bad_pictures import lab, micrograph, table_text, write_png
from tests.reflectance.test_files import NOTHING, TARGETS, expected, read_lab


def test_the_same_pictures_open_from_the_cache_and_changed_ones_do_not(home: Path, tmp_path: Path) -> None:
    table = lab(tmp_path / "lab", rows=kept.FROM)
    first = read_lab(table)
    assert list((home / "cache").glob("reflectance-*/images.npy"))
    again = read_lab(table)
    assert isinstance(again.inputs["image"], np.memmap)
    np.testing.assert_array_equal(again.inputs["image"], first.inputs["image"])
    pd.testing.assert_frame_equal(again.table, first.table)
    write_png(tmp_path / "lab" / "3.png", 99, (300, 256))
    changed = read_lab(table)
    assert not np.array_equal(changed.inputs["image"][3], first.inputs["image"][3])
    table.write_text(table_text(kept.FROM, factor=0.5))
    np.testing.assert_allclose(read_lab(table).table[TARGETS], expected(kept.FROM) / 2, atol=1e-3)
    for path in (home / "cache").glob("reflectance-*/columns.parquet"):
        path.write_bytes(b"damaged")
    np.testing.assert_array_equal(read_lab(table).inputs["image"], changed.inputs["image"])


def test_a_picture_that_came_alone_opens_from_the_cache_unless_it_changed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_png(tmp_path / "a.png", 1, (300, 256))
    first = files.read(path, NOTHING)
    monkeypatch.setattr(files, "see", lambda *_: pytest.fail("it was decoded again"))
    moved = path.rename(tmp_path / "elsewhere.png")
    again = files.read(moved, NOTHING, "a.png")
    np.testing.assert_array_equal(again.inputs["image"], first.inputs["image"])
    pd.testing.assert_frame_equal(again.table.drop(columns="path"), first.table.drop(columns="path"))
    monkeypatch.undo()
    assert files.read(moved, Acquisition(nm_per_px=12.5), "a.png").table["nm_per_px"].notna().all()
    write_png(moved, 2)
    assert not np.array_equal(files.read(moved, NOTHING, "a.png").inputs["image"], first.inputs["image"])
    for kept_file in (home / "cache" / "reflectance" / "pictures").rglob("*.npz"):
        kept_file.write_bytes(b"damaged")
    np.testing.assert_array_equal(files.read(moved, NOTHING, "a.png").inputs["image"][0], micrograph(2))


def test_the_longest_unused_single_pictures_leave_the_cache(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_pictures, "MOST_IN_FOLDER", 1)
    folder = home / "cache" / "reflectance" / "pictures"
    for seed in range(300):
        place = kept_pictures.picture_path(write_png(tmp_path / "a.png", seed, (40, 40)), "a.png", "")
        assert place is not None
        kept_pictures.keep(place, kept_pictures.Seen(np.zeros((256, 256), np.uint8), {}, ()))
        if len(list(folder.iterdir())) < seed + 1:
            break
    assert all(len(list(one.iterdir())) == 1 for one in folder.iterdir())
    assert kept_pictures.recall(place) is not None, "the newest stays"
