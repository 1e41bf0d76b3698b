"""Tables of spectra in and out: what every format gives, what is mended and said, and what is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.task import InputError
from lib.tasks.spectra import TASK, tabular
from lib.tasks.spectra.axes import resample
from lib.tasks.spectra.columns import settled
from lib.tasks.spectra.files import Columns, Reading, read, suggest
from lib.tasks.spectra.table import EXCITATIONS, FLUORESCENCE_NM, LSPR_NM, TRUE_COLUMNS, Channel, SpectraTable
from tests.spectra import bad_tables as tables


def read_frame(folder: Path, frame: pd.DataFrame, columns: Columns | None = None, **how: object) -> Reading:
    path = folder / "table.csv"
    frame.to_csv(path, index=False, **how)
    return read(path, columns)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(paths: Path | list[Path], columns: Columns | None = None) -> InputError:
    """The refusal, which names its file and says what to do."""
    with pytest.raises(InputError) as caught:
        read(paths, columns)
    error = caught.value
    assert error.subject and len(error.problem) > 7 and len(error.remedy) > 7
    return error


def same(one: SpectraTable, other: SpectraTable) -> None:
    """Channels, axes, values and rows are equal bit for bit."""
    assert [c.name for c in one.channels] == [c.name for c in other.channels]
    for a, b in zip(one.channels, other.channels):
        assert a.axis_unit == b.axis_unit
        assert np.array_equal(a.axis, b.axis)
        assert a.values.dtype == b.values.dtype == np.float32
        assert np.array_equal(a.values, b.values, equal_nan=True)
    pd.testing.assert_frame_equal(
        one.rows.drop(columns="note", errors="ignore"), other.rows.drop(columns="note", errors="ignore")
    )


# --- the fluorimeter's own files --------------------------------------------------------------------------------------
def test_set_of_files_becomes_one_table(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    done = read(tmp_path)
    table = done.table
    assert [c.name for c in table.channels] == list(EXCITATIONS)
    for channel in table.channels:
        assert np.array_equal(channel.axis, FLUORESCENCE_NM) and channel.axis_unit == "nm"
        assert channel.values == pytest.approx(tables.spectra(seed=int(channel.name)).astype(np.float32))
    rows = table.rows
    assert rows["sample"].tolist() == tables.KEYS
    assert rows["group"].tolist() == ["A000", "A000", "A001", "A001", "A002", "A002"]
    assert rows["instrument"].tolist() == ["07"] * 6
    assert rows["measured_at"][3] == pd.Timestamp("2018-03-21 13:45:03")
    assert rows["severity"].tolist() == ["OK", "OK", "OK", "VR", "CROCHET", "NC"]
    assert rows["provenance"].tolist() == ["inspector", "algorithm", "", "inspector", "inspector", "inspector"]
    assert rows["defect_type"].tolist() == [0, 0, pd.NA, 11, 5, 13]
    assert rows["greffon_brix"].dtype == np.float64 and rows["greffon_limpidite"][0] == "claire"
    assert done.columns.tabular == ("greffon_brix", "greffon_transmittance")


def test_named_files_are_the_same_as_their_folder(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    same(read(sorted(tmp_path.iterdir())).table, read(tmp_path).table)


def test_one_table_and_set_of_files_agree(tmp_path: Path) -> None:
    tables.write_original(tmp_path / "set")
    same(read_frame(tmp_path, tables.one_table(lspr=False)).table, read(tmp_path / "set").table)
    with_lspr = read_frame(tmp_path, tables.one_table()).table
    assert np.array_equal(with_lspr.channel("lspr").axis, LSPR_NM)


def test_missing_channel_file_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    (tmp_path / "EX_380_2018.txt").unlink()
    error = refusal(tmp_path)
    assert "EX_380" in error.subject and "EX_277_2018.txt" in error.problem
    chosen = read(tmp_path, Columns(channels=("425", "277")))
    assert [c.name for c in chosen.table.channels] == ["425", "277"]
    assert chosen.table.rows["severity"][3] == "VR"


def test_missing_y_file_is_noted(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    (tmp_path / "Y_2018.txt").unlink()
    done = read(tmp_path)
    assert "no Y file" in " ".join(done.notes) and list(done.table.rows) == ["sample", "note"]


def test_another_order_is_put_right_and_said(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    tables.channel_frame("380").iloc[::-1].to_csv(tmp_path / "EX_380_2018.txt", sep="\t", index=False)
    tables.known().iloc[[3, 1, 0, 2, 5, 4]].to_csv(tmp_path / "Y_2018.txt", sep="\t", index=False)
    done = read(tmp_path)
    assert "EX_380_2018.txt: samples put in the order of EX_277_2018.txt" in done.notes
    assert done.table.channel("380").values == pytest.approx(tables.spectra(seed=380).astype(np.float32))
    assert done.table.rows["severity"].tolist() == ["OK", "OK", "OK", "VR", "CROCHET", "NC"]


def test_other_samples_are_refused(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    tables.channel_frame("425", 5).to_csv(tmp_path / "EX_425_2018.txt", sep="\t", index=False)
    error = refusal(tmp_path)
    assert error.subject == "EX_425_2018.txt" and "1005" in error.problem
    tables.write_original(tmp_path)
    tables.known().assign(sequence=[*tables.KEYS[:5], "9"]).to_csv(tmp_path / "Y_2018.txt", sep="\t", index=False)
    assert "lacks 1 samples" in refusal(tmp_path).problem


@pytest.mark.parametrize("name", ["EX_277_2018.txt", "Y_2018.txt"])
def test_repeated_sequence_is_refused(tmp_path: Path, name: str) -> None:
    tables.write_original(tmp_path)
    frame = tables.known() if name[0] == "Y" else tables.channel_frame("277")
    frame.assign(sequence=[*tables.KEYS[:5], tables.KEYS[0]]).to_csv(tmp_path / name, sep="\t", index=False)
    error = refusal(tmp_path)
    assert error.subject == name and "repeated values of 'sequence'" in error.problem and "1, 6" in error.problem


def test_a_simulated_population_is_read_from_its_folder_without_its_truth(tmp_path: Path) -> None:
    samples = TASK.simulate(TASK.Simulation.parse({"population": True}), 12, np.random.default_rng(0))
    written = TASK.write(samples, tmp_path)
    assert [path.name for path in written] == ["spectra.parquet", "truth.csv"]
    again = read(tmp_path).table
    assert len(again.rows) == 12 and not {*TRUE_COLUMNS} & {*again.rows.columns}


def test_strangers_in_the_folder_are_left_alone_but_not_among_the_set(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    assert len(read(tmp_path).table) == 6
    pq.write_table(pa.table({"sequence": ["1"], "295": [1.0]}), tmp_path / "EX_277_2018.txt")
    assert "where a text table was expected" in refusal(tmp_path).problem


def test_columns_of_the_y_file_may_be_chosen(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    told = read(tmp_path, Columns(group=("outil_id",), label="sa_verdict", severity="-"))
    assert told.table.rows["group"].tolist() == ["07"] * 6 and "severity" not in told.table.rows
    assert told.table.rows["sample"].tolist() == tables.KEYS and told.columns.tabular == ("greffon_brix", "greffon_transmittance")
    assert "instrument" not in told.table.rows  # its column names the group now
    error = refusal(tmp_path, Columns(group=("barrel",)))
    assert error.subject == "Y_2018.txt" and "'barrel', which was chosen as group" in error.problem


def test_two_files_of_one_channel_are_refused(tmp_path: Path) -> None:
    tables.write_original(tmp_path)
    tables.channel_frame("277").to_csv(tmp_path / "EX_277_2019.txt", sep="\t", index=False)
    assert "so does EX_277_2018.txt" in refusal(tmp_path).problem


def test_unknown_severities_and_types_are_kept_and_said(tmp_path: Path) -> None:
    frame = tables.one_table(3).assign(
        greffon_defaut_severite=["PIRE", "ok - inspecteur", ""], greffon_defaut_type=["3", "x", "11.0"]
    )
    done = read_frame(tmp_path, frame)
    assert done.table.rows["severity"].tolist() == ["PIRE", "OK", ""]
    assert done.table.rows["provenance"].tolist() == ["", "inspector", ""]
    assert done.table.rows["defect_type"].tolist() == [3, pd.NA, 11]
    said = " ".join(done.notes)
    assert "'PIRE'" in said and "types 3 are not" in said and "no number" in said


# --- any table --------------------------------------------------------------------------------------------------------
def test_generic_table_reads_as_suggested_or_as_told(tmp_path: Path) -> None:
    frame = tables.generic()
    done = read_frame(tmp_path, frame)
    assert (done.columns.label, done.columns.group) == ("class", ("specimen",))
    only = done.table.channels[0]
    assert only.name == "spectrum" and only.axis[1] == 1001.5 and only.values.shape == (8, 30)
    told = read_frame(tmp_path, frame, Columns(label="specimen", instrument="class", axis_unit="cm⁻¹"))
    assert told.table.rows["instrument"].tolist() == ["a", "b"] * 4 and told.table.channels[0].axis_unit == "cm⁻¹"
    error = refusal(tmp_path / "table.csv", Columns(label="grade"))
    assert "'grade', which was chosen as label" in error.problem
    assert "tabular" in refusal(tmp_path / "table.csv", Columns(tabular=("brix",))).problem
    assert "no channel 277 (it has spectrum)" in refusal(tmp_path / "table.csv", Columns(channels=("277",))).problem


def test_one_column_that_is_typed_drops_no_other_that_is_suggested(tmp_path: Path) -> None:
    frame = tables.generic().assign(brix=66.5, appareil="x")
    done = read_frame(tmp_path, frame, Columns(sample="specimen"))
    assert (done.columns.sample, done.columns.label, done.columns.instrument) == ("specimen", "class", "appareil")
    assert done.columns.tabular == ("brix",) and done.columns.group == ()  # the specimens name the samples now
    none = read_frame(tmp_path, frame, Columns(label="-", tabular=("-",), instrument="-"))
    assert (none.columns.label, none.columns.tabular, none.columns.instrument) == ("", (), "")
    assert none.columns.group == ("specimen",) and "instrument" not in none.table.rows


def test_settled_takes_a_column_from_what_it_was_proposed_for() -> None:
    proposed = suggest(["class", "specimen", "brix", *map(str, range(600, 620))])
    assert settled(Columns(), proposed) == proposed == settled(proposed, Columns())
    moved = settled(Columns(group=("class",)), proposed)
    assert (moved.label, moved.group) == ("", ("class",))  # what says which belong together is no label
    meats = suggest(["meat", "run", "sample", "supplier", "600", "601"])
    assert settled(Columns(label="meat"), meats) == meats  # the published specimens are named by the label too
    assert settled(Columns(channels=("277",), standard_axis=False), proposed).channels == ("277",)


def test_suggest_knows_names() -> None:
    assert suggest(["column 1", "600", "601"]).sample == "column 1"
    own = suggest(["277_295", "sample", "group", "instrument", "measured_at", "severity", "defect_type", "provenance"])
    assert (own.sample, own.group, own.provenance, own.label) == ("sample", ("group",), "provenance", "")
    assert suggest(["Provenance", "600", "601"]).label == "Provenance"
    assert suggest(["meat", *map(str, range(600, 620))]).label == "meat"
    assert suggest([]) == Columns()


def test_repeated_samples_are_replicates_of_a_specimen(tmp_path: Path) -> None:
    done = read_frame(tmp_path, tables.generic().rename(columns={"specimen": "sample"}))
    assert done.table.rows["sample"].tolist()[:3] == ["s0/1", "s0/2", "s1/1"]
    assert done.table.rows["group"].tolist()[:3] == ["s0", "s0", "s1"]
    assert "replicates" in " ".join(done.notes)


def test_the_refusal_of_a_pickle_gives_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\x80\x04renamed")
    assert "lib convert FILE.pkl FILE.parquet --i-made-it" in refusal(tmp_path / "table.csv").remedy


def test_tabular_cells_must_be_numbers(tmp_path: Path) -> None:
    frame = tables.generic().assign(brix=["66,5", "67", "", "68", "high", "1", "2", "3"])
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    assert "'high' in column 'brix' of sample 5" in refusal(path).problem
    read_frame(tmp_path, frame.replace("high", "-"))
    assert read(path).table.rows["brix"].iloc[:3].tolist()[:2] == [66.5, 67.0]


@pytest.mark.parametrize(
    ("dates", "expected", "note"),
    [
        (["2020-02-01", "2020-02-03 04:05:06"], "2020-02-01", ""),
        (["01/02/2020", "13/02/2020"], "2020-02-01", ""),
        (["02/01/2020", "02/13/2020"], "2020-02-01", ""),
        (["01/02/2020", "02/03/2020"], "2020-02-01", "day/month/year"),
        (["20200201", "20200202"], "2020-02-01", ""),
        (["2020-02-01", "yesterday"], "2020-02-01", "1 dates"),
    ],
)
def test_dates(tmp_path: Path, dates: list[str], expected: str, note: str) -> None:
    done = read_frame(tmp_path, tables.generic(2).assign(date=dates))
    assert done.table.rows["measured_at"][0] == pd.Timestamp(expected)
    assert note in " ".join(done.notes)


# --- dialects of text -------------------------------------------------------------------------------------------------
def _french(text: str) -> bytes:
    return text.replace("class", "goût").replace(".", ",").encode("cp1252")


DIALECTS: dict[str, tuple[Callable[[pd.DataFrame], bytes], str]] = {
    "tabs": (lambda f: f.to_csv(index=False, sep="\t").encode(), "tabs"),
    "semicolons": (lambda f: f.to_csv(index=False, sep=";").encode(), "semicolons"),
    "spaces": (lambda f: f.to_csv(index=False, sep=" ").encode(), "spaces"),
    "byte-order mark": (lambda f: f.to_csv(index=False).encode("utf-8-sig"), "byte-order mark"),
    "UTF-16": (lambda f: f.to_csv(index=False, sep="\t").encode("utf-16"), "UTF-16"),
    "Windows": (lambda f: f.to_csv(index=False, lineterminator="\r\n").encode(), "Windows line ends"),
    "Macintosh": (lambda f: f.to_csv(index=False, lineterminator="\r").encode(), "Macintosh"),
    "comma decimals": (lambda f: f.to_csv(index=False, sep=";", decimal=",").encode(), "comma as decimal sign"),
    "quoted comma decimals": (lambda f: f.to_csv(index=False, decimal=",", quoting=1).encode(), "comma as decimal sign"),
    "French Excel": (lambda f: _french(f.to_csv(index=False, sep=";", lineterminator="\r\n")), "Latin-1"),
    "blank lines": (lambda f: b"\n\n" + f.to_csv(index=False).encode().replace(b"\n", b"\n\n"), ""),
    "separator at the end": (lambda f: f.to_csv(index=False).encode().replace(b"\n", b",\n"), ""),
    "an index without a name": (lambda f: f.to_csv().encode(), ""),
    "a header short by the index": (lambda f: f.to_csv().encode()[1:], ""),
    "no line end at the end": (lambda f: f.to_csv(index=False).encode().rstrip(), ""),
    "falling positions": (lambda f: f[[*f.columns[:2], *f.columns[:1:-1]]].to_csv(index=False).encode(), "increasing order"),
    "named positions": (lambda f: f.rename(columns={c: f"X{c} nm" for c in f.columns[2:]}).to_csv(index=False).encode(), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", DIALECTS)
def test_dialects_give_the_same_spectra(tmp_path: Path, case: str) -> None:
    make, note = DIALECTS[case]
    frame = tables.generic()
    path = tmp_path / "café.csv"
    path.write_bytes(make(frame))
    done = read(path)
    assert done.table.channels[0].values == pytest.approx(frame.iloc[:, 2:].to_numpy(np.float32))
    assert done.table.channels[0].axis[1] == 1001.5
    assert done.table.rows["group"].tolist() == frame["specimen"].tolist()
    assert note in " ".join(done.notes)


@pytest.mark.parametrize("lines", ["Instrument: FTIR\nDate: 2024-03-01\n\n", "FTIR\n\n\n", "a;b\n1;2\n\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lines_above_the_header_are_told_with_the_row_of_the_header(tmp_path: Path, lines: str, separator: str) -> None:
    frame = tables.generic()
    (tmp_path / "table.csv").write_text(lines + frame.to_csv(index=False, sep=separator))
    error = refusal(tmp_path / "table.csv")
    assert "no column of its first row is named by a position" in error.problem
    assert error.remedy == "Row 4 looks like the header: remove the lines above it"


def test_blank_lines_above_the_header_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("\n\n" + tables.generic().to_csv(index=False))
    assert len(read(tmp_path / "table.csv").table) == 8


def test_a_first_row_of_data_is_told_even_where_it_repeats_a_word(tmp_path: Path) -> None:
    frame = tables.generic().assign(copy="a")  # the label of the first row again
    frame.to_csv(tmp_path / "table.csv", index=False, header=False)
    assert "its first row seems to be data" in refusal(tmp_path / "table.csv").problem
    frame.rename(columns={"copy": "class"}).to_csv(tmp_path / "twice.csv", index=False)
    assert "stand more than once ('class')" in refusal(tmp_path / "twice.csv").problem


def test_decimal_comma_far_from_the_head_is_found(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text("600;601;602\n" + "1;2;3\n" * 200 + "1,5;2;3\n")
    done = read(path)
    assert done.table.channels[0].values[-1].tolist() == [1.5, 2, 3] and "comma as decimal sign" in done.notes


def test_text_that_is_not_utf8_far_from_the_head_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.tasks.spectra.delimited.HEAD_BYTES", 200)
    path = tmp_path / "late.csv"
    path.write_bytes(b"label,600,601\n" + b"a,1,2\n" * 80 + "goût,1,2\n".encode("cp1252"))
    assert read(path).table.rows["label"].iloc[-1] == "goût"


# --- axes and values --------------------------------------------------------------------------------------------------
def test_missing_wavelengths_are_filled_and_said(tmp_path: Path) -> None:
    frame = tables.one_table(4, lspr=False)
    whole = frame["380_400"].to_numpy(np.float32)
    between = (frame["380_399"] + frame["380_401"]).to_numpy(np.float32) / 2
    for gone in (frame.drop(columns="380_400"), frame.assign(**{"380_400": ""})):
        done = read_frame(tmp_path, gone)
        assert done.table.channel("380").values[:, 105] == pytest.approx(between, rel=1e-6)
        assert "channel 380: 1 missing positions filled linearly (400 nm)" in done.notes
    assert read_frame(tmp_path, frame).table.channel("380").values[:, 105] == pytest.approx(whole)


def test_another_axis_is_resampled_inside_its_range_and_kept_on_request(tmp_path: Path) -> None:
    axis = np.arange(290, 750.1, 2.5)
    frame = pd.DataFrame(100 + axis[None] * np.array([[1.0], [2.0]]), columns=[f"277_{x:g}" for x in axis])
    done = read_frame(tmp_path, frame)
    assert np.array_equal(done.table.channels[0].axis, FLUORESCENCE_NM)
    assert done.table.channels[0].values == pytest.approx(100 + FLUORESCENCE_NM * np.array([[1.0], [2.0]]), rel=1e-6)
    assert "185 positions resampled linearly to 446" in " ".join(done.notes)
    kept = read_frame(tmp_path, frame, Columns(standard_axis=False))
    assert np.array_equal(kept.table.channels[0].axis, axis) and kept.table.channels[0].axis_unit == "nm"


def test_resampling_never_goes_beyond_the_range() -> None:
    channel = Channel("a", np.arange(10.0), np.ones((2, 10), np.float32))
    fitted, note = resample(channel, np.arange(1, 8, 0.5), "x.csv")
    assert fitted.values.shape == (2, 14) and "resampled" in note
    with pytest.raises(InputError, match=r"x\.csv: has channel a from 0 to 9"):
        resample(channel, np.arange(-1.0, 5), "x.csv")


def test_single_missing_cells_stay_missing(tmp_path: Path) -> None:
    frame = tables.generic().astype(object)
    frame.iloc[2, 5] = ""
    frame.iloc[3, 6] = "1e60"
    done = read_frame(tmp_path, frame)
    assert np.isnan(done.table.channels[0].values[2, 3]) and np.isnan(done.table.channels[0].values[3, 4])
    assert done.table.rows["note"][2] == "spectrum 1 points missing"
    assert "too large" in " ".join(done.notes)


def test_negative_saturated_and_constant_spectra_are_kept_and_said(tmp_path: Path) -> None:
    frame = tables.one_table(4, lspr=False)
    frame.iloc[0, 100] = -5000.0
    frame.iloc[1, 446:460] = 62996
    frame.iloc[2, :446] = 7.0
    done = read_frame(tmp_path, frame)
    assert done.table.rows["note"].tolist() == ["277 negative", "380 saturated", "277 constant", ""]
    assert done.table.channel("277").values[0, 100] == -5000
    assert "1 sample with constant values: kept and marked" in done.notes


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", tables.BAD_CONTENTS)
def test_bad_files_are_refused_with_a_sentence(tmp_path: Path, case: str) -> None:
    content, words = tables.BAD_CONTENTS[case]
    path = tmp_path / "my table.csv"
    path.write_bytes(content)
    error = refusal(path)
    assert error.subject == "my table.csv" and words in error.problem
    assert path.read_bytes() == content and listing(tmp_path) == ["my table.csv"]


def test_a_pickle_is_never_opened_and_its_owner_is_told_how_to_convert(tmp_path: Path) -> None:
    path = tmp_path / "table.pkl"
    path.write_text("600,601\n1,2\n")
    assert "python -m lib convert" in refusal(path).remedy


def test_two_million_columns_are_refused_from_the_head(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    tables.two_million_columns(path)
    error = refusal(path)
    assert "columns in its first line (at most 20,000)" in error.problem


def test_too_many_rows_are_refused_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "MAX_TABLE_BYTES", 800)
    monkeypatch.setattr(tabular, "_fill", lambda *a: pytest.fail("values were read"))
    path = tmp_path / "long.csv"
    tables.generic().to_csv(path, index=False)
    assert "declares 8 samples of 30 points" in refusal(path).problem


@pytest.mark.parametrize("case", tables.BAD_HDF5)
def test_hdf5_that_leads_elsewhere_or_declares_too_much_is_refused(tmp_path: Path, case: str) -> None:
    make, words = tables.BAD_HDF5[case]
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        make(file, tmp_path)
    assert words in refusal(path).problem


def test_forged_numpy_and_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(tables.forged_npy())
    assert "NumPy" in refusal(path).problem
    pq.write_table(pa.table({"600": [[1.0]], "601": [[2.0]]}), path)
    assert "lists or records" in refusal(path).problem
    pq.write_table(pa.table({"600": ["x"], "601": ["y"]}), path)
    assert "in column '600', where numbers were expected" in refusal(path).problem
    pq.write_table(pa.table({"600": [1.0], "601": [2.0], "text": ["x" * 20_000]}), path)
    assert "20,000 characters in column 'text'" in refusal(path).problem
    pq.write_table(pa.table({str(600 + k): pa.array([], pa.float32()) for k in range(4)}), path)
    assert "0 rows" in refusal(path).problem


def test_unrelated_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    assert "holds no table" in refusal(tmp_path).problem
    assert "cannot be opened" in refusal(tmp_path / "gone.csv").problem
    for name in ("a.csv", "b.csv"):
        tables.generic().to_csv(tmp_path / name, index=False)
    assert "do not belong to one set" in refusal(tmp_path).problem
    assert "twice" in refusal([tmp_path / "a.csv"] * 2).problem
