"""Settings of the diffusion task: what is simulated, what a user knows of the microscope, what is flagged and trained."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from lib.task import Config, Phrase, TrainConfig, option

CLIP_FRAMES, CLIP_PX = 16, 64  # the shape of a clip: frames, then pixels on either side
FWHM_PER_SIGMA = 2.3548200450309493  # 2·sqrt(2·ln 2)


class Simulation(Config):
    """One simulated clip. `d_um2_s` becomes D in px²/frame through pixel size and frame interval."""

    d_um2_s: float = option(1.0, "Diffusion coefficient", unit="µm²/s", group="data", log=True, ge=0, le=1000)
    px_size_nm: float = option(100.0, "Pixel size in the sample", unit="nm", group="data", gt=0, le=10_000)
    frame_interval_s: float = option(0.01, "Time from frame to frame", unit="s", group="data", log=True, gt=0, le=100)
    exposure_s: float = option(0.01, "Time the shutter is open in each frame", unit="s", group="data", log=True, gt=0, le=100)
    fwhm_nm: float = option(200.0, "Width of the point-spread function in focus", unit="nm", group="data", gt=0, le=5000)
    defocus_nm: float = option(0.0, "Extra spot σ from defocus, added in quadrature", unit="nm", group="data", ge=0, le=5000)
    photons: float = option(
        500.0, "Mean photons from the molecule per frame", unit="photons/frame", group="data", log=True, ge=0, le=1e5
    )
    background: float = option(10.0, "Mean background photons", unit="photons/px/frame", group="data", log=True, ge=0, le=5000)
    background_gradient: float = option(
        0.0, "Relative background difference between the left and the right edge", group="data", ge=0, le=1.9
    )
    blink_probability: float = option(0.0, "Chance that the molecule is dark in a frame", group="data", ge=0, le=1)
    qe: float = option(1.0, "Quantum efficiency: photo-electrons per photon", unit="e⁻/photon", group="camera", gt=0, le=1)
    baseline_adu: float = option(100.0, "Camera offset", unit="ADU", group="camera", ge=0, le=60_000)
    e_per_adu: float = option(
        1.0, "Electrons (after any EM gain) per ADU", unit="e⁻/ADU", group="camera", log=True, gt=0, le=1000
    )
    em_gain: float = option(1.0, "EM gain; above 1 adds the excess noise factor F² = 2", group="camera", log=True, ge=1, le=2000)
    read_sigma_e: float = option(0.0, "Read noise (after any EM gain)", unit="e⁻", group="camera", ge=0, le=1000)

    @model_validator(mode="after")
    def _shutter(self) -> Self:
        if self.exposure_s > self.frame_interval_s * (1 + 1e-9):
            told = {"open": self.exposure_s, "interval": self.frame_interval_s}
            raise ValueError(Phrase("exposure_s = {open} is longer than frame_interval_s = {interval}", **told))
        return self

    @property
    def d_px2_per_frame(self) -> float:
        """D in px²/frame."""
        return self.d_um2_s * self.frame_interval_s / (self.px_size_nm / 1000) ** 2

    @property
    def sigma_px(self) -> float:
        """Standard deviation of the spot of a still molecule, before pixel integration, in px."""
        return float(((self.fwhm_nm / FWHM_PER_SIGMA) ** 2 + self.defocus_nm**2) ** 0.5 / self.px_size_nm)

    @property
    def adu_per_photon(self) -> float:
        """Mean ADU that one photon adds."""
        return self.qe * self.em_gain / self.e_per_adu

    @property
    def excess_noise(self) -> float:
        """F²: 2 with EM gain, 1 without (Hynecek & Nishiwaki 2003)."""
        return 2.0 if self.em_gain > 1 else 1.0


SIMULATION_PRESETS: dict[str, dict[str, Any]] = {
    "EMCCD": {"qe": 0.9, "baseline_adu": 450.0, "e_per_adu": 5.0, "em_gain": 300.0, "read_sigma_e": 50.0},
    "sCMOS": {"qe": 0.8, "baseline_adu": 100.0, "e_per_adu": 0.5, "em_gain": 1.0, "read_sigma_e": 1.5},
    "ideal camera": {"qe": 1.0, "baseline_adu": 0.0, "e_per_adu": 1.0, "em_gain": 1.0, "read_sigma_e": 0.0},
}


class Acquisition(Config):
    """What the user knows of the microscope. Empty fields are estimated from the clip and marked so."""

    px_size_nm: float | None = option(
        None, "Pixel size in the sample; needed for µm²/s", unit="nm", group="data", gt=0, le=10_000
    )
    frame_interval_s: float | None = option(
        None, "Time from frame to frame; needed for µm²/s", unit="s", group="data", gt=0, le=1000
    )
    exposure_s: float | None = option(None, "Time the shutter is open in each frame", unit="s", group="data", gt=0, le=1000)
    psf_sigma_px: float | None = option(
        None,
        "σ of a molecule that does not move (FWHM/2.355): from beads, or from Calibrate",
        unit="px",
        group="data",
        gt=0.2,
        le=5,
    )
    psf_sigma_error_percent: float = option(
        1.0, "How far psf_sigma_px may be off (standard error)", unit="%", group="data", ge=0.2, le=20
    )
    baseline_adu: float | None = option(None, "Camera offset", unit="ADU", group="camera", ge=0, le=60_000)
    e_per_adu: float | None = option(None, "Electrons (after any EM gain) per ADU", unit="e⁻/ADU", group="camera", gt=0, le=1000)
    em_gain: float | None = option(None, "EM gain; 1 for sCMOS", group="camera", ge=1, le=5000)
    read_sigma_e: float | None = option(None, "Read noise (after any EM gain)", unit="e⁻", group="camera", ge=0, le=5000)

    @model_validator(mode="after")
    def _shutter(self) -> Self:
        if self.exposure_s and self.frame_interval_s and self.exposure_s > self.frame_interval_s * (1 + 1e-9):
            raise ValueError(Phrase(
                "exposure_s = {open} is longer than frame_interval_s = {interval}; the shutter cannot be open longer than a "
                "frame lasts", open=self.exposure_s, interval=self.frame_interval_s,
            ))  # fmt: skip
        return self


class Rules(Config):
    """Thresholds of the Clean page. A clip that breaks one is flagged."""

    min_snr: float = option(3.0, "Lowest median signal-to-noise ratio of the spot", group="data", ge=0, le=100)
    min_photons: float = option(50.0, "Fewest photons per frame (median)", unit="photons/frame", group="data", ge=0, le=1e5)
    max_jump_px: float = option(
        15.0, "Longest step between two frames: longer is an identity swap", unit="px", group="data", gt=0, le=64
    )
    min_edge_px: float = option(4.0, "Closest the spot may come to the clip's border", unit="px", group="data", ge=0, le=32)
    max_second_spot: float = option(
        0.6, "Brightest second spot, relative to the molecule: brighter is two molecules", group="data", ge=0, le=1
    )
    max_saturated_px: int = option(0, "Most pixels at the camera's ceiling", unit="px", group="data", ge=0, le=65_536)
    max_dark_frames: int = option(3, "Most frames without a visible spot (blinking)", unit="frames", group="data", ge=0, le=16)


Family = Literal["SpotNet", "SimpleCNN", "ParkCNN", "ParkCNN no pooling", "ResNet2D", "ResNet3D"]


class Training(TrainConfig):
    """Training on freshly simulated clips: every parameter is drawn anew for each clip within these ranges."""

    model: Family = option("SpotNet", "Network family", group="model")
    dropout: float = option(0.1, "Share of SpotNet's hidden units that are silent in each step", group="model", ge=0, le=0.9)
    width: int = option(32, "Channels of the first layers", unit="channels", group="model", ge=4, le=256)
    clips_per_epoch: int = option(8192, "Fresh simulated clips in each epoch", unit="clips", group="data", ge=64, le=10_000_000)
    passes: int = option(
        1, "Epochs that see the same clips, turned, before new ones are simulated", unit="epochs", group="data", ge=1, le=100
    )
    validation_clips: int = option(
        2048, "Simulated clips that select the best weights", unit="clips", group="data", ge=64, le=100_000
    )
    test_clips: int = option(
        4096, "Simulated clips of the result sheet, seen by neither", unit="clips", group="data", ge=64, le=100_000
    )
    d_min_px2: float = option(0.003, "Smallest D drawn (log-uniform)", unit="px²/frame", group="data", log=True, gt=0, le=100)
    d_max_px2: float = option(30.0, "Largest D drawn", unit="px²/frame", group="data", log=True, gt=0, le=100)
    photons_min: float = option(70.0, "Fewest photons", unit="photons/frame", group="data", log=True, gt=0, le=1e5)
    photons_max: float = option(3000.0, "Most photons", unit="photons/frame", group="data", log=True, gt=0, le=1e5)
    background_min: float = option(0.7, "Lowest background", unit="photons/px/frame", group="data", log=True, gt=0, le=5000)
    background_max: float = option(280.0, "Highest background", unit="photons/px/frame", group="data", log=True, gt=0, le=5000)
    sigma_min_px: float = option(0.7, "Narrowest spot σ", unit="px", group="data", gt=0, le=10)
    sigma_max_px: float = option(2.0, "Widest spot σ", unit="px", group="data", gt=0, le=10)
    exposure_min: float = option(0.1, "Smallest exposure as a fraction of the frame interval", group="data", gt=0, le=1)
    exposure_max: float = option(1.0, "Largest exposure as a fraction of the frame interval", group="data", gt=0, le=1)
    emccd_fraction: float = option(0.5, "Share of clips from an EMCCD; the rest are sCMOS", group="data", ge=0, le=1)
    typical_fraction: float = option(
        0.3, "Share of clips drawn near everyday conditions (300–1000 photons, 5–30 background) instead of the whole range",
        group="data", ge=0, le=1,
    )  # fmt: skip

    @property
    def reads_once(self) -> bool:
        """Whether clips are kept from one epoch to the next as what the front end read of them."""
        return self.model == "SpotNet" and self.passes > 1

    def effort(self, epoch: int) -> float:
        """Epochs whose clips are kept take a twelfth of the time."""
        return 1.0 if not self.reads_once or epoch % self.passes == 0 else 1 / 12

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("d_{}_px2", "photons_{}", "background_{}", "sigma_{}_px", "exposure_{}"):
            low, high = name.format("min"), name.format("max")
            ends = {"low": getattr(self, low), "high": getattr(self, high)}
            if ends["low"] > ends["high"]:
                raise ValueError(Phrase("{lower} = {low} is above {upper} = {high}", lower=low, upper=high, **ends))
        return self


_READ_ONCE = {"batch_size": 512, "learning_rate": 2e-3}  # the front end reads a clip once, so many passes cost little
_SHIPPED = {
    **_READ_ONCE, "validation_clips": 4096, "typical_fraction": 0.5, "weight_decay": 0.02, "threads": 2, "loader_workers": 2
}  # fmt: skip
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "SpotNet": {**_READ_ONCE, "clips_per_epoch": 65_536, "epochs": 30, "passes": 30},
    "SpotNet, quick": {**_READ_ONCE, "clips_per_epoch": 8192, "epochs": 20, "passes": 20, "batch_size": 128, "test_clips": 1024},
    "SpotNet, as shipped": {**_SHIPPED, "clips_per_epoch": 786_432, "epochs": 32, "passes": 32, "dropout": 0.05},
    "SimpleCNN": {"model": "SimpleCNN"},
    "ParkCNN": {"model": "ParkCNN"},
    "ParkCNN no pooling": {"model": "ParkCNN no pooling"},
    "ResNet2D": {"model": "ResNet2D"},
    "ResNet3D": {"model": "ResNet3D", "width": 16},
}
