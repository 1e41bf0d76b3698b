"""Toy runs: samples with labels, and probabilities that are right as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib.task import Arrays, Samples
from lib.tasks.spectra import verdicts

AXIS = {"277": np.arange(295.0, 741.0), "lspr": np.arange(450.0, 701.0)}


def facts_of(classes: int) -> dict[str, Any]:
    """OVA of OK for two classes, AVA otherwise; names hold characters that are no words."""
    if classes == 2:
        names, target = ["The rest", "OK"], {"kind": "OVA", "of": "OK", "column": ""}
    else:
        names = [f"VR/NC {k} - é" for k in range(classes)]
        target = {"kind": "AVA", "of": "INTY", "column": ""}
    channels = [{"name": name, "unit": "nm", "axis": axis.tolist()} for name, axis in AXIS.items()]
    return {"classes": names, "target": target, "channels": channels, "tabular": ["brix_deg"], "simulated": True,
            "notes": ["Too rare to split, dropped: NC6 (3 samples)."]}  # fmt: skip


def draw(n: int, classes: int, rng: np.random.Generator, concentration: float = 0.15) -> tuple[Arrays, Samples]:
    """N samples, two of each specimen; truths are drawn from the probabilities, so that these are calibrated."""
    names = facts_of(classes)["classes"]
    weight = np.ones(2) if classes == 2 else 3.0 * 0.6 ** np.arange(classes) + 0.05
    p = rng.dirichlet(concentration * weight / weight.mean(), n) + 1e-9
    p /= p.sum(axis=1, keepdims=True)
    code = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=classes - 1)
    table = pd.DataFrame({
        "file": "a.csv", "note": "", "sample": [f"s{i}" for i in range(n)], "group": [f"g{i // 2}" for i in range(n)],
        "instrument": rng.choice(["A", "B"], n), "provenance": rng.choice(["inspector", "algorithm"], n, p=[0.2, 0.8]),
        "measured_at": pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 400, n), unit="D"),
        "severity": "VR", "defect_type": rng.integers(1, 6, n), "code": code, "label": np.array(names, dtype=object)[code],
    })  # fmt: skip
    spectra = {name: rng.random((n, len(axis)), dtype=np.float32) for name, axis in AXIS.items()}
    common = {"channels": facts_of(classes)["channels"], "classes": names}
    outputs = {"probability": p, "t2": rng.uniform(0, 1, n), "q": rng.uniform(0, 1, n)}
    return outputs, Samples(spectra, table, common)


def certified(classes: int, rng: np.random.Generator, n: int = 1200, **more: Any) -> dict[str, Any]:
    """Facts of a run with its certificate."""
    facts = facts_of(classes) | more
    outputs, samples = draw(n, classes, rng)
    told = verdicts.certify(verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts), samples.table, facts, rng)
    return facts | told
