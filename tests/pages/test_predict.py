"""The Predict page: sample, uploads, folders, bad files among good ones, models, cancel."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import uploads
from lib.task import InputError, Task
from lib.ui import files
from lib.ui.columns import heading, value_columns
from lib.ui.context import plain
from lib.ui.predict import states
from lib.ui.work import Work, start
from tests.pages.conftest import Open, figures, texts
from tests.pages.fake_worker import PAYLOADS, FakeWorker

GO, SAMPLE, UPLOAD = "toy-predict-go", "toy-predict-sample", "toy-predict-upload"


def npy(values) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype=float))
    return buffer.getvalue()


def asked(op: str) -> list[dict]:
    return [payload for name, payload in PAYLOADS if name == op]


def test_without_a_model_it_says_what_to_do(open_page: Open):
    page = open_page("predict")
    assert not page.exception
    assert "Train one first" in texts(page)
    assert not asked("predict")


def test_sample_needs_no_upload(open_page: Open, models):
    page = open_page("predict")
    assert "Choose files and press" in texts(page)
    assert page.button(key=GO).disabled
    page.button(key=SAMPLE).click().run()
    assert not page.exception and not page.error
    assert len(page.dataframe[0].value) == 4
    assert len(figures(page)) == 1
    assert [button.label for button in page.get("download_button")] == ["Download everything", "Table as CSV"]
    assert asked("predict")[0]["run"] == "shipped-toy"


def test_sample_link_runs_once(open_page: Open, models):
    page = open_page("predict", sample="1")
    assert len(asked("predict")) == 1
    page.run()
    assert len(asked("predict")) == 1
    assert len(page.dataframe[0].value) == 4


def test_single_upload_shows_the_value_with_its_interval(open_page: Open, models, toy: Task, monkeypatch):
    monkeypatch.setattr(type(toy), "labels", {"mean_v": ("Mean", "V")})
    page = open_page("predict")
    page.file_uploader(key=UPLOAD).upload("one.npy", npy([2.0] * 8)).run()
    page.button(key=GO).click().run()
    assert page.header[0].value == "2.00 V"
    assert "1.90 – 2.10 V" in texts(page)
    assert "one.npy" in texts(page)


def test_bad_file_is_named_and_the_rest_goes_on(open_page: Open, models):
    page = open_page("predict")
    uploads = [("ok.npy", npy([1.0] * 8), ""), ("bad <b>$x$.npy", b"nothing", ""), ("wrong.npy", npy([1.0] * 5), "")]
    page.file_uploader(key=UPLOAD).set_value(uploads).run()
    page.button(key=GO).click().run()
    assert len(page.error) == 2
    assert plain("bad <b>$x$.npy") in page.error[0].value
    assert "(1, 5)" in page.error[1].value
    assert page.header[0].value.startswith("1.00")
    table = page.dataframe[0].value
    assert list(table["file"]) == ["ok.npy", "bad <b>$x$.npy", "wrong.npy"]


def test_result_stays_until_replaced(open_page: Open, models):
    page = open_page("predict")
    page.button(key=SAMPLE).click().run()
    page.file_uploader(key=UPLOAD).upload("bad.npy", b"nothing").run()
    assert len(page.dataframe[0].value) == 4
    page.button(key=GO).click().run()
    assert "bad.npy" in page.error[0].value
    assert not page.header


def test_outside_the_training_range_is_marked(open_page: Open, models):
    page = open_page("predict")
    page.file_uploader(key=UPLOAD).upload("far.npy", npy([500.0] * 8)).run()
    page.button(key=GO).click().run()
    assert "Outside what the model was trained for" in page.warning[0].value


def test_acquisition_goes_to_the_worker_and_the_command(open_page: Open, models):
    page = open_page("predict")
    page.number_input(key="toy-acquisition.offset_v").set_value(0.5).run()
    page.button(key=SAMPLE).click().run()
    assert asked("predict")[0]["acquisition"] == {"offset_v": 0.5}
    command = page.code[-1].value
    assert command.startswith("python -m lib predict toy --input ") and command.endswith("--set offset_v=0.5")


def test_a_setting_beyond_its_bounds_is_told_and_nothing_is_predicted(open_page: Open, models):
    page = open_page("predict")
    page.file_uploader(key=UPLOAD).upload("one.npy", npy([2.0] * 8)).run()
    page.number_input(key="toy-acquisition.offset_v").set_value(-30.0).run()
    assert "offset_v = -30.0" in page.error[0].value.replace("\\", "")
    assert "Mend the instrument settings" in texts(page)
    assert page.button(key=GO).disabled and page.button(key=SAMPLE).disabled
    page.number_input(key="toy-acquisition.offset_v").set_value(-3.0).run()
    assert not page.error and not page.button(key=GO).disabled


def test_model_of_the_address_is_chosen(open_page: Open, models):
    page = open_page("predict", run=models[1])
    assert page.selectbox(key="toy-predict-run").value == models[1]
    page.selectbox(key="toy-predict-run").set_value(models[0]).run()
    assert page.selectbox(key="toy-predict-run").value == models[0]


def test_unknown_model_of_the_address_is_a_sentence(open_page: Open, models):
    page = open_page("predict", run="gone-1234")
    assert "gone-1234" in page.warning[0].value
    assert page.selectbox(key="toy-predict-run").value == "shipped-toy"


def test_folder_under_data(open_page: Open, models, readings: Path):
    page = open_page("predict", {"toy-predict-where": files.FOLDER, "toy-predict-folder": "toy/set one"})
    page.button(key=GO).click().run()
    names = [Path(file["path"]).name for file in asked("predict")[0]["files"]]
    assert names == ["bad $x$ *y*.npy", "r0.npy", "r1.npy", "r2.npy", "r3.npy", "r4.npy"]
    assert len(page.error) == 1


def test_crash_of_the_worker_is_a_sentence(open_page: Open, models, monkeypatch):
    def died(*_):
        raise InputError("the worker", "it ended", "Try again.")

    monkeypatch.setattr(FakeWorker, "_predict", died)
    page = open_page("predict")
    page.button(key=SAMPLE).click().run()
    assert not page.exception
    assert page.error[0].value == plain("the worker: it ended. Try again.")
    assert not page.button(key=SAMPLE).disabled


# --- files -----------------------------------------------------------------------------------------------------------
class Upload:
    def __init__(self, name: str, content: bytes = b"x") -> None:
        self.name, self.content = name, content

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


def test_uploaded_names_never_become_paths():
    names = ["../../etc/passwd", "C:\\x\\y.tif", "a b 'c\".TIF", "ünï→.tif", "x.tif/../../y", "a.tif", "a.tif", ".."]
    source = files.uploaded([Upload(name) for name in names])
    folder = Path(source.kept_by.name)
    assert [path.parent for path, _ in source.files] == [folder] * len(names)
    assert [path.name for path, _ in source.files] == [
        "0001.bin", "0002.tif", "0003.tif", "0004.tif", "0005.bin", "0006.tif", "0007.tif", "0008.bin",
    ]  # fmt: skip
    assert [name for _, name in source.files] == [*names[:6], "a (2).tif", ".."]


def test_private_folder_goes_with_its_source():
    source = files.uploaded([Upload("a.tif")])
    folder = Path(source.kept_by.name)
    assert folder.is_dir()
    del source
    assert not folder.exists()


@pytest.mark.parametrize("text", ["..", "../..", "/etc", "toy/../../x", "a\0b", "escape"])
def test_path_that_leaves_data_is_refused(toy: Task, home: Path, text: str):
    (home / "data" / "toy").mkdir(parents=True)
    (home / "secret").mkdir()
    (home / "secret" / "a.npy").write_bytes(b"")
    (home / "data" / "escape").symlink_to(home / "secret")
    with pytest.raises(InputError, match="not inside data/"):
        files.in_data(toy, text)


def test_link_out_of_data_is_left_out_and_said(toy: Task, readings: Path, home: Path):
    (home / "secret.npy").write_bytes(npy([1.0] * 8))
    (readings / "link.npy").symlink_to(home / "secret.npy")
    source = files.in_data(toy, "toy")
    assert not any(path.name == "link.npy" for path, _ in source.files)
    assert "1 links that leave data/" in source.remark


@pytest.mark.parametrize(("text", "why"), [("nowhere", "no such folder"), ("toy/empty", "holds no .npy")])
def test_useless_folder_is_a_sentence(toy: Task, home: Path, text: str, why: str):
    (home / "data" / "toy" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match=why):
        files.in_data(toy, text)


def test_folders_list_the_tasks_own_first(toy: Task, readings: Path, home: Path):
    (home / "data" / "another").mkdir()
    (home / "data" / "another" / "x.npy").write_bytes(b"")
    (home / "data" / "empty").mkdir()
    assert files.folders(toy) == {"toy": 6, "toy/set one": 6, "another": 1}


def test_masks_that_were_drawn_here_are_no_files_of_the_user(toy: Task, readings: Path, home: Path):
    before = files.in_data(toy, "toy").files
    for folder in (home / "data" / "toy" / "masks", home / "data" / "toy" / "set one" / "masks"):
        folder.mkdir()
        (folder / "drawn.npy").write_bytes(npy([1.0] * 8))
    found = [name for _, name in files.in_data(toy, "toy").files if name not in {name for _, name in before}]
    assert found == ["toy/set one/masks/drawn.npy"], "a folder of that name elsewhere is the user's"
    assert "toy/masks" not in files.folders(toy)


def test_archive_names_are_plain_and_unlike():
    given = ["../../a.tif", "b/a.tif", "A.TIF", "x<y>|z.tif", "..", "ü β.tif"]
    safe = uploads.archive_names(given)
    assert safe == ["a.tif", "a-2.tif", "A-3.TIF", "x_y__z.tif", "file", "ü β.tif"]
    with zipfile.ZipFile(io.BytesIO(files.zip_files((name, b"") for name in safe))) as archive:
        assert archive.testzip() is None


# --- work and tables -------------------------------------------------------------------------------------------------
def test_long_work_shows_progress_and_stops(toy: Task):
    class Slow:
        def request(self, op, payload, on_progress=None, stop=None):
            on_progress(0.25, "1 of 4")
            if stop.wait(20):
                raise InputError("the worker", "it was stopped as asked", "Start again when you like.")
            return {}

    work = start(Slow(), "predict", {}, "prediction")
    assert not work.ended.wait(0.2)
    assert work.caption().startswith("1 of 4 · 25%")
    work.stop.set()
    assert work.ended.wait(10)
    assert work.value is None and work.error is not None


def test_time_left_follows_the_pace():
    work = Work("x", started=time.monotonic() - 30, fraction=0.25)
    assert work.eta_s() == pytest.approx(90, rel=0.01)
    assert Work("x").eta_s() is None


def test_unexpected_failure_of_a_request_is_a_sentence():
    class Broken:
        def request(self, *_, **__):
            raise RuntimeError("boom")

    work = start(Broken(), "predict", {}, "prediction of a.tif")
    assert work.ended.wait(10)
    assert "prediction of a.tif: it stopped unexpectedly (RuntimeError)" in str(work.error)


def test_running_prediction_blocks_the_button_and_can_be_cancelled(open_page: Open, models, monkeypatch):
    monkeypatch.setattr("lib.ui.work.AT_ONCE_S", 0)
    gate = threading.Event()
    answer = FakeWorker._predict
    monkeypatch.setattr(FakeWorker, "_predict", lambda self, payload: gate.wait(20) and answer(self, payload))
    page = open_page("predict")
    page.button(key=SAMPLE).click().run()
    assert page.button(key=SAMPLE).disabled
    page.button(key="toy-predict-work-cancel").click().run()
    assert page.session_state["toy-predict-work"].stop.is_set()
    gate.set()
    assert page.session_state["toy-predict-work"].ended.wait(10)


def test_states_of_rows():
    table = pd.DataFrame({"in_domain": [True, "False", None], "note": ["", "far", "error: it is broken"]})
    assert list(states(table)) == ["ok", "outside", "failed"]


def test_columns_with_an_interval_and_their_headings(toy: Task, monkeypatch):
    monkeypatch.setattr(type(toy), "labels", {"mean_v": ("Mean", "V")})
    assert value_columns(toy.prediction_columns()) == ["mean_v"]
    assert [heading(toy, c) for c in ("mean_v", "mean_v_lo", "median_v")] == ["Mean (V)", "Mean, low (V)", "median_v"]
