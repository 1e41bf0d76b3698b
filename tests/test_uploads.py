"""Files, folders and archives from users: what is good is found, what is bad is told, nothing is unpacked outside."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from lib import labels
from lib.task import InputError
from lib.uploads import Expansion, Limits, clean_name, expand, unzip

SUFFIXES = (".npy",)
SMALL = Limits(entries=20, total_bytes=100_000, file_bytes=50_000, ratio=50, ratio_from_bytes=10_000)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


def make_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def names(found: Expansion) -> list[str]:
    return [name for _, name in found.files]


def everything_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_files_named_directly_are_taken_whatever_their_ending(tmp_path: Path, target: Path):
    path = tmp_path / "clip.weird"
    path.write_bytes(b"1")
    found = expand([path, (path, "shown: ü 'a' \"b\".npy")], SUFFIXES, target)
    assert found.files == [(path, "clip.weird"), (path, "shown: ü 'a' \"b\".npy")]
    assert not found.failures


def test_a_folder_gives_its_files_of_the_task_in_order_and_reports_the_rest(tmp_path: Path, target: Path):
    folder = tmp_path / "day 1"
    for name in ("b.NPY", "sub/a.npy", "notes.txt", ".hidden.npy", "__MACOSX/x.npy", "a b.npy"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")
    found = expand([folder], SUFFIXES, target)
    assert names(found) == ["a b.npy", "b.NPY", "sub/a.npy"]
    assert [name for name, _ in found.skipped] == ["notes.txt"]
    assert not found.failures


def test_true_values_beside_simulated_files_are_passed_over_but_not_taken_away_alone(tmp_path: Path, target: Path):
    folder, suffixes = tmp_path / "sim", (".npy", ".csv")
    folder.mkdir()
    for name in ("a.npy", "truth.csv"):
        (folder / name).write_bytes(b"1")
    archive = make_zip(tmp_path / "b.zip", {"x/1.npy": b"one", "x/truth.csv": b"t"})
    for number, sources in enumerate(([folder], [archive], [folder / "a.npy", folder / "truth.csv"])):
        (target / str(number)).mkdir()
        found = expand(sources, suffixes, target / str(number))
        assert len(found.files) == 1 and not found.failures
        ((name, reason),) = found.skipped
        assert name.endswith("truth.csv") and "true values" in reason
    (target / "alone").mkdir()
    assert names(expand([folder / "truth.csv"], suffixes, target / "alone")) == ["truth.csv"]


def test_masks_and_label_sets_of_the_pages_are_no_samples_unless_they_are_named(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    own = tmp_path / "data" / "dots"
    marked = labels.create("dots", "mine")
    drawn, named = own / "masks" / "drawn.npy", marked / "points.npy"
    theirs = [own / "run" / "a.npy", own / "run" / "masks" / "b.npy", own / "labels" / "c.npy", own / "labels" / "odd" / "d.npy"]
    for path in (drawn, named, *theirs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    for folder in (own, own.parent):
        found = expand([folder], SUFFIXES, target)
        assert {path for path, _ in found.files} == {*theirs}, "folders that are only called so are the user's"
        assert not found.failures
    for source in (drawn, drawn.parent, named, marked):
        assert [path.parent for path, _ in expand([source], SUFFIXES, target).files] in ([drawn.parent], [marked])
    (tmp_path / "data" / "toy" / "masks").mkdir(parents=True)
    assert "holds no .npy file" in expand([tmp_path / "data" / "toy"], SUFFIXES, target).failures[0][1]


def test_missing_paths_and_empty_folders_are_told_and_the_rest_goes_on(tmp_path: Path, target: Path):
    good = tmp_path / "good.npy"
    good.write_bytes(b"1")
    (tmp_path / "empty").mkdir()
    found = expand([tmp_path / "absent.npy", tmp_path / "empty", good], SUFFIXES, target)
    assert names(found) == ["good.npy"]
    assert [name for name, _ in found.failures] == ["absent.npy", "empty"]
    assert "no such file" in found.failures[0][1]
    assert ".npy" in found.failures[1][1]


def test_an_archive_gives_its_files_with_their_content(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "a.zip", {"x/1.npy": b"one", "ünï 'q'.npy": b"two", "readme.txt": b"", "__MACOSX/1.npy": b"-"})
    found = expand([archive], SUFFIXES, target)
    assert [(path.read_bytes(), name) for path, name in found.files] == [(b"one", "x/1.npy"), (b"two", "ünï 'q'.npy")]
    assert [name for name, _ in found.skipped] == ["readme.txt"]
    assert all(path.parent.parent == target for path, _ in found.files)


@pytest.mark.parametrize(
    "name", ["../evil.npy", "/etc/evil.npy", "a/../../evil.npy", "C:/evil.npy", "..\\evil.npy", "C:\\evil.npy"]
)
def test_a_name_that_leads_out_is_refused_and_the_good_one_goes_on(tmp_path: Path, target: Path, name: str):
    before = everything_below(tmp_path)
    archive = make_zip(tmp_path / "a.zip", {name: b"evil", "good.npy": b"good"})
    found = expand([archive], SUFFIXES, target)
    assert names(found) == ["good.npy"]
    assert found.failures[0][0] == name
    assert "leads out" in found.failures[0][1]
    assert everything_below(tmp_path) - before == {archive, found.files[0][0]}


def test_a_link_in_an_archive_is_refused(tmp_path: Path, target: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.npy")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.npy", b"good")
    found = expand([path], SUFFIXES, target)
    assert names(found) == ["good.npy"]
    assert "link" in found.failures[0][1]


def test_an_archive_in_an_archive_is_reported_not_opened(tmp_path: Path, target: Path):
    inner = make_zip(tmp_path / "inner.zip", {"1.npy": b"1"}).read_bytes()
    found = expand([make_zip(tmp_path / "a.zip", {"inner.zip": inner, "2.npy": b"2"})], SUFFIXES, target)
    assert names(found) == ["2.npy"]
    assert [name for name, _ in found.skipped] == ["inner.zip"]
    assert "not opened" in found.skipped[0][1]


def test_an_empty_archive_is_an_input_error(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "empty.zip", {})
    with pytest.raises(InputError, match=r"empty\.zip: the archive is empty"):
        unzip(archive, "empty.zip", SUFFIXES, target, Expansion())
    assert expand([archive], SUFFIXES, target).failures[0][0] == "empty.zip"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not an archive", b"\x00" * 100])
def test_what_is_no_archive_is_told(tmp_path: Path, target: Path, content: bytes):
    path = tmp_path / "broken.zip"
    path.write_bytes(content)
    found = expand([path], SUFFIXES, target)
    assert [name for name, _ in found.failures] == ["broken.zip"]
    assert "not a readable ZIP" in found.failures[0][1]


def test_a_damaged_entry_is_told_and_the_good_one_goes_on(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "a.zip", {"bad.npy": b"CONTENT-ONE", "good.npy": b"good"})
    archive.write_bytes(archive.read_bytes().replace(b"CONTENT-ONE", b"CONTENT-TWO"))
    found = expand([archive], SUFFIXES, target)
    assert names(found) == ["good.npy"]
    assert found.failures[0][0] == "bad.npy"
    assert everything_below(target) == {found.files[0][0]}


def test_an_encrypted_entry_is_told(tmp_path: Path, target: Path):
    path = make_zip(tmp_path / "a.zip", {"secret.npy": b"secret", "good.npy": b"good"})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(content)
    found = expand([path], SUFFIXES, target)
    assert names(found) == ["good.npy"]
    assert "encrypted" in found.failures[0][1]


def test_too_many_entries_are_refused_as_a_whole(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "a.zip", {f"{i}.npy": b"" for i in range(21)})
    found = expand([archive], SUFFIXES, target, SMALL)
    assert not found.files
    assert "21 entries" in found.failures[0][1]


def test_too_much_in_sum_is_refused_before_anything_is_unpacked(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "a.zip", {f"{i}.npy": os.urandom(40_000) for i in range(3)})
    found = expand([archive], SUFFIXES, target, SMALL)
    assert not found.files
    assert "120 kB" in found.failures[0][1]
    assert not everything_below(target)


def test_one_file_too_large_is_refused_and_the_rest_goes_on(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "a.zip", {"large.npy": os.urandom(60_000), "good.npy": b"good"})
    found = expand([archive], SUFFIXES, target, SMALL)
    assert names(found) == ["good.npy"]
    assert "60 kB" in found.failures[0][1]


def test_a_bomb_is_refused_and_the_rest_goes_on(tmp_path: Path, target: Path):
    archive = make_zip(tmp_path / "a.zip", {"bomb.npy": bytes(45_000), "good.npy": b"good"}, zipfile.ZIP_DEFLATED)
    found = expand([archive], SUFFIXES, target, SMALL)
    assert names(found) == ["good.npy"]
    assert "bomb" in found.failures[0][1]


def test_a_forged_size_does_not_get_past_the_limits(tmp_path: Path, target: Path):
    """The directory says 10 bytes; what is unpacked never exceeds that, and the entry is told."""
    path = make_zip(tmp_path / "a.zip", {"bomb.npy": bytes(45_000), "good.npy": b"good"}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes().replace(struct.pack("<L", 45_000), struct.pack("<L", 10))
    path.write_bytes(content)
    found = expand([path], SUFFIXES, target, SMALL)
    assert names(found) == ["good.npy"]
    assert found.failures[0][0] == "bomb.npy"
    assert sum(file.stat().st_size for file in everything_below(target)) == 4


def test_files_of_the_same_name_are_told_apart(tmp_path: Path, target: Path):
    archives = [make_zip(tmp_path / f"{day}.zip", {"1.npy": day.encode()}) for day in ("mon", "tue")]
    found = expand(archives, SUFFIXES, target)
    assert [(path.read_bytes(), name) for path, name in found.files] == [(b"mon", "1.npy"), (b"tue", "1.npy (2)")]


def test_names_are_shown_without_control_characters():
    assert clean_name("a\nb\x00c\x1b[31m.npy") == "a?b?c?[31m.npy"
    assert clean_name(os.fsdecode(b"\xff.npy")).encode() == b"?.npy"
    assert clean_name("µm² 'x' \"y\" ../z.npy") == "µm² 'x' \"y\" ../z.npy"


def test_a_name_is_never_used_as_a_path(tmp_path: Path, target: Path):
    path = tmp_path / "0001.bin"
    path.write_bytes(make_zip(tmp_path / "inner", {"1.npy": b"1"}).read_bytes())
    found = expand([(path, "../../../etc/x.zip")], SUFFIXES, target)
    assert names(found) == ["1.npy"]
    assert found.files[0][0].is_relative_to(target)
