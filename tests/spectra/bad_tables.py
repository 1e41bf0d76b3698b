"""Tables of spectra as people bring them: good ones to write out in many forms, and bad ones with the words of their refusal."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from lib.tasks.spectra.table import EXCITATIONS, FLUORESCENCE_NM, LSPR_NM, Channel, SpectraTable

KEYS = [str(1000 + k) for k in range(6)]
SEVERITY = ["OK - Inspecteur", "OK - SpectrAcer", "OK", "VR", "CROCHET", "NC"]


def spectra(n: int = 6, points: int = 446, seed: int = 0) -> np.ndarray:
    """Smooth positive spectra (n, points) with one decimal, as the fluorimeter writes them."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, points)
    peaks = rng.uniform(0.2, 0.8, (n, 1))
    return np.round(100 + rng.uniform(2000, 20000, (n, 1)) * np.exp(-(((x - peaks) / 0.15) ** 2)), 1)


def known(n: int = 6) -> pd.DataFrame:
    """What a Y file tells of n samples."""
    return pd.DataFrame({
        "sequence": KEYS[:n], "scelle": [f"A{k // 2:03d}" for k in range(n)], "outil_id": ["07"] * n,
        "mesure_date": ["2018-03-21"] * n, "mesure_heure": [f"13:45:{k:02d}" for k in range(n)], "fluo_l": np.arange(n) + 0.5,
        "sa_verdict": ["OK"] * n, "sa_prob_0": np.linspace(0, 1, n), "sa_prob_11": np.linspace(1, 0, n),
        "greffon_brix": 66 + np.arange(n) / 10, "greffon_transmittance": 50.0 + np.arange(n),
        "greffon_defaut_severite": SEVERITY[:n], "greffon_defaut_type": [0, 0, "", 11, 5, 13][:n],
        "greffon_limpidite": ["claire"] * n,
    })  # fmt: skip


def channel_frame(channel: str, n: int = 6) -> pd.DataFrame:
    """One excitation's table with `sequence` first."""
    values = pd.DataFrame(spectra(n, seed=int(channel)), columns=[f"{x:g}" for x in FLUORESCENCE_NM])
    return pd.concat([pd.DataFrame({"sequence": KEYS[:n]}), values], axis=1)


def write_original(folder: Path, n: int = 6) -> None:
    """The fluorimeter's set of four files."""
    folder.mkdir(parents=True, exist_ok=True)
    for channel in EXCITATIONS:
        channel_frame(channel, n).to_csv(folder / f"EX_{channel}_2018.txt", sep="\t", index=False)
    known(n).to_csv(folder / "Y_2018.txt", sep="\t", index=False)


def one_table(n: int = 6, lspr: bool = True) -> pd.DataFrame:
    """The same in one table: `277_295 … 425_740`, `lspr_450 …`, then what is known."""
    parts = [channel_frame(c, n).drop(columns="sequence").add_prefix(f"{c}_") for c in EXCITATIONS]
    if lspr:
        parts.append(pd.DataFrame(spectra(n, len(LSPR_NM), 9) / 1e4, columns=[f"lspr_{x:g}" for x in LSPR_NM]))
    return pd.concat([*parts, known(n)], axis=1)


def generic(n: int = 8) -> pd.DataFrame:
    """A small table from elsewhere: label, specimen, positions."""
    values = pd.DataFrame(spectra(n, 30), columns=[f"{1000 + 1.5 * k:g}" for k in range(30)])
    return pd.concat(
        [pd.DataFrame({"class": ["a", "b"] * (n // 2), "specimen": [f"s{k // 2}" for k in range(n)]}), values], axis=1
    )


def full_table() -> SpectraTable:
    """A table with every dtype of `rows` that readers make."""
    n = 5
    rows = pd.DataFrame({
        "sample": [f"p{k}" for k in range(n)], "group": ["a", "a", "b", "", "é, \"c\""], "instrument": ["1"] * n,
        "measured_at": pd.to_datetime(["2020-01-01 10:00", "2020-01-02", None, "2021-05-06 07:08:09.5", ""], format="ISO8601"),
        "severity": ["OK", "VR", "NC", "", "CROCHET"], "defect_type": pd.array([0, 11, None, 4, 5], dtype="Int64"),
        "provenance": ["inspector", "algorithm", "", "", "inspector"], "operator": ["007", "8", "", "x", "y"],
        "turbidity": [0.1, np.nan, 1e-7, 3.0, 1 / 3], "shots": np.arange(n), "checked": [True, False, True, True, False],
    })  # fmt: skip
    rows["measured_at"] = rows["measured_at"].astype("datetime64[ns]")
    values = [spectra(n, 446, k).astype(np.float32) / np.float32(3) for k in range(3)]
    values[1][2, 7] = np.nan
    channels = [Channel(name, FLUORESCENCE_NM, v) for name, v in zip(("425", "277", "380"), values)]
    raman = Channel("raman", np.linspace(100.25, 900, 40), spectra(n, 40, 4).astype(np.float32), "cm⁻¹")
    return SpectraTable((*channels, raman), rows)


# --- sets of files that do not fit together ---------------------------------------------------------------------------
def _other_samples(folder: Path) -> None:
    channel_frame("425", 5).to_csv(folder / "EX_425_2018.txt", sep="\t", index=False)


def _repeated(folder: Path) -> None:
    channel_frame("277").assign(sequence=[*KEYS[:5], KEYS[0]]).to_csv(folder / "EX_277_2018.txt", sep="\t", index=False)


def _short_axis(folder: Path) -> None:
    channel_frame("380").drop(columns=["295", "296"]).to_csv(folder / "EX_380_2018.txt", sep="\t", index=False)


def _twin(folder: Path) -> None:
    (folder / "EX_277_2019.txt").write_bytes((folder / "EX_277_2018.txt").read_bytes())


BAD_SETS: dict[str, tuple[Callable[[Path], None], str]] = {  # what is done to the fluorimeter's files, words of the refusal
    "a channel file missing": (lambda folder: (folder / "EX_425_2018.txt").unlink(), "EX_425….txt: is missing"),
    "a channel of other samples": (_other_samples, "EX_425_2018.txt: lacks 1 samples"),
    "sequence twice": (_repeated, "EX_277_2018.txt: has 1 repeated values of 'sequence'"),
    "a channel of another axis": (_short_axis, "from 297 to 740 nm"),
    "two files of one channel": (_twin, "so does EX_277_2018.txt"),
}


# --- refusals ---------------------------------------------------------------------------------------------------------
def _csv(frame: pd.DataFrame, **how: object) -> bytes:
    return frame.to_csv(index=False, **how).encode()


def _with(cell: str, row: int = 2, column: int = 5) -> bytes:
    frame = generic().astype(object)
    frame.iloc[row, column] = cell
    return _csv(frame)


def _archive(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x")
    return content.getvalue()


BAD_CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "only a header": (_csv(generic().head(0)), "0 rows"),
    "only line ends": (b"\n\n\n", "empty"),
    "a PDF renamed": (b"%PDF-1.7\n1 0 obj", "a PDF"),
    "an Excel workbook": (_archive("[Content_Types].xml"), "Excel workbook"),
    "an old Excel workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel workbook"),
    "an archive": (_archive("a.csv"), "ZIP archive"),
    "a picture": (b"\x89PNG\r\n\x1a\n....", "PNG"),
    "a web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "a pickle": (b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins.", "pickle"),
    "an old pickle": (b"cpandas.core\nDataFrame\n", "pickle"),
    "zero bytes": (b"600,601\n1,2\0\n", "zero bytes"),
    "a sentence": (b"hello\nworld\n", "single column"),
    "no spectra": (b"a,b\n1,2\n3,4\n", "no spectra"),
    "no header": (b"3.5,2.25,7.5\n1.5,2.5,3.5\n", "first row seems to be data"),
    "a word for a number": (_with("broken"), "'broken' in row 4 of column '1004.5'"),
    "an error cell": (_with("#REF!"), "'#REF!'"),
    "decimals mixed": (b"600;601;602\n1,5;2;3\n1.5;2;4\n", "mixes decimal signs"),
    "a short row": (_csv(generic()) + b"a,s9,1,2\n", "4 columns in row 10"),
    "separators mixed": (_csv(generic(4)) + _csv(generic(4), sep=";", header=False), "columns in row 6"),
    "a position twice": (b"600,600.0,601\n1,2,3\n", "position 600"),
    "channel 277 thrice": (_csv(pd.concat([one_table(2, lspr=False).iloc[:, :446]] * 3, axis=1)), "stand more than once"),
    "constant": (b"600,601,602\n5,5,5\n7,7,7\n", "only constant spectra"),
    "all missing": (b"600,601,602\n,,\nNaN,NA,\n", "no value in channel spectrum"),
    "an end missing": (_csv(one_table(2, lspr=False).drop(columns=["277_295", "277_296"])), "from 297 to 740 nm"),
    "a wide gap": (_csv(one_table(2, lspr=False).drop(columns=[f"380_{x}" for x in range(400, 420)])), "between 399 and 420 nm"),
    "sequence twice": (_csv(one_table(3, lspr=False).assign(sequence=["7", "8", "7"])), "repeated values of 'sequence'"),
    "broken parquet": (b"PAR1" + bytes(range(200)), "damaged Parquet"),
    "broken hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "damaged HDF5"),
}


def two_million_columns(path: Path) -> None:
    """A text table whose first line has 2 million names."""
    with path.open("w") as file:
        for first in range(0, 2_000_000, 100_000):
            file.write(",".join(map(str, range(first, first + 100_000))) + ",")
        file.write("2000000\n1,2\n")


def _linked(kind: str) -> Callable[[h5py.File, Path], None]:
    def make(file: h5py.File, folder: Path) -> None:
        secret = folder / "secret.h5"
        with h5py.File(secret, "w") as other:
            other["spectrum"] = np.ones((4, 30))
        (folder / "secret.txt").write_bytes(b"root:x:0:0" * 100)
        file["axis"] = np.arange(30.0)
        if kind == "soft":
            file["hidden"] = np.ones((4, 30))
            file["spectrum"] = h5py.SoftLink("/hidden")
        elif kind == "external":
            file["spectrum"] = h5py.ExternalLink(str(secret), "/spectrum")
        elif kind == "storage":
            file.create_dataset("spectrum", (4, 30), "u1", external=[(str(folder / "secret.txt"), 0, 120)])
        else:
            layout = h5py.VirtualLayout((4, 30), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "spectrum", (4, 30))
            file.create_virtual_dataset("spectrum", layout)

    return make


def _declares(shape: tuple[int, ...], **how: object) -> Callable[[h5py.File, Path], None]:
    def make(file: h5py.File, folder: Path) -> None:
        file.create_dataset("spectrum", shape, "f8", **how)

    return make


def _store(file: h5py.File, folder: Path) -> None:
    file.create_group("table").attrs["pandas_type"] = "frame"


def _holds(**datasets: object) -> Callable[[h5py.File, Path], None]:
    def make(file: h5py.File, folder: Path) -> None:
        for name, values in datasets.items():
            file[name] = values

    return make


def _ring(file: h5py.File, folder: Path) -> None:
    file.create_group("a")["a"] = file["/"]


BAD_HDF5: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "soft link": (_linked("soft"), "link at 'spectrum'"),
    "external link": (_linked("external"), "link at 'spectrum'"),
    "external storage": (_linked("storage"), "in another file"),
    "virtual dataset": (_linked("virtual"), "in another file"),
    "8 GB declared": (_declares((1_000_000, 1000), chunks=(1, 1000)), "declares"),
    "a piece of 1 GB": (_declares((130_000, 1000), chunks=(130_000, 1000)), "pieces of"),
    "a pandas store": (_store, "HDFStore"),
    "no axis": (_holds(spectrum=np.ones((4, 30))), "no axis"),
    "axis of another length": (_holds(spectrum=np.ones((4, 30)), spectrum_axis=np.arange(7.0)), "30 positions"),
    "three dimensions": (_holds(spectrum=np.ones((4, 3, 2))), "shape (4, 3, 2)"),
    "different samples": (_holds(spectrum=np.eye(30)[:4], spectrum_axis=np.arange(30.0), label=np.arange(5)), "5 in 'label'"),
    "no samples": (_holds(spectrum=np.ones((0, 30)), spectrum_axis=np.arange(30.0)), "0 rows"),
    "nothing": (_holds(), "0 rows"),
    "references": (_holds(spectrum=np.array([None], dtype=h5py.ref_dtype)), "where numbers or text"),
    "a ring of groups": (_ring, "nested deeper"),
}  # fmt: skip


def forged_npy() -> bytes:
    """A NumPy header that asks for terabytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
