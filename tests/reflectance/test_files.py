"""Pictures and tables in and out: every format to the same grey levels, every fault to a sentence, nothing lost."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from lib import cleaning, tasks
from lib.task import InputError, Samples
from lib.tasks.reflectance import files
from lib.tasks.reflectance.config import CHANNELS, TRUE
from lib.tasks.reflectance.settings import SUFFIXES, Acquisition
from lib.uploads import Limits, expand
from tests.reflectance.bad_pictures import (
    HEADER,
    REFUSED,
    REFUSED_TABLES,
    TAKEN,
    lab,
    micrograph,
    table_text,
    targets,
    with_bar,
    write_png,
)  # fmt: skip

NOTHING = Acquisition()
TARGETS = [TRUE + channel for channel in CHANNELS]


def remarks(samples: Samples) -> str:
    return "\n".join(str(remark) for _, remark in samples.remarks)


def read_lab(table: Path, acquisition: Acquisition = NOTHING) -> Samples:
    """Table and pictures of its folder as they come in as an upload."""
    pictures = [(path, path.name) for path in sorted(table.parent.glob("*.png"))]
    return files.read_bundle([(table, table.name), *pictures], acquisition)


# --- pictures ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", TAKEN)
def test_every_format_gives_the_same_grey_levels(kind: str, tmp_path: Path) -> None:
    suffix, write, note, tolerance = TAKEN[kind]
    path = tmp_path / f"a{suffix}"
    write(path)
    before = path.read_bytes()
    samples = files.read(path, NOTHING)
    image = samples.inputs["image"][0]
    assert image.shape == (256, 256) and image.dtype == np.uint8
    assert np.abs(image.astype(float) - micrograph()).mean() <= tolerance
    assert note in samples.table["note"][0] and (note or samples.table["note"][0] == "")
    assert samples.table["file"][0] == samples.table["image"][0] == path.name
    assert samples.table[TARGETS].isna().all(axis=None)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    suffix, write, words = REFUSED[kind]
    path = tmp_path / f"a{suffix}"
    write(path)
    with pytest.raises(InputError) as caught:
        files.read(path, NOTHING, "../../x.png")
    assert caught.value.subject == "../../x.png" and words in caught.value.problem and caught.value.remedy
    assert str(tmp_path) not in str(caught.value)


def test_every_cut_of_a_file_is_read_or_refused(tmp_path: Path) -> None:
    for suffix, write, _, _ in TAKEN.values():
        whole = tmp_path / f"whole{suffix}"
        write(whole)
        content, path = whole.read_bytes(), tmp_path / f"cut{suffix}"
        for share in (0.002, 0.02, 0.3, 0.9, 0.999):
            path.write_bytes(content[: int(share * len(content))])
            try:
                assert len(files.read(path, NOTHING)) == 1
            except InputError as error:
                assert path.name in str(error)


def test_all_of_one_grey_is_read_and_said(tmp_path: Path) -> None:
    Image.new("L", (300, 300), 77).save(tmp_path / "a.png")
    samples = files.read(tmp_path / "a.png", NOTHING)
    assert (samples.inputs["image"] == 77).all() and "all of one grey" in samples.table["note"][0]


def test_a_picture_that_is_not_square_gives_the_square_in_its_middle(tmp_path: Path) -> None:
    levels = micrograph(shape=(256, 400))
    Image.fromarray(levels).save(tmp_path / "a.png")
    samples = files.read(tmp_path / "a.png", NOTHING)
    np.testing.assert_array_equal(samples.inputs["image"][0], levels[:, 72:328])
    assert "square in the middle of 400 × 256 px" in samples.table["note"][0]


# --- scale and bar ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("nm", "cut", "seen"),
    [(25.0, 256, 25), (12.5, 512, 25), (40.0, 160, 25), (5.0, 600, 5 * 600 / 256), (60.0, 600, 60 * 600 / 256)],
    ids=["common", "finer", "coarser", "field too small", "too coarse"],
)
def test_pictures_are_brought_to_the_common_scale_where_they_can(nm: float, cut: float, seen: float, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", shape=(600, 700))
    table = files.read(tmp_path / "a.png", Acquisition(nm_per_px=nm)).table
    assert table["cut_px"][0] == pytest.approx(cut) and table["nm_per_px"][0] == pytest.approx(seen)
    assert table["scale_from"][0] == "user"


def test_a_period_keeps_its_length_when_the_scale_changes(tmp_path: Path) -> None:
    stripes = 128 + 100 * np.sin(2 * np.pi * np.arange(1024) / 40)
    Image.fromarray(np.tile(stripes, (1024, 1)).astype(np.uint8)).save(tmp_path / "a.png")
    samples = files.read(tmp_path / "a.png", Acquisition(nm_per_px=10))  # 400 nm
    power = np.abs(np.fft.rfft(samples.inputs["image"][0].astype(float).mean(axis=0)))
    assert 6400 / (1 + np.argmax(power[1:])) == pytest.approx(400)


def test_scale_from_resolution_tags_but_not_from_those_of_screens(tmp_path: Path) -> None:
    levels = micrograph()
    tifffile.imwrite(tmp_path / "imagej.tif", levels, imagej=True, resolution=(50, 50), metadata={"unit": "um"})
    tifffile.imwrite(tmp_path / "cm.tif", levels, resolution=(5e5, 5e5), resolutionunit="CENTIMETER")
    Image.fromarray(levels).save(tmp_path / "fine.png", dpi=(25.4e6 / 30, 25.4e6 / 30))
    Image.fromarray(levels).save(tmp_path / "screen.png", dpi=(96, 96))
    tifffile.imwrite(tmp_path / "screen.tif", levels, resolution=(72, 72), resolutionunit="INCH")
    source = {path.name: files.read(path, NOTHING).table["source_nm_per_px"][0] for path in sorted(tmp_path.iterdir())}
    unknown = pytest.approx(np.nan, nan_ok=True)
    assert source == {"cm.tif": 20, "fine.png": pytest.approx(30), "imagej.tif": 20, "screen.png": unknown, "screen.tif": unknown}


@pytest.mark.parametrize("ground", [0, 243])
def test_an_information_bar_is_found_and_the_user_may_say_otherwise(ground: int, tmp_path: Path) -> None:
    levels = micrograph(shape=(480, 640))
    Image.fromarray(with_bar(levels, 34, ground)).save(tmp_path / "a.png")
    table = files.read(tmp_path / "a.png", NOTHING).table
    assert (table["info_bar_px"][0], table["bar_from"][0]) == (34, "picture") and "34 px of information bar" in table["note"][0]
    whole = files.read(tmp_path / "a.png", Acquisition(info_bar_px=0)).table
    assert whole["info_bar_px"][0] == 0 and whole["cut_px"][0] == 514
    assert files.read(tmp_path / "a.png", Acquisition(info_bar_px=50)).table["info_bar_px"][0] == 50
    with pytest.raises(InputError, match="are to be cut away"):
        files.read(tmp_path / "a.png", Acquisition(info_bar_px=500))


@pytest.mark.parametrize("seed", range(6))
def test_no_bar_is_seen_where_there_is_none(seed: int, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", seed, (480, 640))
    table = files.read(tmp_path / "a.png", NOTHING).table
    assert table["info_bar_px"][0] == 0 and table["scale_bar_px"][0] == 0


def test_a_scale_bar_inside_the_cut_is_told(tmp_path: Path) -> None:
    levels = micrograph(shape=(480, 640))
    levels[440:446, 100:220] = 255
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert files.read(tmp_path / "a.png", NOTHING).table["scale_bar_px"][0] == pytest.approx(120, abs=2)


# --- tables -----------------------------------------------------------------------------------------------------------
def expected(rows: int = 4) -> np.ndarray:
    return np.array([targets(row) for row in range(rows)])


TABLES = {
    "the original's": table_text().encode(),
    "without header": table_text(header=None).encode(),
    "useless header": table_text(header=tuple("abcdefghijk")).encode(),
    "semicolons and comma decimals": table_text(sep=";", decimal=",").encode(),
    "tabs and comma decimals": table_text(sep="\t", decimal=",").encode(),
    "byte-order mark": b"\xef\xbb\xbf" + table_text().encode(),
    "UTF-16": table_text().encode("utf-16"),
    "Windows line ends": table_text().replace("\n", "\r\n").encode(),
    "percent": table_text(factor=100).encode(),
    "index without name": ("," + ",".join(HEADER) + "\n" + "".join(
        f"{k},{line}\n" for k, line in enumerate(table_text(header=None).splitlines()))).encode(),
    "index before no header": "".join(
        f"{k},{line}\n" for k, line in enumerate(table_text(header=None).splitlines())).encode(),
    "folders of another machine": table_text().replace("\n", "\n/home/lab/sem/").removesuffix("/home/lab/sem/").encode(),
    "backslashes": table_text().replace("\n", "\nC:\\sem\\").removesuffix("C:\\sem\\").encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_every_form_of_the_table_gives_the_same_targets(kind: str, tmp_path: Path) -> None:
    table = lab(tmp_path)
    table.write_bytes(TABLES[kind])
    samples = read_lab(table)
    np.testing.assert_allclose(samples.table[TARGETS].to_numpy(float), expected(), atol=1e-12)
    for row in range(4):
        np.testing.assert_array_equal(samples.inputs["image"][row], micrograph(row))
    assert set(samples.table["file"]) == {"targets.csv and 4 more"}
    assert ("percent" in remarks(samples)) == (kind == "percent")
    alone = files.read(table, NOTHING)  # pictures beside the table
    np.testing.assert_array_equal(alone.inputs["image"], samples.inputs["image"])
    assert set(alone.table["file"]) == {"targets.csv"}


def test_columns_go_by_name_in_any_order(tmp_path: Path) -> None:
    lab(tmp_path)
    frame = pd.read_csv(tmp_path / "targets.csv", dtype={"SEM_filenames": str})
    frame = frame[frame.columns[::-1]].rename(columns={"740": "IR740", "B": "true_B"})
    frame.assign(specimen=["a", "a", "b", "b"], species="x", nm_per_px=[25, 50, None, 20]).to_csv(
        tmp_path / "targets.csv", index=False
    )
    table = read_lab(tmp_path / "targets.csv").table
    np.testing.assert_allclose(table[TARGETS], expected())
    assert list(table["specimen"]) == ["a", "a", "b", "b"] and set(table["kind"]) == {"x"}
    assert table["source_nm_per_px"].tolist() == pytest.approx([25, 50, np.nan, 20], nan_ok=True)
    assert list(table["scale_from"]) == ["table", "table", "", "table"]


@pytest.mark.parametrize("kind", REFUSED_TABLES)
def test_what_is_no_table_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    content, words = REFUSED_TABLES[kind]
    lab(tmp_path)
    (tmp_path / "targets.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_lab(tmp_path / "targets.csv")
    assert "targets.csv" in caught.value.subject and words in caught.value.problem and caught.value.remedy
    assert str(tmp_path) not in str(caught.value)


def change(tmp_path: Path, row: int, column: int, cell: str) -> Samples:
    """The lab's table with one cell changed, read."""
    table = lab(tmp_path)
    lines = [line.split(",") for line in table.read_text().splitlines()]
    lines[row + 1][column] = cell
    table.write_text("\n".join(",".join(line) for line in lines))
    return read_lab(table)


def test_a_missing_value_and_a_word_are_not_measured(tmp_path: Path) -> None:
    samples = change(tmp_path, 1, 2, "NaN")
    assert np.isnan(samples.table["true_B"][1]) and "no numbers" not in remarks(samples)
    samples = change(tmp_path, 1, 2, "bright")
    assert np.isnan(samples.table["true_B"][1]) and "'bright' (row 3)" in remarks(samples)
    assert samples.table[TARGETS].isna().to_numpy().sum() == 1


def test_negative_and_single_large_targets_stay_for_the_rules(tmp_path: Path) -> None:
    assert change(tmp_path, 0, 1, "-0.2").table["true_UV"][0] == -0.2
    samples = change(tmp_path, 0, 1, "7.5")
    assert samples.table["true_UV"][0] == 7.5 and "percent" not in remarks(samples)


def test_a_channel_that_lacks_and_one_too_many_by_name_are_told(tmp_path: Path) -> None:
    lab(tmp_path)
    frame = pd.read_csv(tmp_path / "targets.csv").drop(columns="fG").assign(gloss=0.5)
    frame.to_csv(tmp_path / "targets.csv", index=False)
    samples = read_lab(tmp_path / "targets.csv")
    assert samples.table["true_fG"].isna().all() and samples.table["true_fR"].notna().all()
    assert "no column fG" in remarks(samples) and "columns not used: gloss" in remarks(samples)


def test_missing_and_damaged_pictures_are_listed_and_the_rest_is_read(tmp_path: Path) -> None:
    table = lab(tmp_path)
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(b"%PDF-1.4")
    write_png(tmp_path / "stray.png", 9)
    samples = read_lab(table)
    assert list(samples.table["image"]) == ["0.png", "3.png"]
    np.testing.assert_allclose(samples.table[TARGETS], expected()[[0, 3]])
    np.testing.assert_array_equal(samples.inputs["image"][1], micrograph(3))
    told = remarks(samples)
    assert "1 pictures of the table are missing: 1.png (is not there)" in told
    assert "1 pictures could not be read: 2.png (is not a picture but a PDF)" in told
    assert "1 pictures are not in the table and were left out: stray.png" in told


def test_rows_that_repeat_count_once_and_contradictions_are_kept_and_marked(tmp_path: Path) -> None:
    table = lab(tmp_path)
    lines = table.read_text().splitlines()
    other = ",".join(["2.png", *["0.5"] * 10])
    table.write_text("\n".join([*lines, lines[1], other]))
    samples = read_lab(table)
    assert list(samples.table["image"]) == ["0.png", "1.png", "2.png", "3.png", "2.png"]
    assert list(samples.table["contradicts"]) == [False, False, True, False, True]
    assert "1 rows repeat an earlier one" in remarks(samples) and "other targets: 2.png" in remarks(samples)


def test_pictures_of_one_name_are_told_apart_by_their_folders_or_refused(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 2)):
        write_png(tmp_path / folder / "1.png", seed)
    table = tmp_path / "targets.csv"
    given = [(tmp_path / folder / "1.png", f"upload/{folder}/1.png") for folder in "ab"]
    row = "," + ",".join(["0.5"] * 10)
    table.write_text(f"x/a/1.png{row}\nx/b/1.png{row}\n")
    samples = files.read_bundle([(table, "targets.csv"), *given], NOTHING)
    np.testing.assert_array_equal(samples.inputs["image"], [micrograph(1), micrograph(2)])
    flat = [(path, name) for (path, _), name in zip(given, ("1.png", "1.png (2)"))]  # as the bench tells uploads apart
    table.write_text(f"1.png{row}\na/9.png{row}\n")
    with pytest.raises(InputError, match="2 files have that name"):
        files.read_bundle([(table, "targets.csv"), *flat], NOTHING)


def test_pictures_lie_where_the_table_or_the_user_says(tmp_path: Path) -> None:
    there = write_png(tmp_path / "far" / "deep" / "0.png", 5)
    table = tmp_path / "tables" / "targets.csv"
    table.parent.mkdir()
    row = "," + ",".join(["0.5"] * 10) + "\n"
    for written, folder in ((str(there), ""), ("../far/deep/0.png", ""), ("0.png", str(there.parent)),
                            ("/gone/deep/0.png", str(tmp_path / "far"))):  # fmt: skip
        table.write_text(written + row)
        samples = files.read(table, Acquisition(image_folder=folder))
        np.testing.assert_array_equal(samples.inputs["image"][0], micrograph(5))


# --- specimens --------------------------------------------------------------------------------------------------------
def test_specimens_by_file_name_by_equal_targets_or_not(tmp_path: Path) -> None:
    row = [",".join(map(str, targets(k))) for k in range(2)]
    names = ["w1_a.png", "w1_b.png", "w2_a.png"]
    for seed, name in enumerate(names):
        write_png(tmp_path / name, seed)
    table = tmp_path / "targets.csv"
    table.write_text("\n".join(f"{name},{row[name.startswith('w2')]}" for name in names))
    found = lambda **how: list(read_lab(table, Acquisition(**how)).table["specimen"])  # noqa: E731
    assert found() == ["targets 1", "targets 1", "targets 2"]
    assert found(specimen_pattern="{specimen}_*") == ["w1", "w1", "w2"]
    assert found(specimen_pattern=r"(?P<specimen>\d)_") == ["1", "1", "2"]
    assert found(specimen_from="nothing") == ["", "", ""]
    assert files.offered([(table, "targets.csv")])["specimen_pattern"] == ("{specimen}_*",)


def test_two_specimens_of_one_name_are_told_and_stay_together(tmp_path: Path) -> None:
    table = lab(tmp_path)
    frame = pd.read_csv(table)
    frame.assign(specimen=["w1", "w1", "w2", "w3"]).to_csv(table, index=False)
    samples = read_lab(table)
    assert "1 specimens have pictures of different targets, so one name may stand for several: w1" in remarks(samples)
    assert list(samples.table["specimen"]) == ["w1", "w1", "w2", "w3"]
    frame.loc[1, frame.columns[1:]] = frame.loc[0, frame.columns[1:]]
    frame.assign(specimen=["w1", "w1", "w2", "w3"]).to_csv(table, index=False)
    assert "different targets" not in remarks(read_lab(table))


@pytest.mark.parametrize(
    ("pattern", "words"), [("view*.png", "where the specimen is"), ("(?P<specimen>[", "no regular expression")]
)
def test_a_pattern_that_finds_no_specimen_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Acquisition.parse({"specimen_pattern": pattern})


# --- bundles, archives ------------------------------------------------------------------------------------------------
def test_bundles() -> None:
    assert files.bundles(["a.png", "b.tif"]) == [[0], [1]]
    assert files.bundles(["x/1.png", "t.csv", "2.png"]) == [[1, 0, 2]]
    assert files.bundles(["a/t.csv", "a/1.png", "b/t.csv", "b/c/1.png", "d.png"]) == [[0, 1, 4], [2, 3, 4]]


def test_archive_with_a_table_is_one_set_and_what_climbs_out_is_not_unpacked(tmp_path: Path) -> None:
    lab(tmp_path / "lab")
    archive, unpacked = tmp_path / "set.zip", tmp_path / "unpacked"
    unpacked.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "lab").iterdir()):
            file.write(path, f"lab/{path.name}")
        file.write(tmp_path / "lab" / "0.png", "../../x.png")
    found = expand([archive], SUFFIXES, unpacked)
    assert [name for name, _ in found.failures] == ["../../x.png"] and "leads out of the archive" in found.failures[0][1]
    (places,) = files.bundles([name for _, name in found.files])
    samples = files.read_bundle([found.files[place] for place in places], NOTHING)
    assert len(samples) == 4 and list(tmp_path.glob("x.png")) == []


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", b"\0" * 3_000_000)
    found = expand([archive], SUFFIXES, tmp_path, Limits(ratio_from_bytes=2**20))
    assert not found.files and "bomb" in found.failures[0][1]


# --- writing ----------------------------------------------------------------------------------------------------------
def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    n = 3
    images = np.stack([micrograph(k) for k in range(n)])
    known = pd.DataFrame(expected(n), columns=TARGETS)
    known.iloc[1, 3] = np.nan
    table = pd.DataFrame({"file": ["a.png", "b/a.png", "../c d.tif"], "note": "", "specimen": ["s1", "s1", "s2"], "kind": "wing",
                          "nm_per_px": [25.0, 12.3, np.nan], "ridge_period_nm": [900.0, 910.0, 920.0]})  # fmt: skip
    samples = Samples({"image": images}, pd.concat([table, known], axis=1))
    out = tmp_path / "out"
    paths = files.write(samples, out)
    assert [path.name for path in paths] == ["a.png", "a-2.png", "c d.png", "truth.csv"] and not list(tmp_path.glob("*.png"))
    back = files.read(out, NOTHING)
    np.testing.assert_array_equal(back.inputs["image"], images)
    pd.testing.assert_frame_equal(back.table[[*TARGETS, "ridge_period_nm"]], samples.table[[*TARGETS, "ridge_period_nm"]])
    assert list(back.table["specimen"]) == ["s1", "s1", "s2"] and set(back.table["kind"]) == {"wing"}
    np.testing.assert_allclose(back.table["nm_per_px"], table["nm_per_px"])
    single = files.read(out / "a-2.png", NOTHING)  # a picture tells its scale alone
    np.testing.assert_allclose(single.table["nm_per_px"], 12.3, rtol=1e-6)
    with pytest.raises(InputError, match="is there already"):
        files.write(samples, out)
    assert len(list(out.iterdir())) == 4
    kept_set = files.write(back.take([0, 2]), tmp_path / "kept")  # read from files: its table is no truth of a simulation
    assert [path.name for path in kept_set] == ["a.png", "c d.png", "targets.csv"]
    np.testing.assert_array_equal(files.read(tmp_path / "kept", NOTHING).inputs["image"], images[[0, 2]])


def test_a_kept_set_of_simulated_pictures_never_counts_as_measured(tmp_path: Path) -> None:
    """Whatever the table is called later: what is simulated says so itself, and its pigment stays with it."""
    table = pd.DataFrame({"file": ["a.png", "b.png"], "note": "", "specimen": ["s1", "s2"], "kind": "morpho", "nm_per_px": 25.0,
                          "pigment": ["none", "ommochrome"], "lamina_nm": [190.0, 200.0]})  # fmt: skip
    known = pd.DataFrame(expected(2), columns=TARGETS)
    simulated = Samples({"image": np.stack([micrograph(0), micrograph(1)])}, pd.concat([table, known], axis=1))
    files.write(simulated, tmp_path / "out")
    first = files.read(tmp_path / "out", NOTHING)
    files.write(first.take([1]), tmp_path / "kept")
    (tmp_path / "kept" / "targets.csv").rename(tmp_path / "kept" / "mine.csv")
    for samples, pigments in ((first, ["none", "ommochrome"]), (files.read(tmp_path / "kept", NOTHING), ["ommochrome"])):
        assert samples.table["simulated"].all() and list(samples.table["pigment"]) == pigments
    measured = read_lab(lab(tmp_path / "lab"))
    assert not measured.table["simulated"].any()
    files.write(measured, tmp_path / "again")
    assert "simulated" not in (tmp_path / "again" / "targets.csv").read_text()


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    table = lab(tmp_path / "lab")
    heard: list[tuple[float, str]] = []
    pictures = [(path, path.name) for path in sorted(table.parent.glob("*.png"))]
    task = tasks.get("reflectance").reporting(lambda share, text: heard.append((share, text)))
    task.read_bundle([(table, table.name), *pictures], NOTHING)
    assert heard == [(k / 4, f"{k + 1} of 4 pictures: {k}.png") for k in range(4)]


def test_a_table_is_never_kept_without_its_pictures(tmp_path: Path) -> None:
    """A set of one picture that its table finds in another folder: a copy of the table alone would name nothing."""
    table = lab(tmp_path / "lab", rows=1)
    moved = (tmp_path / "tables").mkdir() or table.rename(tmp_path / "tables" / "targets.csv")
    how, task = Acquisition(image_folder=str(tmp_path / "lab")), tasks.get("reflectance")
    seen = cleaning.inspect(task, [(moved, moved.name)], how, lambda _share, _text: None)
    assert seen.samples is not None
    kept_files = cleaning.write_kept(task, seen.samples, np.array([True]), seen.raw, "{}", tmp_path / "kept")
    assert [path.name for path in kept_files] == ["0.png", "recipe.json", "targets.csv"]
    assert len(files.read(tmp_path / "kept", NOTHING)) == 1


def test_notes_are_told_in_the_readers_language(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", shape=(256, 300))
    samples = files.read(tmp_path / "a.png", NOTHING, tell=lambda text: f"<{text}>")
    assert samples.table["note"][0] == "<square in the middle of 300 × 256 px>"


def test_samples_and_what_their_files_tell_survive_their_folder(tmp_path: Path) -> None:
    samples = read_lab(lab(tmp_path / "lab"))
    (tmp_path / "kept").mkdir()
    samples.save(tmp_path / "kept")
    back = Samples.load(tmp_path / "kept")
    pd.testing.assert_frame_equal(back.table, samples.table)
    assert back.remarks == samples.remarks and json.loads(back.table["instrument"][0]) == {}
    assert io.BytesIO((tmp_path / "lab" / "0.png").read_bytes()).read(4) == b"\x89PNG"
