"""Training batches without end, each decided by (seed, number) alone: a run that stops can go on where it was."""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Split
from vitral.data.preprocess import normalise

Augment = Callable[[Float[Tensor, "b c y x"], int], Float[Tensor, "b c y x"]]


def batches(
    split: Split,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    augment: Augment,
    start: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Float[Tensor, "b c y x"], Tensor]]:
    """Batches number `start`, `start + 1`, ...: a new order each epoch, the last short batch of an epoch left out.

    The pixels stay in memory as they are; a set smaller than a batch gives batches of its own size.
    """
    pixels, labels = torch.from_numpy(split.pixels), torch.from_numpy(split.labels)
    size = min(batch_size, len(split))
    each_epoch = len(split) // size
    epoch, order = -1, np.empty(0, dtype=np.int64)
    for number in range(start, sys.maxsize):
        if number // each_epoch != epoch:
            epoch = number // each_epoch
            order = np.random.default_rng([seed, epoch]).permutation(len(split))
        place = number % each_epoch * size
        chosen = torch.from_numpy(np.sort(order[place : place + size]))  # in order of memory: same set, faster
        images = normalise(pixels[chosen].to(device, non_blocking=True), preprocessing)
        change = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        yield augment(images, change), labels[chosen].to(device)


def steps_in(split: Split, batch_size: int, epochs: float) -> int:
    """How many batches make so many epochs; at least one, but for none."""
    return max(1, round(epochs * (len(split) // min(batch_size, len(split))))) if epochs else 0
