"""Parquet and HDF5, writing, the cache, joining, and the published sets."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lib.task import NOTHING, Choices, InputError
from lib.tasks.spectra import files, hdf5, join
from lib.tasks.spectra.choices import choices
from lib.tasks.spectra.files import Columns, read, suggest, write
from lib.tasks.spectra.table import EXCITATIONS, FLUORESCENCE_NM, SpectraTable
from tests.spectra import bad_tables as tables
from tests.spectra.test_files import listing, read_frame, refusal, same

REAL = Path(__file__).parents[3] / "shared" / "data" / "spectra"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="published spectra are not on this machine (../shared/data/spectra)")
SUFFIXES = (".csv", ".parquet", ".h5", ".hdf5")


# --- Parquet, HDF5, writing -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_tables_read_back_the_same(tmp_path: Path, suffix: str) -> None:
    table = tables.full_table()
    path = write(table, tmp_path / "new" / f"table{suffix}")
    same(read(path).table, table)
    again = write(read(path).table, tmp_path / f"again{suffix}")
    same(read(again).table, table)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_channel_is_written_once_with_its_own_values(tmp_path: Path, suffix: str) -> None:
    tables.write_original(tmp_path / "set")
    path = write(read(tmp_path / "set").table, tmp_path / f"clean{suffix}")
    frame = pd.read_csv(path) if suffix == ".csv" else pq.read_table(path).to_pandas()
    names = [name for name in frame if name[:3] in EXCITATIONS]
    assert len(names) == len(set(names)) == 3 * 446
    for channel in EXCITATIONS:
        values = frame[[f"{channel}_{x:g}" for x in FLUORESCENCE_NM]].to_numpy()
        assert values == pytest.approx(tables.spectra(seed=int(channel)), rel=1e-6)


def test_other_peoples_parquet_and_hdf5_are_read(tmp_path: Path) -> None:
    frame = tables.one_table()
    expected = read_frame(tmp_path, frame).table
    frame.astype({"greffon_defaut_type": "str"}).to_parquet(tmp_path / "theirs.parquet")
    same(read(tmp_path / "theirs.parquet").table, expected)
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        for name in [*frame.columns[:446], *tables.known()]:
            numbers = pd.api.types.is_numeric_dtype(frame[name])
            file[name] = frame[name].to_numpy() if numbers else frame[name].astype(str).to_numpy().astype(object)
    flat = read(tmp_path / "flat.h5").table
    assert np.array_equal(flat.channel("277").values, expected.channel("277").values)
    assert flat.rows.set_index("sample")["severity"].to_dict() == expected.rows.set_index("sample")["severity"].to_dict()
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file["EX_277"], file["EX_277_axis"] = tables.spectra(seed=277), FLUORESCENCE_NM
        file["raman"] = tables.spectra(points=30)
        file["raman"].attrs["axis"] = np.arange(30.0)
        file["label"] = np.array([b"a", b"b"] * 3)
    wide = read(tmp_path / "wide.h5").table
    assert [c.name for c in wide.channels] == ["277", "raman"] and wide.rows["label"].tolist() == ["a", "b"] * 3
    assert np.array_equal(wide.channel("277").values, expected.channel("277").values)


def test_own_hdf5_with_a_forged_inside_is_refused(tmp_path: Path) -> None:
    path = write(tables.full_table(), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["axes/0001"]
        file["axes/0001"] = np.arange(5.0)
    assert "damaged" in refusal(path).problem


def test_write_replaces_nothing_and_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    path.write_text("precious")
    with pytest.raises(InputError, match="is there already"):
        write(tables.full_table(), path)
    assert path.read_text() == "precious"
    with pytest.raises(InputError, match="ending that is not written"):
        write(tables.full_table(), tmp_path / "table.xlsx")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write(tables.full_table(), tmp_path / "other.parquet")
    assert listing(tmp_path) == ["table.csv"]


def test_write_refuses_columns_that_clash(tmp_path: Path) -> None:
    one = tables.full_table()
    twice = SpectraTable((one.channels[0], one.channels[0]), one.rows)
    with pytest.raises(InputError, match="two columns '425_295'"):
        write(twice, tmp_path / "table.csv")


def test_the_header_of_every_format_tells_names_and_meaning(tmp_path: Path) -> None:
    table = tables.full_table()
    for suffix in SUFFIXES:
        path = write(table, tmp_path / f"table{suffix}")
        names, proposed = files.header(path)
        assert {"sample", "provenance", "checked"} <= set(names) and len(names) == 3 * 446 + 40 + 11
        assert proposed.group == ("group",) and proposed.severity == "severity"
        assert proposed == (suggest(names) if suffix == ".csv" else files.columns_of(table))


# --- cache and progress -----------------------------------------------------------------------------------------------
def test_cache_gives_the_same_table_without_reading_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "table.csv", tmp_path / "cache"
    tables.one_table().to_csv(path, index=False)
    before = path.read_bytes()
    first = read(path, cache=cache)
    assert listing(tmp_path) == ["cache", "table.csv"] and path.read_bytes() == before
    monkeypatch.setattr(files, "_read", lambda *a: pytest.fail("was read again"))
    second = read(path, cache=cache)
    same(first.table, second.table)
    pd.testing.assert_series_equal(first.table.rows["note"], second.table.rows["note"])
    assert (first.notes, first.columns) == (second.notes, second.columns)


def test_cache_follows_the_file_and_the_columns(tmp_path: Path) -> None:
    path, cache = tmp_path / "table.csv", tmp_path / "cache"
    tables.generic().to_csv(path, index=False)
    read(path, cache=cache)
    told = read(path, Columns(instrument="class"), cache=cache)
    assert "instrument" in told.table.rows
    tables.generic(6).to_csv(path, index=False)
    assert len(read(path, cache=cache).table) == 6
    assert len(list(cache.iterdir())) == 3


def test_damaged_or_unwritable_cache_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "table.csv", tmp_path / "cache"
    tables.generic().to_csv(path, index=False)
    first = read(path, cache=cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:3000])
    same(read(path, cache=cache).table, first.table)
    same(read(path, cache=cache).table, first.table)
    (tmp_path / "no folder").write_text("")
    assert "not kept for the next time" in read(path, cache=tmp_path / "no folder").notes[-1]
    monkeypatch.setattr(files, "CACHE_BYTES", kept.stat().st_size)
    read(path, Columns(instrument="class"), cache=cache)
    assert len(list(cache.iterdir())) == 1


def test_progress_rises_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables.write_original(tmp_path)
    seen: list[tuple[float, str]] = []
    read(tmp_path, on_progress=lambda fraction, sentence: seen.append((fraction, sentence)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) >= 4
    assert "EX_277_2018.txt: 6 samples read" in seen[0][1]


def test_long_tables_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same table in blocks of a few rows as in one."""
    table = tables.full_table().take(np.resize(np.arange(5), 30))
    table = SpectraTable(table.channels[2:], table.rows.assign(sample=[f"n{k}" for k in range(30)]))
    paths = [write(table, tmp_path / f"table{suffix}") for suffix in SUFFIXES[:3]]
    monkeypatch.setattr("lib.tasks.spectra.delimited.BLOCK_BYTES", 16 * 1024)
    monkeypatch.setattr("lib.tasks.spectra.parquet.BATCH_ROWS", 7)
    monkeypatch.setattr(hdf5, "BATCH_ROWS", 7)
    for path in paths:
        same(read(path, files.columns_of(table)).table, table)


# --- joining ----------------------------------------------------------------------------------------------------------
def test_tables_join_as_channels_and_as_instruments(tmp_path: Path) -> None:
    one = read_frame(tmp_path, tables.generic()).table
    other = one.take(np.arange(8)[::-1])
    both = join.as_channels({"near": one, "mid": other})
    assert [c.name for c in both.channels] == ["near", "mid"]
    assert np.array_equal(both.channel("near").values, both.channel("mid").values)
    stacked, notes = join.as_instruments({"A": one, "B": other})
    assert len(stacked) == 16 and not notes
    assert stacked.rows["sample"].is_unique and stacked.rows["instrument"].tolist() == ["A"] * 8 + ["B"] * 8
    with pytest.raises(InputError, match="B: lacks 1 samples"):
        join.as_channels({"A": one, "B": one.take(np.arange(7))})
    with pytest.raises(InputError, match="has no channel spectrum"):
        join.as_instruments({"A": one, "B": both})


def two_tables(folder: Path) -> list[Path]:
    """near.csv with sample, label and spectra; mid.csv with other spectra of the same samples in another order."""
    near, mid = tables.generic(), tables.generic().iloc[::-1]
    near["specimen"] = mid["specimen"] = [f"s{k}" for k in range(8)]
    mid["specimen"] = mid["specimen"].to_numpy()[::-1]
    mid = mid.drop(columns="class").rename(columns=lambda name: str(float(name) + 3000) if name[:1].isdigit() else name)
    for name, frame in (("near", near), ("mid", mid)):
        frame.rename(columns={"specimen": "sample"}).to_csv(folder / f"{name}.csv", index=False)
    return [folder / "near.csv", folder / "mid.csv"]


def test_several_tables_are_channels_where_that_is_said(tmp_path: Path) -> None:
    paths = two_tables(tmp_path)
    with pytest.raises(InputError, match=r"near\.csv, mid\.csv: are several tables .* Say what they are together"):
        read(paths)
    done = read(paths, Columns(together="channels"), cache=tmp_path / "cache")
    mid = read(paths[1]).table
    assert [c.name for c in done.table.channels] == ["near", "mid"] and done.table.rows["class"].tolist() == ["a", "b"] * 4
    assert np.array_equal(done.table.channel("mid").values, mid.channels[0].values[::-1])  # matched by name, not by place
    same(read(paths, Columns(together="channels"), cache=tmp_path / "cache").table, done.table)
    only = read(paths, Columns(together="channels", channels=("mid",), label="class")).table
    assert [c.name for c in only.channels] == ["mid"] and "class" in only.rows
    with pytest.raises(InputError, match=r"near.csv, mid.csv: has no channel far \(it has near, mid\)"):
        read(paths, Columns(together="channels", channels=("far",)))
    with pytest.raises(InputError, match=r"near.csv, mid.csv: has no column 'grade', which was chosen as label"):
        read(paths, Columns(together="channels", label="grade"))
    near_text = paths[0].read_text()
    paths[0].write_text("\n".join(near_text.splitlines()[:-1]))
    with pytest.raises(InputError, match=r"near: lacks 1 samples that the other table has \(s7\)"):
        read(paths, Columns(together="channels"))


def test_several_tables_are_instruments_where_that_is_said(tmp_path: Path) -> None:
    tables.generic().to_csv(tmp_path / "A.csv", index=False)
    tables.generic().to_csv(tmp_path / "B.csv", index=False, sep=";")
    done = read([tmp_path / "A.csv", tmp_path / "B.csv"], Columns(together="instruments"))
    assert done.table.rows["instrument"].tolist() == ["A"] * 8 + ["B"] * 8
    assert done.table.rows["group"].tolist() == [f"s{k // 2}" for k in range(8)] * 2  # a specimen stays whole
    assert "B.csv: semicolons between columns" in done.notes
    two_tables(tmp_path)
    with pytest.raises(InputError, match="mid: has channel spectrum from 4000"):
        read([tmp_path / "near.csv", tmp_path / "mid.csv"], Columns(together="instruments"))


def test_tables_without_sample_names_join_by_their_rows_and_it_is_said(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        tables.generic().drop(columns="specimen").to_csv(tmp_path / name, index=False)
    done = read([tmp_path / "a.csv", tmp_path / "b.csv"], Columns(together="channels"))
    assert "not every table names its samples: joined by the order of their rows" in done.notes and len(done.table) == 8


# --- picking ----------------------------------------------------------------------------------------------------------
def offers(*paths: Path) -> Choices:
    return choices([(path, path.name) for path in paths])


def test_columns_are_offered_and_suggested_without_their_positions(tmp_path: Path) -> None:
    tables.generic().to_csv(tmp_path / "a.csv", index=False)
    found = offers(tmp_path / "a.csv")
    assert found.offered["label"] == ("class", "specimen", NOTHING) and found.offered["channels"] == ("spectrum",)
    assert (found.suggested["label"], found.suggested["group"], found.suggested["date"]) == ("class", "specimen", "")
    (tmp_path / "bad.csv").write_bytes(b"%PDF-1.7")
    assert offers(tmp_path / "bad.csv", tmp_path / "a.csv") == found  # a bad file only offers nothing
    assert offers().offered["label"] == () and not offers().suggested
    assert set(offers().offered) == set(found.offered) <= set(Columns.model_fields)


def test_a_set_offers_the_columns_of_its_y_file(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    found = offers(*sorted(tmp_path.iterdir()))
    assert found.offered["channels"] == EXCITATIONS and "scelle" in found.offered["group"]
    assert (found.suggested["sample"], found.suggested["severity"]) == ("sequence", "greffon_defaut_severite")


def test_what_tables_are_together_is_suggested_where_their_names_tell(tmp_path: Path) -> None:
    assert offers(*two_tables(tmp_path)).suggested["together"] == "channels"
    for name in ("instrument 1.csv", "instrument 2.csv", "monday.csv"):
        tables.generic().to_csv(tmp_path / name, index=False)
    assert offers(tmp_path / "instrument 1.csv", tmp_path / "instrument 2.csv").suggested["together"] == "instruments"
    assert "together" not in offers(tmp_path / "instrument 1.csv", tmp_path / "monday.csv").suggested


def test_the_header_of_a_large_file_is_read_without_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables.generic().to_csv(tmp_path / "a.csv", index=False)
    monkeypatch.setattr("lib.tasks.spectra.delimited._count_lines", lambda _path: pytest.fail("the rows were counted"))
    assert files.header(tmp_path / "a.csv")[0][:2] == ("class", "specimen")


# --- published sets ---------------------------------------------------------------------------------------------------
@needs_real
@pytest.mark.parametrize(
    ("name", "samples", "points", "specimens", "label", "classes"),
    [
        ("Fresh_meats.csv", 120, 448, 60, "meat", 3),
        ("Olive_Oils_Quadrum.csv", 120, 570, 60, "Provenance", 4),
        ("Instant_Coffee_Quadrum.csv", 56, 286, 0, "Varietal", 2),
        ("MIR_Fruit_purees.csv", 983, 235, 0, "label", 2),
        ("Pharma_Instrument1.csv", 655, 650, 0, "", 0),
    ],
)
def test_published_sets(name: str, samples: int, points: int, specimens: int, label: str, classes: int) -> None:
    done = read(REAL / name)
    assert done.table.channels[0].values.shape == (samples, points)
    assert np.isfinite(done.table.channels[0].values).all()
    assert done.columns.label == label
    if label:
        assert done.table.rows[label].nunique() == classes
    if specimens:
        assert done.table.rows["group"].nunique() == specimens
    assert done.table.rows["sample"].is_unique


@needs_real
def test_tablets_on_two_instruments_join() -> None:
    parts = {f"{k}": read(REAL / f"Pharma_Instrument{k}.csv").table for k in (1, 2)}
    both, _ = join.as_instruments(parts)
    assert len(both) == 1310 and both.rows["group"].value_counts().eq(2).all()
    assert both.rows["assay"].dtype == np.float64 and both.rows["SampleType"].value_counts()["Train"] == 310
