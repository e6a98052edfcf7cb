"""The class token's own position in models whose registers have none (DINOv2: Darcet et al. 2024).

Ours keep it with the class token, as one vector.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def fold_cls_position(theirs: Mapping[str, Tensor], cls: str, positions: str) -> dict[str, Tensor]:
    """Add the position of the class token to the token, and take it out of the table."""
    table = theirs[positions]
    return {**theirs, cls: theirs[cls] + table[:, :1], positions: table[:, 1:]}


def unfold_cls_position(theirs: Mapping[str, Tensor], positions: str) -> dict[str, Tensor]:
    """Put a position of zeros for the class token into the table: its own is in the token."""
    table = theirs[positions]
    return {**theirs, positions: torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}
