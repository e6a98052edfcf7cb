"""`logit_lens`: what the head would answer after each block (nostalgebraist 2020, "interpreting GPT: the logit lens";
for ViTs Vilas et al. 2023, "Analyzing Vision Transformers for Image Classification in Class Embedding Space", §3).

Axes:  b images   l places in the stream   n tokens   k classes
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.subject import answered
from vitral.explain.watch import watch


@torch.no_grad()
def logit_lens(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b l n k"]:
    """The final norm and the head applied to every token where it enters each block and leaves the last.

    Token 0 at the last place is the model's own answer, for a model that reads CLS. The head was trained for that place
    only: what it says of others is a projection, not a belief. Raises `UsageError` for a model without `norm` and
    `head` (those of Vitral and timm have them), `WatchError` if nothing is seen.
    """
    norm, head = getattr(model, "norm", None), getattr(model, "head", None)
    if not isinstance(norm, nn.Module) or not isinstance(head, nn.Module):
        raise UsageError(
            f"{type(model).__name__} has no `norm` and `head` to apply after each block; Vitral's and timm's ViTs have."
        )
    with evaluating(model):
        with watch(model, rows=[0], stream=True) as seen:
            answered(model, images)
        return torch.stack([head(norm(tokens)) for tokens in seen.stream], dim=1)
