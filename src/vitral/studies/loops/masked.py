"""`masked`: for a third of the samples the model paints what is hidden of each image, then it learns the labels.

No other images are used. Patches are hidden by grey, and each pixel of theirs is a linear map of what the last block
holds there: Xie et al. 2022, "SimMIM", §3, without a token of its own for what is hidden.

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches   d width
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.vit import VisionTransformer
from vitral.store.classifier import Classifier
from vitral.studies.loops.minimised import minimised
from vitral.studies.training import Batches, Training
from vitral.training.optim import optimizers, schedule
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps

SHARE = 1 / 3  # of the samples, from whose pixels alone the model learns
HIDDEN = 0.5  # of the patches


class Painting(nn.Module):
    """A ViT and what paints the hidden patches from its last block."""

    def __init__(self, model: VisionTransformer):
        super().__init__()
        self.model = model
        self.side = model.patch_embed.patch_size[0]
        self.paint = nn.Conv2d(model.config["embed_dim"], 3 * self.side**2, 1)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, ""]:
        """The mean squared error of the hidden pixels."""
        hidden = torch.rand(len(images), 1, *self.model.grid, device=images.device) < HIDDEN
        covered = hidden.repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        (seen,) = self.model.features(images.masked_fill(covered, 0.0), [-1])
        painted = F.pixel_shuffle(self.paint(seen), self.side)
        return F.mse_loss(painted, images, reduction="none")[covered.expand_as(images)].mean()


def masked(
    model: Classifier,
    feed: Batches,
    movers: list[torch.optim.Optimizer],
    lr_at: Callable[[int], float],
    recipe: Recipe,
    training: Training,
) -> Iterator[Step]:
    """Both parts have a learning rate that rises and falls within them."""
    total, feed = training.samples // recipe.batch_size, iter(feed)
    first = round(SHARE * total)
    assert isinstance(model, VisionTransformer)
    painting = Painting(model)
    own = optimizers(painting, recipe)
    yield from minimised(painting, islice(feed, first), lambda images, _: painting(images), own, first, recipe)

    def rising(step: int) -> float:
        return schedule(step - first, total - first, recipe.warmup)

    yield from steps(model, feed, movers, rising, nullcontext, recipe.clip, recipe.label_smoothing, first)
