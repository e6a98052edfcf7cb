"""Training batches without end, each determined by (seed, number): a run that stopped continues where it was."""

import sys
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vitral.base.preprocessing import Preprocessing
from vitral.data.augment import Augment
from vitral.data.dataset import Split
from vitral.data.mix import Mix, as_shares
from vitral.data.preprocess import normalise

Sampling = Literal["all", "balanced"]


def batches(
    split: Split,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    augment: Augment,
    start: int = 0,
    device: torch.device | str = "cpu",
    mix: Mix | None = None,
    classes: int = 0,
    sampling: Sampling = "all",
    part: Callable[[int], slice] = slice,
) -> Iterator[tuple[Float[Tensor, "b c y x"], Tensor]]:
    """Yield batches number `start`, `start + 1`, ... as (normalised and augmented images, labels).

    Each epoch has its own random order and leaves out the last batch if it is not full. With `sampling` "balanced" it
    has each class equally often, where an image has one class. A split smaller than `batch_size` gives batches of its
    own size. The split's pixels stay in memory as bytes, and are augmented as bytes.

    `mix` mixes images in pairs: the labels, of which there are `classes`, are then shares of classes, (b, k).
    `part(b)` is the part of the images that is wanted, of a batch of b; all labels come with it.
    """
    pixels, labels = torch.from_numpy(split.pixels), torch.from_numpy(split.labels)
    is_mask = labels.ndim == 3  # the class of each pixel, which moves with the pixels
    # Epochs number the images as they were read: a batch does not depend on the order in which a split is kept.
    source_order = split.source_order
    size = min(batch_size, len(split))
    per_epoch = len(split) // size
    epoch, order = -1, np.empty(0, dtype=np.int64)
    for number in range(start, sys.maxsize):
        if number // per_epoch != epoch:
            epoch = number // per_epoch
            generator_of_order = np.random.default_rng([seed, epoch])
            order = generator_of_order.permutation(len(split))
            if sampling == "balanced":
                order = balanced_order(split.labels[source_order], generator_of_order)
        first = number % per_epoch * size
        # Sorted, images that are kept as drawn are read in the order of memory, which is faster; a batch has no order.
        chosen = torch.from_numpy(source_order[np.sort(order[first : first + size])])
        images, own = rearrange(pixels[chosen], "b y x c -> b c y x"), labels[chosen]
        # Seeded by the number of the batch, so that neither pixels nor pairs depend on where a run started.
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(own_seed)
        images, masks = augment(images, own if is_mask else None, generator)
        own = own if masks is None else masks
        if mix is not None:
            images, own = mix(images, as_shares(own, classes), generator)
        # Only now: what is drawn depends on the whole batch, and must not depend on who computes which part.
        images = images[part(len(images))]
        on_device = rearrange(images.to(device, non_blocking=True), "b c y x -> b y x c")
        yield normalise(on_device, preprocessing), own.to(device)


def balanced_order(labels: Int[np.ndarray, " n"], generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """As many places as there are images, of each class equally many; each image of a class before any of it again.

    >>> order = balanced_order(np.array([0, 0, 0, 0, 0, 1]), np.random.default_rng(0))
    >>> (order == 5).sum(), len(set(order.tolist()) - {5})
    (np.int64(3), 3)
    """
    present = np.unique(labels)
    # What does not divide goes to classes that are drawn anew in each epoch.
    counts = len(labels) // len(present) + (generator.permutation(len(present)) < len(labels) % len(present))
    chosen = []
    for label, count in zip(present, counts):
        own = np.flatnonzero(labels == label)
        rounds = [generator.permutation(own) for _ in range(-(-int(count) // len(own)))]
        chosen.append(np.concatenate(rounds)[:count] if rounds else own[:0])
    return generator.permutation(np.concatenate(chosen))


def steps_in(split: Split, batch_size: int, epochs: int | float) -> int:
    """The number of full batches in so many epochs: 0 for 0 epochs, otherwise at least 1."""
    return max(1, round(epochs * (len(split) // min(batch_size, len(split))))) if epochs else 0
