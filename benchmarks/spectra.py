"""How good, how true to its word and how fast the spectra task is, beside the limits it has to keep.

    python -m benchmarks.spectra [--parts 1 2 3 4] [--data ../shared/data/spectra] [--sets meats tablets ...] [--folds 5]
                                 [--seed 0] [--repeats 400] [--train]

1. Public spectra. Quadram mid-infrared sets in specimen-grouped folds: "best of", the mean of the candidates that inner grouped
   cross-validation on the training rows alone cannot tell from the best one, beside that one and every single candidate on the
   same test rows. Tablets of two near-infrared spectrometers:
   trained on the first, tested on the second, without and with transfer learnt from the training tablets, which both measured.
   The test tablets are seen on the second instrument only, and once.
2. Promises: how often a promised precision or recall is missed on fresh simulated test sets, beside MAPIE (where it is
   installed) and the original's rule.
3. Speeds with 60 000 × 1338 simulated spectra: opening, a slider of the Clean page, 10 000 predictions; with `--train`, which
   takes minutes, also training.
4. Memory of the dashboard process with that table open. Needs Chromium.

Exits with 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.limits import Limits
from lib import splits
from lib.tasks.spectra import classical, preprocess

ASSAY_LIMITS_MG = (190, 210)  # below, between, above: three classes of tablet
BEST, FIRST, PLS_DA = "best of", "first of the candidates", "best PLS-DA"
REFERENCE = "raw, PLS-DA"
PEERS_WITHOUT_TRANSFER = {"linear SVM": 0.796, "PLS-DA": 0.565}


@dataclass(frozen=True)
class Spectra:
    """`x` (n, P) float32, `label` (n,), `specimen` (n,) what replicates share; `note` for what a reader should know."""

    x: np.ndarray
    label: np.ndarray
    specimen: np.ndarray
    note: str = ""


# --- the files --------------------------------------------------------------------------------------------------------
def table(path: Path, label: str, specimen: tuple[str, ...] = (), note: str = "") -> Spectra:
    """A CSV whose numeric column names are the axis; without specimen columns every row is its own."""
    found = pd.read_csv(path)
    axis = [name for name in found.columns if name.replace(".", "", 1).isdigit()]
    same = found[list(specimen)].astype(str).agg("|".join, axis=1) if specimen else pd.Series(found.index)
    return Spectra(found[axis].to_numpy(np.float32), found[label].astype(str).to_numpy(), same.to_numpy(), note)


def quadram(folder: Path) -> dict[str, Spectra]:
    """The four sets of SOURCES.md. Purees have no specimen ids; the file's `Sample Number:` repeats for replicates of oils."""
    return {
        "meats": table(folder / "Fresh_meats.csv", "meat", ("meat", "supplier", "sample")),
        "olive oils": table(folder / "Olive_Oils_Quadrum.csv", "Provenance", ("Sample Number:",)),
        "coffees": table(folder / "Instant_Coffee_Quadrum.csv", "Varietal", ("Sample Number:",)),
        "fruit purees": table(folder / "MIR_Fruit_purees.csv", "label", note="no specimen ids: folds are not grouped"),
    }


def tablets(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(instrument 1 (n, 650), instrument 2 (n, 650), class by assay (n,), whether a test tablet (n,))."""
    first, second = (pd.read_csv(folder / f"Pharma_Instrument{k}.csv") for k in (1, 2))
    names = np.array(["below 190", "190 to 210", "above 210"])
    label = names[np.digitize(first["assay"].to_numpy(float), ASSAY_LIMITS_MG)]
    axis = [name for name in first.columns if name.isdigit()]
    test = (first["SampleType"] == "Test").to_numpy(bool)
    return first[axis].to_numpy(np.float32), second[axis].to_numpy(np.float32), label, test


# --- one experiment ---------------------------------------------------------------------------------------------------
def only(best: classical.Best, model: str) -> str:
    """The candidate that inner cross-validation puts first among those of one model."""
    return str(best.table.loc[best.table["model"] == model, "candidate"].iloc[0])


def hits(best: classical.Best, x: np.ndarray, label: np.ndarray) -> pd.DataFrame:
    """Whether each test row is right, a column per candidate and for what was chosen."""
    found = pd.DataFrame({name: model.predict(x) == label for name, model in best.models.items()})
    return found.assign(**{PLS_DA: found[only(best, "PLS-DA")], FIRST: found[best.name], BEST: best.predict(x) == label})


def cross_validated(data: Spectra, folds: int, rng: np.random.Generator) -> tuple[pd.DataFrame, list[str]]:
    """(as `hits` over all test rows, their specimens as index; what was chosen in each fold)."""
    parts, chosen = [], []
    for train, test in splits.folds(data.label, folds, rng, data.specimen):
        best = classical.best_of(data.x[train], data.label[train], rng, data.specimen[train])
        parts.append(hits(best, data.x[test], data.label[test]).set_axis(data.specimen[test]))
        chosen.append(f"{best.name} ({best.table['setting'].iloc[0]}), {len(best.members)} averaged")
    return pd.concat(parts), chosen


def show_accuracies(accuracy: pd.Series) -> None:
    """One line per candidate, best first."""
    for name, value in accuracy.sort_values(ascending=False, kind="stable").items():
        print(f"    {name:<58} {value:9.3f}")


def show_margin(name: str, right: pd.DataFrame, limits: Limits) -> None:
    """What choosing cost against the best single candidate, which nobody knows beforehand, and how far chance moves that."""
    accuracy = right.mean()
    single = str(accuracy.drop([BEST, FIRST, PLS_DA]).idxmax())
    difference = right[BEST].astype(float) - right[single].astype(float)
    margin = float(difference.mean())
    limits.show(f"{name}: best of, less the best single candidate", margin, -0.01, np.inf)
    off = (difference - margin).groupby(level=0).sum()  # replicates are right or wrong together
    error = np.sqrt((off**2).sum() * len(off) / (len(off) - 1)) / len(difference)
    print(f"    ± {error:.3f}, standard error over {len(off)} specimens; {single} is the best by these test rows themselves")


# --- 1: one instrument ------------------------------------------------------------------------------------------------
def show_quadram(sets: dict[str, Spectra], folds: int, seed: int, limits: Limits) -> dict[str, pd.Series]:
    """Accuracies of every set, then what they have to be."""
    found = {}
    for name, data in sets.items():
        begin = time.perf_counter()
        right, chosen = cross_validated(data, folds, np.random.default_rng(seed))
        found[name] = accuracy = right.mean()
        shape = f"{len(data.x)} rows × {data.x.shape[1]} points, {len(np.unique(data.specimen))} specimens"
        print(f"\n{name}: {shape}; accuracy over {folds} folds, {time.perf_counter() - begin:.0f} s  {data.note}")
        for warning in splits.warnings_of(data.label, data.specimen, folds, "specimen"):
            print(f"    {warning}")
        print("    chosen: " + "; ".join(chosen))
        show_accuracies(accuracy)
        show_margin(name, right, limits)
        if name == "olive oils":
            limits.show("olive oils, grouped by specimen: best of", float(accuracy[BEST]), 0.92, np.inf)
        sys.stdout.flush()
    return found


# --- 2: two instruments -----------------------------------------------------------------------------------------------
def transferred(
    first: np.ndarray, second: np.ndarray, label: np.ndarray, seed: int
) -> dict[str, tuple[classical.Best, preprocess.Transfer | None]]:
    """The best of every way to reach the second instrument, from training tablets alone."""
    plain = classical.best_of(first, label, np.random.default_rng(seed))
    ways: dict[str, tuple[classical.Best, preprocess.Transfer | None]] = {"none": (plain, None)}
    for method in preprocess.METHODS:
        transfer = preprocess.Transfer(method).fit(first, second)
        best = classical.best_of(transfer.of_first(first), label, np.random.default_rng(seed), seen_as=transfer.of_second(second))
        ways[method] = (best, transfer)
    return ways


def show_tablets(folder: Path, seed: int, limits: Limits) -> pd.Series:
    """Trained on instrument 1, tested on 2; the transfer too is chosen on training tablets."""
    first, second, label, test = tablets(folder)
    train = ~test
    begin = time.perf_counter()
    ways = transferred(first[train], second[train], label[train], seed)
    right = {}
    for way, (best, transfer) in ways.items():
        seen = second[test] if transfer is None else transfer.of_second(second[test])
        right[way] = hits(best, seen, label[test])
    found = {way: one.mean() for way, one in right.items()}
    chosen = max(preprocess.METHODS, key=lambda way: float(ways[way][0].table["accuracy"].iloc[0]))
    print(f"\ntablets: {train.sum()} trained on instrument 1, {test.sum()} tested on 2, {time.perf_counter() - begin:.0f} s")
    for way, (best, _) in ways.items():
        held = best.table["accuracy"].iloc[0]
        print(f"  transfer {way}: chosen {best.name}, held-out accuracy {held:.3f}, test {found[way][BEST]:.3f}")
    print("  without transfer (public figures: " + ", ".join(f"{k} {v}" for k, v in PEERS_WITHOUT_TRANSFER.items()) + ")")
    show_accuracies(found["none"])
    print(f"  with {chosen}, chosen by held-out training tablets seen on instrument 2")
    show_accuracies(found[chosen])
    show_margin("tablets with transfer", right[chosen], limits)
    limits.show("tablets, instrument 1 → 2, with transfer: best of", float(found[chosen][BEST]), 0.90, np.inf)
    return found[chosen]


def show_means(found: dict[str, pd.Series], limits: Limits) -> None:
    """Over all sets: best of against PLS-DA with the preprocessing chosen in the same way."""
    means = pd.DataFrame(found).mean(axis=1)
    print(f"\nMean accuracy over {', '.join(found)}")
    show_accuracies(means)
    limits.show("mean: best of", float(means[BEST]), 0, 1)
    limits.show("mean: best of, less PLS-DA with chosen preprocessing", float(means[BEST] - means[PLS_DA]), 1e-9, np.inf)
    limits.show("mean: best of, less PLS-DA on plain spectra", float(means[BEST] - means[REFERENCE]), 1e-9, np.inf)


def show_public(data: Path, chosen: list[str], folds: int, seed: int, limits: Limits) -> None:
    """Part 1."""
    sets = {name: spectra for name, spectra in quadram(data).items() if name in chosen}
    found = show_quadram(sets, folds, seed, limits)
    if "tablets" in chosen:
        found["tablets"] = show_tablets(data, seed, limits)
    if found:
        show_means(found, limits)


def arguments_of(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    names, parts = ["meats", "olive oils", "coffees", "fruit purees", "tablets"], [1, 2, 3, 4]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spectra", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--parts", type=int, nargs="*", choices=parts, default=parts, help="which parts (default: all)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/spectra"), help="folder of the public sets")
    parser.add_argument("--sets", nargs="*", choices=names, default=names, help="which sets (default: all)")
    parser.add_argument("--folds", type=int, default=5, help="test folds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of folds, simulations and models (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=400, help="calibration sets of part 2 (default: %(default)s)")
    parser.add_argument("--train", action="store_true", help="part 3 also trains the compact CNN, which takes minutes")
    return parser.parse_args(words)


def main(arguments: list[str] | None = None) -> int:
    """Print every table; 1 where a limit is missed. Parts bring torch or a browser along only where they are asked for."""
    asked, limits = arguments_of(arguments), Limits()
    if 1 in asked.parts:
        show_public(asked.data, asked.sets, asked.folds, asked.seed, limits)
    if 2 in asked.parts:
        from benchmarks.spectra_promises import show_promises

        show_promises(asked.repeats, asked.seed, limits)
    if 3 in asked.parts:
        from benchmarks.spectra_speed import show_speeds

        show_speeds(asked.seed, limits, training=asked.train)
    if 4 in asked.parts:
        from benchmarks.spectra_app import show_app

        show_app(asked.seed, limits)
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
