"""Whether the wave solver keeps the laws of light, and how long it takes beside torcwa.

    OMP_NUM_THREADS=1 python -m benchmarks.reflectance_solver

Energy: specimens without absorption, all band centres. Films: against tmm. Time: CPU seconds of one thread for a specimen at
several wavelengths, each solver with the fewest diffraction orders that bring both reflectances within TOLERANCE of the limit,
which is our solver at twice its usual orders; where none of the orders tried is enough, the time with the most of them counts.
torcwa takes the same permittivities on the same grid; one air gap, as it cannot share work between gaps. Peers are measured where
they can be imported, for example from a folder on PYTHONPATH that was filled with `pip install --no-deps --target FOLDER tmm
torcwa`. Exits with 1 where a promise is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.limits import Limits
from benchmarks.peers import module
from lib.tasks.reflectance import channels, specimen
from lib.tasks.reflectance.config import CENTRE_NM
from lib.tasks.reflectance.optics import Lattice, Stripes, Structure, reflect
from lib.tasks.reflectance.scale import KINDS, Scale

ENERGY_ERROR = FILM_ERROR = 1e-10
TOLERANCE = 0.005  # of reflectance: half a percentage point
TIMES_FASTER = 5.0
KIND = "lycaenid"  # the smallest cell, which is kindest to the peer
WAVELENGTHS_NM = (450.0, 630.0, 940.0)
ACCURACIES = (0.4, 0.6, 0.8, 1.0, 1.3, 1.6)  # times the orders that channels take
LIMIT_ACCURACY = 2.0

Solve = Callable[[Structure, float, tuple[int, int], float], np.ndarray]  # (polarisation, (R, T))


def ours(structure: Structure, wavelength_nm: float, orders: tuple[int, int], gap_nm: float) -> np.ndarray:
    return reflect(structure, wavelength_nm, orders, (gap_nm,))[0]


def torcwa(structure: Structure, wavelength_nm: float, orders: tuple[int, int], gap_nm: float) -> np.ndarray:
    """The same by torcwa in double precision: all propagating orders of both polarisations added up."""
    torch, peer = module("torch"), module("torcwa")
    x_nm, y_nm = structure.period_x_nm, structure.period_y_nm
    solver = peer.rcwa(
        freq=1 / wavelength_nm, order=list(orders), L=[x_nm, y_nm], dtype=torch.complex128, device=torch.device("cpu")
    )
    solver.add_input_layer(eps=1.0)
    solver.add_output_layer(eps=1.0)
    solver.set_incident_angle(inc_ang=0.0, azi_ang=0.0)
    layers: list[Stripes | Lattice] = [*structure.above, structure.lattice, Stripes(1.0, gap_nm), *structure.below]
    for layer in layers:
        whole = _whole(layer.permittivity, structure.lattice.permittivity.shape[1])
        solver.add_layer(thickness=layer.thickness_nm, eps=whole if isinstance(whole, complex) else torch.as_tensor(whole))
    solver.solve_global_smatrix()
    most = int(x_nm / wavelength_nm), int(y_nm / wavelength_nm)
    leaving = [
        [i, j]
        for i in range(-most[0], most[0] + 1)
        for j in range(-most[1], most[1] + 1)
        if math.hypot(i * wavelength_nm / x_nm, j * wavelength_nm / y_nm) < 1
    ]

    def power(port: str, incoming: str) -> float:
        parts = [solver.S_parameters(leaving, port=port, polarization=out + incoming) for out in "ps"]
        return float(sum((part.abs() ** 2).sum() for part in parts))

    return np.array([[power(port, incoming) for port in ("reflection", "transmission")] for incoming in "ps"])


def _whole(quarter: np.ndarray | complex, parts_y: int) -> np.ndarray | complex:
    """A cell from its quarter; the number of a film as it is."""
    if np.ndim(quarter) == 0:
        return complex(quarter)
    values = np.asarray(quarter, complex)
    values = np.repeat(values[:, None], parts_y, axis=1) if values.ndim == 1 else values
    half = np.concatenate([values[::-1], values])
    return np.concatenate([half[:, ::-1], half], axis=1)


# --- laws -------------------------------------------------------------------------------------------------------------
def show_energy(limits: Limits) -> None:
    """Light that is neither reflected nor transmitted, where nothing absorbs."""
    worst = 0.0
    for number, kind in enumerate(KINDS):
        scale = replace(specimen.draw(kind, np.random.default_rng(number)), melanin=0.0, pigment_k=0.0)
        for wavelength in CENTRE_NM.values():
            found = channels.cover_scale(scale, wavelength)
            worst = max(worst, float(np.abs(found.sum(axis=-1) - 1).max()))
    limits.show("energy: largest |R + T − 1|, log10", math.log10(max(worst, 1e-16)), -math.inf, math.log10(ENERGY_ERROR))


def show_films(limits: Limits) -> None:
    """Largest difference to transfer matrices of films, with and without absorption."""
    tmm = module("tmm")
    if tmm is None:
        print("films: tmm is not installed")
        return
    worst = 0.0
    for index in (1.56 + 0j, 1.7 + 0.08j, 2.5 + 0.5j):
        for wavelength in CENTRE_NM.values():
            upper, lower = Stripes(index**2, 130.0), Stripes(index**2, 190.0)
            film = Structure(1500.0, 500.0, (upper,), Lattice(np.full((40, 24), index**2), 70.0), (lower,))
            known = tmm.coh_tmm("s", [1, index, 1, index, 1], [np.inf, 200, 900, 190, np.inf], 0, wavelength)
            worst = max(worst, float(np.abs(ours(film, wavelength, (6, 3), 900.0) - [known["R"], known["T"]]).max()))
    limits.show("films: largest difference to tmm, log10", math.log10(max(worst, 1e-16)), -math.inf, math.log10(FILM_ERROR))


# --- time -------------------------------------------------------------------------------------------------------------
def cheapest(solve: Solve, scale: Scale, wavelength_nm: float, limit: np.ndarray) -> tuple[tuple[int, int], float, float]:
    """(orders, error, CPU seconds) with the fewest orders whose reflectances are within TOLERANCE; else with the most tried."""
    structure = channels.structure(scale, wavelength_nm)
    orders, error, seconds = (0, 0), math.inf, 0.0
    for accuracy in ACCURACIES:
        orders = channels.orders(scale, wavelength_nm, accuracy)
        begin = time.process_time()
        found = solve(structure, wavelength_nm, orders, scale.air_gap_nm)
        seconds = time.process_time() - begin
        error = float(np.abs(found[:, 0] - limit).max())
        if error <= TOLERANCE:
            break
    return orders, error, seconds


def show_time(limits: Limits) -> None:
    """Both solvers at equal truncation error, wavelength by wavelength."""
    for kind in KINDS:
        channels.measure(specimen.draw(kind, np.random.default_rng(1)))  # the first calls load and allocate
    begin = time.process_time()
    for kind in KINDS:
        channels.measure(specimen.draw(kind, np.random.default_rng(2)))
    print(f"ten channels: {(time.process_time() - begin) / len(KINDS):.2f} CPU-s per specimen, mean of ten kinds")
    if module("torcwa") is None:
        print("time: torcwa is not installed")
        return
    module("torch").set_num_threads(1)
    scale, spent = specimen.draw(KIND, np.random.default_rng(3)), {"ours": 0.0, "torcwa": 0.0}
    for solve in (ours, torcwa):  # the first call loads
        solve(channels.structure(scale, 530.0), 530.0, (1, 1), scale.air_gap_nm)
    print(f"{'wavelength':<12}{'solver':<10}{'orders':<10}{'error, pp':>10}{'CPU-s':>10}")
    for wavelength in WAVELENGTHS_NM:
        structure = channels.structure(scale, wavelength)
        limit = ours(structure, wavelength, channels.orders(scale, wavelength, LIMIT_ACCURACY), scale.air_gap_nm)[:, 0]
        for name, solve in (("ours", ours), ("torcwa", torcwa)):
            orders, error, seconds = cheapest(solve, scale, wavelength, limit)
            spent[name] += seconds
            print(
                f"{wavelength:<12g}{name:<10}{orders!s:<10}{100 * error:>10.3f}{seconds:>10.4f}"
                + ("" if error <= TOLERANCE else "  not reached")
            )
    limits.show("time of torcwa ÷ ours at equal truncation error", spent["torcwa"] / spent["ours"], TIMES_FASTER, math.inf)


def show(limits: Limits) -> None:
    """Every table."""
    show_energy(limits)
    show_films(limits)
    show_time(limits)


def main(arguments: list[str] | None = None) -> int:
    """Print every table; 1 where a promise is missed."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.reflectance_solver", description=(__doc__ or "").split("\n")[0]
    ).parse_args(arguments)
    limits = Limits()
    show(limits)
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
