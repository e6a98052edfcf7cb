"""Train with less memory: keep only the input of each block, and run the block again for its gradient.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", §4.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from vitral.nn.block import Block


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block, gradients of the model's blocks are computed so; their values are the same."""
    blocks = [part for part in model.modules() if isinstance(part, Block)]
    for block in blocks:
        block.forward = recompute(block)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def recompute(block: Block) -> Any:
    forward = type(block).forward
    # What the tokens attend to is an argument, so that it is the same when the block is run again.
    return lambda tokens, **attending: checkpoint(forward, block, tokens, use_reentrant=False, **attending)
