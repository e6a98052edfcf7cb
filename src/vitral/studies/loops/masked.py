"""`masked`: for a third of the samples the model reconstructs hidden patches, then it learns the labels.

No other images are used. Hidden patches are grey, and a linear layer predicts their pixels from the last block's
tokens: Xie et al. 2022, "SimMIM", §3, without a mask token.

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches   d width
"""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.answers.one_class import one_class
from vitral.nn.vit import VisionTransformer
from vitral.studies.loops.custom_loss import minimize
from vitral.studies.training import LoopInputs
from vitral.training import optim
from vitral.training.steps import Step, steps

SHARE = 1 / 3  # of the samples, for learning from pixels alone
HIDDEN = 0.5  # of the patches


class Reconstruction(nn.Module):
    """A ViT and the linear layer that predicts hidden patches from its last block."""

    def __init__(self, model: VisionTransformer):
        super().__init__()
        self.model = model
        self.side = model.patch_embed.patch_size[0]
        self.to_pixels = nn.Conv2d(model.config["embed_dim"], 3 * self.side**2, 1)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, ""]:
        """The mean squared error of the hidden pixels."""
        hidden = torch.rand(len(images), 1, *self.model.grid, device=images.device) < HIDDEN
        covered = hidden.repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        # Pixels are normalised, so 0 is grey.
        (features,) = self.model.features(images.masked_fill(covered, 0.0), [-1])
        predicted = F.pixel_shuffle(self.to_pixels(features), self.side)
        return F.mse_loss(predicted, images, reduction="none")[covered.expand_as(images)].mean()


def masked(inputs: LoopInputs) -> Iterator[Step]:
    """In each of the two phases the learning rate rises and falls once."""
    model, batches, optimizers, _, recipe, total = inputs
    first = round(SHARE * total)
    assert isinstance(model, VisionTransformer)
    reconstruction = Reconstruction(model)
    own = optim.optimizers(reconstruction, recipe)
    yield from minimize(
        reconstruction, islice(batches, first), lambda images, _: reconstruction(images), own, first, recipe
    )

    def second_lr_at(step: int) -> float:
        return optim.schedule(step - first, total - first, recipe.warmup)

    loss_of = one_class.loss(recipe.label_smoothing)
    yield from steps(model, batches, optimizers, second_lr_at, nullcontext, recipe.clip, one_class, loss_of, first)
