"""Where a table may lead: anywhere for somebody at the command line, nowhere but data/ and the files given for a browser."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib import serve
from lib.disk import for_browser, within_reach
from lib.task import InputError, Samples
from lib.tasks.reflectance import files
from lib.tasks.reflectance.settings import Acquisition
from tests.reflectance.bad_pictures import micrograph, write_png

ROW = "," + ",".join(["0.5"] * 10) + "\n"


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """The private folder of an upload: a table and one picture that it names."""
    folder = tmp_path / "upload"
    write_png(folder / "0002.png", 1)
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return write_png(tmp_path / "elsewhere" / "secret.png", 2)


def table_of(folder: Path, *names: str) -> Path:
    table = folder / "0001.csv"
    table.write_text("".join(name + ROW for name in names))
    return table


def read(table: Path, image_folder: str = "") -> Samples:
    given = [(table, "targets.csv"), (table.parent / "0002.png", "mine.png")]
    return files.read_bundle(given, Acquisition(image_folder=image_folder))


def test_an_uploaded_table_leads_nowhere_else(home: Path, upload: Path, secret: Path) -> None:
    (upload / "link.png").symlink_to(secret)
    (upload / "x").mkdir()
    ways = (str(secret), "../elsewhere/secret.png", "x/../../elsewhere/secret.png", "link.png", "/gone/secret.png")
    for way in ways:
        table = table_of(upload, "mine.png", way)
        if way != "/gone/secret.png":
            assert len(read(table)) == 2, way  # at the command line the table may lead there
        with for_browser():
            samples = read(table)
        assert list(samples.table["image"]) == ["mine.png"], way
        (told,) = [str(remark) for _, remark in samples.remarks if "missing" in remark]
        assert told.endswith(f"missing: {way} (is not among the files given, and its path leads out of data/)")


def test_what_is_there_and_what_is_not_are_refused_alike(home: Path, upload: Path, secret: Path) -> None:
    """Nobody learns by a table which files a machine has."""
    told = []
    for name in ("secret", "nobody"):
        with for_browser():
            samples = read(table_of(upload, "mine.png", str(secret.with_name(f"{name}.png"))))
        told.append([remark.replace(name, "…") for _, remark in samples.remarks])
    assert told[0] == told[1]


def test_an_image_folder_of_a_browser_is_one_under_data(home: Path, upload: Path, secret: Path, tmp_path: Path) -> None:
    write_png(home / "data" / "lab" / "deep" / "there.png", 3)
    (home / "data" / "way-out").symlink_to(secret.parent, target_is_directory=True)
    table = table_of(upload, "mine.png", "deep/there.png", "secret.png")
    with for_browser():
        np.testing.assert_array_equal(read(table, "lab").inputs["image"], [micrograph(1), micrograph(3)])
        for folder in (str(secret.parent), f"../{tmp_path.name}/elsewhere", "../../elsewhere", "way-out"):
            with pytest.raises(InputError, match=r"leads out of data/.*Name a folder under data/"):
                read(table, folder)
    assert list(read(table, str(secret.parent)).table["image"]) == ["mine.png", "secret.png"]


def test_an_image_folder_at_the_command_line_may_lie_where_one_stands(
    home: Path, upload: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(secret.parent.parent)
    table = table_of(upload, "secret.png")
    np.testing.assert_array_equal(read(table, "elsewhere").inputs["image"], [micrograph(2)])
    with for_browser(), pytest.raises(InputError, match=r"pictures of the table are missing"):
        read(table, "elsewhere")  # under data/ there is none of that name


def test_the_worker_reads_for_a_browser(home: Path, upload: Path, secret: Path) -> None:
    def inspect(image_folder: str = "") -> dict[str, Any]:
        replies = io.StringIO()
        sources = [{"path": str(table), "name": "targets.csv"}, {"path": str(upload / "0002.png"), "name": "mine.png"}]
        payload = {"task": "reflectance", "files": sources, "acquisition": {"image_folder": image_folder},
                   "output": str(upload / "out")}  # fmt: skip
        serve.answer(json.dumps({"id": 1, "op": "inspect", "payload": payload}), replies)
        reply: dict[str, Any] = json.loads(replies.getvalue().splitlines()[-1])
        return reply

    table = table_of(upload, "mine.png", str(secret))
    assert inspect()["value"]["n"] == 1
    refused = inspect(str(secret.parent))["value"]
    assert refused["n"] == 0 and "leads out of data/" in refused["failures"][0]["error"]
    assert within_reach(secret)  # once answered, the process is its owner's again


def test_names_that_no_file_can_have_are_missing(home: Path, upload: Path) -> None:
    ring = upload / "ring.png"
    ring.symlink_to(ring)
    with for_browser():
        samples = read(table_of(upload, "mine.png", "ring.png", "x" * 5000 + ".png"))
    assert list(samples.table["image"]) == ["mine.png"]
