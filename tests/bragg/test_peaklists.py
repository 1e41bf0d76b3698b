"""Peak lists as CrystFEL and others read them, what a run comes to, its projections and its bad pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples
from lib.tasks.bragg import files, hdf5, masks, peaklists, projections, summary
from lib.tasks.bragg.config import Acquisition
from lib.tasks.bragg.geometry import Geometry
from tests.bragg.bad_frames import (
    SHAPE,
    frames,
    write_cbf,
    write_cxi,
    write_edf,
    write_eiger,
    write_nxmx,
    write_sacla,
    write_smv,
)

NOTHING_TYPED = Acquisition()


def peaks_of(counts: list[int], file: str = "run.h5", seed: int = 0) -> pd.DataFrame:
    """`counts[k]` peaks in frame k, in any order of frames."""
    rng = np.random.default_rng(seed)
    frame = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    n = len(frame)
    return pd.DataFrame({
        "file": file, "frame": frame, "y_px": rng.uniform(0, 39, n), "x_px": rng.uniform(0, 47, n),
        "intensity": rng.uniform(10, 1000, n), "snr": rng.uniform(5, 50, n), "n_pixels": rng.integers(2, 20, n),
        "max_value": rng.uniform(10, 100, n),
    })  # fmt: skip


def frame_table(n: int, file: str = "run.h5") -> pd.DataFrame:
    return pd.DataFrame({"file": file, "frame": np.arange(n), "dataset": "/entry/data/data", "event": ""})


# --- CXI --------------------------------------------------------------------------------------------------------------
def test_cxi_has_the_datasets_crystfel_reads(tmp_path: Path) -> None:
    peaks = peaks_of([3, 0, 5])
    path = peaklists.write_cxi(peaks, frame_table(3), tmp_path / "peaks.cxi")
    with h5py.File(path) as file:
        group = file["/entry_1/result_1"]
        assert group["nPeaks"].dtype.kind == "i" and group["nPeaks"][:].tolist() == [3, 0, 5]
        for key, column in (("peakXPosRaw", "x_px"), ("peakYPosRaw", "y_px"), ("peakTotalIntensity", "intensity"),
                            ("peakNPixels", "n_pixels"), ("peakMaximumValue", "max_value"), ("peakSNR", "snr")):  # fmt: skip
            assert group[key].shape == (3, 5) and group[key].dtype == np.float32
            for k in (0, 2):
                wanted = peaks.loc[peaks["frame"] == k, column].to_numpy()
                assert group[key][k, : len(wanted)] == pytest.approx(wanted, rel=1e-6)


def test_cxi_comes_back(tmp_path: Path) -> None:
    peaks = peaks_of([2, 0, 4, 1])
    back = peaklists.read_cxi(peaklists.write_cxi(peaks, frame_table(4), tmp_path / "p.cxi"))
    wanted = peaks.sort_values("frame", kind="stable").reset_index(drop=True)
    assert back["frame"].to_list() == wanted["frame"].to_list()
    for column in ("y_px", "x_px", "intensity", "snr", "n_pixels", "max_value"):
        assert back[column].to_numpy() == pytest.approx(wanted[column].to_numpy(float), rel=1e-6)


def test_cxi_of_a_run_without_peaks_and_of_peaks_without_extras(tmp_path: Path) -> None:
    empty = peaklists.write_cxi(peaks_of([0, 0]), frame_table(2), tmp_path / "a.cxi")
    assert len(peaklists.read_cxi(empty)) == 0
    bare = peaks_of([1, 2])[["file", "frame", "y_px", "x_px", "intensity"]]
    assert len(peaklists.read_cxi(peaklists.write_cxi(bare, frame_table(2), tmp_path / "b.cxi"))) == 3


def test_a_long_run_is_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaklists, "BLOCK_ROWS", 3)
    counts = [2, 0, 4, 1, 0, 0, 3, 5]
    back = peaklists.read_cxi(peaklists.write_cxi(peaks_of(counts), frame_table(8), tmp_path / "p.cxi"))
    assert back.groupby("frame").size().reindex(range(8), fill_value=0).to_list() == counts
    assert back["intensity"].sum() == pytest.approx(peaks_of(counts)["intensity"].sum())


def test_of_too_many_peaks_the_strongest_are_kept(tmp_path: Path) -> None:
    peaks = peaks_of([peaklists.MAX_PEAKS + 300, 7])
    back = peaklists.read_cxi(peaklists.write_cxi(peaks, frame_table(2), tmp_path / "p.cxi"))
    assert back.groupby("frame").size().to_list() == [peaklists.MAX_PEAKS, 7]
    first = peaks.loc[peaks["frame"] == 0, "intensity"].sort_values(ascending=False)
    kept = back.loc[back["frame"] == 0, "intensity"]
    assert kept.min() == pytest.approx(first.iloc[peaklists.MAX_PEAKS - 1], rel=1e-6)


def test_cxi_that_shows_its_frames_is_read_with_them(tmp_path: Path) -> None:
    data = frames(5)
    samples = files.read(write_eiger(tmp_path, data), NOTHING_TYPED)
    chosen = samples.take([0, 1, 3])
    shown = peaklists.links(chosen.table, tmp_path / "p.cxi")
    path = peaklists.write_cxi(peaks_of([1, 0, 0, 2], "run_master.h5"), chosen.table, tmp_path / "p.cxi", shown=shown)
    with h5py.File(path) as file:
        assert (file["/entry_1/data_1/data"][:] == data[[0, 1, 3]]).all()
        assert file["/entry_1/result_1/nPeaks"][:].tolist() == [1, 0, 2]
    back = files.read(path, NOTHING_TYPED)
    assert (np.stack([frame.pixels for frame in files.frames_of(back)]) == data[[0, 1, 3]]).all()


def shown_in(tmp_path: Path, *parts: Samples) -> list[tuple[str, int]] | None:
    """File and number of frames of each source that a CXI file shows; None where it can show none."""
    layout = peaklists.links(Samples.concat(list(parts)).table, tmp_path / "p.cxi")
    if layout is None:
        return None
    with h5py.File(tmp_path / "links.h5", "w") as file:
        made = file.create_virtual_dataset("all", layout)
        return [(s.file_name, s.vspace.get_select_npoints() // (made.shape[1] * made.shape[2])) for s in made.virtual_sources()]


def test_a_run_is_one_source_however_long_and_files_of_one_frame_one_each(tmp_path: Path) -> None:
    run = files.read(write_nxmx(tmp_path / "run.h5", frames(30)), NOTHING_TYPED)
    assert shown_in(tmp_path, run) == [("run.h5", 30)]
    (tmp_path / "single").mkdir()
    many = [files.read(write_nxmx(tmp_path / "single" / f"{k}.h5", frames(1)), NOTHING_TYPED) for k in range(20)]
    assert shown_in(tmp_path, *many) == [(f"single/{k}.h5", 1) for k in range(20)]
    assert len(hdf5._open.files) <= hdf5.MAX_OPEN
    sacla = files.read(write_sacla(tmp_path / "sacla.h5", frames(3)), NOTHING_TYPED)
    assert shown_in(tmp_path, sacla) == [("sacla.h5", 1)] * 3


def test_frames_that_are_images_or_unlike_or_changed_cannot_be_shown(tmp_path: Path) -> None:
    one = files.read(write_nxmx(tmp_path / "a.h5", frames(2)), NOTHING_TYPED)
    for other in (
        write_cbf(tmp_path / "a.cbf", frames()[0]), write_nxmx(tmp_path / "b.h5", frames(2, (60, 50)), facts=False),
        write_nxmx(tmp_path / "c.h5", frames(2, dtype="i4")),
    ):  # fmt: skip
        assert shown_in(tmp_path, one, files.read(other, NOTHING_TYPED)) is None
    (tmp_path / "a.h5").unlink()
    assert shown_in(tmp_path, one) is None


def test_a_missing_data_file_leaves_its_row_empty(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, data := frames(6))
    (tmp_path / "run_data_000001.h5").unlink()
    samples = files.read(path, NOTHING_TYPED)
    cxi = tmp_path / "p.cxi"
    peaklists.write_cxi(peaks_of([0]), samples.table, cxi, shown=peaklists.links(samples.table, cxi))
    with h5py.File(cxi) as file:
        assert (file["/entry_1/data_1/data"][:] == [0 * data[0], *data[2:]]).all()


def test_frames_of_uploads_and_archives_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    here, out = tmp_path / "data", tmp_path / "out"
    places = {here: True, tmp_path / "tmp" / "lightbench-x1": False, out / ".unfinished" / "unpacked": False, out: True}
    for folder, stays in places.items():
        folder.mkdir(parents=True, exist_ok=True)
        table = files.read(write_nxmx(folder / "a.h5", frames(1)), NOTHING_TYPED).table
        assert peaklists.stay(table, out) == stays, folder
        assert not peaklists.stay(table, tmp_path / "tmp" / "lightbench-x2"), "the output goes too"
        (folder / "a.h5").unlink()
        assert not peaklists.stay(table, out)
    assert not peaklists.stay(frame_table(2), out), "frames that were simulated and never written"


def test_what_cannot_be_written_leaves_the_older_file(tmp_path: Path) -> None:
    path = peaklists.write_cxi(peaks_of([1]), frame_table(1), tmp_path / "p.cxi")
    before = path.read_bytes()
    with pytest.raises(InputError, match="not in the list of frames"):
        peaklists.write_cxi(peaks_of([1, 1]), frame_table(1), path)
    with pytest.raises(InputError, match="without intensity"):
        peaklists.write_cxi(peaks_of([1]).drop(columns="intensity"), frame_table(1), path)
    with pytest.raises(InputError, match="could not be written"):
        peaklists.write_csv(peaks_of([1]), tmp_path / "no folder" / "peaks.csv")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.cxi"]


def test_a_file_without_a_peak_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no peak list"):
        peaklists.read_cxi(write_nxmx(tmp_path / "a.h5", frames()))
    path = peaklists.write_cxi(peaks_of([1, 2]), frame_table(2), tmp_path / "p.cxi")
    with h5py.File(path, "r+") as file:
        file["entry_1/result_1/nPeaks"][...] = 9
    with pytest.raises(InputError, match="does not fit together"):
        peaklists.read_cxi(path)


# --- CSV and hits -----------------------------------------------------------------------------------------------------
def test_peaks_csv_has_its_columns_and_comes_back(tmp_path: Path) -> None:
    geometry = Geometry.flat(SHAPE, (20, 20), px_size_um=100, distance_mm=50, wavelength_angstrom=1)
    peaks = peaklists.with_resolution(peaks_of([3, 2]), geometry)
    path = peaklists.write_csv(peaks, tmp_path / "peaks.csv")
    back = peaklists.read_csv(path)
    assert tuple(back.columns) == peaklists.CSV_COLUMNS
    assert back["score"].isna().all()  # a classical finder gives none
    for column in ("y_px", "x_px", "intensity", "resolution_angstrom"):
        assert back[column].to_numpy() == pytest.approx(peaks[column].to_numpy())
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column file, frame"):
        peaklists.read_csv(tmp_path / "other.csv")


def test_hits_are_named_as_crystfel_names_events(tmp_path: Path) -> None:
    parts = [
        files.read(write_nxmx(tmp_path / "stack.h5", frames(2)), NOTHING_TYPED),
        files.read(write_sacla(tmp_path / "sacla.h5", frames(2)), NOTHING_TYPED),
        files.read(write_cbf(tmp_path / "one.cbf", frames()[0]), NOTHING_TYPED),
        files.read(write_edf(tmp_path / "some.edf", frames(2)), NOTHING_TYPED),
    ]
    table = Samples.concat(parts).table
    path = peaklists.write_hits(table, np.array([False, True, True, False, True, True, False]), tmp_path / "hits.lst")
    assert path.read_text() == "stack.h5 //1\nsacla.h5 tag-900//\none.cbf\nsome.edf //0\n"


# --- summary ----------------------------------------------------------------------------------------------------------
def test_summary_counts_every_frame(tmp_path: Path) -> None:
    counts = [20, 0, 3, 15]
    run = summary.summarise(peaks_of(counts), frame_table(4), SHAPE)
    assert run.per_frame["n_peaks"].to_list() == counts
    assert run.per_frame["is_hit"].to_list() == [True, False, False, True]
    assert (run.n_frames, run.n_hits, run.hit_rate, run.peaks_per_hit) == (4, 2, 0.5, 17.5)
    assert run.powder is not None
    assert run.powder.sum() == pytest.approx(peaks_of(counts)["intensity"].sum(), rel=1e-5)
    nothing = summary.summarise(peaks_of([0]).iloc[:0], frame_table(0))
    assert np.isnan(nothing.hit_rate) and nothing.powder is None and len(nothing.resolution) == 0


def test_the_powder_pattern_puts_peaks_where_they_lie() -> None:
    peaks = pd.DataFrame({"y_px": [3.4, 2.6, 50.0], "x_px": [7.0, 7.4, 1.0], "intensity": [10.0, 5.0, 99.0]})
    powder = summary.virtual_powder(peaks, SHAPE)
    assert powder[3, 7] == 15 and powder.sum() == 15


def test_resolution_shells_of_equal_volume_hold_equally_many_lattice_points() -> None:
    q = np.linspace(-1, 1, 81)
    radius = np.sqrt((np.array(np.meshgrid(q, q, q)) ** 2).sum(axis=0)).ravel()
    d = 1 / radius[(radius > 0.05) & (radius <= 1)]
    shells = summary.resolution_histogram(np.concatenate([d, [np.nan, np.inf]]), 10)
    assert shells["n_peaks"].sum() == len(d)
    assert shells["n_peaks"].to_numpy() == pytest.approx(len(d) / 10, rel=0.05)
    assert (shells["d_max_angstrom"] > shells["d_min_angstrom"]).all()
    assert shells["d_min_angstrom"].iloc[-1] == pytest.approx(1)


# --- projections and bad pixels ---------------------------------------------------------------------------------------
def test_projection_sums_good_pixels_and_keeps_the_largest(tmp_path: Path) -> None:
    data = frames(4, dtype="i4")
    data[:, 0, 0] = -1
    data[2, 1, 1] = -1
    parts = [files.read(write_cbf(tmp_path / f"{k}.cbf", data[k]), NOTHING_TYPED) for k in range(4)]
    told: list[float] = []
    run = projections.project(Samples.concat(parts), on_progress=lambda share, text: told.append(share))
    good = np.where(data < 0, 0, data)
    assert (run.sum == good.sum(axis=0)).all()
    assert np.isnan(run.largest[0, 0]) and np.isnan(run.mean[0, 0])
    assert (np.nan_to_num(run.largest) == good.max(axis=0)).all()
    assert run.n_good[0, 0] == 0 and run.n_good[1, 1] == 3
    assert run.mean[1, 1] == pytest.approx(data[[0, 1, 3], 1, 1].mean())
    assert told == [0.25, 0.5, 0.75, 1.0] and not run.failures


def test_projection_can_be_cancelled_and_goes_past_bad_frames(tmp_path: Path) -> None:
    parts = [files.read(write_cbf(tmp_path / f"{k}.cbf", frames()[0]), NOTHING_TYPED) for k in range(4)]
    parts.insert(2, files.read(write_smv(tmp_path / "other.img", frames(1, (60, 50))[0]), NOTHING_TYPED))
    (tmp_path / "1.cbf").unlink()
    samples = Samples.concat(parts)
    run = projections.project(samples)
    assert run.n_frames == 3
    assert [row for row, _ in run.failures] == [1, 2]
    assert "another size" in run.failures[1][1]
    asked = iter([False, False, True])
    stopped = projections.project(samples, cancelled=lambda: next(asked))
    assert stopped.cancelled and stopped.n_frames == 1
    with pytest.raises(InputError, match=r"none of 1 frames can be read.*1\.cbf"):
        projections.project(samples, rows=[1])


def test_hot_and_dead_pixels_are_told_from_spots(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data = rng.poisson(20, (20, *SHAPE)).astype("u2")
    hot, dead = [(3, 3), (25, 10), (39, 47)], [(8, 8), (0, 30)]
    for y, x in hot:
        data[:, y, x] = rng.poisson(200, 20)
    for y, x in dead:
        data[:, y, x] = 0
    for k in range(20):  # spots elsewhere in every frame, and one that stays for a third of them
        data[k, 5 + k, 30:32] = 2000
    data[:6, 15, 40] = 3000
    found = projections.find_bad_pixels(files.read(write_cxi(tmp_path / "a.cxi", data), NOTHING_TYPED))
    assert found.n_frames == 20
    assert [tuple(map(int, p)) for p in np.argwhere(found.hot)] == hot
    assert {tuple(map(int, p)) for p in np.argwhere(found.dead)} == set(dead)


def test_dark_frames_have_no_hot_pixels_by_chance_and_few_frames_are_refused(tmp_path: Path) -> None:
    dark = np.random.default_rng(1).poisson(0.05, (12, *SHAPE)).astype("u2")
    found = projections.find_bad_pixels(files.read(write_nxmx(tmp_path / "a.h5", dark), NOTHING_TYPED))
    assert not found.hot.any() and not found.dead.any()
    with pytest.raises(InputError, match="4 frames cannot tell"):
        projections.find_bad_pixels(files.read(write_nxmx(tmp_path / "b.h5", dark[:4]), NOTHING_TYPED))
    hdf5.close_files()


@pytest.mark.parametrize(
    ("bits", "values", "good"),
    [
        (masks.ZERO_IS_GOOD, [0, 1, 2, 255], [True, False, False, False]),
        (masks.ONE_IS_GOOD, [0, 1, 2, 3], [False, True, False, True]),
        ((0b01, 0b10), [0, 1, 2, 3], [False, True, False, False]),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "u8"])
def test_bits_say_what_is_good(bits: tuple[int, int], values: list[int], good: list[bool], dtype: str) -> None:
    assert masks.good_pixels(np.array(values, dtype), *bits).tolist() == good


def test_a_mask_plan_comes_back_from_its_text() -> None:
    plan = masks.MaskPlan(
        (masks.MaskSource("a.h5", "/m", 1, 2, True),), ((0, 1, 2, 3),), ((0.5, 1.5, -2.0, 3.0),), 0.0, 9.5, (7.0,)
    )
    assert masks.MaskPlan.from_json(plan.to_json()) == plan
