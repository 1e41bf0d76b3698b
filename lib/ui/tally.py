"""What the rules do to samples: how many each removes; and samples of a long run that are not measured yet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from lib import recipe
from lib.recipe import Hand
from lib.task import Config, Task
from lib.ui.forms import spoken
from lib.ui.words import t


def flagged(task: Task, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
    """One boolean column per rule; rules leave alone what is not measured yet."""
    flags = task.flag(readings, rules).reset_index(drop=True)
    return flags & ~recipe.unmeasured(readings)[:, None]


def show_unmeasured(readings: pd.DataFrame, key: str, measure: Callable[[], None]) -> None:
    """Where samples are not measured yet, how many, and a button that has all of them measured."""
    waiting = int(np.count_nonzero(recipe.unmeasured(readings)))
    if not waiting:
        return
    n = len(readings)
    told = t(
        "{n:,} of {all:,} samples were measured, spread over the run. The others can be looked at too, but rules leave them "
        "alone.", n=n - waiting, all=n,
    )  # fmt: skip
    st.info(told, icon=":material/hourglass_bottom:")
    if st.button(t("Measure the other {n:,}", n=waiting), key=key, icon=":material/speed:"):
        measure()


def show_counts(task: Task, flags: pd.DataFrame, keep: pd.Series, hand: Hand, key: str) -> None:
    """How many samples each rule removes, alone and together."""
    labels = {entry.name: entry.label for entry in spoken(task.Rules, task.say)}
    n, broken = len(flags), flags.sum(axis=1)
    table = pd.DataFrame(
        {
            t("rule"): [labels.get(str(c), str(c)) for c in flags.columns],
            t("removes"): [int(flags[c].sum()) for c in flags.columns],
            t("share"): [f"{flags[c].mean():.0%}" for c in flags.columns],
            t("alone"): [int((flags[c] & (broken == 1)).sum()) for c in flags.columns],
        }
    )
    union = int((broken > 0).sum())
    first, second = st.columns(2)
    kept = t("{n} of {all}", n=int(keep.sum()), all=n)
    first.metric(t("Kept"), kept, f"{keep.mean():.0%}", delta_color="off", delta_arrow="off", border=True)
    second.metric(t("Removed by rules"), f"{union}", f"{union / n:.0%}", delta_color="off", delta_arrow="off", border=True)
    alone = st.column_config.NumberColumn(t("alone"), help=t("Samples that no other rule removes"))
    st.dataframe(table, hide_index=True, key=key, column_config={t("alone"): alone})
    if hand:
        kept_by_hand = sum(hand.values())
        dropped = len(hand) - kept_by_hand
        st.caption(t("Changed by hand: {kept} kept, {dropped} dropped.", kept=kept_by_hand, dropped=dropped))
