"""`distance`: how far attention reaches (Dosovitskiy et al. 2021, appendix D.7; Raghu et al. 2021, §4).

    mean over patches i of Σ over patches j of Ã_ij |p_i - p_j|, Ã being A over patches alone, renormalised

Without that renormalisation what CLS takes would look like nearness.

Axes:  b images   l layers   h heads   g patches   r rows
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.recording.forward import model_output
from vitral.recording.intercept import watch


@torch.no_grad()
def distance(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[np.ndarray, "b l h"]:
    """Mean distance over that of uniform attention: 1 where every patch reads all alike, 0 where each reads itself.

    `uniform_distance(grid)` is the unit, in patches. Raises `WatchError` if nothing is seen, `UsageError` for attention
    within windows.
    """
    with evaluating(model), watch(model, rows="all") as seen:
        model_output(model, images)
    found = []
    for layer in seen.layers:
        tokens = layer.whole_image("distance")
        if layer.num_queries != layer.num_tokens:
            continue  # a pool's query stands nowhere
        apart = distances(tokens.grid).to(images.device)
        place = {token: patch for patch, token in enumerate(tokens.patch_tokens)}
        total = torch.zeros(())
        for queries, rows in layer.chunks():
            own = [token for token in range(queries.start, queries.stop) if token in place]
            patches = tokens.patches(rows[:, :, [token - queries.start for token in own]])
            from_each = apart[[place[token] for token in own]].to(rows.dtype)
            weighted = (patches * from_each).sum(dim=-1) / patches.sum(dim=-1)
            total = total + weighted.sum(dim=-1)
        each = total / tokens.num_patches / uniform_distance(tokens.grid)
        found.append(each.double().cpu().numpy())
    return np.stack(found, axis=1)


def distances(grid: tuple[int, int]) -> Float[Tensor, "g g"]:
    """From the middle of each patch to the middle of each other, in patches."""
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid)).reshape(-1, 2)
    return torch.cdist(places, places)


def uniform_distance(grid: tuple[int, int]) -> float:
    """The mean distance if every patch read all patches alike, in patches."""
    return float(distances(grid).mean())
