"""`entropy`: how spread attention is (as in Zhai et al. 2023, "Stabilizing Transformer Training", §3).

    H = -Σ_j A_ij ln A_ij        H / ln N is 0 where one token gets all, 1 where all get the same

Axes:  b images   l layers   h heads   n tokens
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.recording.forward import model_output
from vitral.recording.intercept import watch
from vitral.recording.layers import sum_chunks


@torch.no_grad()
def entropy(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[np.ndarray, "b l h"]:
    """The mean over all rows of H / ln N, all tokens counted. A sink makes it low too: see `attention_mass`.

    Within windows, N is a window's tokens; where layers have different numbers of heads, the last are not a number.
    Raises `WatchError` if nothing is seen.
    """
    with evaluating(model), watch(model, rows="all") as seen:
        model_output(model, images)
    found = []
    for layer in seen.layers:
        summed = sum_chunks(torch.special.entr(rows).sum(dim=(2, 3)) for _, rows in layer.chunks())
        each = summed / layer.num_queries / np.log(layer.num_tokens)
        found.append(each.reshape(len(images), -1, layer.num_heads).mean(dim=1).double().cpu().numpy())
    most = max(each.shape[1] for each in found)
    padded = [np.pad(each, ((0, 0), (0, most - each.shape[1])), constant_values=np.nan) for each in found]
    return np.stack(padded, axis=1)
