"""What may spoil a training on this table, told in sentences: copies, replicates, confounding, gaps, labels, drift."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lib import splits
from lib.task import Panel, Pick, Samples, View
from lib.tasks.spectra.clean import Axis, axes_of, times
from lib.tasks.spectra.sample_views import channel_title
from lib.tasks.spectra.table import ALGORITHM, GROUP, INSPECTOR, INSTRUMENT, PROVENANCE, SEVERITY, TYPE
from lib.tasks.spectra.targets import restarting
from lib.words import Say, english, spoken

VERDICTS = ("algorithm_severity", "sa_verdict")  # columns that keep what the algorithm said of a sample
FOLDS = 5
CLEAR = 0.1  # Cramér's V, and relative steps, from which a check speaks up
CLEAR_DRIFT = 0.2  # |r| of integral and date
FEWEST = 20  # samples of an instrument or month that a statistic is taken of
NAMED = 3  # sentences of one kind before the rest is counted
MOST_ROWS = 30  # of a table
HOUR_S, DAY_S, YEAR_S = 3600.0, 86_400.0, 365.25 * 86_400
MONTH_S = YEAR_S / 12


@dataclass(frozen=True)
class Check:
    """One question asked of a table: the finding, what to do (empty where nothing is), and its figures."""

    key: str
    title: str
    finding: str
    advice: str = ""
    table: pd.DataFrame | None = None


def checks(samples: Samples, readings: pd.DataFrame, say: Say = english, by: str = SEVERITY) -> list[Check]:
    """Every check that the table's columns allow; `by` is the column of classes."""
    if len(samples) == 0:
        return []
    plain, table, axes = readings.reset_index(drop=True), samples.table.reset_index(drop=True), axes_of(samples)
    found = [
        duplicates(plain, say),
        replicates(table, plain, axes, say),
        specimens(table, by, say),
        *(confounding(table, column, by, say) for column in (GROUP, INSTRUMENT)),
        missing(table, plain, say),
        provenance(table, by, say),
        instrument_step(table, plain, axes, say),
        drift(table, plain, axes, say),
    ]
    return [check for check in found if check is not None]


def check_view(samples: Samples, readings: pd.DataFrame, say: Say = english, by: str = SEVERITY) -> View:
    """All checks together, or one with the figures behind it; `by` is the column of classes."""
    classes = [say("Class and {word}", word=say(word)) for word in ("specimen", "instrument")]
    last = [say(title) for title in ("Missing values", "Who said so", "Step between instruments", "Drift")]
    titles = [say("Copies"), say("Replicates"), say("Specimens"), *classes, *last]
    pick = Pick("of", say("What to show"), (say("All checks"), *titles))
    return View(say("Checks"), partial(check_panel, samples, readings, say, by=by), "all samples", (pick,))


def check_panel(samples: Samples, readings: pd.DataFrame, say: Say = english, of: str = "", by: str = SEVERITY) -> Panel:
    """All checks as one table: check, finding, what to do; or the figures behind the one whose title is `of`."""
    found = checks(samples, readings, say, by)
    if of and of != say("All checks"):
        one = next((check for check in found if check.title == of), None)
        if one is None:
            return Panel(f"checks-{of}", of, say("This table does not tell what this check needs."))
        told, key = " ".join(filter(None, (one.finding, one.advice))), f"checks-{one.key}"
        return Panel(key, of, told) if one.table is None else Panel(key, of, one.table.head(MOST_ROWS), told, True)
    rows = [(check.title, check.finding, check.advice or "–") for check in found]
    table = pd.DataFrame(rows, columns=[say("check"), say("finding"), say("what to do")])
    text = say("What may make a model look better, or be worse, than it is. Over all samples read, kept or not.")
    return Panel("checks", say("Checks"), table, text, True)


def _integrals(readings: pd.DataFrame, axes: list[Axis]) -> list[tuple[Axis, np.ndarray]]:
    """Integrals (n,) of the channels that have positive ones, so that ratios mean something."""
    found = [(axis, readings[axis.integral].to_numpy(float)) for axis in axes if axis.integral in readings]
    return [(axis, values) for axis, values in found if np.isfinite(values).any() and np.nanmin(values) > 0]


def _known(table: pd.DataFrame, column: str) -> np.ndarray:
    """Rows (n,) that have a value in the column."""
    return (table[column].notna() & (table[column].astype(str) != "")).to_numpy(bool)


# --- copies and replicates --------------------------------------------------------------------------------------------
def duplicates(readings: pd.DataFrame, say: Say = english) -> Check | None:
    """Spectra that repeat an earlier row."""
    if "duplicate_of" not in readings:
        return None
    copies = np.flatnonzero(readings["duplicate_of"].to_numpy() >= 0)
    title = say("Copies")
    if not len(copies):
        return Check("duplicates", title, say("No spectrum repeats another."))
    first = readings["duplicate_of"].to_numpy()[copies]
    names = readings["sample"].astype(str).to_numpy()
    table = pd.DataFrame({
        say("no."): copies + 1, say("sample"): names[copies], say("first no."): first + 1, say("first sample"): names[first],
    })  # fmt: skip
    n = len(copies)
    several = say("{n} spectra repeat an earlier row in every channel.", n=n)
    finding = say("1 spectrum repeats an earlier row in every channel.") if n == 1 else several
    return Check("duplicates", title, finding, say("Drop them: a copy on both sides of a split is known by heart."), table)


def replicates(table: pd.DataFrame, readings: pd.DataFrame, axes: list[Axis], say: Say = english) -> Check | None:
    """Specimens with more than one sample, and how alike their integrals are; None without specimens."""
    if GROUP not in table:
        return None
    title, known = say("Replicates"), _known(table, GROUP)
    codes, names = pd.factorize(table[GROUP].astype(str).where(known))
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    several = int((sizes > 1).sum())
    if not several:
        return Check("replicates", title, say("Every specimen was measured once ({n} specimens).", n=len(names)))
    rows = []
    for axis, values in _integrals(readings, axes):
        within, between = spread_of(np.log(values), codes)
        rows.append((channel_title(axis, say), f"{100 * within:.1f}", f"{100 * between:.1f}", f"{_share(between, within):.0f}"))
    columns = [say("integral"), say("within a specimen (%)"), say("between specimens (%)"), say("variance between (%)")]
    finding = say(
        "{several} of {n} specimens have more than one sample ({rows} samples).",
        several=several, n=len(names), rows=int(sizes[sizes > 1].sum()),
    )  # fmt: skip
    if rows:
        finding += " " + say(
            "{channel}: integrals differ by {within} % within a specimen and by {between} % between specimens.",
            channel=rows[0][0], within=rows[0][1], between=rows[0][2],
        )  # fmt: skip
    advice = say("Group splits by specimen, or test samples have near copies in training.")
    return Check("replicates", title, finding, advice, pd.DataFrame(rows, columns=columns) if rows else None)


def specimens(table: pd.DataFrame, by: str = SEVERITY, say: Say = english) -> Check | None:
    """Whether specimens have samples of several classes, as where their numbers start anew; None without either column."""
    if GROUP not in table or by not in table:
        return None
    fine = _known(table, by) & _known(table, GROUP)
    labels = combined(table, by)[fine]
    found = restarting(labels, table.loc[fine, GROUP].to_numpy(object))
    title = say("Specimens")
    if not found:
        return Check("specimens", title, say("Samples of one specimen agree in their class, or most of them do."))
    classes = pd.Series(labels).groupby(table.loc[fine, GROUP].to_numpy(), sort=False).agg(["size", "nunique"]).reset_index()
    shown = classes[classes["nunique"] > 1].sort_values("nunique", ascending=False, kind="stable")
    columns = [say("specimen"), say("number of samples"), say("number of classes")]
    told, advice = (spoken(one, say) for one in found)
    return Check("specimens", title, told, advice, shown.set_axis(columns, axis=1))


def _share(between: float, within: float) -> float:
    """Variance between groups, in % of all."""
    total = between**2 + within**2
    return 100 * between**2 / total if total > 0 else float("nan")


def spread_of(values: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Standard deviation of values (n,) within and between groups, by one-way analysis of variance over groups of several.

    `codes` (n,) number the groups from 0, −1 is none. NaN where there are too few groups.
    """
    fine = (codes >= 0) & np.isfinite(values)
    x, code = values[fine], codes[fine]
    size = np.bincount(code, minlength=code.max(initial=-1) + 1)
    several = size[code] > 1
    x, code = x[several], np.unique(code[several], return_inverse=True)[1]
    size = np.bincount(code)
    groups, n = len(size), len(x)
    if groups < 2:
        return (float(np.std(x, ddof=1)) if n > 1 else float("nan")), float("nan")
    mean = np.bincount(code, x) / size
    within = float(((x - mean[code]) ** 2).sum() / (n - groups))
    among = float((size * (mean - x.mean()) ** 2).sum() / (groups - 1))
    usual = (n - (size**2).sum() / n) / (groups - 1)  # samples of a group, where groups are unequal
    return within**0.5, max((among - within) / usual, 0.0) ** 0.5


# --- classes ----------------------------------------------------------------------------------------------------------
def cramers_v(one: np.ndarray, other: np.ndarray) -> float:
    """How strongly two sets of names (n,) go together: 0 not at all, 1 one tells the other; corrected for chance.

    Bergsma 2013, J. Korean Stat. Soc. 42:323. NaN where either has one name only.
    """
    counts = pd.crosstab(one, other).to_numpy(float)
    n, (r, k) = counts.sum(), counts.shape
    if min(r, k) < 2 or n < 2:
        return float("nan")
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / n
    phi2 = max(0.0, float(((counts - expected) ** 2 / expected).sum()) / n - (k - 1) * (r - 1) / (n - 1))
    least = min(k - (k - 1) ** 2 / (n - 1), r - (r - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(phi2 / least)) if least > 0 else float("nan")


def combined(table: pd.DataFrame, by: str) -> np.ndarray:
    """Class of each row (n,) as text: severity with type, as VR11, where there are both, else the column; "" unknown."""
    words = table[by].astype(object).where(_known(table, by), "").astype(str)
    if by == SEVERITY and TYPE in table:
        kind = pd.to_numeric(table[TYPE], errors="coerce").to_numpy(float, na_value=np.nan)
        extra = np.where(np.isfinite(kind) & (kind != 0), np.nan_to_num(kind).astype(int).astype(str).astype(object), "")
        words = words.where(words == "", words + extra)
    return words.to_numpy(object)


def confounding(table: pd.DataFrame, column: str, by: str = SEVERITY, say: Say = english) -> Check | None:
    """Classes that live in one specimen or instrument only, or lean to one; None where either column lacks."""
    if column not in table or by not in table:
        return None
    word = say("specimen") if column == GROUP else say("instrument")
    fine = _known(table, by) & _known(table, column)
    title = say("Class and {word}", word=word)
    if not fine.any():
        return Check(f"confounding-{column}", title, say("No sample has both."))
    names = table.loc[fine, column].astype(str).to_numpy(object)
    label = combined(table, by)[fine]
    if column == INSTRUMENT:
        return _instruments(label, names, title, say)
    found = [spoken(warning, say) for warning in splits.warnings_of(label, names, FOLDS, "specimen")]
    if not found:
        return Check(f"confounding-{column}", title, say("Every class has enough specimens for {n} folds.", n=FOLDS))
    more = [say("And {n} more.", n=len(found) - NAMED)] if len(found) > NAMED else []
    table_ = pd.DataFrame({say("finding"): found})
    advice = say("Merge or drop these classes, or collect more specimens of them.")
    return Check(f"confounding-{column}", title, " ".join(found[:NAMED] + more), advice, table_)


def _instruments(label: np.ndarray, names: np.ndarray, title: str, say: Say) -> Check:
    """Whether the class depends on the instrument; a class of a few samples may be on one of them by chance."""
    codes = splits.numbered(label)
    common = np.bincount(codes)[codes] >= FEWEST
    several = len(np.unique(names)) > 1 and len(np.unique(label[common])) > 1
    found = [spoken(one, say) for one in splits.warnings_of(label[common], names[common], 1, "instrument")] if several else []
    share = (pd.crosstab(label, names, normalize="columns") * 100).round(1)
    table = share.rename_axis(say("class (% of the instrument's samples)")).rename_axis(None, axis=1).reset_index()
    strength = cramers_v(label, names)
    if not np.isfinite(strength):
        sentence = say("There is one instrument or one class only.")
    elif strength < CLEAR:
        sentence = say("Classes are shared alike by the instruments (Cramér's V {v}).", v=f"{strength:.2f}")
    else:
        sentence = say("Classes depend on the instrument (Cramér's V {v}; 0 is not at all, 1 entirely).", v=f"{strength:.2f}")
    worry = bool(found) or strength >= CLEAR
    advice = say("Test on an instrument that training has not seen: group by instrument.") if worry else ""
    return Check(f"confounding-{INSTRUMENT}", title, " ".join([*found[:NAMED], sentence]), advice, table)


# --- gaps -------------------------------------------------------------------------------------------------------------
def missing(table: pd.DataFrame, readings: pd.DataFrame, say: Say = english) -> Check:
    """Empty cells per column, and points that spectra lack."""
    empty = {column: int((~_known(table, column)).sum()) for column in table.columns if column not in ("file", "note")}
    empty = {column: count for column, count in empty.items() if count}
    points = int((readings["missing_points"] > 0).sum()) if "missing_points" in readings else 0
    title = say("Missing values")
    if not empty and not points:
        return Check("missing", title, say("No value is missing."))
    ordered = sorted(empty.items(), key=lambda item: -item[1])
    rows = [(column, count, round(100 * count / len(table), 1)) for column, count in ordered]
    rows += [(say("spectra with missing points"), points, round(100 * points / len(table), 1))] if points else []
    shown = pd.DataFrame(rows, columns=[say("column"), say("missing"), say("of all (%)")])
    parts = [say("{column}: {n} ({share} %)", column=column, n=n, share=share) for column, n, share in rows[:NAMED]]
    more = [say("and {n} more columns", n=len(rows) - NAMED)] if len(rows) > NAMED else []
    advice = say("Missing tabular values are filled with the training mean; samples without a label are not learnt from.")
    return Check("missing", title, ", ".join([*parts, *more]) + ".", advice, shown)


# --- who said so ------------------------------------------------------------------------------------------------------
def provenance(table: pd.DataFrame, by: str = SEVERITY, say: Say = english) -> Check | None:
    """Who gave the labels, and whether the inspector agrees with the algorithm; None where the table does not tell."""
    if PROVENANCE not in table or by not in table:
        return None
    who = table[PROVENANCE].astype(object).where(_known(table, PROVENANCE), "unknown").astype(str).to_numpy(object)
    words = {INSPECTOR: say("inspector"), ALGORITHM: say("algorithm"), "unknown": say("unknown")}
    counts = pd.Series(who).value_counts()
    parts = [f"{words.get(str(name), name)} {100 * n / len(table):.1f} %" for name, n in counts.items()]
    sentence = say("Who gave the labels: {shares}.", shares=", ".join(parts))
    label = table[by].astype(object).where(_known(table, by), "").astype(str).to_numpy(object)
    share = (pd.crosstab(label, who, normalize="columns") * 100).round(1).rename(columns=words)
    shown = share.rename_axis(say("class (% of each one's labels)")).rename_axis(None, axis=1).reset_index()
    tasted = who == INSPECTOR
    agreed = _agreement(table, label, tasted, say)
    tasted_share = float(tasted.mean())
    advice = ""
    if tasted_share < 1:
        advice = say(
            "Only an inspector's verdict is a truth: judge the model on those {n} samples. A model that learns the algorithm's "
            "labels learns its errors too.", n=int(tasted.sum()),
        )  # fmt: skip
    return Check("provenance", say("Who said so"), " ".join([sentence, *agreed]), advice, shown)


def _agreement(table: pd.DataFrame, label: np.ndarray, tasted: np.ndarray, say: Say) -> list[str]:
    """A sentence on samples that both judged; none where the table does not keep what the algorithm said."""
    for column in VERDICTS:
        if column not in table:
            continue
        said = table[column].astype(object).where(_known(table, column), "").astype(str).str.upper().to_numpy(object)
        both = tasted & (label != "") & (said != "") & np.isin(said, np.unique(label))
        if both.any():
            same = 100 * float((said == label)[both].mean())
            return [say("Of {n} samples that both judged, they agree on {share} %.", n=int(both.sum()), share=f"{same:.0f}")]
    return []


# --- instruments and drift --------------------------------------------------------------------------------------------
def instrument_step(table: pd.DataFrame, readings: pd.DataFrame, axes: list[Axis], say: Say = english) -> Check | None:
    """How much more or less the other instruments read than the most used one; None with fewer than two.

    From specimens that both measured where there are enough of them, else from the medians of all.
    """
    if INSTRUMENT not in table:
        return None
    names = table[INSTRUMENT].astype(str).to_numpy(object)
    counts = pd.Series(names[_known(table, INSTRUMENT)]).value_counts()
    counts = counts[counts >= FEWEST]
    if len(counts) < 2:
        return None
    first, rows = str(counts.index[0]), []
    for axis, values in _integrals(readings, axes):
        for other in map(str, counts.index[1:]):
            ratio, shared = _ratio(np.log(values), names, first, other, table)
            rows.append((channel_title(axis, say), other, round(100 * float(np.expm1(ratio)), 1), shared))
    if not rows:
        return None
    columns = [say("integral"), say("instrument"), say("against {first} (%)", first=first), say("specimens on both")]
    largest = max(rows, key=lambda row: abs(row[2]))
    finding = say(
        "The largest step: instrument {other} reads {step} % against {first} ({channel}).",
        other=largest[1], step=f"{largest[2]:+.1f}", first=first, channel=largest[0],
    )  # fmt: skip
    clear = abs(largest[2]) >= 100 * CLEAR
    advice = say("Take the step out with a transfer learnt from samples measured on both, or train on both.") if clear else ""
    return Check("step", say("Step between instruments"), finding, advice, pd.DataFrame(rows, columns=columns))


def _ratio(logs: np.ndarray, names: np.ndarray, first: str, other: str, table: pd.DataFrame) -> tuple[float, int]:
    """Median ln(other/first) of integrals, and how many specimens on both it is taken of (0: of all samples)."""
    if GROUP in table:
        chosen = _known(table, GROUP) & np.isin(names, (first, other)) & np.isfinite(logs)
        frame = pd.DataFrame({"group": table[GROUP].astype(str)[chosen], "name": names[chosen], "log": logs[chosen]})
        frame = frame[frame.groupby("group")["name"].transform("nunique") > 1]
        pairs = frame.pivot_table(index="group", columns="name", values="log").dropna() if len(frame) else frame
        if len(pairs) >= FEWEST:
            return float((pairs[other] - pairs[first]).median()), len(pairs)
    return float(np.nanmedian(logs[names == other]) - np.nanmedian(logs[names == first])), 0


def drift(table: pd.DataFrame, readings: pd.DataFrame, axes: list[Axis], say: Say = english) -> Check | None:
    """Integral against date, per instrument and channel; None without dates of enough samples."""
    when = times(readings)
    if when is None:
        return None
    known = ~np.isnat(when)
    names = table[INSTRUMENT].astype(str).to_numpy(object) if INSTRUMENT in table else np.full(len(table), "", dtype=object)
    seconds = pd.Series(when[known].astype(np.int64)).groupby(names[known]).agg(["size", np.ptp])
    spans = seconds.loc[(seconds["size"] >= FEWEST) & (seconds["ptp"] > 0), "ptp"]
    if not len(spans):
        return None
    period_s, per, rate = _period(float(spans.min()), say)  # the shortest, so that no instrument's rate is carried too far
    rows = []
    for name in pd.unique(names[known]):
        for axis, values in _integrals(readings, axes):
            chosen = known & (names == name) & np.isfinite(values)
            if chosen.sum() >= FEWEST and np.ptp(when[chosen].astype(np.int64)) > 0:
                rows.append((str(name), channel_title(axis, say), *_trend(np.log(values[chosen]), when[chosen], period_s)))
    if not rows:
        return None
    columns = [say("instrument"), say("integral"), say("r with date"), rate, say("oddest month (%)")]
    shown = pd.DataFrame(rows, columns=columns)
    strongest = max(rows, key=lambda row: abs(np.nan_to_num(row[2])))
    oddest = max(rows, key=lambda row: abs(np.nan_to_num(row[4])))
    finding = say(
        "The strongest trend: {where}: r = {r}, {slope} % {per}.",
        where=_where(strongest, say), r=f"{strongest[2]:+.2f}", slope=f"{strongest[3]:+.1f}", per=per,
    )  # fmt: skip
    if np.isfinite(oddest[4]):
        finding += " " + say("The oddest month lies {month} % off its median ({where}).",
                             month=f"{oddest[4]:+.0f}", where=_where(oddest, say))  # fmt: skip
    clear = abs(np.nan_to_num(strongest[2])) >= CLEAR_DRIFT or abs(np.nan_to_num(oddest[4])) >= 100 * CLEAR
    advice = say("Group splits by date, so that the test shows what drift costs.")
    advice += " " + say("Mind the season, which changes syrup too.") if SEVERITY in table else ""
    named = any(name for name, *_ in rows)
    shown = shown.replace({columns[0]: {"": "–"}}) if named else shown.drop(columns=columns[0])
    return Check("drift", say("Drift"), finding, advice if clear else "", shown)


def _where(row: tuple[str, str, float, float, float], say: Say) -> str:
    """The channel of a trend, and its instrument where that is known."""
    name, channel = row[:2]
    return say("instrument {name}, {channel}", name=name, channel=channel) if name else channel


def _period(span_s: float, say: Say) -> tuple[float, str, str]:
    """What a rate is given per: seconds, words and title. No longer than the dates bear: half a year for a rate per year."""
    if span_s >= YEAR_S / 2:
        return YEAR_S, say("per year"), say("change per year (%)")
    if span_s >= MONTH_S:
        return MONTH_S, say("per month"), say("change per month (%)")
    if span_s >= DAY_S:
        return DAY_S, say("per day"), say("change per day (%)")
    return HOUR_S, say("per hour"), say("change per hour (%)")


def _trend(logs: np.ndarray, when: np.ndarray, period_s: float) -> tuple[float, float, float]:
    """Pearson's r of ln integral with time, change per period in %, and the month whose median lies farthest off, in %."""
    periods = (when.astype(np.int64) - when.astype(np.int64).min()) / period_s
    fluctuates = np.ptp(logs) > 0
    r = float(np.corrcoef(periods, logs)[0, 1]) if fluctuates else 0.0
    slope = float(np.polyfit(periods, logs, 1)[0])
    monthly = pd.Series(logs).groupby(when.astype("datetime64[M]")).agg(["median", "size"])
    off = monthly.loc[monthly["size"] >= FEWEST, "median"].to_numpy(float) - float(np.median(logs))
    oddest = float(off[np.abs(off).argmax()]) if len(off) > 1 else float("nan")
    return round(r, 2), round(100 * float(np.expm1(slope)), 1), round(100 * float(np.expm1(oddest)), 1)
