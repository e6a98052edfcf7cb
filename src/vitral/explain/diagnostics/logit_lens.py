"""`logit_lens`: what the head would answer after each block (nostalgebraist 2020, "interpreting GPT: the logit lens";
for ViTs Vilas et al. 2023, "Analyzing Vision Transformers for Image Classification in Class Embedding Space", §3).

Axes:  b images   l places in the stream   n tokens   k classes
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.readout import Tail

TOGETHER = 512  # tokens whose answers are computed at a time


@torch.no_grad()
def logit_lens(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b l n k"]:
    """What the model would answer if every token that leaves its last block were this one: for every token, where it
    enters each block and where it leaves the last.

    What comes after the blocks is the model's own, run as it is: norms, pool, head. Token 0 at the last place is the
    model's answer, for a model that reads it alone. The head was trained for that place only: what it says of others is
    a projection, not a belief. Raises `UsageError` for a model whose blocks or answers cannot be told, `WatchError` if
    nothing is seen.
    """
    with evaluating(model):
        tail = Tail(model, images)
        if tail.answer.ndim != 2:
            raise UsageError(
                f"{type(model).__name__} returns {tuple(tail.answer.shape)}, not (B, K): it has no head to apply."
            )
        if any(tokens.ndim != 3 for tokens in tail.recording.stream):
            raise UsageError(f"The blocks of {type(model).__name__} return feature maps, not tokens (B, N, D).")
        stream = torch.stack(tail.recording.stream, dim=1)
        n = stream.shape[2]
        each = rearrange(stream, "b l n d -> (b l n) 1 d")
        answers = torch.cat([tail(some.expand(-1, n, -1)) for some in each.split(TOGETHER)])
    return rearrange(answers, "(b l n) k -> b l n k", b=len(images), n=n)
