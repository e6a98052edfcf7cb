"""`rollout`: how much of each patch flows into CLS through all layers (Abnar & Zuidema 2020, §3).

    M_l = ½ mean over heads of A_l + ½ I        R = M_L ··· M_1        map = R[CLS, patches]

Only the row of CLS is wanted, and CLS · M_L ··· M_1 is a row times a matrix, layer by layer from the top: no matrix is
ever multiplied by a matrix, and each layer's weights are formed a chunk of rows at a time. The half that stays is an
assumption about the residual path, not a measurement; values, MLPs and norms are left out; it knows no class.

Axes:  b images   h heads   r rows   n m tokens
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.readout import readers_of, tokens_read
from vitral.explain.target import Target
from vitral.recording.forward import answered, check_unchanged
from vitral.recording.intercept import TOLERANCE, watch
from vitral.recording.layers import Layer, Seen, total


@torch.no_grad()
def rollout(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: Target = None,
    *,
    stays: float = 0.5,
    first: int = 0,
) -> Maps:
    """The share of each patch in what CLS ends with, as multiples of uniform.

    `stays` is the assumed share of the residual path, in 0 to 1; `first` the first layer that counts. It starts from
    what the answer is read from (`explain.readout`): CLS, the mean of the patches, or a pool's row. `target` is
    ignored.

    Raises `UsageError` if the layers do not hold the same tokens (windows, merged patches), `WatchError` if nothing is
    seen or verified.
    """
    with evaluating(model):
        plain = answered(model, images)
        readers = tokens_read(model, images)
        with watch(model, rows="all") as seen:
            watched = answered(model, images)
    check_unchanged(watched, plain, TOLERANCE[plain.dtype])
    if not 0 <= stays <= 1:
        raise UsageError(f"stays={stays} is no share: it takes 0 to 1.")
    layers = same_tokens(seen, "rollout")
    if not 0 <= first < len(layers):
        raise UsageError(
            f"There is no layer {first} to start from: the model has {len(layers)}, 0 to {len(layers) - 1}."
        )
    row = first_row(layers[-1], readers_of(layers[-1], seen, readers))
    for layer in reversed(layers[first:]):
        flown = total(through(layer, row[:, queries], rows) for queries, rows in layer.chunks())
        row = flown if not layer.among_themselves else stays * row + (1 - stays) * flown
    tokens = layers[0].tokens
    prefix, patches = row.split([len(tokens.prefix), row.shape[1] - len(tokens.prefix)], dim=1)
    return one_map(
        "rollout",
        f"Shown is how attention flows from patches to the answer if {stays:.0%} of each token stays; "
        "it is the same for every class.",
        model,
        images,
        patches,
        tokens.grid,
        layers=f"{first} to {len(layers) - 1}" if first else "all",
        prefix_mass=prefix.sum(dim=1),
        residual=max(layer.residual for layer in layers),
    )


def through(layer: Layer, row: Float[Tensor, "b r"], weights: Float[Tensor, "b h r m"]) -> Float[Tensor, "b m"]:
    """A row vector times the mean over heads of some rows of attention."""
    each = row.to(weights.dtype)[:, None, None] @ weights  # a head at a time: no copy of the weights is made
    return each[:, :, 0].mean(dim=1)


def first_row(layer: Layer, readers: tuple[int, ...]) -> Float[Tensor, "b n"]:
    """Where the answer is read from: CLS, the mean of the patches or of all tokens, or the pool's queries."""
    row = layer.seen.new_zeros(len(layer.seen), layer.num_queries)
    some = list(readers) or list(range(layer.num_queries))
    row[:, some] = 1 / len(some)
    return row


def same_tokens(seen: Seen, method: str) -> list[Layer]:
    """The layers, if all hold the same tokens. Raises `UsageError` where a product of layers means nothing."""
    layers = seen.layers
    pools = [layer for layer in layers[:-1] if not layer.among_themselves]
    sizes = {(layer.num_tokens, len(layer.seen)) for layer in layers}
    if pools or len(sizes) > 1 or any(layer.windows for layer in layers):
        raise UsageError(
            f"{method} multiplies attention through the layers, so all must hold the same tokens; this model attends "
            "within windows or groups, or merges patches. Try attention_gradient or grad_cam."
        )
    return layers
