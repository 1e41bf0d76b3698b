"""Settings of the Bragg-peak task."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from lib.task import Config, Phrase, option
from lib.tasks.bragg.geometry import HC_EV_ANGSTROM

SUFFIXES = (".h5", ".hdf5", ".nxs", ".cxi", ".cbf", ".img", ".edf", ".tif", ".tiff", ".geom")
DRAWN = "drawn:"  # before the name of a mask that was drawn on the Clean page


# --- Acquisition: what the user knows of detector and beam ------------------------------------------------------------
class Acquisition(Config):
    """What the user knows; whatever is left empty comes from the file, a geometry file, or stays unknown."""

    beam_center_y_px: float | None = option(
        None, "Where the direct beam would hit, along slow scan, from the centre of the first pixel", unit="px", group="geometry",
        empty="from the file", ge=-1e5, le=1e5,
    )  # fmt: skip
    beam_center_x_px: float | None = option(
        None, "Where the direct beam would hit, along fast scan, from the centre of the first pixel", unit="px", group="geometry",
        empty="from the file", ge=-1e5, le=1e5,
    )  # fmt: skip
    px_size_um: float | None = option(
        None, "Width of a pixel", unit="µm", group="geometry", empty="from the file", gt=0, le=10_000
    )
    distance_mm: float | None = option(
        None, "From sample to detector, along the beam", unit="mm", group="geometry", empty="from the file", gt=0, le=1e5
    )
    wavelength_angstrom: float | None = option(
        None, "Wavelength of the beam; or give the photon energy", unit="Å", group="geometry", empty="from the file", gt=0, le=100
    )
    photon_energy_ev: float | None = option(
        None,
        "Photon energy of the beam; or give the wavelength",
        unit="eV",
        group="geometry",
        empty="from the file",
        gt=0,
        le=1e6,
    )
    geometry_file: str = option(
        "", "Name of a CrystFEL .geom file in the same folder or upload", group="geometry", max_length=400
    )
    dataset: str = option(
        "", "Where an HDF5 file keeps its frames, as /entry/data/data; empty looks in the usual places", group="data",
        max_length=400,
    )  # fmt: skip
    mask_file: str = option(
        "", "Name of a mask in the same folder or upload (HDF5, TIFF, EDF, CBF)", group="mask", max_length=400
    )
    mask_dataset: str = option("", "Where an HDF5 mask file keeps its mask; empty takes the only one", group="mask",
                               max_length=400)  # fmt: skip
    mask_good: Literal["by format", "zero", "one"] = option(
        "by format", "What a good pixel is in the mask file: zero (CXI, NeXus, pyFAI) or one (OM, CrystFEL)", group="mask"
    )
    bad_rectangles: tuple[str, ...] = option(
        (), "Areas to mask as y0:y1:x0:x1, first row and column in, last ones out; several with commas", unit="px", group="mask"
    )
    saturation_adu: float | None = option(
        None,
        "Reading at which a pixel is full; such pixels stay in the frame",
        unit="ADU",
        group="data",
        empty="from the file",
        gt=0,
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.beam_center_y_px is None) != (self.beam_center_x_px is None):
            raise ValueError(Phrase("beam_center_y_px and beam_center_x_px belong together: give both or none"))
        if self.wavelength_angstrom is not None and self.photon_energy_ev is not None:
            told = HC_EV_ANGSTROM / self.photon_energy_ev
            if abs(told / self.wavelength_angstrom - 1) > 1e-3:
                raise ValueError(Phrase(
                    "photon_energy_ev = {energy} is a wavelength of {told} Å, not {wavelength}: give one of them",
                    energy=self.photon_energy_ev, told=f"{told:.5g}", wavelength=self.wavelength_angstrom,
                ))  # fmt: skip
        for text in self.bad_rectangles:
            rectangle(text)
        return self

    @property
    def wavelength(self) -> float | None:
        """Wavelength in ångström, typed or from the photon energy."""
        if self.wavelength_angstrom is None and self.photon_energy_ev is not None:
            return HC_EV_ANGSTROM / self.photon_energy_ev
        return self.wavelength_angstrom


def drawn_mask(name: str) -> dict[str, Any]:
    """Fields of Acquisition that have a mask used that was drawn on the Clean page, of that file name."""
    return {"mask_file": f"{DRAWN}{name}", "mask_dataset": "", "mask_good": "one"}


def rectangle(text: str) -> tuple[int, int, int, int]:
    """(y0, y1, x0, x1) of a rectangle as `bad_rectangles` holds it. Raises ValueError saying what was expected."""
    parts = text.split(":")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise ValueError(Phrase("rectangle {area!r} is not y0:y1:x0:x1 in whole pixels, as 0:10:0:1024", area=text))
    y0, y1, x0, x1 = (int(part) for part in parts)
    if y0 >= y1 or x0 >= x1:
        raise ValueError(Phrase("rectangle {area!r} is empty: y1 must be greater than y0, and x1 than x0", area=text))
    return y0, y1, x0, x1


# --- Simulation: crystal, beam, detector, background ------------------------------------------------------------------
DetectorName = Literal[
    "flat", "Eiger 4M", "Eiger 16M", "Jungfrau 4M", "ePix10k 2M", "CSPAD", "Pilatus 300K", "Pilatus 6M", "CCD 1024"
]  # fmt: skip


class Simulation(Config):
    """Frames of one experiment: crystals in random orientations, or none, before one detector."""

    cell_a_angstrom: float = option(79.0, "Unit cell edge a", unit="Å", group="crystal", ge=3, le=1000)
    cell_b_angstrom: float = option(79.0, "Unit cell edge b", unit="Å", group="crystal", ge=3, le=1000)
    cell_c_angstrom: float = option(38.0, "Unit cell edge c", unit="Å", group="crystal", ge=3, le=1000)
    cell_alpha_deg: float = option(90.0, "Angle between b and c", unit="°", group="crystal", ge=30, le=150)
    cell_beta_deg: float = option(90.0, "Angle between a and c", unit="°", group="crystal", ge=30, le=150)
    cell_gamma_deg: float = option(90.0, "Angle between a and b", unit="°", group="crystal", ge=30, le=150)
    hkl_file: str = option(
        "", "CrystFEL list of intensities (h k l I, all of P1); empty draws them from Wilson's distribution", group="crystal",
        max_length=400, path=True,
    )  # fmt: skip
    b_factor_angstrom2: float = option(20.0, "Fall of intensities with resolution", unit="Å²", group="crystal", ge=0, le=500)
    resolution_angstrom: float = option(1.8, "Smallest d-spacing that diffracts", unit="Å", group="crystal", ge=0.7, le=50)
    mosaicity_deg: float = option(0.05, "σ of the orientations of mosaic blocks", unit="°", group="crystal", ge=0, le=3)
    domain_size_um: float = option(
        0.3, "Size of a mosaic block: smaller ones have wider spots in reciprocal space", unit="µm", group="crystal", log=True,
        ge=0.01, le=1000,
    )  # fmt: skip
    spot_photons: float = option(
        3000.0, "Mean photons of a reflection at 5 Å on the Ewald sphere, before B factor and polarisation", unit="photons",
        group="crystal", log=True, ge=0, le=1e9,
    )  # fmt: skip
    lattices: int = option(1, "Crystals in the beam at once", group="crystal", ge=1, le=8)
    hit_fraction: float = option(1.0, "Share of frames with a crystal", group="crystal", ge=0, le=1)

    photon_energy_ev: float = option(8000.0, "Photon energy", unit="eV", group="beam", ge=2000, le=60_000)
    bandwidth_percent: float = option(0.1, "σ of the photon energy", unit="%", group="beam", ge=0, le=10)
    divergence_mrad: float = option(0.3, "σ of the beam's direction", unit="mrad", group="beam", ge=0, le=20)
    beam_size_um: float = option(5.0, "σ of the beam, or of a smaller crystal", unit="µm", group="beam", ge=0, le=1000)
    polarisation: float = option(0.99, "Degree of linear polarisation along fast scan", group="beam", ge=-1, le=1)
    rotation_deg: float = option(0.0, "Turn about the fast axis during a frame; 0 is a still", unit="°", group="beam", ge=0, le=5)
    pulse_jitter: float = option(0.1, "Relative σ of the pulse energy from frame to frame", group="beam", ge=0, le=1)

    detector: DetectorName = option("flat", "Pixels and gaps of this detector", group="detector")
    height_px: int = option(1024, "Rows of a flat detector", unit="px", group="detector", ge=16, le=8192)
    width_px: int = option(1024, "Columns of a flat detector", unit="px", group="detector", ge=16, le=8192)
    px_size_um: float = option(100.0, "Pixels of a flat detector", unit="µm", group="detector", ge=5, le=1000)
    distance_mm: float = option(150.0, "Sample to detector", unit="mm", group="detector", ge=10, le=5000)
    beam_offset_y_px: float = option(0.0, "Beam from the detector's centre, slow scan", unit="px", group="detector",
                                     ge=-8192, le=8192)  # fmt: skip
    beam_offset_x_px: float = option(0.0, "Beam from the detector's centre, fast scan", unit="px", group="detector",
                                     ge=-8192, le=8192)  # fmt: skip
    readout: Literal["counting", "integrating"] = option(
        "counting", "Counts each photon once, or adds up charge: there the point spread makes the noise of neighbours alike",
        group="detector",
    )  # fmt: skip
    psf_px: float = option(0.3, "σ of the point-spread function", unit="px", group="detector", ge=0, le=5)
    adu_per_photon: float = option(1.0, "Gain", unit="ADU/photon", group="detector", log=True, gt=0, le=10_000)
    gain_spread: float = option(0.0, "Relative σ of the gain from pixel to pixel", group="detector", ge=0, le=0.5)
    pedestal_adu: float = option(0.0, "Reading without light", unit="ADU", group="detector", ge=-1000, le=60_000)
    read_sigma_adu: float = option(0.0, "Read noise", unit="ADU", group="detector", ge=0, le=10_000)
    read_correlation_px: float = option(0.0, "σ over which read noise is smoothed", unit="px", group="detector", ge=0, le=10)
    row_sigma_adu: float = option(0.0, "Offset that a row of a panel has in common", unit="ADU", group="detector", ge=0, le=1000)
    saturation_adu: float = option(65_535.0, "Largest reading", unit="ADU", group="detector", log=True, gt=0, le=1e9)
    hot_share: float = option(0.0, "Share of pixels that always read high", group="detector", ge=0, le=0.2)
    hot_masked: float = option(0.5, "Share of hot pixels that the mask knows", group="detector", ge=0, le=1)
    dead_share: float = option(0.0, "Share of pixels that read nothing; the mask knows them all", group="detector", ge=0, le=0.2)
    zingers_per_mpx: float = option(0.0, "Cosmic rays and the like in a frame", unit="1/Mpx", group="detector", ge=0, le=10_000)

    water_photons: float = option(10.0, "Highest point of the water ring", unit="photons/px", group="background", log=True,
                                  ge=0, le=1e5)  # fmt: skip
    air_photons: float = option(5.0, "Air scatter beside the direct beam", unit="photons/px", group="background", ge=0, le=1e5)
    flat_photons: float = option(0.2, "Fluorescence, the same everywhere", unit="photons/px", group="background", ge=0, le=1e5)
    saxs_photons: float = option(0.0, "Small-angle scatter at 100 Å", unit="photons/px", group="background", ge=0, le=1e5)
    ice_photons: float = option(0.0, "Highest ring of hexagonal ice", unit="photons/px", group="background", ge=0, le=1e5)
    ice_spottiness: float = option(0.3, "How uneven ice and powder rings are along the ring", group="background", ge=0, le=1)
    powder_photons: float = option(0.0, "Highest powder ring", unit="photons/px", group="background", ge=0, le=1e5)
    powder_d_angstrom: float = option(4.5, "Largest d-spacing of the powder; more rings at fractions", unit="Å",
                                      group="background", ge=1, le=100)  # fmt: skip
    ring_width_inv_angstrom: float = option(0.003, "σ of ice and powder rings in 1/d", unit="1/Å", group="background",
                                            ge=0.0005, le=0.1)  # fmt: skip
    halo_share: float = option(0.0, "Diffuse light around each spot, relative to the spot", group="background", ge=0, le=2)
    tilt: float = option(0.0, "Relative change of the background across the frame", group="background", ge=-1, le=1)
    texture: float = option(0.0, "Relative σ of slow, irregular changes", group="background", ge=0, le=0.5)
    diffuse_share: float = option(0.0, "Diffuse scattering of a crystal, as contrast of the background: streaks and clouds",
                                  group="background", ge=0, le=2)  # fmt: skip
    diffuse_px: float = option(5.0, "σ of its features across", unit="px", group="background", ge=1, le=100)
    diffuse_stretch: float = option(1.0, "How many times longer its features are than wide", group="background", ge=1, le=20)
    direct_beam_photons: float = option(0.0, "The direct beam, before the beam stop", unit="photons", group="background",
                                        ge=0, le=1e12)  # fmt: skip
    jet_photons: float = option(0.0, "Streak of the liquid jet, 20 px from the beam", unit="photons/px", group="background",
                                ge=0, le=1e5)  # fmt: skip
    jet_deg: float = option(0.0, "Direction of the streak from fast scan", unit="°", group="background", ge=-180, le=180)
    beamstop_mm: float = option(1.5, "Radius of the beam stop's shadow; 0 is none", unit="mm", group="background", ge=0, le=100)
    beamstop_arm_mm: float = option(0.0, "Width of its holder; 0 is none", unit="mm", group="background", ge=0, le=50)
    beamstop_arm_deg: float = option(
        90.0, "Direction of the holder from fast scan", unit="°", group="background", ge=-180, le=360
    )
    beamstop_leak: float = option(0.02, "Share of light that gets through", group="background", ge=0, le=1)
    beamstop_masked: bool = option(False, "Whether the mask knows the shadow", group="background")

    @model_validator(mode="after")
    def _cell_exists(self) -> Self:
        a, b, c = sorted((self.cell_alpha_deg, self.cell_beta_deg, self.cell_gamma_deg))
        if c >= a + b or a + b + c >= 360:
            raise ValueError(Phrase("no unit cell has the angles {a:g}°, {b:g}° and {c:g}°", a=a, b=b, c=c))
        return self

    @property
    def wavelength_angstrom(self) -> float:
        """Wavelength of the beam."""
        return HC_EV_ANGSTROM / self.photon_energy_ev


_INTEGRATING = {"readout": "integrating", "psf_px": 0.35, "gain_spread": 0.01}
_DETECTORS: dict[str, dict[str, Any]] = {
    "Eiger 4M": {"detector": "Eiger 4M", "hot_share": 2e-5, "dead_share": 1e-4},
    "Eiger 16M": {"detector": "Eiger 16M", "distance_mm": 200.0, "hot_share": 2e-5, "dead_share": 1e-4},
    "Jungfrau 4M": {"detector": "Jungfrau 4M", **_INTEGRATING, "adu_per_photon": 40.0, "read_sigma_adu": 6.0,
                    "hot_share": 1e-4, "dead_share": 3e-4, "saturation_adu": 400_000.0},
    "ePix10k 2M": {"detector": "ePix10k 2M", **_INTEGRATING, "adu_per_photon": 130.0, "read_sigma_adu": 20.0,
                   "row_sigma_adu": 4.0, "dead_share": 3e-4, "saturation_adu": 1_400_000.0},
    "CSPAD": {"detector": "CSPAD", **_INTEGRATING, "distance_mm": 130.0, "adu_per_photon": 28.0, "read_sigma_adu": 4.5,
              "row_sigma_adu": 1.0, "hot_share": 5e-4, "dead_share": 2e-3, "saturation_adu": 16_383.0},
    "Pilatus 300K": {"detector": "Pilatus 300K", "distance_mm": 60.0, "dead_share": 1e-4, "saturation_adu": 1_048_575.0},
    "Pilatus 6M": {"detector": "Pilatus 6M", "distance_mm": 250.0, "dead_share": 1e-4, "saturation_adu": 1_048_575.0},
    "CCD 1024": {"detector": "CCD 1024", "distance_mm": 150.0, "readout": "integrating", "psf_px": 0.7, "adu_per_photon": 1.5,
                 "pedestal_adu": 40.0, "read_sigma_adu": 3.0, "zingers_per_mpx": 5.0, "rotation_deg": 0.5,
                 "divergence_mrad": 1.0, "spot_photons": 2e5, "water_photons": 300.0, "air_photons": 200.0, "texture": 0.02},
}  # fmt: skip
# Camera length and photon energy: a detector twice as near gets four times the light in each pixel.
_SETTINGS: dict[str, dict[str, Any]] = {
    f"{distance / 1000:g} m, {energy / 1000:g} keV": {
        "distance_mm": float(distance), "photon_energy_ev": float(energy), "px_size_um": 200.0, "mosaicity_deg": 0.1,
        "water_photons": round(10 * (150 / distance) ** 2, 2), "air_photons": round(5 * (150 / distance) ** 2, 2),
    }
    for distance in (150, 250, 350) for energy in (6000, 7000, 8000)
}  # fmt: skip
SIMULATION_PRESETS: dict[str, dict[str, Any]] = {**_SETTINGS, **_DETECTORS}
