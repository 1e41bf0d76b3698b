"""The networks: ours (SpotNet) and the original project's four families, on one front end and one output.

Every network takes `clip_adu` (B, 16, 64, 64) and `camera` (B, 5: baseline_adu, slope_adu, then exposure fraction, σ of a
still spot in px and its relative error, −1 where unknown). It gives a mixture of Gaussians over log10 D (D in px²/frame), so
error bars may be skewed, or wide where D is not measurable.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.tasks.diffusion.features import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    HERMITE,
    SCALARS,
    VECTORS,
    clip_features,
    frame_features,
    physics_log10_d,
)
from lib.tasks.diffusion.frontend import Spots, read_spots

COMPONENTS = 4
GRID = (-3.5, 2.5, 601)  # log10 D where quantiles are looked up: 0.01 apart
QUANTILES = (0.025, 0.16, 0.84, 0.975)
CALIBRATED = 3  # so many of READINGS, from the first, set the factor on the error bars
READINGS = ("log10_photons", "log10_background", "log10_sigma_px", "score", "second_spot", "largest_step_px")


def full_precision(device_type: str) -> AbstractContextManager[object]:
    """Switch mixed precision off for the arithmetic inside; does nothing where it is off (so that exports stay plain)."""
    return torch.autocast(device_type, enabled=False) if torch.is_autocast_enabled(device_type) else nullcontext()


def mixture(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log weights, means, standard deviations) of log10 D, (…, n) each, from a head's (…, 3·n) output."""
    logits, means, widths = raw.float().chunk(3, -1)
    return F.log_softmax(logits, -1), means, F.softplus(widths) + 0.01


def negative_log_likelihood(outputs: Tensor, log10_d: Tensor) -> Tensor:
    """Mean of −log p(log10 D) over the batch; `outputs` are those of `Estimator.forward`."""
    weights, means, widths = mixture(outputs[..., : -len(READINGS)])
    z = (log10_d.unsqueeze(-1) - means) / widths
    return -torch.logsumexp(weights - widths.log() - 0.5 * z**2 - 0.5 * math.log(2 * math.pi), -1).mean()


def readings(spots: Spots) -> Tensor:
    """(B, READINGS): what tells whether a clip is like the training data."""
    width = 0.5 * (spots.covariance[..., 0] + spots.covariance[..., 1])
    steps = (spots.centre[:, 1:] - spots.centre[:, :-1]).square().sum(-1).sqrt()
    return torch.stack(
        [
            spots.photons.clamp(min=1).mean(1).log10(),
            (0.5 * spots.noise**2 + 0.5 * spots.background.clamp(min=0)).clamp(min=1e-2).log10(),
            0.5 * width.mean(1).log10(),
            spots.score.mean(1),
            spots.second,
            steps.amax(1),
        ],
        -1,
    )


class Symmetry:
    """One of the eight symmetries of the square, acting on images and on the features that have a direction."""

    def __init__(self, number: int) -> None:
        self.swap, self.flip_y, self.flip_x = bool(number & 4), bool(number & 2), bool(number & 1)

    def images(self, x: Tensor) -> Tensor:
        """(…, H, W) images."""
        axes = [axis for axis, flip in ((-2, self.flip_y), (-1, self.flip_x)) if flip]
        x = x.flip(axes) if axes else x
        return x.transpose(-1, -2) if self.swap else x

    def frame_features(self, f: Tensor) -> Tensor:
        """(…, FRAME_FEATURES), as `features.frame_features` orders them."""
        flips, orders = (self.flip_y, self.flip_x), [HERMITE.index(o[::-1] if self.swap else o) for o in HERMITE]
        sign_plus, sign_cross = (-1.0 if self.swap else 1.0), (-1.0 if self.flip_y != self.flip_x else 1.0)
        vector_signs = [-1.0 if flip else 1.0 for flip in flips]
        shape_signs = [vector_signs[0] ** in_y * vector_signs[1] ** in_x for in_y, in_x in HERMITE]
        signs = [1.0] * (SCALARS - 2) + [sign_plus, sign_cross] + vector_signs * VECTORS + shape_signs
        index = list(range(SCALARS))
        for start in range(SCALARS, SCALARS + 2 * VECTORS, 2):
            index += [start + 1, start] if self.swap else [start, start + 1]
        index += [SCALARS + 2 * VECTORS + k for k in orders]
        return (f * torch.tensor(signs, device=f.device, dtype=f.dtype))[..., torch.tensor(index, device=f.device)]


class Estimator(nn.Module):
    """Front end → body → mixture over log10 D; a body gives one embedding per clip."""

    calibration: Tensor  # coefficients of the factor on the mixture's standard deviations, see `_factor`
    reading_low: Tensor  # range of each reading on validation clips
    reading_high: Tensor
    precise: bool = False  # reads clips in float64: the fit and the track amplify float32's rounding to 1e-4 of D

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body
        self.clip_scale = Standardise(CLIP_FEATURES)
        hidden, last = body.hidden, nn.Linear(body.hidden // 2, 3 * COMPONENTS)
        self.head = nn.Sequential(
            nn.Linear(body.embedding + CLIP_FEATURES, hidden),
            nn.SiLU(),
            nn.Dropout(body.dropout),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Dropout(body.dropout),
            nn.Linear(hidden, hidden // 2),
            nn.SiLU(),
            last,
        )
        with torch.no_grad():  # start at the estimate from track and widths, with components spread around it
            last.weight.mul_(0.1)
            last.bias[COMPONENTS : 2 * COMPONENTS] = torch.linspace(-0.3, 0.3, COMPONENTS)
        self.register_buffer("calibration", torch.zeros(2 + CALIBRATED))
        self.register_buffer("reading_low", torch.full((len(READINGS),), -torch.inf))
        self.register_buffer("reading_high", torch.full((len(READINGS),), torch.inf))

    def read(self, clip_adu: Tensor, camera: Tensor) -> dict[str, Tensor]:
        """What body and head take of ADU clips: in full precision and without gradients, for it has no weights.

        `clip` (B, CLIP_FEATURES), `readings` (B, READINGS), and the body's own inputs.
        """
        with torch.no_grad(), full_precision(clip_adu.device.type):
            number = torch.float64 if self.precise else torch.float32
            clip_adu, camera = clip_adu.to(number), camera.to(number)
            spots = read_spots(clip_adu, camera)
            spots = replace(spots, centre=spots.centre.float())  # the sine modes are float32
            read = {"clip": clip_features(spots, camera), "readings": readings(spots), **self.body.inputs(spots)}
            return {name: value.float() for name, value in read.items()}

    def mixture_of(self, read: dict[str, Tensor]) -> Tensor:
        """(B, 3·COMPONENTS) raw mixture of log10 D."""
        clip = self.clip_scale(read["clip"])
        embedding = self.body({**read, "clip": clip})
        with full_precision(embedding.device.type):
            raw = self.head(torch.cat([embedding.float(), clip], -1))
            logits, means, widths = raw.chunk(3, -1)
            return torch.cat([logits, means + physics_log10_d(read["clip"]).unsqueeze(1), widths], -1)

    def turned(self, read: dict[str, Tensor]) -> Tensor:
        """(B, 8·3·COMPONENTS) raw mixture: the average of those of the eight symmetries."""
        ways = [self.body.turn(read, Symmetry(k)) for k in range(8)]
        raw = self.mixture_of({name: torch.cat([way[name] for way in ways]) for name in read})  # one pass over eight batches
        logits, means, widths = (part.unflatten(0, (8, -1)).transpose(0, 1) for part in raw.chunk(3, -1))
        return torch.cat([part.flatten(1) for part in (F.log_softmax(logits, -1), means, widths)], -1)

    def forward(self, clip_adu: Tensor | None = None, camera: Tensor | None = None, **read: Tensor) -> Tensor:
        """(B, 3·n + READINGS): raw mixture parameters of n components, then the clip's readings.

        Takes clips, or what `read` made of them before. In training the clip is turned at random, else all ways.
        """
        read = self.read(clip_adu, camera) if clip_adu is not None and camera is not None else read
        if self.training:
            raw = self.mixture_of(self.body.turn(read, Symmetry(int(torch.randint(8, ())))))
        else:
            raw = self.turned(read)
        return torch.cat([raw, read["readings"]], -1)

    def physical(self, clip_adu: Tensor | None = None, camera: Tensor | None = None, **read: Tensor) -> dict[str, Tensor]:
        """D in px²/frame with 68 % and 95 % limits, averaged over the eight symmetries, and the out-of-range readings.

        Takes clips, or what `read` made of them before.

        `d_px2_per_frame` is ten to the posterior mean of log10 D; limits are quantiles of the posterior. `out_of_range` has a
        bit set for each of READINGS that lies outside what validation clips showed.
        """
        read = self.read(clip_adu, camera) if clip_adu is not None and camera is not None else read
        posterior, values = Posterior.of(self.turned(read)), read["readings"]
        limits = posterior.quantiles(self._factor(posterior, values))
        outside = ((values < self.reading_low) | (values > self.reading_high)).to(torch.float32)
        bits = 2.0 ** torch.arange(len(READINGS), device=values.device, dtype=torch.float32)
        names = ("d_px2_per_frame_lo95", "d_px2_per_frame_lo", "d_px2_per_frame_hi", "d_px2_per_frame_hi95")
        power = {name: 10.0 ** limits[:, i] for i, name in enumerate(names)}
        return {"d_px2_per_frame": 10.0**posterior.centre, **power, "out_of_range": (outside * bits).sum(1)}

    def calibrate(self, outputs: Tensor, log10_d: Tensor) -> None:
        """Set the factor on the error bars so that 68 % intervals hold 68 % of validation clips, and the readings' ranges.

        `outputs` are those of `forward` (n, …). The factor is the 68 % quantile of |log10 D − centre| over the half-width of
        the interval, as in conformal prediction, by linear quantile regression of its logarithm on brightness, background and
        the stated width (Koenker & Bassett 1978): a network is too sure where clips are faint, and not sure enough in good light.
        """
        from sklearn.linear_model import QuantileRegressor  # half a second that only training pays

        values = outputs[:, -len(READINGS) :]
        posterior = Posterior.of(outputs[:, : -len(READINGS)])
        limits, centre = posterior.quantiles(torch.ones_like(log10_d)), posterior.centre
        half = torch.where(log10_d > centre, limits[:, 2] - centre, centre - limits[:, 1]).clamp(min=1e-4)
        ratio = ((log10_d - centre).abs() / half).clamp(min=1e-3).log()
        regression = QuantileRegressor(quantile=0.68, alpha=0).fit(
            self._conditions(posterior, values).double().cpu().numpy(), ratio.double().cpu().numpy()
        )
        edges = torch.tensor([0.001, 0.999], dtype=values.dtype, device=values.device)
        low, high = torch.quantile(values, edges, dim=0)
        room = 0.05 * (high - low)
        with torch.no_grad():
            self.calibration.copy_(torch.tensor([regression.intercept_, *regression.coef_]))
            self.reading_low.copy_(low - room)
            self.reading_high.copy_(high + room)

    def _conditions(self, posterior: Posterior, values: Tensor) -> Tensor:
        """(B, 1 + CALIBRATED): what the factor on the error bars depends on, near zero in everyday conditions."""
        typical = torch.tensor([2.5, 1.0, 0.1], device=values.device)
        return torch.cat([values[:, :CALIBRATED] - typical, posterior.deviation().log10().unsqueeze(1) + 1], 1)

    def _factor(self, posterior: Posterior, values: Tensor) -> Tensor:
        """(B,) factor on the mixture's standard deviations, between a third and three."""
        coefficients = self.calibration[1:].unsqueeze(1)
        return (self.calibration[0] + self._conditions(posterior, values) @ coefficients).clamp(-1.1, 1.1).exp().squeeze(1)


@dataclass(frozen=True)
class Posterior:
    """A mixture of n Gaussians over log10 D for each of B clips: weights, means and standard deviations (B, n)."""

    weights: Tensor
    means: Tensor
    widths: Tensor
    centre: Tensor  # (B,) mean of log10 D

    @classmethod
    def of(cls, raw: Tensor) -> Posterior:
        """From the head's (B, 3·n) output."""
        logits, means, widths = mixture(raw)
        weights = logits.exp()
        return cls(weights, means, widths, (weights * means).sum(1))

    def deviation(self) -> Tensor:
        """(B,) standard deviation of log10 D."""
        apart = self.means - self.centre.unsqueeze(1)
        return (self.weights * (self.widths**2 + apart**2)).sum(1).sqrt()

    def quantiles(self, factor: Tensor) -> Tensor:
        """(B, 4) QUANTILES of log10 D with all deviations from the centre times `factor` (B,).

        By linear interpolation of the cumulative distribution on a grid.
        """
        low, high, points = GRID
        grid = torch.linspace(low, high, points, device=self.means.device)
        step = (high - low) / (points - 1)
        centre, factor = self.centre.unsqueeze(1), factor.unsqueeze(1)
        spread = centre + (self.means - centre) * factor
        z = (grid.view(1, -1, 1) - spread.unsqueeze(1)) / (self.widths * factor).unsqueeze(1)
        cumulative = (self.weights.unsqueeze(1) * 0.5 * (1 + torch.erf(z / math.sqrt(2)))).sum(-1)
        found = []
        for q in QUANTILES:
            below = (cumulative < q).to(torch.int64).sum(1).clamp(1, points - 1)
            upper = cumulative.gather(1, below.unsqueeze(1)).squeeze(1)
            lower = cumulative.gather(1, (below - 1).unsqueeze(1)).squeeze(1)
            part = ((q - lower) / (upper - lower).clamp(min=1e-9)).clamp(0, 1)
            found.append(low + step * (below.to(part.dtype) - 1 + part))
        return torch.stack(found, 1)


class Standardise(nn.BatchNorm1d):
    """Features to zero mean and unit variance over the training clips, cut at ±8: outliers are rare but very far out."""

    def __init__(self, features: int) -> None:
        super().__init__(features, affine=False, momentum=None)  # None: the mean over all batches, so a short run has it too

    def forward(self, x: Tensor) -> Tensor:
        """(B, features) or (B, features, T), the same shape."""
        learns = self.training and x.shape[0] > 1  # one clip has no variance
        x = super().forward(x) if learns else F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
        return x.clamp(-8.0, 8.0)


class Body(nn.Module):
    """Turns what the front end reads, with `clip` standardised, into one embedding per clip."""

    embedding: int
    hidden: int = 128  # width of the head behind it
    dropout: float = 0.0  # in that head

    def inputs(self, spots: Spots) -> dict[str, Tensor]:
        """Named tensors, first axis the clip, that `forward` takes."""
        raise TypeError(f"{type(self).__name__} does not say what it reads of a spot")

    def turn(self, read: dict[str, Tensor], symmetry: Symmetry) -> dict[str, Tensor]:
        """What would have been read of the clip turned by `symmetry`."""
        raise TypeError(f"{type(self).__name__} does not say how to turn what it reads")

    def forward(self, read: dict[str, Tensor]) -> Tensor:
        """(B, embedding)."""
        raise TypeError(f"{type(self).__name__} does not say what it makes of a clip")


class SpotNet(Body):
    """Ours: what each blurred spot and its neighbours in time say, read in the light of the whole clip.

    Each frame is a token: brightness, width, elongation, skew and kurtosis of the smear, and the displacements before and
    after, so that path and blur speak about D together. What one token holds comes from the front end, so a clip is read once
    and the weights are few. The order of frames matters only to their neighbours, hence mean and spread over frames.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        token = 2 * width
        self.hidden, self.dropout = 16 * width, dropout
        self.scale = Standardise(FRAME_FEATURES)
        self.context = nn.Linear(CLIP_FEATURES, width)
        self.token = nn.Sequential(
            nn.Conv1d(FRAME_FEATURES + width, token, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(token, token, 1),
            nn.SiLU(),
            nn.Conv1d(token, token, 1),
        )
        self.embedding = 2 * FRAME_FEATURES + 2 * token

    def inputs(self, spots: Spots) -> dict[str, Tensor]:
        """`frames` (B, T, FRAME_FEATURES)."""
        return {"frames": frame_features(spots)}

    def turn(self, read: dict[str, Tensor], symmetry: Symmetry) -> dict[str, Tensor]:
        """The same with turned frame features; `clip` has no direction."""
        return {**read, "frames": symmetry.frame_features(read["frames"])}

    def forward(self, read: dict[str, Tensor]) -> Tensor:
        """Mean and standard deviation over frames, of what the front end read and of the tokens."""
        frames = self.scale(read["frames"].transpose(1, 2))
        context = self.context(read["clip"]).unsqueeze(2).expand(-1, -1, frames.shape[2])
        both = torch.cat([frames, self.token(torch.cat([frames, context], 1)).to(frames.dtype)], 1)
        mean = both.mean(2)
        return torch.cat([mean, ((both - mean.unsqueeze(2)).square().mean(2) + 1e-4).sqrt()], 1)
