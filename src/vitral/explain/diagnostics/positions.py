"""`positions`: how similar the learned position embeddings are (Dosovitskiy et al. 2021, §4.5, figure 7, centre).

Axes:  g patches   gy gx rows, columns of patches   d width
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import WatchError
from vitral.explain.observation import observe


@torch.no_grad()
def positions(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[np.ndarray, "gy gx gy gx"]:
    """The cosine similarity of each patch's embedding with each other's.

    Raises `WatchError` for a model without a learned table (B, N, D) of positions.
    """
    rows, columns = observe(model, images[:1], ["feature maps"], check="rows").feature_maps[-1].grid
    table = position_table(model, (rows, columns))
    unit = torch.nn.functional.normalize(table.double(), dim=-1)
    return (unit @ unit.T).reshape(rows, columns, rows, columns).cpu().numpy()


def position_table(model: nn.Module, grid: tuple[int, int]) -> Float[Tensor, "g d"]:
    """The learned position embeddings of the patches, along rows. Raises `WatchError` for a model without."""
    rows, columns = grid
    tables = [
        value
        for name, value in model.named_parameters()
        if ("pos" in name.rpartition(".")[2] or "position" in name) and "relative" not in name
    ]
    fitting = [
        table for table in tables if table.ndim >= 2 and rows * columns <= table.shape[-2] <= rows * columns + 16
    ]
    if not fitting:
        raise WatchError(
            f"{type(model).__name__} has no learned table of positions for {rows} x {columns} patches: no "
            "parameter with 'pos' in its name fits. Rotary and relative positions are not in such a table."
        )
    return fitting[0].detach().reshape(-1, fitting[0].shape[-1])[-rows * columns :]
