from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge as ScikitRidge

from lib.task import InputError
from lib.tasks.spectra import classical, minirocket
from lib.tasks.spectra.classical import Candidate

AXIS = np.linspace(0, 1, 60)
LINEAR = [classical.PlsDa, classical.ShrinkageLda, classical.LinearSvm, classical.Ridge]
FEW = (Candidate("snv", "PLS-DA"), Candidate("raw", "shrinkage LDA"), Candidate("snv", "MiniRocket"))


def spectra(n: int, seed: int = 0, gap: float = 1.0, replicates: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x (n, 60) float32, labels, specimens): three classes, each with a band of its own on a wandering background."""
    rng = np.random.default_rng(seed)
    specimen = np.arange(n) // replicates
    label = np.array(["NC", "OK", "VR"])[specimen % 3]
    wander = rng.normal(size=(specimen.max() + 1, 4))[specimen] @ np.stack([AXIS**k for k in range(4)])
    band = np.stack([np.exp(-((AXIS - centre) ** 2) / 0.003) for centre in (0.3, 0.5, 0.7)])[specimen % 3]
    x = wander + gap * band + 0.05 * rng.normal(size=(n, 60))
    return x.astype(np.float32), label, specimen


@pytest.mark.parametrize("kind", LINEAR)
def test_separable_classes_are_separated(kind: type[classical.Linear]) -> None:
    x, y, _ = spectra(90)
    fresh, truth, _ = spectra(300, seed=1)
    setting = 12 if kind is classical.PlsDa else None  # background first: the band comes with later components
    model = kind(setting).fit(x, y)
    assert np.mean(model.predict(fresh) == truth) > 0.97
    assert list(model.classes_) == ["NC", "OK", "VR"]
    assert model.predict_proba(fresh).sum(axis=1) == pytest.approx(1)
    assert np.array_equal(clone(model).fit(x, y).coef_, model.coef_)


def test_pls_da_with_all_components_is_least_squares() -> None:
    x, y, _ = spectra(200)
    member = (y[:, None] == np.unique(y)).astype(float)
    exact = np.linalg.lstsq(np.c_[np.ones(200), x[:, ::12]], member, rcond=None)[0]
    model = classical.PlsDa(5).fit(x[:, ::12], y)
    assert model.coef_ == pytest.approx(exact[1:].T, rel=1e-3, abs=1e-4)
    assert model.intercept_ == pytest.approx(exact[0], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("points", [1, 12])
def test_lda_equals_scikit_learns_at_the_same_shrinkage(points: int) -> None:
    x, y, _ = spectra(150)
    x = x[:, ::points]  # more points than rows, and fewer
    x = x[:40] if points == 1 else x
    y = y[: len(x)]
    sizes = np.unique(y, return_counts=True)[1]
    ours = classical.ShrinkageLda(0.1).fit(x, y).predict_proba(x)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=sizes / sizes.sum()).fit(x, y)
    # Theirs divides the within-class scatter by n, ours by n - K, so equal scores are theirs times (n - K) / n.
    scaled = theirs.decision_function(x) * (len(x) - 3) / len(x)
    assert np.mean(ours.argmax(axis=1) == scaled.argmax(axis=1)) > 0.99


@pytest.mark.parametrize("points", [1, 12])
def test_ridge_equals_scikit_learns(points: int) -> None:
    x, y, _ = spectra(40)
    x = x[:, ::points].astype(float)
    squared_length = ((x - x.mean(axis=0)) ** 2).sum() / len(x)
    theirs = ScikitRidge(alpha=0.01 * squared_length).fit(x, 2.0 * (y[:, None] == np.unique(y)) - 1)
    assert classical.Ridge(0.01).fit(x, y).decision_function(x) == pytest.approx(theirs.predict(x), abs=1e-6)


def test_svm_of_two_classes_has_two_opposite_scores() -> None:
    x, y, _ = spectra(60)
    two = classical.LinearSvm().fit(x[y != "VR"], y[y != "VR"])
    scores = two.decision_function(x)
    assert scores[:, 0] == pytest.approx(-scores[:, 1])


def test_settings_solved_together_are_those_solved_alone() -> None:
    x, y, _ = spectra(60)
    code = np.unique(y, return_inverse=True)[1]
    for kind in LINEAR:
        coef, intercept = kind().solve_scaled(x, code, kind.grid[:3])
        alone = kind(kind.grid[1]).fit(x, y)
        assert coef[1] == pytest.approx(alone.coef_, rel=1e-5, abs=1e-8)
        assert intercept[1] == pytest.approx(alone.intercept_, rel=1e-5, abs=1e-8)


def test_gain_of_the_detector_does_not_change_a_prediction() -> None:
    x, y, _ = spectra(60)
    for kind in LINEAR:
        plain, amplified = kind().fit(x, y), kind().fit(62_996.0 * x.astype(float), y)
        assert amplified.decision_function(62_996.0 * x.astype(float)) == pytest.approx(plain.decision_function(x), abs=1e-3)


# --- MiniRocket -------------------------------------------------------------------------------------------------------
def test_84_kernels_of_nine_weights_that_sum_to_zero() -> None:
    weights = np.full((84, 9), -1)
    np.put_along_axis(weights, minirocket.KERNELS, 2, axis=1)
    assert len(np.unique(weights, axis=0)) == 84
    assert (weights.sum(axis=1) == 0).all()


def test_dilations_reach_the_whole_curve_and_hand_out_every_bias() -> None:
    for points in (9, 60, 446, 1338):
        found, biases = minirocket.dilations(points, 119)
        assert found[0] == 1 and 8 * found[-1] < points
        assert biases.sum() == 119 and biases.min() >= 1


def test_minirocket_counts_what_a_plain_convolution_exceeds() -> None:
    x, _, _ = spectra(11)
    rocket = minirocket.MiniRocket(84 * 6, seed=3).fit(x)
    features, column = rocket.transform(x), 0
    for place, (dilation, biases) in enumerate(zip(rocket.dilations_, rocket.biases_)):
        for kernel, twos in enumerate(minirocket.KERNELS):
            spread = np.zeros(8 * dilation + 1)
            spread[::dilation] = -1
            spread[np.array(twos) * dilation] = 2
            mode = "valid" if (place + kernel) % 2 else "same"
            results = np.stack([np.correlate(row, spread, mode) for row in x.astype(float)])
            for bias in biases[kernel]:
                assert features[:, column] == pytest.approx((results > bias).mean(axis=1), abs=1.5 / results.shape[1])
                column += 1
    assert column == features.shape[1] == 504


def test_minirocket_depends_on_its_seed_alone_and_rows_do_not_see_each_other() -> None:
    x, _, _ = spectra(300)
    rocket = minirocket.MiniRocket(168, seed=1).fit(x)
    features = rocket.transform(x)
    assert np.array_equal(features, clone(rocket).fit(x).transform(x))
    assert not np.array_equal(features, minirocket.MiniRocket(168, seed=2).fit(x).transform(x))
    assert np.array_equal(features[290:], rocket.transform(x[290:]))
    assert rocket.transform(x[:0]).shape == (0, 168)
    assert ((features >= 0) & (features <= 1)).all()


def test_long_curves_are_counted_beyond_one_byte() -> None:
    wave = np.sin(np.arange(1200) / 3)[None].astype(np.float32)
    rocket = minirocket.MiniRocket(84, seed=0).fit(wave)
    rocket.biases_ = [np.full_like(biases, -100) for biases in rocket.biases_]
    assert (rocket.transform(wave) == 1).all()


def test_too_short_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 9 points; these have 8"):
        minirocket.MiniRocket().fit(np.zeros((3, 8)))


# --- the choice -------------------------------------------------------------------------------------------------------
def test_best_of_tells_all_candidates_and_predicts() -> None:
    x, y, specimen = spectra(90, gap=0.6, replicates=2)
    best = classical.best_of(x, y, np.random.default_rng(0), specimen, FEW)
    fresh, truth, _ = spectra(150, seed=1, gap=0.6)
    assert best.name == best.table["candidate"].iloc[0]
    assert sorted(best.table["candidate"]) == sorted(c.name for c in FEW) == sorted(best.models)
    assert best.table["accuracy"].is_monotonic_decreasing
    assert np.mean(best.model.predict(fresh) == truth) > 0.9
    assert best.held_out[best.name].shape == (classical.REPEATS, 90, 3)
    assert np.mean(best.labels[best.held_out[best.name].argmax(axis=2)] == y) == pytest.approx(best.table["accuracy"].iloc[0])


def test_few_rows_are_held_out_in_several_draws_and_many_in_one() -> None:
    x, y, specimen = spectra(90, gap=0.3, replicates=2)
    several = classical.best_of(x, y, np.random.default_rng(0), specimen, FEW[:1]).held_out[FEW[0].name]
    assert len(several) == classical.REPEATS and not np.allclose(several[0], several[1]), "other folds, other models"
    once = classical.best_of(x, y, np.random.default_rng(0), specimen, FEW[:1], repeats=1).held_out[FEW[0].name]
    assert once.shape == (1, 90, 3)
    many, label, _ = spectra(classical.FEW_ROWS + 2, gap=0.3)
    assert len(classical.best_of(many, label, np.random.default_rng(0), candidates=FEW[:1]).held_out[FEW[0].name]) == 1


def test_several_draws_of_folds_steady_the_estimate() -> None:
    x, y, specimen = spectra(60, gap=0.2, replicates=2)

    def scatter(repeats: int) -> float:
        found = [classical.best_of(x, y, np.random.default_rng(k), specimen, FEW[:1], repeats=repeats) for k in range(12)]
        return float(np.std([one.table["accuracy"].iloc[0] for one in found]))

    assert scatter(8) < 0.7 * scatter(1)


def test_candidates_that_held_out_rows_cannot_tell_apart_are_averaged() -> None:
    code = np.repeat([0, 1], 50)

    def right(count: int) -> np.ndarray:
        """Probabilities (1, 100, 2) that get the last `count` rows right."""
        return np.eye(2)[np.where(np.arange(100) < 100 - count, 1 - code, code)][None]

    held_out = {"best": right(90), "near": right(88), "far": right(80)}  # standard error: √(.9 · .1 / 99) = 3 points
    assert classical.alike(list(held_out), held_out, code, None) == ("best", "near")
    # Of ten groups, one is wrong as a whole: the standard error is √(.9 · .1 / 9) = 10 points.
    assert classical.alike(list(held_out), held_out, code, np.arange(100) // 10) == ("best", "near", "far")
    faultless = {"best": right(100), "near": right(99)}
    assert classical.alike(list(faultless), faultless, code, None) == ("best",)
    # In two draws of folds other rows are wrong: twenty are right by half, and the standard error is √(4 / 99 / 100) = 2 points.
    turned = {name: np.concatenate([one, one[:, ::-1, ::-1]]) for name, one in held_out.items()}
    assert classical.alike(list(turned), turned, code, None) == ("best", "near")


def test_the_mean_is_that_of_its_members_probabilities() -> None:
    x, y, specimen = spectra(90, gap=0.3)
    best = classical.best_of(x, y, np.random.default_rng(0), specimen, FEW)
    fresh = spectra(30, seed=2)[0]
    assert len(best.members) > 1 and best.name == best.members[0]
    mean = sum(best.models[name].predict_proba(fresh) for name in best.members) / len(best.members)
    assert best.predict_proba(fresh) == pytest.approx(mean)
    assert list(best.predict(fresh)) == list(best.labels[mean.argmax(axis=1)])


def test_the_same_seed_gives_the_same_result() -> None:
    x, y, specimen = spectra(60, gap=0.3)
    first, again = (classical.best_of(x, y, np.random.default_rng(5), specimen, FEW) for _ in range(2))
    assert first.table.drop(columns="seconds").equals(again.table.drop(columns="seconds"))
    assert np.array_equal(first.model.predict_proba(x), again.model.predict_proba(x))


def test_probabilities_are_calibrated_on_held_out_rows() -> None:
    x, y, _ = spectra(400, gap=0.08)
    best = classical.best_of(x, y, np.random.default_rng(0), candidates=FEW[:2])
    fresh, truth, _ = spectra(2000, seed=1, gap=0.08)
    probabilities = best.model.predict_proba(fresh)
    hits = best.labels[probabilities.argmax(axis=1)] == truth
    assert 0.4 < hits.mean() < 0.95
    assert probabilities.max(axis=1).mean() == pytest.approx(hits.mean(), abs=0.06)


def test_replicates_do_not_vouch_for_each_other() -> None:
    rng = np.random.default_rng(0)
    specimen = np.repeat(np.arange(40), 3)
    x = (rng.normal(size=(40, 60))[specimen] + 0.01 * rng.normal(size=(120, 60))).astype(np.float32)  # classes differ in nothing
    y = np.where(specimen % 2, "a", "b")
    pick = [Candidate("raw", "shrinkage LDA")]
    grouped, random = (classical.best_of(x, y, rng, groups, pick).table["accuracy"].iloc[0] for groups in (specimen, None))
    assert random > 0.9
    assert grouped < 0.75


def test_the_choice_can_be_made_for_another_instrument() -> None:
    x, y, specimen = spectra(90)
    other = np.roll(x, 12, axis=1)  # its axis is off by the distance of two bands
    here = classical.best_of(x, y, np.random.default_rng(0), specimen, FEW[:2])
    there = classical.best_of(x, y, np.random.default_rng(0), specimen, FEW[:2], seen_as=other)
    assert there.table["accuracy"].max() < here.table["accuracy"].max()


@pytest.mark.parametrize(
    ("labels", "groups", "candidates", "words"),
    [
        (["a"] * 12, None, FEW, "all 12 rows are of one class"),
        (["a"] * 11 + ["b"], None, FEW, "class b has one row only"),
        (["a"] * 8 + ["b"] * 4, [*range(8), 9, 9, 9, 9], FEW, "class b has one group only"),
        (["a", "b"] * 6, None, [Candidate("raw", "PLSDA")], "unknown model 'PLSDA'"),
        (["a", "b"] * 6, None, [Candidate("rw", "PLS-DA")], "no step 'rw'"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(labels, groups, candidates, words: str) -> None:
    x = spectra(12)[0]
    with pytest.raises(InputError, match=words):
        classical.best_of(x, np.array(labels), np.random.default_rng(0), None if groups is None else np.array(groups), candidates)
