"""Reflection and transmission of a periodic structure: rigorous coupled-wave analysis for light at normal incidence.

Moharam & Gaylord 1981 (J. Opt. Soc. Am. 71, 811) in the form with scattering matrices. Three things make it quick without any
loss: cells are their own mirror images in x and y, so fields are cosines or sines of each direction and only a quarter of the
unknowns is left; layers that vary along x alone couple no waves of different y order; and a layer's scattering matrix comes from
one matrix function, tanh(√A ζ)/(√A ζ), by a rational approximation and doublings instead of eigenvalues. At walls that face x or
y, the product of permittivity and field is expanded by Li's rules (1997, J. Opt. Soc. Am. A 14, 2758).

Lengths in nm. Time goes as exp(−iωt): a positive imaginary part of the permittivity absorbs. Fields are ordered (Ex, Ey); g
stands for (Hy, −Hx), scaled so that along the depth ζ, in units of 1/k₀, de/dζ = P g and dg/dζ = Q e.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from lib.threads import one_thread

GRAZING = 1e-11  # squared normal component below which a wave leaves along the surface, where the equations divide by it
NUDGE = 2e-10  # the wavelength is then changed by this share
STEEPEST_WAVE = 100  # in wave numbers of light; from 300 on, rounding spoils the result
LARGEST_STEP = 1.0  # argument of tanh up to which its rational approximation is exact to some 1e-13


@dataclass(frozen=True)
class Stripes:
    """A layer that varies along x alone: permittivity (n,) at the middles of n equal parts of 0 ≤ x ≤ period/2, or a number."""

    permittivity: np.ndarray | complex
    thickness_nm: float


@dataclass(frozen=True)
class Lattice:
    """A layer that varies along x and y: permittivity (nx, ny) at the middles of equal parts of the quarter cell."""

    permittivity: np.ndarray
    thickness_nm: float


@dataclass(frozen=True)
class Structure:
    """From above: stripes, one lattice, an air gap, stripes. Air above and below; the cell is its own mirror image in x and y."""

    period_x_nm: float
    period_y_nm: float
    above: tuple[Stripes, ...]
    lattice: Lattice
    below: tuple[Stripes, ...] = ()


@dataclass(frozen=True)
class _Waves:
    """The plane waves of a layer and what differentiation does to them; matrices may have leading axes (one per block).

    `grad` takes Ez to (Ex, Ey), `curl` takes Hz to (Hy, −Hx); `kz` is the normal component in air of each of (Ex, Ey);
    `admittance` takes e of a wave in air to g, `impedance` back.
    """

    grad: np.ndarray
    curl: np.ndarray
    kz: np.ndarray
    admittance: np.ndarray | sparse.csr_array
    impedance: np.ndarray | sparse.csr_array


@dataclass(frozen=True)
class _Scattering:
    """Amplitudes that leave a layer: `s11` and `s12` upwards, of what comes from above and from below; `s21`, `s22` downwards."""

    s11: np.ndarray
    s12: np.ndarray
    s21: np.ndarray
    s22: np.ndarray


def reflect(structure: Structure, wavelength_nm: float, orders: tuple[int, int], gaps_nm: Sequence[float] = (0.0,)) -> np.ndarray:
    """Reflectance and transmittance, all diffraction orders together: (gaps, polarisation, (R, T)).

    The first polarisation has its electric field along x, the second along y. `orders` are the highest diffraction orders kept
    along x and y, `gaps_nm` the widths of the air gap below the lattice. Runs on one thread, as these matrices are too small to
    share: two were up to 16 times slower. Raises ValueError where orders are so fine that double precision fails them.
    """
    finest = wavelength_nm * max(orders[0] / structure.period_x_nm, orders[1] / structure.period_y_nm)
    if finest > STEEPEST_WAVE:
        raise ValueError(f"orders {orders} are too many: {finest:.0f} waves in a wavelength, at most {STEEPEST_WAVE}")
    wavelength_nm = _off_grazing(structure, wavelength_nm, orders)
    with one_thread():
        return np.stack([_reflect(structure, wavelength_nm, orders, gaps_nm, polarisation) for polarisation in (0, 1)], axis=1)


def _off_grazing(structure: Structure, wavelength_nm: float, orders: tuple[int, int]) -> float:
    """The wavelength, a trifle longer where an order leaves exactly along the surface, as with 500 nm on a period of 500 nm."""
    periods = structure.period_x_nm, structure.period_y_nm
    kx, ky = (np.arange(most + 1) * wavelength_nm / period for most, period in zip(orders, periods))
    grazing = np.abs(1 - np.add.outer(kx**2, ky**2)).min() < GRAZING
    return wavelength_nm * (1 + NUDGE) if grazing else wavelength_nm


def _reflect(
    structure: Structure, wavelength_nm: float, orders: tuple[int, int], gaps_nm: Sequence[float], polarisation: int
) -> np.ndarray:
    """(R, T) for each gap, one polarisation."""
    basis = _Basis(structure.period_x_nm, structure.period_y_nm, wavelength_nm, orders, polarisation)
    waves, blocks = basis.waves(), basis.block_waves()
    lattice = _layer(waves, *basis.lattice(structure.lattice.permittivity), basis.k0 * structure.lattice.thickness_nm)
    above = _cascade(basis, blocks, structure.above)
    below = _cascade(basis, blocks, structure.below)
    upper = _upper(basis, above, lattice)
    return np.array([_response(basis, waves, upper, below, gap) for gap in gaps_nm])


# --- plane waves ------------------------------------------------------------------------------------------------------
class _Basis:
    """Cosines and sines of a cell at one wavelength and polarisation.

    Along each direction a component is even (0, cosines from order 0) or odd (1, sines from order 1). With p the polarisation,
    Ex is (p, p) in x and y, Ey (1−p, 1−p), Ez (1−p, p) and Hz (p, 1−p). A full vector holds Ex, then Ey, each with the order
    along y first; a block holds all orders along x at one order along y.
    """

    def __init__(self, period_x_nm: float, period_y_nm: float, wavelength_nm: float, orders: tuple[int, int], p: int) -> None:
        self.p, self.q, self.orders = p, 1 - p, orders
        self.k0 = 2 * math.pi / wavelength_nm
        self.kx = np.arange(orders[0] + 1) * wavelength_nm / period_x_nm
        self.ky = np.arange(orders[1] + 1) * wavelength_nm / period_y_nm

    def waves(self) -> _Waves:
        """All waves together."""
        p, q = self.p, self.q
        here = {parity: np.eye(len(self.kx) - parity) for parity in (0, 1)}
        there = {parity: np.eye(len(self.ky) - parity) for parity in (0, 1)}
        grad = np.concatenate([np.kron(there[p], _derivative(self.kx, p)), np.kron(_derivative(self.ky, q), here[q])])
        curl = np.concatenate([np.kron(_derivative(self.ky, p), here[p]), -np.kron(there[q], _derivative(self.kx, q))])
        k2 = np.concatenate([np.add.outer(self.ky[parity:] ** 2, self.kx[parity:] ** 2).ravel() for parity in (p, q)])
        dense = _Waves(grad, curl, _normal(k2), *_air(grad, curl, _normal(k2)))
        return _Waves(grad, curl, dense.kz, sparse.csr_array(dense.admittance), sparse.csr_array(dense.impedance))

    def block_waves(self) -> _Waves:
        """The waves of each order along y; those that have no odd order 0 along y stand there uncoupled."""
        p, q = self.p, self.q
        along = self.ky[:, None, None]
        grad_x, curl_y = _derivative(self.kx, p), -_derivative(self.kx, q)
        grad_y, curl_x = along * np.eye(len(self.kx) - q), along * np.eye(len(self.kx) - p)
        grad = np.concatenate([np.broadcast_to(grad_x, (len(self.ky), *grad_x.shape)), grad_y], axis=1)
        curl = np.concatenate([curl_x, np.broadcast_to(curl_y, (len(self.ky), *curl_y.shape))], axis=1)
        k2 = self.ky[:, None] ** 2 + np.concatenate([self.kx[p:], self.kx[q:]]) ** 2
        return _Waves(grad, curl, _normal(k2), *_air(grad, curl, _normal(k2)))

    @functools.cached_property
    def places(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each block: which of its waves there are, and where they stand in a full vector."""
        count_x, count_y = len(self.kx), len(self.ky)
        wide = {parity: count_x - parity for parity in (0, 1)}
        first = (count_y - self.p) * wide[self.p]  # where Ey begins
        found = []
        for order in range(count_y):
            parts = [(0, self.p, 0), (wide[self.p], self.q, first)]
            there = [part for part in parts if order >= part[1]]
            block = np.concatenate([start + np.arange(wide[parity]) for start, parity, _ in there])
            full = np.concatenate([at + (order - parity) * wide[parity] + np.arange(wide[parity]) for _, parity, at in there])
            found.append((block, full))
        return found

    # --- permittivity ------------------------------------------------------------------------------------------------
    def lattice(self, permittivity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ε for Ex, ε for Ey, ε for Ez) of a lattice as matrices between waves: Li's rule across walls, a product along them."""
        nx, ny = permittivity.shape
        p, q = self.p, self.q
        x, y = _pairs(nx, self.orders[0]), _pairs(ny, self.orders[1])
        across_x = np.linalg.inv(_overlap(1 / permittivity.T, x[p]))  # at each y
        across_y = np.linalg.inv(_overlap(1 / permittivity, y[q]))  # at each x
        along = _overlap(permittivity.T, x[q])
        return _square(across_x, y[p]), _square(across_y, x[q], swap=True), _square(along, y[p])

    def stripes(self, permittivity: np.ndarray | complex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same of a layer that varies along x alone, for one block."""
        values = np.broadcast_to(permittivity, np.shape(permittivity) or (2 * self.orders[0] + 2,))
        x = _functions(len(values), self.orders[0])
        along = (x[self.q].T * values) @ x[self.q]
        return np.linalg.inv((x[self.p].T / values) @ x[self.p]), along, along


def _derivative(k: np.ndarray, to: int) -> np.ndarray:
    """−i∂ from waves of the other parity to those of parity `to`: both begin at order 0 if even, at 1 if odd."""
    return np.diag(k)[to:, 1 - to :]


def _normal(k2: np.ndarray) -> np.ndarray:
    """Normal component in air of waves with squared components along the surface; evanescent ones have it imaginary."""
    return np.sqrt(1 - k2 + 0j)


def _air(grad: np.ndarray, curl: np.ndarray, kz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Admittance of waves in air, Q/(i kz), and its inverse, P/(i kz)."""
    one = np.eye(grad.shape[-2])
    transposed = np.swapaxes(grad, -1, -2), np.swapaxes(curl, -1, -2)
    scale = (1j * kz)[..., None, :]
    return (curl @ transposed[1] - one) / scale, (one - grad @ transposed[0]) / scale


@functools.lru_cache(maxsize=32)
def _functions(n: int, orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (n, orders + 1) and sines (n, orders) at the middles of n parts of half a period; columns are orthonormal."""
    phase = np.pi * np.outer(np.arange(n) + 0.5, np.arange(orders + 1)) / n
    even = np.cos(phase) * np.sqrt(np.where(np.arange(orders + 1) > 0, 2, 1) / n)
    return even, (np.sin(phase) * np.sqrt(2 / n))[:, 1:]


@functools.lru_cache(maxsize=64)
def _pairs(n: int, orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Products of two cosines (n, orders + 1, orders + 1) and of two sines (n, orders, orders)."""
    even, odd = _functions(n, orders)
    return even[:, :, None] * even[:, None, :], odd[:, :, None] * odd[:, None, :]


def _overlap(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Σ over the last axis of values (…, n) with products of functions (n, a, b): (…, a, b)."""
    return (values @ pairs.reshape(len(pairs), -1)).reshape(*values.shape[:-1], *pairs.shape[1:])


def _square(matrices: np.ndarray, pairs: np.ndarray, *, swap: bool = False) -> np.ndarray:
    """Matrices (n, a, b) at n places, as one matrix between waves of both directions, that of y before that of x.

    `pairs` (n, c, d) are of the direction in which the places lie: y, or with `swap` x.
    """
    tensor = _overlap(np.moveaxis(matrices, 0, -1), pairs)  # (a, b, c, d)
    order = (0, 2, 1, 3) if swap else (2, 0, 3, 1)
    size = matrices.shape[1] * pairs.shape[1]
    return tensor.transpose(order).reshape(size, size)


# --- layers -----------------------------------------------------------------------------------------------------------
def _layer(waves: _Waves, exx: np.ndarray, eyy: np.ndarray, ezz: np.ndarray, depth: float) -> _Scattering:
    """Scattering of a layer between two sheets of air; `depth` is its thickness times k₀.

    Light from both sides in step makes e even about the middle of the layer, out of step odd. The one reflects as an admittance
    Q G, the other as an impedance G P, with G = tanh(√A ζ)/√A, A = P Q and ζ half the depth.
    """
    one = np.eye(waves.grad.shape[-2])
    across = np.swapaxes(waves.grad, -1, -2)
    p = one - waves.grad @ np.linalg.solve(np.broadcast_to(ezz, (*across.shape[:-2], *ezz.shape)), across)
    n = len(exx)
    q = (waves.curl @ np.swapaxes(waves.curl, -1, -2)).astype(exx.dtype)
    q[..., :n, :n] -= exx
    q[..., n:, n:] -= eyy
    steepest = math.sqrt(float(np.max(np.abs(waves.kz) ** 2)) + float(np.max(np.abs(exx))))
    g = tanh_over_root(p @ q, depth / 2, steepest)
    even = np.linalg.inv(one - (waves.impedance @ q) @ g)
    odd = np.linalg.inv(one - g @ (p @ waves.admittance))
    reflected, passed = even - odd, even + odd - one
    return _Scattering(reflected, passed, passed, reflected)


def tanh_over_root(a: np.ndarray, depth: float, steepest: float) -> np.ndarray:
    """tanh(√A ζ)/√A of a matrix or stack of them, which is one function of A whichever root is meant.

    `steepest` bounds |√A|. ζ is halved until Lambert's continued fraction of tanh, to its seventh term, is exact; then
    tanh 2x = 2 tanh x/(1 + tanh² x).
    """
    halvings = max(0, math.ceil(math.log2(max(depth * steepest / LARGEST_STEP, 1e-12))))
    step = depth / 2**halvings
    one = np.eye(a.shape[-1])
    x = a * step**2
    x2 = x @ x
    x3 = x2 @ x
    above = 135135 * one + 17325 * x + 378 * x2 + x3
    below = 135135 * one + 62370 * x + 3150 * x2 + 28 * x3
    g = step * np.linalg.solve(below, above)
    for _ in range(halvings):
        g = 2 * np.linalg.solve(one + a @ (g @ g), g)
    return g


def _cascade(basis: _Basis, waves: _Waves, layers: Sequence[Stripes]) -> list[_Scattering]:
    """Scattering of a stack of stripes, one for each block, without the waves that are not there."""
    one = np.broadcast_to(np.eye(waves.kz.shape[1], dtype=complex), (*waves.kz.shape, waves.kz.shape[1]))
    total = _Scattering(np.zeros_like(one), one, one, np.zeros_like(one))
    made: dict[int, _Scattering] = {}  # a stack may hold the same layer many times
    for layer in layers:
        if id(layer) not in made:
            made[id(layer)] = _layer(waves, *basis.stripes(layer.permittivity), basis.k0 * layer.thickness_nm)
        total = _star(total, made[id(layer)])
    parts = (total.s11, total.s12, total.s21, total.s22)
    return [_Scattering(*(part[order][np.ix_(block, block)] for part in parts)) for order, (block, _) in enumerate(basis.places)]


def _star(a: _Scattering, b: _Scattering) -> _Scattering:
    """Redheffer's star product: a above b."""
    one = np.eye(a.s11.shape[-1])
    down = np.linalg.inv(one - a.s22 @ b.s11)  # all the echoes between the two
    up = one + b.s11 @ down @ a.s22
    return _Scattering(
        a.s11 + a.s12 @ b.s11 @ down @ a.s21, a.s12 @ up @ b.s12, b.s21 @ down @ a.s21, b.s22 + b.s21 @ down @ a.s22 @ b.s12
    )


# --- the whole --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Upper:
    """Stripes and lattice above the gap, for one incoming wave: what leaves at once, and what they make of waves from below."""

    reflected: np.ndarray
    passed: np.ndarray
    s12: np.ndarray
    s22: np.ndarray


def _upper(basis: _Basis, above: Sequence[_Scattering], lattice: _Scattering) -> _Upper:
    """One incoming plane wave on stripes and lattice, with all echoes between the two."""
    size = len(lattice.s11)
    incoming = np.zeros(size, complex)
    incoming[basis.places[0][1][0]] = 1  # order (0, 0): the first wave of the first block
    returned = [part.s22 for part in above]
    passed = _times(basis, [part.s21 for part in above], incoming)
    rest = np.eye(size) - _times(basis, returned, lattice.s11)
    sources = np.column_stack([_times(basis, returned, lattice.s12), passed])
    solved = np.linalg.solve(rest, sources)
    echo, falls = solved[:, :-1], solved[:, -1]  # on the lattice, of waves from below and of the incoming one
    leave = [part.s12 for part in above]
    return _Upper(
        _times(basis, [part.s11 for part in above], incoming) + _times(basis, leave, lattice.s11 @ falls),
        lattice.s21 @ falls,
        _times(basis, leave, lattice.s12 + lattice.s11 @ echo),
        lattice.s22 + lattice.s21 @ echo,
    )


def _response(basis: _Basis, waves: _Waves, upper: _Upper, below: Sequence[_Scattering], gap_nm: float) -> tuple[float, float]:
    """(R, T) of all orders for one width of the gap."""
    phase = np.exp(1j * waves.kz * basis.k0 * gap_nm)
    mirror = [phase[at, None] * part.s11 * phase[at] for (_, at), part in zip(basis.places, below)]
    rest = np.eye(len(phase), dtype=complex)
    for (_, at), part in zip(basis.places, mirror):
        rest[:, at] -= upper.s22[:, at] @ part
    down = np.linalg.solve(rest, upper.passed)
    reflected = upper.reflected + upper.s12 @ _times(basis, mirror, down)
    passed = _times(basis, [part.s21 for part in below], phase * down)
    return _power(waves, reflected), _power(waves, passed)


def _times(basis: _Basis, blocks: Sequence[np.ndarray], full: np.ndarray) -> np.ndarray:
    """A matrix of blocks times a full vector or matrix."""
    product = np.empty(full.shape, complex)
    for (_, at), block in zip(basis.places, blocks):
        product[at] = block @ full[at]
    return product


def _power(waves: _Waves, e: np.ndarray) -> float:
    """Power that waves in air carry away from the structure, relative to the incoming wave."""
    return float(np.vdot(e, waves.admittance @ e).imag)
