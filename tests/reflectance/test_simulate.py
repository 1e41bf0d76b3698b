"""What simulated scales look like, to a microscope and to light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.task import InputError, Panel
from lib.tasks.reflectance import channels, demo, files, materials, render, simulate, simulate_views, specimen
from lib.tasks.reflectance.config import CENTRE_NM, CHANNELS, HIDDEN, TRUE, VISIBLE
from lib.tasks.reflectance.optics import reflect
from lib.tasks.reflectance.scale import KINDS, SIMULATION_PRESETS, SWEPT, Scale, Simulation
from lib.tasks.reflectance.settings import Acquisition

PLAIN = Simulation(ridge_period_nm=700, ridge_width_nm=150, ridge_height_nm=200, rib_period_nm=400, rib_width_nm=80).scale()
SMALL = Simulation(**vars(PLAIN))  # a cell of few waves: quick optics
SOON = 1e-12


@pytest.fixture
def dull_optics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels that cost nothing, for what is told of files and their order; processes that are forked take them along."""
    monkeypatch.setattr(channels, "measure", lambda scale: np.linspace(0.1, 0.9, len(CHANNELS)) * np.exp(-scale.melanin))


def seed(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


def channel(scale: Scale, name: str) -> float:
    return float(channels.measure(scale)[CHANNELS.index(name)])


def reflected(scale: Scale, name: str) -> float:
    """In the middle of a channel's band alone, which costs less."""
    return float(channels.spectrum(scale, np.array([CENTRE_NM[name]])).mean())


# --- light ------------------------------------------------------------------------------------------------------------
def test_the_lower_lamina_swings_blue() -> None:
    """A film of 100 to 260 nm goes through constructive and destructive interference at 450 nm."""
    blue = [reflected(replace(PLAIN, lamina_nm=float(nm)), "B") for nm in range(100, 261, 20)]
    assert max(blue) > 2 * min(blue)
    assert 0 < int(np.argmax(blue)) < len(blue) - 1 or 0 < int(np.argmin(blue)) < len(blue) - 1


def test_melanin_darkens_ultraviolet_and_hardly_infrared() -> None:
    clear, dark = (replace(PLAIN, melanin=share) for share in (0.0, 0.3))
    assert reflected(dark, "UV") < 0.6 * reflected(clear, "UV")
    assert reflected(dark, "940") > 0.75 * reflected(clear, "940")


def test_an_ommochrome_scale_is_red_rather_than_blue() -> None:
    orange = replace(PLAIN, pigment="ommochrome", pigment_k=0.2)
    assert reflected(orange, "B") < 0.6 * reflected(PLAIN, "B")
    assert reflected(orange, "740") == pytest.approx(reflected(PLAIN, "740"), rel=0.1)


def test_fluorescence_needs_its_yield_and_melanin_quenches_it() -> None:
    shining = replace(PLAIN, pigment="papiliochrome", pigment_k=0.2, quantum_yield=0.3)
    dark, silent = replace(shining, melanin=0.4), replace(shining, quantum_yield=0.0)
    assert channel(shining, "fB") > 1.5 * channel(dark, "fB") > 0
    assert [channel(silent, name) for name in ("fB", "fG", "fR")] == [0, 0, 0]
    assert channel(shining, "UV") == channel(silent, "UV")


def test_a_scale_whose_ridges_are_like_its_ribs_tells_no_polarisations_apart() -> None:
    """A square cell and no ridge above: nothing tells x from y. A ridge does."""
    square = replace(PLAIN, ridge_period_nm=500.0, rib_period_nm=500.0, ridge_width_nm=120.0, rib_width_nm=120.0,
                     ridge_height_nm=0.0, window_fill=0.0)  # fmt: skip
    flat, ridged = (reflect(channels.structure(scale, 450.0), 450.0, (6, 6), (900.0,))[0, :, 0]
                    for scale in (square, replace(square, ridge_height_nm=250.0)))  # fmt: skip
    assert abs(flat[0] - flat[1]) < 2e-3  # the quarter cell is sampled by 100 and 48 points
    assert abs(ridged[0] - ridged[1]) > 0.02


def test_channels_are_band_means_of_the_spectrum() -> None:
    for name in ("UV", "G", "940"):
        at = np.array([CENTRE_NM[name] - channels.HALF_BAND_NM, CENTRE_NM[name] + channels.HALF_BAND_NM])
        assert channels.spectrum(PLAIN, at).mean() == pytest.approx(channel(PLAIN, name), abs=1e-3)


def test_plates_add_up_intensities() -> None:
    """Nothing above the membrane leaves its 8 %; a mirror hides it; a full ground scale of glass adds its own share."""
    through, mirror = np.array([[[0.0, 1.0]] * 2, [[1.0, 0.0]] * 2])
    np.testing.assert_allclose(channels.on_the_wing(through, 0.0), channels.MEMBRANE_R)
    np.testing.assert_allclose(channels.on_the_wing(mirror, 0.5), 1.0)
    glass = np.array([[0.08, 0.92]] * 2)
    three_plates = 0.08 + 0.92**2 * (2 * 0.08 / 1.08) / (1 - 0.08 * 2 * 0.08 / 1.08)  # n plates reflect n r/(1 + (n − 1) r)
    np.testing.assert_allclose(channels.on_the_wing(glass, 1.0), three_plates)
    assert three_plates == pytest.approx(3 * 0.08 / (1 + 2 * 0.08))


def test_spectra_change_smoothly_with_a_width() -> None:
    """Walls end between grid points: a nanometre more changes little, and ten of them as much as ten times one."""
    steps = [channels.spectrum(replace(PLAIN, ridge_width_nm=150.0 + nm), np.array([530.0]))[0, 0] for nm in range(11)]
    moves = np.diff(steps)
    assert np.abs(moves).max() < 3 * np.abs(np.mean(moves)) + 1e-4


@pytest.mark.parametrize("kind", ["nymphalid orange", "pierid yellow", "morpho", "lycaenid"])
def test_kinds_with_pigment_beads_and_shelves_have_channels_within_bounds(kind: str) -> None:
    scale = specimen.draw(kind, seed(5))
    values = channels.measure(scale)
    assert scale.kind == kind and values.shape == (10,)
    assert (values >= 0).all() and (values <= 1).all() and values[:6].max() > 0.03


def test_constants_are_those_of_their_sources() -> None:
    for nm, n in ((400.0, 1.572), (500.0, 1.552), (600.0, 1.541)):  # Leertouwer et al. 2011, abstract
        assert materials.chitin_n(nm) == pytest.approx(n, abs=6e-4)
    assert 1.7 < materials.melanin_index(600.0).real < materials.melanin_index(450.0).real < 1.8  # Stavenga et al. 2015
    assert materials.melanin_kappa(550.0) == pytest.approx(0.073, abs=1e-3)
    assert materials.pigment_kappa("ommochrome", 480.0) == 1 and materials.pigment_kappa("none", 480.0) == 0
    assert materials.wall_permittivity(0.0, "none", 0.0, 550.0) == pytest.approx(materials.chitin_n(550.0) ** 2)
    assert materials.wall_permittivity(0.3, "ommochrome", 0.1, 450.0).imag > 0


# --- image ------------------------------------------------------------------------------------------------------------
def test_same_seed_same_image() -> None:
    scale = specimen.draw("pierid yellow", seed(2))
    one, again, other = (render.image(scale, seed(number)) for number in (3, 3, 4))
    assert one.shape == (256, 256) and one.dtype == np.uint8
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_the_image_tells_nothing_of_what_is_hidden() -> None:
    """All but the air gap, which is the depth of the floor."""
    scale = specimen.draw("papilionid", seed(2))
    image = render.image(scale, seed(3))
    for name in HIDDEN:
        if name != "air_gap_nm":
            assert np.array_equal(render.image(replace(scale, **{name: 0.5 * getattr(scale, name)}), seed(3)), image), name
    deeper = render.height_map(replace(scale, air_gap_nm=scale.air_gap_nm + 300), seed(3))
    assert deeper.min() == pytest.approx(render.height_map(scale, seed(3)).min() - 300, abs=1)


@pytest.mark.parametrize("name", VISIBLE)
def test_the_image_shows_what_is_visible(name: str) -> None:
    scale = specimen.draw("pierid white", seed(2))
    more = {"n_shelves": 5, "window_fill": 0.6, "bead_density": 0.0}.get(name, 1.2 * getattr(scale, name))
    assert not np.array_equal(render.image(replace(scale, **{name: more}), seed(3)), render.image(scale, seed(3)))


@pytest.mark.parametrize("period_nm", [760.0, 1250.0, 1900.0])
@pytest.mark.parametrize("nm_per_px", [20.0, 25.0])
def test_the_ridge_period_is_a_peak_of_the_spectrum_of_the_image(period_nm: float, nm_per_px: float) -> None:
    scale = replace(specimen.draw("moth brown", seed(1)), ridge_period_nm=period_nm, ridge_width_nm=0.25 * period_nm,
                    window_fill=1.0)  # fmt: skip
    power = np.zeros((256, 256))
    for number in range(4):
        image = render.image(scale, seed(number), nm_per_px).astype(float)
        power += np.abs(np.fft.fft2((image - image.mean()) * np.outer(np.hanning(256), np.hanning(256)))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256, nm_per_px), np.fft.fftfreq(256, nm_per_px)))
    bins = np.rint(radius / (0.25 / (256 * nm_per_px))).astype(int).ravel()
    profile = np.bincount(bins, power.ravel()) / np.maximum(np.bincount(bins), 1) * np.arange(bins.max() + 1)
    profile[:4] = 0
    strongest = np.argmax(profile) * 0.25 / (256 * nm_per_px)
    fundamental_or_second = np.abs(strongest * period_nm - np.array([1, 2])).min()
    assert fundamental_or_second < 0.12


def test_heights_span_from_floor_to_ridge() -> None:
    scale = specimen.draw("nymphalid blue", seed(1))
    height = render.height_map(scale, seed(2))
    assert height.max() == pytest.approx(scale.ridge_height_nm + 40, abs=60)
    assert height.min() == pytest.approx(-130 - scale.air_gap_nm, abs=60)


def test_smooth_noise_has_the_variance_and_width_it_says() -> None:
    noise = np.stack([render.smooth_noise(300, 6.0, seed(number)) for number in range(20)])
    assert noise.std() == pytest.approx(1, abs=0.05)
    apart = (noise[:, :, :-12] * noise[:, :, 12:]).mean()
    assert apart == pytest.approx(np.exp(-(12**2) / (4 * 6**2)), abs=0.05)  # a Gaussian of σ with itself


# --- samples ----------------------------------------------------------------------------------------------------------
def test_views_of_a_specimen_share_their_channels() -> None:
    samples = simulate.simulate(SMALL.model_copy(update={"views": 2}), 5, seed())
    assert list(samples.table.columns) == list(simulate.COLUMNS) and samples.inputs["image"].shape == (5, 256, 256)
    assert samples.table["specimen"].nunique() == 3 and samples.table["file"].nunique() == 5
    truth = samples.table.groupby("specimen")[[TRUE + name for name in CHANNELS]].nunique()
    assert (truth == 1).all(axis=None)
    assert samples.table[TRUE + "B"].nunique() == 3
    assert not np.array_equal(*samples.inputs["image"][:2])


def test_same_seed_same_samples_and_no_spread_gives_the_settings() -> None:
    alike = SMALL.model_copy(update={"spread": 0.0})
    one, again = (simulate.simulate(alike, 2, seed(1)) for _ in range(2))
    assert np.array_equal(one.inputs["image"], again.inputs["image"]) and one.table.equals(again.table)
    assert (one.table["lamina_nm"] == SMALL.lamina_nm).all()
    np.testing.assert_allclose(one.table[[TRUE + name for name in CHANNELS]].iloc[0], channels.measure(SMALL.scale()))


@pytest.mark.usefixtures("dull_optics")
def test_all_kinds_come_in_turn() -> None:
    rows = [specimen.draw(kind, seed(number)) for number, kind in enumerate(KINDS)]
    assert list(simulate.simulate(Simulation(all_kinds=True), 2, seed()).table["kind"]) == [row.kind for row in rows[:2]]


def test_specimens_spread_as_told_and_stay_possible() -> None:
    drawn = [specimen.draw("nymphalid blue", seed(number)) for number in range(300)]
    logs = np.log([scale.ridge_period_nm for scale in drawn])
    assert logs.mean() == pytest.approx(np.log(1900), abs=0.03) and logs.std() == pytest.approx(0.10, rel=0.15)
    for scale in drawn + [specimen.draw(None, seed(number)) for number in range(300)]:
        assert 0 <= scale.window_fill <= 1 and 0 <= scale.melanin <= 0.8 and 0 <= scale.ground_cover <= 1
        assert scale.ridge_width_nm <= 0.9 * scale.ridge_period_nm and scale.rib_width_nm <= 0.9 * scale.rib_period_nm
        assert scale.ridge_height_nm <= (1.8 if scale.n_shelves else 0.5) * scale.ridge_period_nm * (1 + SOON)


def test_a_wall_wider_than_its_period_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"ridge_width_nm = 600 leaves no room .* at most 0\.9 × ridge_period_nm = 540"):
        Simulation.parse({"ridge_period_nm": 600, "ridge_width_nm": 600})


# --- page -------------------------------------------------------------------------------------------------------------
def test_panels_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_views, "STEPS_NM", ((np.inf, 100.0),))
    config = Simulation.parse(SIMULATION_PRESETS["morpho"])
    slow = [view.make() for view in simulate_views.simulation_views(config)]
    panels = {panel.key: panel for panel in [*simulate_views.simulation_panels(config, seed()), *slow]}
    assert list(panels) == ["micrograph", "cut", "swatch", "channels", "spectrum"]
    assert all(Panel.from_json(panel.to_json()).key == key for key, panel in panels.items())
    bars = panels["channels"].content.data[0]
    np.testing.assert_allclose(bars.y, 100 * channels.measure(config.scale()))
    assert "periodic" in panels["spectrum"].explanation and "normal incidence" in panels["spectrum"].explanation


@pytest.mark.parametrize("name", SWEPT)
def test_swept_values_are_all_possible(name: str) -> None:
    for kind, values in KINDS.items():
        scale = Simulation(**values).scale()
        at = simulate_views.swept_values(scale, name)
        assert len(at) == simulate_views.SWEEP_POINTS and (np.diff(at) > 0).all(), kind
        moved = [replace(scale, **{name: float(value)}) for value in (at[0], at[-1])]
        assert all(one.ridge_width_nm <= 0.9 * one.ridge_period_nm * (1 + SOON) for one in moved)
        assert all(one.rib_width_nm <= 0.9 * one.rib_period_nm * (1 + SOON) for one in moved)


def test_a_sweep_holds_the_spectrum_of_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_views, "SWEEP_POINTS", 3)
    monkeypatch.setattr(simulate_views, "SWEEP_NM", np.array([450.0, 940.0]))
    values = vars(PLAIN) | {"sweep": "lamina_nm"}
    panel = simulate_views.simulation_views(Simulation(**values))[-1].make()
    drawn = panel.content.data[0]
    last = replace(PLAIN, lamina_nm=float(drawn.y[2]))
    wanted = channels.spectrum(last, np.array([450.0, 940.0]), simulate_views.SWEEP_ACCURACY)
    assert panel.key == "sweep"
    np.testing.assert_allclose(drawn.z[2], 100 * wanted.mean(axis=1))


def test_the_cut_is_to_scale() -> None:
    scale = Simulation(**KINDS["morpho"]).scale()
    boxes = simulate_views.section(scale)["wall"]
    assert max(box[3] for box in boxes) == scale.ridge_height_nm
    assert min(box[2] for box in boxes) == -scale.lattice_nm - scale.air_gap_nm - scale.lamina_nm
    assert len(boxes) == 3 + scale.n_shelves
    solid = channels.structure(scale, 450.0).above[0]
    share = np.mean(np.real(solid.permittivity) > 1.5)
    shelf = max(boxes[3:], key=lambda box: box[1])
    assert 2 * shelf[1] / scale.ridge_period_nm == pytest.approx(share, abs=0.02)


def test_colours_of_the_swatch() -> None:
    assert simulate_views.colour(0, 0, 0) == "rgb(0, 0, 0)" and simulate_views.colour(1, 1, 1) == "rgb(255, 255, 255)"
    assert simulate_views.colour(blue=1, green=0, red=0) == "rgb(0, 0, 255)"
    assert simulate_views.colour(0.2140, 0.2140, 0.2140) == "rgb(127, 127, 127)"  # half of the sRGB range is 21.4 % of the light


# --- the demo set -----------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("dull_optics")
def test_a_stopped_demo_set_goes_on_and_comes_out_the_same(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = demo.Recipe(specimens=2, views=2, seed=4)
    parts = tmp_path / "stopped" / demo.PARTS
    parts.mkdir(parents=True)
    demo._make_one(recipe, 1, parts)
    begun = (parts / "s0001.json").stat().st_mtime_ns
    kept = []
    monkeypatch.setattr(demo.shutil, "rmtree", lambda folder: kept.append((folder / "s0001.json").stat().st_mtime_ns))
    went_on = demo.make(recipe, tmp_path / "stopped", jobs=1).read_bytes()
    assert kept == [begun]
    assert went_on == demo.make(recipe, tmp_path / "whole", jobs=1).read_bytes()
    with pytest.raises(InputError, match="another recipe"):
        demo.make(demo.Recipe(specimens=2, views=2, seed=5), tmp_path / "stopped", jobs=1)

    samples = demo.load(archive=tmp_path / "whole" / demo.ARCHIVE)
    looked, images = demo.one_specimen(recipe, 0)
    assert len(samples) == 4 and list(samples.table.columns) == list(simulate.COLUMNS)
    np.testing.assert_allclose(samples.table[[TRUE + name for name in CHANNELS]].iloc[1], looked.channels, atol=1e-5)
    assert np.abs(samples.inputs["image"][1].astype(int) - images[1]).mean() < 8
    assert len(demo.load(1, tmp_path / "whole" / demo.ARCHIVE)) == 2


def test_a_missing_demo_set_is_a_sentence(tmp_path) -> None:
    with pytest.raises(InputError, match="demo set is missing"):
        demo.load(archive=tmp_path / demo.ARCHIVE)


def test_the_demo_set_of_the_repository_is_what_its_recipe_says() -> None:
    """One specimen drawn and measured anew; only where the set is there."""
    if not (demo.FOLDER / demo.ARCHIVE).exists():
        pytest.skip("data/reflectance/demo is not there: python -m lib.tasks.reflectance.demo makes it")
    samples = demo.load(10)
    looked, images = demo.one_specimen(demo.Recipe(), 7)
    views = samples.take(np.flatnonzero(samples.table["specimen"] == "s0007"))
    assert set(samples.table["kind"]) == set(KINDS) and len(views) == 3
    np.testing.assert_allclose(views.table[[TRUE + name for name in CHANNELS]].iloc[0], looked.channels, atol=2e-5)
    assert np.abs(views.inputs["image"].astype(int) - images).mean() < 8


@pytest.mark.usefixtures("dull_optics")
def test_examples_are_files_of_a_laboratory(tmp_path) -> None:
    made = demo.make_examples(tmp_path)
    rows = pd.read_csv(made[0])
    assert list(rows.columns[:11]) == [demo.IMAGE_COLUMN, *CHANNELS]
    assert [tmp_path / name for name in rows[demo.IMAGE_COLUMN]] == made[1:] and len(made) == 7
    assert files.read(made[0], Acquisition()).table["simulated"].all()
    with Image.open(made[1]) as picture:
        assert picture.size == (256, 256) and picture.mode == "L"
