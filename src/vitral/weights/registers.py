"""CLS's own position where registers have none, as in DINOv2 (Darcet et al. 2024): kept here with CLS as one vector."""

from collections.abc import Mapping

import torch
from torch import Tensor


def folded(theirs: Mapping[str, Tensor], cls: str, positions: str) -> dict[str, Tensor]:
    """CLS with its position added, and the positions without it."""
    table = theirs[positions]
    return {**theirs, cls: theirs[cls] + table[:, :1], positions: table[:, 1:]}


def unfolded(theirs: Mapping[str, Tensor], positions: str) -> dict[str, Tensor]:
    """A position for CLS, of zeros: its own is in CLS."""
    table = theirs[positions]
    return {**theirs, positions: torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}
