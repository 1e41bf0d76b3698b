"""What simpler ways say of the test images, and what other splits would have made of the score: all shown on the sheet."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.base import clone

from lib.splits import numbered
from lib.task import Samples
from lib.tasks.reflectance.augment import scale_of
from lib.tasks.reflectance.classical import complete, ridge, trees
from lib.tasks.reflectance.columns import TARGETS
from lib.tasks.reflectance.config import CHANNELS, HIDDEN, VISIBLE
from lib.tasks.reflectance.fingerprint import fingerprints

MEAN, RIDGE, TREES, ORACLE, ALL_KNOWN, LEAKY, NEW_KIND = "mean", "ridge", "trees", "oracle", "all_known", "leaky", "new_kind"
TWIN_FOLDS = 5
TREES_ELSEWHERE = 100  # of the forests for other splits
STREAM = 21


def estimates(whole: Samples, train: np.ndarray, test: np.ndarray, seed: int) -> pd.DataFrame:
    """One row per test image, a column `<method>_<channel>` of each method, as fractions; NaN where a method cannot tell.

    mean: of the training images. ridge, trees (ExtraTrees): on fingerprints. oracle: ExtraTrees on the true visible geometry,
    all_known: on all true parameters. leaky: ExtraTrees as after a random split, views of the test specimens in training.
    new_kind: ExtraTrees that saw no image of the specimen's kind. `train` and `test` are rows of `whole`.
    """
    rng = np.random.default_rng([seed, STREAM])
    table = whole.table
    used = np.concatenate([train, test])
    described = _described(whole, used)
    channels = complete(table[TARGETS].to_numpy(float)[train])
    forest = trees(rng)
    found = {
        MEAN: np.tile(channels.mean(0), (len(test), 1)),
        RIDGE: ridge().fit(described[train], channels).predict(described[test]),
        TREES: clone(forest).fit(described[train], channels).predict(described[test]),
    }
    for name, parameters in ((ORACLE, VISIBLE), (ALL_KNOWN, (*VISIBLE, *HIDDEN))):
        known = _known(table, parameters)
        if known is not None and np.isfinite(known[used]).all():
            found[name] = clone(forest).fit(known[train], channels).predict(known[test])
    small = trees(rng, TREES_ELSEWHERE)
    targets = np.full((len(table), len(CHANNELS)), np.nan)
    targets[used] = complete(table[TARGETS].to_numpy(float)[used])
    found[LEAKY] = _leaky(small, described, targets, train, test, rng)
    kinds = table["kind"].fillna("").to_numpy(object)
    if (kinds[used] != "").all() and len(np.unique(kinds[train].astype(str))) > 1:
        found[NEW_KIND] = _new_kind(small, described, targets, numbered(kinds), train, test)
    columns = {
        f"{name}_{channel}": np.clip(values[:, k], 0, 1) for name, values in found.items() for k, channel in enumerate(CHANNELS)
    }
    return pd.DataFrame(columns).astype(np.float32)


def _described(whole: Samples, used: np.ndarray) -> np.ndarray:
    """(n, FEATURES) fingerprints of the rows that are used, NaN elsewhere."""
    scale = scale_of(whole.table["nm_per_px"].to_numpy(float)[used])
    some = fingerprints(np.asarray(whole.inputs["image"])[used], scale)
    every = np.full((len(whole), some.shape[1]), np.nan, np.float32)
    every[used] = some
    return every


def _known(table: pd.DataFrame, parameters: tuple[str, ...]) -> np.ndarray | None:
    """(n, k) of the parameters; None where the table lacks one."""
    if any(name not in table for name in parameters):
        return None
    return np.asarray(table[list(parameters)].apply(pd.to_numeric, errors="coerce").to_numpy(float))


def _leaky(
    forest: object, described: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Each test image by a forest that saw other test images, twins among them, as a split by image would have it."""
    found = np.empty((len(test), len(CHANNELS)))
    fold = rng.permutation(len(test)) % min(TWIN_FOLDS, len(test))
    for k in range(int(fold.max()) + 1):
        rows = np.concatenate([train, test[fold != k]])
        found[fold == k] = clone(forest).fit(described[rows], targets[rows]).predict(described[test[fold == k]])
    return found


def _new_kind(
    forest: object, described: np.ndarray, targets: np.ndarray, kinds: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Each test image by a forest that saw none of its kind; NaN where nothing else was there to learn from."""
    found = np.full((len(test), len(CHANNELS)), np.nan)
    for kind in np.unique(kinds[test]):
        rows, here = train[kinds[train] != kind], kinds[test] == kind
        if len(rows):
            found[here] = clone(forest).fit(described[rows], targets[rows]).predict(described[test[here]])
    return found
