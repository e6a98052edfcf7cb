"""What a model would answer after each of its blocks: the logit lens at the tokens that it is read from.

nostalgebraist 2020, "interpreting GPT: the logit lens". `explain.diagnostics.logit_lens` asks this of every token
alone; here all tokens of a place go to the rest of the model together, so the last place is the model's own answer,
whether it is read from CLS or from the mean of the patches.

Axes:  b images   l places in the stream   n tokens   k classes
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.readout import Tail


@torch.no_grad()
def answers_by_block(model: nn.Module, images: Float[Tensor, "1 c y x"]) -> Float[Tensor, "l k"]:
    """The scores of one image where its tokens enter each block, and where they leave the last.

    What comes after the blocks is the model's own, run as it is: norm, pool, head. It was trained for the last place
    only: what it says of others is a projection. Raises `UsageError` for a model whose blocks or answers cannot be
    found, or whose blocks do not pass on tokens of one shape, `WatchError` if nothing is seen.
    """
    name = type(model).__name__
    with evaluating(model):
        tail = Tail(model, images)
        if tail.answer.ndim != 2:
            raise UsageError(f"{name} returns {tuple(tail.answer.shape)}, not one score per class.")
        places = tail.recording.stream
        if any(tokens.ndim != 3 or tokens.shape != places[-1].shape for tokens in places):
            raise UsageError(
                f"The blocks of {name} pass on tokens of different shapes, so what follows the last block cannot take "
                "those of others."
            )
        return tail(torch.cat(places))
