"""Draw some training images as augmentation and mixing change them.

Axes:  n images   m versions   y x pixels
"""

from collections.abc import Mapping

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from vitral.base.mask_values import background_of
from vitral.data.augment import find_augment
from vitral.data.dataset import Dataset, Split
from vitral.data.mix import as_shares, find_mix
from vitral.report.augmented import augmented_figure
from vitral.training.recipe import Recipe

IMAGES, VERSIONS = 6, 7
NAMES = 3  # of one image's classes


def draw_augmented(images: Split, groups: Mapping[str, np.ndarray], dataset: Dataset, recipe: Recipe) -> Figure:
    """A few training images, from as many `groups` as possible, and versions of each by the recipe.

    The versions are made by the functions that training uses, on the same pixels, from the recipe's seed.
    """
    chosen = one_of_each(groups, IMAGES)
    some = images.only(chosen)
    pixels = rearrange(torch.from_numpy(some.pixels), "b y x c -> b c y x")
    segmentation = dataset.task == "segmentation"
    drawn = some.labels if segmentation else None if some.masks is None else some.masks.astype(np.uint8)
    masks = None if drawn is None else torch.from_numpy(drawn)
    # Mixing makes it impossible to say which object a mask of a classifier's image marks.
    masks = None if recipe.mix != "none" else masks
    augment = find_augment(recipe.augment, (pixels.shape[-2], pixels.shape[-1]))
    mix = find_mix(recipe.mix, recipe.mix_alpha)
    columns, mask_columns = [pixels], [masks]
    captions = [[""] * (VERSIONS + 1) for _ in chosen]
    for version in range(VERSIONS):
        seed = int(np.random.SeedSequence([recipe.seed, version]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        changed, moved = augment(pixels, masks, generator)
        if mix is not None:
            changed, shares = mix(changed, as_shares(torch.from_numpy(some.labels), len(dataset.classes)), generator)
            for row, own in enumerate(shares.numpy()):
                captions[row][version + 1] = share_words(own, dataset.classes)
        columns.append(changed)
        mask_columns.append(moved)
    outlined = {1: "object"}
    if segmentation:
        outlined = {
            index: name for index, name in enumerate(dataset.classes) if index != background_of(dataset.classes)
        }
    return augmented_figure(
        rearrange(torch.stack(columns), "m n c y x -> n m y x c").numpy(),
        None if masks is None else np.stack([own.numpy() for own in mask_columns if own is not None], axis=1),
        outlined,
        [row_name(images, index, groups, segmentation) for index in chosen],
        captions,
        f"{recipe.data}: --augment {recipe.augment}" + (f" --mix {recipe.mix}" if mix else ""),
    )


def one_of_each(groups: Mapping[str, np.ndarray], count: int) -> Int[np.ndarray, " n"]:
    """The first image of each group, then the second of each, until there are `count` different ones."""
    turns = max((len(own) for own in groups.values()), default=0)
    order = [int(own[turn]) for turn in range(turns) for own in groups.values() if turn < len(own)]
    return np.array(list(dict.fromkeys(order))[:count], dtype=int)


def row_name(images: Split, index: int, groups: Mapping[str, np.ndarray], segmentation: bool) -> str:
    """The classes of an image, or the range of its number; for masks, which have many, the image's name."""
    if segmentation:
        return images.image_name(index)
    own = [name for name, members in groups.items() if index in members]
    return "\n".join(own[:NAMES]) + ("\n..." if len(own) > NAMES else "")


def share_words(shares: Float[np.ndarray, " k"], names: tuple[str, ...]) -> str:
    """The classes that an image has a share of, the largest first.

    >>> share_words(np.array([0.25, 0.0, 0.75]), ("cat", "dog", "owl"))
    'owl 75%\\ncat 25%'
    """
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] >= 0.005]
    return "\n".join(f"{names[index]} {shares[index]:.0%}" for index in order[:NAMES])
