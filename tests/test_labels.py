"""Label sets: round trip, undo, writes that fail, two sessions at once, agreement."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pandas as pd
import pytest

from lib import labels
from lib.labels import Change, History, LabelSet
from lib.task import InputError

A, B = ("a.cxi", 0), ("a.cxi", 7)


@pytest.fixture
def folder(home: Path) -> Path:
    return labels.create("toy", "mine", "Ana", {"name": "peaks", "parameters": {"min_snr": 5.0}})


def same_points(found: LabelSet, wanted: LabelSet) -> bool:
    """The order of frames in the table tells nothing."""
    order = [*labels.COLUMNS]
    tables = [one.table.sort_values(order).reset_index(drop=True) for one in (found, wanted)]
    return tables[0].equals(tables[1]) and found.done == wanted.done


def test_what_is_written_is_read_again(folder: Path) -> None:
    written = labels.change(folder, [Change(A, added=((1.25, 2.5), (0.1, 0.2))), Change(B, done=True)], "Ben")
    read = labels.load(folder)
    assert same_points(read, written)
    assert read.points(*A).to_numpy().tolist() == [[1.25, 2.5], [0.1, 0.2]]
    assert read.points(*B).empty and read.done == {B}
    assert read.frames() == [A, B]
    assert read.about["by"] == "Ana" and read.about["changed_by"] == "Ben"
    assert read.about["started_from"] == {"name": "peaks", "parameters": {"min_snr": 5.0}}


def test_a_set_lies_under_the_data_folder_and_is_listed(folder: Path, home: Path) -> None:
    assert folder == home / "data" / "toy" / "labels" / "mine"
    assert labels.names("toy") == ["mine"] and labels.names("other") == []


def test_a_set_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no such label set\. There are: mine"):
        labels.load(folder.with_name("nosuch"))
    with pytest.raises(InputError, match="There are no label sets yet"):
        labels.load(labels.folder_of("other") / "nosuch")


@pytest.mark.parametrize("name", ["../up", "", " ", ".hidden", "a/b", "con\n"])
def test_a_name_never_becomes_a_path(home: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        labels.create("toy", name)
    assert not labels.folder_of("toy").exists()


def test_a_name_that_is_taken_is_refused_and_loses_nothing(folder: Path) -> None:
    labels.change(folder, [Change(A, added=((1.0, 2.0),))])
    with pytest.raises(InputError, match="already"):
        labels.create("toy", "mine")
    assert len(labels.load(folder).table) == 1


def test_undo_takes_back_and_redo_does_again() -> None:
    history, start = History(), LabelSet("x")
    steps = [[Change(A, added=((1.0, 1.0),))], [Change(A, added=((2.0, 2.0),), done=True), Change(B, added=((3.0, 3.0),))],
             [Change(A, removed=((1.0, 1.0),))]]  # fmt: skip
    states = [start]
    for step in steps:
        history.did(step)
        states.append(states[-1].changed(step))
    now = states[-1]
    for wanted in reversed(states[:-1]):
        now = now.changed(history.undo())
        assert same_points(now, wanted)
    assert history.undo() == []
    for wanted in states[1:]:
        now = now.changed(history.redo())
        assert same_points(now, wanted)
    assert history.redo() == []


def test_what_was_typed_of_the_instrument_is_kept_with_each_file(folder: Path) -> None:
    labels.change(folder, [Change(A, added=((1.0, 2.0),)), Change(B, done=True)], acquisition={"distance_mm": 90.0})
    labels.change(folder, [Change(A, done=True)])
    assert labels.load(folder).acquisitions == {A[0]: {"distance_mm": 90.0}, B[0]: {"distance_mm": 90.0}}
    written = labels.change(folder, [Change(B, done=False)], acquisition={})
    assert written.acquisitions[B[0]] == {} and labels.load(folder).acquisitions == written.acquisitions


def test_a_set_from_before_nobody_noted_the_instrument_is_read(folder: Path) -> None:
    labels.change(folder, [Change(A, added=((1.0, 2.0),))])
    about = json.loads((folder / "labels.json").read_text())
    del about["acquisitions"]
    (folder / "labels.json").write_text(json.dumps(about))
    assert labels.load(folder).acquisitions == {} and len(labels.load(folder).table) == 1


def test_a_new_step_ends_what_could_be_redone() -> None:
    history = History()
    history.did([Change(A, done=True)])
    history.undo()
    history.did([Change(B, done=True)])
    assert history.redo() == []


def test_a_point_is_there_once_and_an_absent_one_cannot_go() -> None:
    twice = LabelSet("x").changed([Change(A, added=((1.0, 1.0),)), Change(A, added=((1.0, 1.0),))])
    assert len(twice.table) == 1
    assert same_points(twice.changed([Change(A, removed=((9.0, 9.0),))]), twice)


def test_a_write_that_fails_leaves_the_set_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = labels.change(folder, [Change(A, added=((1.0, 2.0),))])

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(labels, "write_json", full)
        with pytest.raises(InputError, match="No space left"):
            labels.change(folder, [Change(A, added=((5.0, 6.0),))])
    assert same_points(labels.load(folder), before)
    labels.change(folder, [Change(A, added=((7.0, 8.0),))])
    assert len(labels.load(folder).table) == 2


def test_old_points_do_not_pile_up(folder: Path) -> None:
    for step in range(6):
        labels.change(folder, [Change(A, added=((float(step), 0.0),))])
    assert len(list(folder.glob("points-*.parquet"))) <= 2


def test_two_sessions_lose_nothing_of_each_other(folder: Path) -> None:
    def work(session: int) -> None:
        for step in range(8):
            labels.change(folder, [Change(A, added=((float(session), float(step)),))])

    threads = [threading.Thread(target=work, args=(session,)) for session in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = set(labels.load(folder).points(*A).itertuples(index=False, name=None))
    assert found == {(float(session), float(step)) for session in (1, 2) for step in range(8)}


def test_a_lock_left_behind_is_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".lock").touch()
    monkeypatch.setattr(labels, "LOCK_STALE_S", -1.0)
    assert len(labels.change(folder, [Change(A, added=((1.0, 2.0),))]).table) == 1
    assert not (folder / ".lock").exists()


def test_a_set_that_another_session_holds_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".lock").touch()
    monkeypatch.setattr(labels, "LOCK_WAIT_S", 0.0)
    with pytest.raises(InputError, match="another session"):
        labels.change(folder, [Change(A, added=((1.0, 2.0),))])
    assert (folder / ".lock").exists() and labels.load(folder).table.empty


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", '{"format": "else"}', '{"format": "lightbench-labels", "version": 1}',
                '{"format": "lightbench-labels", "version": 1, "points": "../../x.parquet", "done": {}, "revision": 0}',
                '{"format": "lightbench-labels", "version": 1, "points": 3, "done": {}, "revision": 0}'],
)  # fmt: skip
def test_a_damaged_set_is_a_sentence_that_names_it(folder: Path, content: str) -> None:
    (folder / "labels.json").write_text(content)
    with pytest.raises(InputError, match="label set mine"):
        labels.load(folder)


def test_points_that_are_no_table_are_a_sentence(folder: Path) -> None:
    (folder / json.loads((folder / "labels.json").read_text())["points"]).write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        labels.load(folder)


def test_csv_has_every_point_and_the_empty_frames_that_are_done(folder: Path, tmp_path: Path) -> None:
    labels.change(folder, [Change(A, added=((1.0, 2.0),)), Change(B, done=True)])
    (tmp_path / "x.csv").write_text(labels.load(folder).to_csv())
    table = pd.read_csv(tmp_path / "x.csv")
    assert list(table.columns) == ["file", "frame", "y_px", "x_px", "done"]
    assert table["frame"].tolist() == [0, 7] and table["done"].tolist() == [False, True]
    assert table["y_px"].isna().tolist() == [False, True]


def exactly(found: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, float]:
    a, b = (set(one.itertuples(index=False, name=None)) for one in (found, wanted))
    return {"n_common": len(a & b), "n_only_found": len(a - b), "n_only_wanted": len(b - a)}


def test_agreement_counts_frames_done_in_both() -> None:
    one = LabelSet("one").changed([Change(A, ((1.0, 1.0), (2.0, 2.0)), done=True), Change(B, ((5.0, 5.0),))])
    two = LabelSet("two").changed(
        [Change(A, ((1.0, 1.0), (3.0, 3.0), (4.0, 4.0)), done=True), Change(B, ((6.0, 6.0),), done=True)]
    )
    counts = labels.agreement(one, two, exactly)
    assert counts.to_dict("records") == [{"file": "a.cxi", "frame": 0, "n_common": 1, "n_only_found": 1, "n_only_wanted": 2}]
    sums = labels.totals(counts)
    assert (sums["precision"], sums["recall"]) == (1 / 2, 1 / 3)
    assert sums["f1"] == pytest.approx(2 / (2 + 3))


def test_agreement_with_itself_is_perfect_and_that_of_nothing_is_not_wrong() -> None:
    one = LabelSet("one").changed([Change(A, ((1.0, 1.0),))])
    assert labels.totals(labels.agreement(one, one, exactly))["f1"] == 1
    empty = LabelSet("empty").changed([Change(A, done=True)])
    assert labels.totals(labels.agreement(empty, empty, exactly))["f1"] == 1


def test_frames_without_a_number_are_counted_within_their_file() -> None:
    assert labels.places(pd.DataFrame({"file": ["a", "b", "a"]})) == [("a", 0), ("b", 0), ("a", 1)]
    assert labels.places(pd.DataFrame({"file": ["a", "a"], "frame": [5, 9]})) == [("a", 5), ("a", 9)]
