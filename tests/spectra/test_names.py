"""The original's file names: its own examples, and every name we can write, read back."""

from __future__ import annotations

import math
import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.task import InputError
from lib.tasks.spectra import TASK, names
from lib.tasks.spectra.names import ModelName, Validation
from lib.tasks.spectra.settings import GRADIENT_FREE, Training

PLAIN = ModelName("ResNetV2", "OVA", "OK", ("277", "380", "425"), ("da",), 0, 20, 42, 0.1)
CHECKPOINT = (
    "ResNetV2 y=['OVA', 'OK'] c=('277', '380', '425') t=('da',) 0-20 s=42 eps=0.0"
    "_val_loss=3.696E-01_val_f1=0.8394_val_acc=0.8394.ckpt"
)


def test_the_example_of_the_design() -> None:
    assert names.parse(names.EXAMPLE) == PLAIN
    assert names.write(PLAIN) == names.EXAMPLE


def test_a_checkpoint_of_the_original() -> None:
    found = names.parse(CHECKPOINT)
    assert found == replace(PLAIN, smoothing=0.0, validation=Validation(0.3696, 0.8394, 0.8394))
    assert names.write(found, ".ckpt") == CHECKPOINT


def test_one_channel_no_transform_no_seed_fine_smoothing() -> None:
    name = replace(PLAIN, of="OK+11+5", kind="AVA", channels=("lspr",), transforms=None, seed=None, smoothing=0.05)
    text = names.write(name, "")
    assert text == "ResNetV2 y=['AVA', 'OK+11+5'] c=('lspr',) t=None 0-20 s=None eps=0.05"
    assert names.parse(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "", "model.onnx", names.EXAMPLE + "x", names.EXAMPLE.replace("0-20", "20-20"), names.EXAMPLE.replace("'OVA', ", ""),
        names.EXAMPLE.replace("('da',)", "(__import__('os'),)"), names.EXAMPLE.replace("eps=0.1", "eps=1.1"),
        names.EXAMPLE.replace("'380'", "'277'"), names.EXAMPLE.replace("OK", "../x"), names.EXAMPLE.replace("s=42", "s=-1"),
    ],
)  # fmt: skip
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        names.parse(text)


@pytest.mark.parametrize(
    "change",
    [
        {"model": " VGG"}, {"model": "a y=[b"}, {"of": "a/b"}, {"of": ""}, {"channels": ()}, {"channels": ("1", "1")},
        {"seed": -1}, {"current_split": 20}, {"smoothing": math.nan}, {"transforms": ("it's",)},
        {"validation": Validation(-1, 0, 0)},
    ],
)  # fmt: skip
def test_fields_that_fit_no_name_are_refused(change: dict) -> None:
    with pytest.raises(InputError):
        replace(PLAIN, **change)


def test_endings_and_length() -> None:
    assert all(names.parse(names.write(PLAIN, ending)) == PLAIN for ending in names.ENDINGS)
    with pytest.raises(ValueError, match="ending"):
        names.write(PLAIN, ".exe")
    with pytest.raises(InputError, match="longer than 255"):
        names.write(replace(PLAIN, model="é" * 120))


WORD = st.text(string.ascii_letters + string.digits + " +-_.,()[]=éà&~", min_size=1, max_size=12)
SHARE = st.integers(0, 10_000).map(lambda k: k / 10_000)


@settings(max_examples=150, deadline=None, database=None)
@given(
    model=WORD.map(str.strip).filter(lambda word: word and " y=[" not in word),
    kind=st.sampled_from(["OVA", "AVA"]),
    of=WORD,
    channels=st.lists(WORD, min_size=1, max_size=4, unique=True).map(tuple),
    transforms=st.none() | st.lists(WORD, max_size=3).map(tuple),
    fold=st.integers(1, 99).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))),
    seed=st.none() | st.integers(0, 2**32 - 1),
    smoothing=st.floats(0, 1),
    validation=st.none() | st.builds(Validation, st.integers(0, 9999).map(lambda k: float(f"{k}e-3")), SHARE, SHARE),
    ending=st.sampled_from(names.ENDINGS),
)
def test_every_name_reads_back(model, kind, of, channels, transforms, fold, seed, smoothing, validation, ending) -> None:
    name = ModelName(model, kind, of, channels, transforms, *fold, seed, smoothing, validation)
    try:
        text = names.write(name, ending)
    except InputError as error:
        assert "longer" in str(error)
        return
    assert names.parse(text) == name
    assert names.write(names.parse(text), ending) == text


# --- of a run ---------------------------------------------------------------------------------------------------------
FACTS = {"channels": [{"name": name, "unit": "nm", "axis": [1.0]} for name in ("277", "380", "425")]}


def test_the_name_of_a_run_is_the_originals() -> None:
    config = Training(model="ResNetV2", augment="da", n_splits=20, seed=42)
    assert names.write(names.of_config(config, FACTS)) == names.EXAMPLE


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "compact CNN y=['OVA', 'OK'] c=('277', '380', '425') t=None 0-5 s=0 eps=0.1"),
        ({"augment": "da+simulate", "label_smoothing": 0.05, "current_split": 3},
         "compact CNN y=['OVA', 'OK'] c=('277', '380', '425') t=('da', 'simulate') 3-5 s=0 eps=0.05"),
        ({"model": "PLS-DA", "augment": "da", "kind": "AVA", "of": "OK+11+5"},
         "PLS-DA y=['AVA', 'OK+11+5'] c=('277', '380', '425') t=None 0-5 s=0 eps=0.0"),
        ({"kind": "AVA", "column": "kind of meat?"},
         "compact CNN y=['AVA', 'kind of meat_'] c=('277', '380', '425') t=None 0-5 s=0 eps=0.1"),
        ({"of": "VR/NC5", "column": "quality"}, "compact CNN y=['OVA', 'VR_NC5'] c=('277', '380', '425') t=None 0-5 s=0 eps=0.1"),
    ],
)  # fmt: skip
def test_settings_make_a_name_that_reads_back(options: dict, text: str) -> None:
    name = names.of_config(Training(**options), FACTS)
    assert names.write(name, "") == text
    assert names.parse(text) == name


@pytest.mark.parametrize("model", ["compact CNN", "VGG11", "VGG16", "ResNetV2", *GRADIENT_FREE])
def test_every_fold_of_every_family_has_a_name_of_its_own(model: str) -> None:
    found = [names.of_config(fold, FACTS) for fold in TASK.folds(Training(model=model, n_splits=4, current_split=2, seed=7))]
    assert [(name.current_split, name.n_splits, name.seed, name.model) for name in found] == [(k, 4, 7, model) for k in range(4)]
    assert [names.parse(names.write(name)) for name in found] == found


def test_folds_differ_in_their_number_alone() -> None:
    config = Training(n_splits=3, augment="da", seed=5)
    folds = TASK.folds(config)
    assert [fold.model_copy(update={"current_split": 0}) for fold in folds] == [config] * 3
    assert [Training.model_validate(fold.model_dump()) for fold in folds] == folds
