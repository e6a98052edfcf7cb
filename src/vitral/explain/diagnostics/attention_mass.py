"""`attention_mass`: where attention goes: to CLS, to registers, to the token itself, to the object, to outlier tokens
(Darcet et al. 2024, "Vision Transformers Need Registers", §2, found that a few outliers take much of it).

Axes:  b images   l layers   h heads   n tokens   y x pixels
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.metric import check_masks, patch_shares
from vitral.explain.outlier_tokens import is_outlier
from vitral.recording.forward import model_output
from vitral.recording.intercept import watch
from vitral.recording.layers import Layer


@torch.no_grad()
def attention_mass(
    model: nn.Module, images: Float[Tensor, "b c y x"], masks: Bool[np.ndarray, "b y x"] | None = None
) -> dict[str, Float[np.ndarray, "b l h"]]:
    """Shares of attention, the mean over all tokens that read: `cls`, `prefix` (the other tokens before the patches),
    `patches`, which add up to 1; and of that, `itself`, `outliers` (patches whose norm is far above the others') and,
    if masks are given, `object`. The query of a pool is none of the tokens, so its `itself` is not a number.

    `cls reads object` and the like are the same for the row of CLS alone, where there is one. Raises `WatchError` if
    nothing is seen, `UsageError` for attention within windows.
    """
    if masks is not None:
        check_masks(masks, images)
    with evaluating(model), watch(model, rows="all", stream=True) as seen:
        model_output(model, images)
    found = [shares(layer, tokens, masks) for layer, tokens in zip(seen.layers, seen.stream)]
    return {name: np.stack([each[name] for each in found], axis=1) for name in found[0]}


def shares(layer: Layer, tokens: Tensor, masks: np.ndarray | None) -> dict[str, np.ndarray]:
    kinds = layer.whole_image("attention_mass")
    others, patches, n = list(kinds.other_tokens), list(kinds.patch_tokens), layer.num_tokens
    of = {"cls": torch.zeros(n), "prefix": torch.zeros(n), "patches": torch.zeros(n)}
    of["cls"][others[:1]] = float(kinds.has_cls)
    of["prefix"][others[int(kinds.has_cls) :]] = 1
    of["patches"][patches] = 1
    each = {name: vector.to(tokens.device).expand(len(tokens), n) for name, vector in of.items()}
    each["outliers"] = torch.zeros_like(tokens[:, :, 0])
    each["outliers"][:, patches] = is_outlier(tokens[:, patches]).to(tokens.dtype)
    if masks is not None:
        share = torch.from_numpy(patch_shares(masks, kinds.grid)).flatten(1).to(tokens)
        each["object"] = torch.zeros_like(tokens[:, :, 0])
        each["object"][:, patches] = share
    nothing = layer.kept_rows.new_zeros(len(tokens), layer.num_heads)
    totals = dict.fromkeys((*each, "itself"), nothing)
    first: dict[str, Tensor] = {}
    for queries, rows in layer.chunks():
        for name, vector in each.items():
            read = torch.einsum("bhrm,bm->bhr", rows, vector.to(rows.dtype))
            totals[name] = totals[name] + read.sum(dim=-1)
            if kinds.has_cls and queries.start <= others[0] < queries.stop:
                first[f"cls reads {name}"] = read[:, :, others[0] - queries.start]
        own = rows[..., queries].diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        totals["itself"] = totals["itself"] + (own if layer.num_queries == n else torch.nan)
    means = {name: total / layer.num_queries for name, total in totals.items()}
    return {name: value.double().cpu().numpy() for name, value in (means | first).items()}
