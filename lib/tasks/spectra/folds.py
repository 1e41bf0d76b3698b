"""All folds of one training: the settings of each run."""

from __future__ import annotations

from lib.tasks.spectra.settings import Training


def fold_settings(config: Training) -> list[Training]:
    """One training per fold, `current_split` 0 to n_splits − 1; all else, the seed too, is as given.

    Under one seed the test parts of the folds are disjoint and together are every sample.
    """
    return [config.model_copy(update={"current_split": k}) for k in range(config.n_splits)]
