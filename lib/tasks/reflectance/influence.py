"""Where in an image a network looked for each channel, and whether greying the places that are named does what is claimed.

An image is 4 × 4 places. Greying one place at a time tells little: a structure that repeats is still there. So four are greyed at
once, along the 20 lines of the affine plane of order 4, in which every two places share one line. What a place does is then the
least-squares estimate of the sum over places, in which no other place has a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lib.task import Samples
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX
from lib.tasks.reflectance.learning import tensors
from lib.tasks.reflectance.networks import Reader, mean_and_spread

if TYPE_CHECKING:
    from lib.tasks.reflectance.data import Images

SIDE = 4  # places along a side
PLACES, GREYED = SIDE * SIDE, SIDE
AT_ONCE = 64
FEW_EXPLAINED, LARGE = 8, 10_000_000  # images explained by networks of more weights, which take a second for each
MOST_TESTED, RANDOM_CHOICES = 48, 4
STREAM = 31  # of random numbers
SURE = 2.0  # standard errors that a share must be above chance


def lines() -> np.ndarray:
    """(20, 16) booleans: which places each line of the affine plane over the field of four elements holds."""
    times = np.array([[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]])  # of GF(4); its sum is the exclusive or
    found = np.zeros((SIDE * (SIDE + 1), SIDE, SIDE), bool)
    for slope in range(SIDE):
        for start in range(SIDE):
            for x in range(SIDE):
                found[slope * SIDE + start, times[slope, x] ^ start, x] = True
    for x in range(SIDE):
        found[SIDE * SIDE + x, :, x] = True
    return found.reshape(-1, PLACES)


def greyed(images: Tensor, places: Tensor) -> Tensor:
    """Images (n, 256, 256) with places (n, 16), true where greyed, at the mean grey of their image."""
    size = IMAGE_PX // SIDE
    mask = places.unflatten(1, (SIDE, SIDE)).repeat_interleave(size, 1).repeat_interleave(size, 2)
    return torch.where(mask, images.mean((1, 2), keepdim=True), images)


def influence(network: Reader, image: Tensor, scale: Tensor) -> Tensor:
    """(10, 16): by how much each place of one image (256, 256) raises each channel, as a fraction; scale (2,)."""
    lined = torch.from_numpy(lines()).to(image.device)
    whole = _channels(network, image.unsqueeze(0), scale.unsqueeze(0))
    count = len(lined)
    left = _channels(network, greyed(image.expand(count, -1, -1), lined), scale.expand(count, -1))
    drop = (whole - left).T  # (10, 20)
    through = drop @ lined.float()  # over the lines through each place: its own part SIDE + 1 times, every other once
    return (through - drop.sum(1, keepdim=True) / (SIDE + 1)) / SIDE


def explain(network: Reader, samples: Samples, most: int) -> Samples:
    """The samples with a column `influence`, a list of 10 · 16, of the first `most`; None for the others."""
    if "image" not in samples.inputs:
        return samples
    if sum(weight.numel() for weight in network.parameters()) > LARGE:
        most = min(most, FEW_EXPLAINED)
    found = _influences(network, samples.take(np.arange(min(len(samples), most))))
    rest = [None] * (len(samples) - len(found))
    return samples.with_columns(influence=[*(one.ravel().tolist() for one in found), *rest])


def deletion_test(network: Reader, data: Images) -> dict[str, Any]:
    """What greying the named places of test images does, beside as many places at random, one image of each specimen.

    `raising_pp`: how much farther a channel falls where the four places that are said to raise it most are greyed than where four
    others are; `raising_percent`: in how many of 100 such pairs it falls farther, with its standard error over the images;
    `lowering_…`: how much farther it rises where those said to lower it most are. `holds`: both are above chance, by SURE errors.
    """
    whole = data.part("test")
    first = np.sort(np.unique(whole.table["specimen"].replace("", np.nan).fillna(whole.table["file"]), return_index=True)[1])
    some = whole.take(first[np.linspace(0, len(first) - 1, min(MOST_TESTED, len(first))).round().astype(int)])
    rng = np.random.default_rng([data.config.seed, STREAM])
    image, scale = _inputs(network, some)
    count = len(some)
    whole_channels = _channels(network, image, scale).cpu().numpy()

    def drop(places: np.ndarray) -> np.ndarray:
        """(n, 10) by which channels fall where places (n, 16) are greyed."""
        without = greyed(image, torch.from_numpy(places).to(image.device))
        return np.asarray(whole_channels - _channels(network, without, scale).cpu().numpy())

    order = _influences(network, some).argsort(2)
    random = np.stack([drop(_chosen(np.stack([rng.permutation(PLACES)[:GREYED] for _ in range(count)])))
                       for _ in range(RANDOM_CHOICES)])  # fmt: skip
    found: dict[str, Any] = {"images": count}
    for name, chosen, sign in (("raising", order[:, :, -GREYED:], 1), ("lowering", order[:, :, :GREYED], -1)):
        named = np.stack([drop(_chosen(chosen[:, k]))[:, k] for k in range(len(CHANNELS))], 1)
        farther = sign * (named - random)
        share = 100 * (farther > 0).mean((0, 2))  # of each image
        found |= {f"{name}_pp": 100 * float(farther.mean()), f"{name}_percent": float(share.mean()),
                  f"{name}_error_percent": float(share.std(ddof=1) / np.sqrt(count)) if count > 1 else 50.0}  # fmt: skip
    holds = all(found[f"{k}_percent"] - SURE * found[f"{k}_error_percent"] > 50 for k in ("raising", "lowering"))
    return {"deletion": {**found, "holds": bool(holds)}}


def _chosen(numbers: np.ndarray) -> np.ndarray:
    """(n, 16) true at the places numbered in each row (n, k)."""
    places = np.zeros((len(numbers), PLACES), bool)
    np.put_along_axis(places, numbers, True, 1)
    return places


def _influences(network: Reader, samples: Samples) -> np.ndarray:
    """(n, 10, 16)."""
    image, scale = _inputs(network, samples)
    return np.stack([influence(network, one, its).cpu().numpy() for one, its in zip(image, scale)])


def _inputs(network: Reader, samples: Samples) -> tuple[Tensor, Tensor]:
    """Images and scales where the network is."""
    found, device = tensors(samples), network.channel_mean.device
    return torch.from_numpy(found["image"]).to(device), torch.from_numpy(found["scale"]).to(device)


@torch.inference_mode()
def _channels(network: Reader, image: Tensor, scale: Tensor) -> Tensor:
    """(n, 10) as fractions."""
    parts = [
        mean_and_spread(network(image[k : k + AT_ONCE], scale[k : k + AT_ONCE]))[0].clamp(0, 1)
        for k in range(0, len(image), AT_ONCE)
    ]
    return torch.cat(parts)
