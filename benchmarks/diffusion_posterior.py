"""The exact posterior of D given a clip's images, by Hamiltonian Monte Carlo over D and the molecule's path.

Known are σ of the still spot, photons, background and an ideal camera; unknown are the path and D, log-uniform over the range
that the model was trained on. The law is the simulator's own: Brownian means over 16 sub-intervals of an exposure as long as
the frame, a Gaussian spot widened by the motion inside one and integrated over pixels, Poisson counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from lib.task import Samples
from lib.tasks.diffusion import localise
from lib.tasks.diffusion.config import CLIP_FRAMES, CLIP_PX, Simulation, Training
from lib.tasks.diffusion.simulate import SUBSTEPS

POINTS = CLIP_FRAMES * SUBSTEPS
D_RANGE = (Training().d_min_px2, Training().d_max_px2)
BATCH = 32  # clips sampled side by side: their pictures stay in the processor's cache
WARM_UP, DRAWS, LEAPS = 160, 300, (3, 6)
MARGIN_PX = 5  # pixels around the path that are looked at: beyond, a spot has less than 1e-6 of its light


# --- clips ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Clips:
    """What is seen of B clips, cut to where the molecule was, and the truth that drew it."""

    counts: Tensor  # photons (B, frames, S, S)
    corner_px: Tensor  # (B, frames, 2) of the cut
    path_px: Tensor  # true means of the sub-intervals (B, 2, 256)
    track_px: Tensor  # straight from spot to localised spot; from its true place where the molecule is not seen
    d_px2: Tensor  # true D (B,)


def cut_sizes(path: np.ndarray) -> np.ndarray:
    """Pixels (n,) that hold the path (n, frames, substeps, 2) of every frame; all of them where it left the picture."""
    reach = np.abs(path - np.rint(path.mean(2, keepdims=True))).max((1, 2, 3)) + MARGIN_PX
    away = ((path < -0.5) | (path > CLIP_PX - 0.5)).any(3).mean(2).max(1) > 0.5
    return np.where(away, CLIP_PX, np.minimum(8 * np.ceil(reach / 4), CLIP_PX)).astype(int)


def cut(samples: Samples, size: int, sigma_px: float) -> Clips:
    """The clips as the sampler wants them. The camera is ideal, so counts are ADU less the offset."""
    path = samples.inputs["path_px"].astype(float)
    counts = samples.inputs["clip_adu"].astype(np.float32) - np.float32(samples.table["baseline_adu"].iloc[0])
    corner = np.clip(np.rint(path.mean(2)) - size // 2, 0, CLIP_PX - size).astype(int)
    y, x = (corner[..., axis, None] + np.arange(size) for axis in (0, 1))
    clip, frame = np.ogrid[: len(samples), :CLIP_FRAMES]
    seen = counts[clip[..., None, None], frame[..., None, None], y[..., :, None], x[..., None, :]]
    found, when = localise.track(counts, sigma_px=sigma_px), (np.arange(POINTS) + 0.5) / SUBSTEPS - 0.5
    place = np.where(found.visible[..., None], np.stack([found.y_px, found.x_px], -1), path.mean(2))
    track = [[np.interp(when, np.arange(CLIP_FRAMES), axis) for axis in one.T] for one in place]
    flat = path.transpose(0, 3, 1, 2).reshape(len(samples), 2, POINTS)
    d = samples.table["true_d_px2_per_frame"].to_numpy(float)
    return Clips(*(torch.tensor(np.asarray(part), dtype=torch.float32) for part in (seen, corner, flat, track, d)))


# --- posterior --------------------------------------------------------------------------------------------------------
def motion_precision() -> np.ndarray:
    """Inverse covariance (256, 256) of the sub-interval means of a Brownian path of 2D = 1 px²/frame from anywhere.

    Steps from mean to mean over intervals δ have variance 2δ/3 and, with the next step, covariance δ/6.
    """
    near = np.eye(POINTS - 1, k=1) + np.eye(POINTS - 1, k=-1)
    steps = np.diff(np.eye(POINTS), axis=0)
    return np.asarray(steps.T @ np.linalg.solve((np.eye(POINTS - 1) * 2 / 3 + near / 6) / SUBSTEPS, steps))


class Posterior:
    """Log density of path and D given the counts, in coordinates that are nearly independent and have unit scale.

    Modes of the path that the images show keep their place when D changes, modes that they do not show keep their share of the
    motion (partial non-centring): mode i moves as D^((1-c_i)/2), where c_i is the share of what is known of it from the images.
    A state is `u` (B, 2, 256), the modes at the batch's own D, and `x` (B,), ln D over that D.
    """

    def __init__(self, clips: Clips, settings: Simulation) -> None:
        self.clips, self.sigma2, self.background = clips, settings.sigma_px**2, settings.background
        self.light = settings.photons / SUBSTEPS
        self.d = float(clips.d_px2.log().mean().exp())
        self.edges = torch.arange(clips.counts.shape[-1] + 1) - 0.5
        information, precision = self._information(), motion_precision()
        stiffness, modes = eigh(precision, information)
        stiffness[0] = 0  # the place of the whole path is free
        known = 1 / (1 + stiffness / (2 * self.d))
        self.stiffness, self.half, self.modes, self.inverse, self.scale, self.precision = (
            torch.as_tensor(part, dtype=torch.float32)
            for part in (stiffness, (1 - known) / 2, modes.T.copy(), information @ modes, known**0.5, precision)
        )
        self.blocks = torch.stack([self.precision[i : i + SUBSTEPS, i : i + SUBSTEPS] for i in range(0, POINTS, SUBSTEPS)])
        self.scale_x = float((known**2).sum()) ** -0.5

    def _spots(self, path: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Share of light per pixel row and column (B, 2, frames, substeps, S), edges in units of the spot's σ, and 1/σ."""
        per_px = (self.sigma2 + d / (3 * SUBSTEPS)).rsqrt()[:, None, None, None, None]
        place = path.view(len(d), 2, CLIP_FRAMES, SUBSTEPS) - self.clips.corner_px.permute(0, 2, 1)[..., None]
        z = (self.edges - place[..., None]) * per_px
        return torch.diff(torch.erf(z * 0.5**0.5)) / 2, z, per_px[..., 0]

    def _expected(self, share: Tensor) -> Tensor:
        """Expected counts (B·frames, S, S)."""
        down, across = share.transpose(0, 1).flatten(1, 2)
        return torch.bmm(down.transpose(1, 2), across).mul_(self.light).add_(self.background)

    def _information(self) -> np.ndarray:
        """Fisher information (256, 256) on one axis of the path, mean over the batch: the same 16 × 16 block for each frame."""
        share, z, per_px = self._spots(self.clips.path_px, self.clips.d_px2)
        slope = torch.diff(torch.exp(-0.5 * z**2)) * per_px[..., None] / math.sqrt(2 * math.pi)
        (down, across), expected = slope.transpose(0, 1).flatten(1, 2), self._expected(share)
        rows, columns = share.transpose(0, 1).flatten(1, 2)
        block = torch.zeros(SUBSTEPS, SUBSTEPS, dtype=torch.float64)
        for one, other in ((down, columns), (rows, across)):
            gradient = torch.einsum("nky,nkx->nkyx", one, other) * self.light / expected[:, None].sqrt()
            flat = gradient.flatten(2).double()
            block += torch.bmm(flat, flat.transpose(1, 2)).mean(0) / 2
        block = (block + block.flip(0, 1)) / 2 + 1e-6 * block.trace() * torch.eye(SUBSTEPS)
        return np.kron(np.eye(CLIP_FRAMES), block.numpy())

    def path(self, u: Tensor, x: Tensor) -> Tensor:
        """Positions (B, 2, 256), px."""
        return (u * torch.exp(x[:, None, None] * self.half)) @ self.modes

    def coordinates(self, path: Tensor, x: Tensor) -> Tensor:
        """The `u` of a path: inverse of `path`."""
        return (path @ self.inverse) * torch.exp(-x[:, None, None] * self.half)

    def gradient(self, u: Tensor, x: Tensor, with_value: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of the log density by `u` and `x`, and its value (B,); −∞ outside the prior's range."""
        stretch, d, size = torch.exp(x[:, None, None] * self.half), self.d * torch.exp(x), len(x)
        mode = u * stretch
        share, z, per_px = self._spots(mode @ self.modes, d)
        expected, counts = self._expected(share), self.clips.counts.flatten(0, 1)
        excess = (counts / expected).sub_(1).mul_(self.light)
        down, across = share.transpose(0, 1).flatten(1, 2)
        by_share = torch.stack([across @ excess.transpose(1, 2), down @ excess]).view(2, size, *share.shape[2:]).transpose(0, 1)
        bell = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        by_path = -(by_share * torch.diff(bell)).sum(-1) * per_px
        by_width = -(by_share * torch.diff(bell * z)).sum((1, 2, 3, 4)) * per_px.view(-1)
        pull = self.stiffness * mode / (2 * d[:, None, None])
        roughness, freedom = (pull * mode).sum((1, 2)) / 2, 2 * float(self.half.sum()) - (POINTS - 1)
        by_mode = by_path.flatten(2) @ self.modes.T - pull
        widening = by_width * d * per_px.view(-1) / (6 * SUBSTEPS)
        by_x = (by_mode * mode * self.half).sum((1, 2)) + roughness + freedom + widening
        value = torch.full_like(x, torch.nan)
        if with_value:
            seen = (counts * torch.log(expected / self.background) - (expected - self.background)).sum((1, 2))
            value = seen.view(size, -1).sum(1) - roughness + freedom * x
            value = torch.where((d > D_RANGE[0]) & (d < D_RANGE[1]), value, -torch.inf)
        return by_mode * stretch, by_x, value

    def reorder(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """Metropolis steps that swap or turn stretches of time inside a frame: the picture stays, the motion decides.

        Frames of one parity change at once: through 16 points in between the prior links them by less than 1e-9.
        """
        path, motion = self.path(u, x), 4 * self.d * torch.exp(x)[:, None]
        at, kind = torch.arange(SUBSTEPS), (len(x), CLIP_FRAMES, 1)
        for turn in range(2):
            frames = path.view(len(x), 2, CLIP_FRAMES, SUBSTEPS)
            first, middle, end = torch.randint(SUBSTEPS + 1, (*kind[:2], 3), generator=rng).sort().values[..., None].unbind(2)
            seam, turned = first + end - middle, torch.randint(4, kind, generator=rng)  # which of the two stretches are turned
            early = torch.where(turned % 2 == 1, end - 1 - (at - first), middle + at - first)
            late = torch.where(turned >= 2, middle - 1 - (at - seam), first + at - seam)
            order = torch.where((at < first) | (at >= end), at, torch.where(at < seam, early, late))
            change = frames.gather(3, order[:, None].expand(-1, 2, -1, -1)) - frames
            slope = (path @ self.precision).view_as(frames)
            own = (change[..., None, :] @ self.blocks)[..., 0, :]
            cost = (change * (2 * slope + own)).sum((1, 3)) / motion
            accepted = torch.rand(cost.shape, generator=rng) < torch.exp(-cost)
            accepted[:, turn % 2 :: 2] = False
            path = (frames + change * accepted[:, None, :, None]).view_as(path)
        return self.coordinates(path, x)


# --- sampling ---------------------------------------------------------------------------------------------------------
def leap(
    posterior: Posterior, start: tuple[Tensor, Tensor], step: Tensor, free: bool, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One Hamiltonian trajectory: new `u` and `x`, and the chance (B,) with which it was accepted. `free`: D moves too."""
    u, x = start
    push_u, push_x = torch.randn(u.shape, generator=rng), torch.randn(x.shape, generator=rng)
    by_u, by_x, value = posterior.gradient(u, x)
    before = value - 0.5 * ((push_u**2).sum((1, 2)) + push_x**2)
    step = step * (0.8 + 0.4 * torch.rand(step.shape, generator=rng))
    step_u, step_x = step[:, None, None] * posterior.scale, step * posterior.scale_x * float(free)
    leaps = int(torch.randint(LEAPS[0], LEAPS[1] + 1, (1,), generator=rng))
    for left in reversed(range(leaps)):
        push_u, push_x = push_u + 0.5 * step_u * by_u, push_x + 0.5 * step_x * by_x
        u, x = u + step_u * push_u, x + step_x * push_x
        by_u, by_x, value = posterior.gradient(u, x, with_value=left == 0)
        push_u, push_x = push_u + 0.5 * step_u * by_u, push_x + 0.5 * step_x * by_x
    after = value - 0.5 * ((push_u**2).sum((1, 2)) + push_x**2)
    chance = torch.nan_to_num(torch.exp((after - before).clamp(max=0)), nan=0.0)
    accepted = torch.rand(chance.shape, generator=rng) < chance
    return torch.where(accepted[:, None, None], u, start[0]), torch.where(accepted, x, start[1]), chance


def chain(posterior: Posterior, path: Tensor, x: Tensor, rng: torch.Generator) -> np.ndarray:
    """Draws of ln D (DRAWS, B). Steps are fitted to each clip while warming up, in whose first half D stays where it is."""
    u, step, draws = posterior.coordinates(path, x), torch.full_like(x, 0.25), []
    for turn in range(WARM_UP + DRAWS):
        u = posterior.reorder(u, x, rng)
        u, x, chance = leap(posterior, (u, x), step, 2 * turn >= WARM_UP, rng)
        if turn < WARM_UP:
            step = step * torch.exp((chance - 0.75) * min(1.0, 3 / math.sqrt(turn + 1)))
        else:
            draws.append((x + math.log(posterior.d)).numpy())
    return np.stack(draws)


def sample(settings: Simulation, samples: Samples, seed: int) -> np.ndarray:
    """Draws of ln D (D in px²/frame): (2 chains, DRAWS, clips) of clips that came with their `path_px`.

    The first chain starts at the true path and D; the second at the track with D a half too large or a third too small.
    """
    draws = np.empty((2, DRAWS, len(samples)))
    sizes = cut_sizes(samples.inputs["path_px"].astype(float))
    rng = torch.Generator().manual_seed(seed)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        for some in np.array_split(rows, math.ceil(len(rows) / BATCH)):
            clips = cut(samples.take(some), int(size), settings.sigma_px)
            posterior = Posterior(clips, settings)
            x = (clips.d_px2 / posterior.d).log()
            wrong = x + math.log(1.5) * (1 - 2 * (torch.arange(len(x)) % 2))
            limits = [math.log(d / posterior.d) for d in D_RANGE]
            draws[0, :, some] = chain(posterior, clips.path_px, x, rng).T
            draws[1, :, some] = chain(posterior, clips.track_px, wrong.clamp(limits[0] + 0.1, limits[1] - 0.1), rng).T
    return draws
