"""Laws of light: energy, thin films, symmetry, effective media, convergence."""

from __future__ import annotations

import numpy as np
import pytest
import tmm
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.tasks.reflectance.optics import Lattice, Stripes, Structure, reflect, tanh_over_root

PARTS = (40, 24)
CHITIN = 1.56


def cross(permittivity: complex, wide: float = 0.25, high: float = 0.25) -> np.ndarray:
    """A ridge crossing a rib in the quarter cell; shares of the half periods that they fill."""
    x, y = ((np.arange(parts) + 0.5) / parts for parts in PARTS)
    return np.where((x < wide)[:, None] | (y < high), permittivity, 1.0 + 0j)


def scale_like(permittivity: complex, period_x_nm: float = 1500.0, period_y_nm: float = 500.0) -> Structure:
    """A ridge on a lattice above a film."""
    ridge = Stripes(np.where(np.arange(PARTS[0]) < 8, permittivity, 1.0 + 0j), 600.0)
    return Structure(period_x_nm, period_y_nm, (ridge,), Lattice(cross(permittivity), 150.0), (Stripes(permittivity, 200.0),))


@settings(deadline=None, max_examples=12)
@given(st.floats(320, 1000), st.floats(1.1, 2.2), st.floats(400, 2200), st.floats(250, 700), st.floats(50, 2000))
def test_without_absorption_no_energy_is_lost(wavelength: float, index: float, x_nm: float, y_nm: float, gap: float) -> None:
    found = reflect(scale_like(index**2 + 0j, x_nm, y_nm), wavelength, (7, 4), (gap,))
    assert np.abs(found.sum(axis=-1) - 1).max() < 1e-9  # 1e-11 is usual; more where a mode of a layer hardly goes up or down
    assert (found > -1e-12).all()


@pytest.mark.parametrize("wavelength", [250.0, 500.0, 1000.0])
def test_an_order_along_the_surface_loses_no_energy(wavelength: float) -> None:
    """Rayleigh's wavelengths: a round number of them in a period."""
    found = reflect(scale_like(CHITIN**2 + 0j, 1000.0, 500.0), wavelength, (8, 5), (700.0,))
    assert np.abs(found.sum(axis=-1) - 1).max() < 1e-10


def test_shelves_lose_no_energy() -> None:
    wide, narrow = (Stripes(np.where(np.arange(40) < edge, CHITIN**2, 1.0 + 0j), 80.0) for edge in (30, 8))
    whole = Structure(760.0, 600.0, (wide, narrow) * 6, Lattice(cross(CHITIN**2), 130.0), (Stripes(CHITIN**2 + 0j, 170.0),))
    assert np.abs(reflect(whole, 450.0, (6, 5), (300.0, 500.0)).sum(axis=-1) - 1).max() < 1e-10


@pytest.mark.parametrize("index", [1.56 + 0j, 1.7 + 0.08j, 2.5 + 0.5j])
@pytest.mark.parametrize("wavelength", [365.0, 530.0, 940.0])
def test_films_reflect_as_thin_film_theory_says(index: complex, wavelength: float) -> None:
    """A lattice without holes is a film; ours against Byrnes' transfer matrices."""
    gaps = (0.0, 70.0, 900.0)
    film = Structure(
        1500.0, 500.0, (Stripes(index**2, 130.0),), Lattice(np.full(PARTS, index**2), 70.0), (Stripes(index**2, 190.0),)
    )
    found = reflect(film, wavelength, (5, 3), gaps)
    for gap, both in zip(gaps, found):
        known = tmm.coh_tmm("s", [1, index, 1, index, 1], [np.inf, 200, gap, 190, np.inf], 0, wavelength)
        np.testing.assert_allclose(both, [[known["R"], known["T"]]] * 2, atol=1e-10)


def test_absorption_takes_light_away() -> None:
    clear, dark = (reflect(scale_like((CHITIN + 1j * kappa) ** 2), 450.0, (7, 4), (700.0,)) for kappa in (0.0, 0.05))
    assert (dark.sum(axis=-1) < 0.97).all() and (clear[..., 1] > dark[..., 1]).all()


def test_a_square_cell_treats_both_polarisations_alike() -> None:
    """A cross of equal arms looks the same when x and y change places."""
    side = np.full((30, 30), 1.0 + 0j)
    side[:9] = side[:, :9] = (1.7 + 0.05j) ** 2
    found = reflect(Structure(700.0, 700.0, (), Lattice(side, 300.0)), 450.0, (6, 6))[0]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def test_turning_the_cell_swaps_the_polarisations() -> None:
    """A lattice of two periods and its transpose, solved as different problems."""
    pattern = cross(2.4 + 0.1j, 0.3, 0.2)
    one = reflect(Structure(900.0, 500.0, (), Lattice(pattern, 200.0)), 530.0, (9, 7))[0]
    other = reflect(Structure(500.0, 900.0, (), Lattice(pattern.T.copy(), 200.0)), 530.0, (7, 9))[0]
    np.testing.assert_allclose(one, other[::-1], rtol=1e-9)


@pytest.mark.parametrize("polarisation", [0, 1])
def test_a_fine_grating_acts_as_an_effective_medium(polarisation: int) -> None:
    """Rytov 1956: across the walls 1/ε is averaged, along them ε, where the period is far below the wavelength."""
    walls = np.where(np.arange(40) < 20, 2.25 + 0j, 1.0)
    found = reflect(Structure(20.0, 20.0, (Stripes(walls, 150.0),), Lattice(np.ones(PARTS) + 0j, 1.0)), 500.0, (4, 1))[0]
    mean = 2 / (1 / 2.25 + 1) if polarisation == 0 else (2.25 + 1) / 2
    known = tmm.coh_tmm("s", [1, np.sqrt(mean), 1], [np.inf, 150, np.inf], 0, 500)  # 0.0167 and 0.0265
    assert found[polarisation, 0] == pytest.approx(known["R"], abs=6e-4)


def test_stripes_and_a_lattice_of_the_same_pattern_agree() -> None:
    """One layer takes the way by blocks, the other that of all waves together."""
    walls = np.where(np.arange(PARTS[0]) < 12, 2.4 + 0.05j, 1.0)
    air = Lattice(np.ones(PARTS) + 0j, 50.0)
    blocks = reflect(Structure(900.0, 500.0, (Stripes(walls, 250.0),), air), 450.0, (6, 3))
    whole = reflect(Structure(900.0, 500.0, (), Lattice(np.repeat(walls[:, None], PARTS[1], axis=1), 250.0)), 450.0, (6, 3))
    np.testing.assert_allclose(blocks, whole, atol=1e-10)


def test_a_layer_may_be_cut_into_two() -> None:
    half, one = Stripes(cross(2.4 + 0j)[:, -1], 300.0), Stripes(cross(2.4 + 0j)[:, -1], 600.0)
    lattice = Lattice(cross(2.4 + 0j), 150.0)
    cut, whole = (reflect(Structure(1500.0, 500.0, above, lattice), 450.0, (7, 3)) for above in ((half, half), (one,)))
    np.testing.assert_allclose(cut, whole, atol=1e-10)


def test_more_orders_bring_it_closer() -> None:
    """A lossless scale: each step of orders leaves less than half of the error of two steps before."""
    limit = reflect(scale_like(CHITIN**2 + 0j), 450.0, (20, 7), (700.0,))[0, :, 0]
    errors = [
        float(np.abs(reflect(scale_like(CHITIN**2 + 0j), 450.0, orders, (700.0,))[0, :, 0] - limit).max())
        for orders in ((5, 2), (7, 3), (9, 4), (12, 5))
    ]  # fmt: skip
    assert errors[2] < 0.5 * errors[0] and errors[3] < 0.5 * errors[1] and errors[3] < 1e-3


def test_waves_too_steep_for_double_precision_are_refused() -> None:
    with pytest.raises(ValueError, match="orders"):
        reflect(Structure(5.0, 500.0, (), Lattice(np.ones(PARTS) + 0j, 100.0)), 500.0, (20, 2))


def test_tanh_of_a_matrix_is_that_of_its_eigenvalues() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(5, 5)) + 1j * rng.normal(size=(5, 5))
    roots = np.array([0.0, 3.0, 2.5j, 1 + 1j, 9.0])
    a = vectors @ np.diag(roots**2) @ np.linalg.inv(vectors)
    wanted = np.array([1.3, *np.tanh(1.3 * roots[1:]) / roots[1:]])
    found = np.linalg.inv(vectors) @ tanh_over_root(a, 1.3, 9.0) @ vectors
    np.testing.assert_allclose(found, np.diag(wanted), atol=1e-10)
