"""`cka`: how alike two layers represent the same images (Kornblith et al. 2019, §3, linear; unbiased as in Nguyen et
al. 2021, "Do Wide and Deep Networks Learn the Same Things?", §2).

    HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))        K = X Xᵀ, L = Y Yᵀ, diagonals left out

Unbiased, since the plain estimate comes near 1 for anything when there are fewer images than features.

Axes:  b images   l m places in two streams   d width
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.explain.observation import observe


@torch.no_grad()
def cka(model: nn.Module, images: Float[Tensor, "b c y x"], other: nn.Module | None = None) -> Float[np.ndarray, "l m"]:
    """Between every two places in a model's stream, or between two models' (rows: `model`); about 0 if unrelated, 1 if
    one is the other turned and scaled. Each image counts by the mean of its patches.

    Raises `UsageError` for fewer than four images, `WatchError` if the model makes no maps.
    """
    if len(images) < 4:
        raise UsageError(f"CKA needs at least 4 images, preferably 100 or more; found {len(images)}.")
    mine = grams(model, images)
    theirs = mine if other is None else grams(other, images)
    own = [hsic(gram, gram) ** 0.5 for gram in mine], [hsic(gram, gram) ** 0.5 for gram in theirs]
    return np.array([[float(hsic(k, m) / (a * b)) for m, b in zip(theirs, own[1])] for k, a in zip(mine, own[0])])


def grams(model: nn.Module, images: Tensor) -> list[Float[Tensor, "b b"]]:
    """X Xᵀ at each place, the diagonal left out."""
    maps = observe(model, images, ["feature maps"], check="rows").feature_maps
    means = [features.patches.double().mean(dim=(2, 3)) for features in maps]
    return [(x @ x.T).fill_diagonal_(0) for x in (mean - mean.mean(dim=0) for mean in means)]


def hsic(k: Float[Tensor, "b b"], other: Float[Tensor, "b b"]) -> Tensor:
    """The unbiased estimate, of matrices whose diagonal is zero (Song et al. 2012, eq. 5)."""
    n = len(k)
    both = (k * other).sum() + k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ other.sum(1))
    return both / (n * (n - 3))
