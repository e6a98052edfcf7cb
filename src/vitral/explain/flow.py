"""Carry the readout's row through the attention of all layers, for `rollout` and `chefer`.

Only one row is wanted, and a row times M_L ··· M_1 is a row times a matrix, layer by layer from the top: no matrix is
ever multiplied by a matrix, and each layer's weights are formed a chunk of rows at a time.

Axes:  b images   h heads   r rows   n m tokens
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError, WatchError
from vitral.explain.method import check_shares
from vitral.explain.observation import Observation
from vitral.explain.readout import readers_of_each, readout_in
from vitral.explain.token_gradients import queries_reached
from vitral.recording.layers import Layer, sum_chunks
from vitral.recording.queries import readout_vectors


def global_layers(observation: Observation, method: str, names: Sequence[str] = ()) -> dict[int, Layer]:
    """The layers to multiply by number: those of these names, or all that the answer depends on.

    Raises `UsageError` where a product of layers has no meaning: they do not hold the same tokens, or some of all are
    not known.
    """
    known = [layer.name for layer in observation.layers]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"There is no attention layer {unknown[0]!r}; the model has {', '.join(known)}.")
    missed = observation.attention.missed
    if missed and not names:
        raise UsageError(
            f"{method} multiplies the attention of all layers, but in this model some attention could not be recorded: "
            f"{'; '.join(missed)}. To multiply the other layers only, name them: layers={known}."
        )
    read = observation.attention.of_answer
    chosen = {
        number: layer
        for number, layer in enumerate(observation.layers)
        if (layer.name in names if names else layer in read)
    }
    layers = list(chosen.values())
    if why := why_not_the_same_tokens(layers):
        raise UsageError(
            f"{method} multiplies attention through the layers, so all of them must have the same tokens, but {why}. "
            "Try attention_gradient or grad_cam."
        )
    check_chain(method, layers, observation.attention.answer)
    for layer in layers:
        check_shares(layer.kept_rows, layer.name)
    return chosen


def why_not_the_same_tokens(layers: Sequence[Layer]) -> str:
    """What shows that the layers have other tokens than one another; empty if nothing does."""
    if windows := next((layer.name for layer in layers if layer.windows), ""):
        return f"{windows} attends within windows"
    # A pool may only come last: what leaves it are no longer the tokens that the next layer attends to.
    if pool := next((layer for layer in layers[:-1] if not layer.queries_are_keys), None):
        return f"{pool.name} attends from {pool.num_queries} queries to {pool.num_tokens} other tokens"
    first = layers[0]
    for layer in layers:
        if layer.num_tokens != first.num_tokens:
            return f"{first.name} has {first.num_tokens} tokens and {layer.name} has {layer.num_tokens}"
        if len(layer.kept_rows) != len(first.kept_rows):
            return (
                f"{first.name} and {layer.name} attend within {len(first.kept_rows)} and {len(layer.kept_rows)} groups"
            )
    return ""


def check_chain(method: str, layers: Sequence[Layer], answer: int) -> None:
    """Raise `UsageError` unless each layer reads what the one before it wrote, in the same order of tokens.

    `answer` has the bits of the layers on which the answer depends; 0 if that is not known.
    """
    why = ""
    for before, after in pairwise(layers):
        if not after.depends & before.bit:
            same = after.name == before.name
            why = f"two calls of {after.name} run" if same else f"{after.name} and {before.name} run"
            why += " side by side: neither depends on the other"
        elif after.tokens.patch_tokens != before.tokens.patch_tokens:
            why = f"the tokens of {after.name} are in a different order from those of {before.name}"
    if unread := [layer.name for layer in layers if answer and not layer.bit & answer]:
        why = f"the output does not depend on {', '.join(unread)}"
    if why:
        raise UsageError(
            f"{method} multiplies the attention of layers that follow one another, but {why}. Name layers that follow "
            "one another: layers=[...]; or try attention_gradient, which shows each layer by itself."
        )


def check_gradients(method: str, layers: Mapping[int, Layer], reached: Collection[int]) -> None:
    """Raise `WatchError` unless a gradient reached each of these layers, by number: without one it would be left out
    of the product in silence."""
    without = [layer.name for number, layer in layers.items() if number not in reached]
    if without:
        others = [layer.name for number, layer in layers.items() if number in reached]
        raise WatchError(
            f"{method} multiplies each layer's attention by its gradient, but no gradient reaches "
            f"{', '.join(without)}: the model runs there under no_grad, detaches its tokens, or uses a checkpoint with "
            "use_reentrant=True. "
            f"Name the other layers: layers={others}; or let gradients through: use_reentrant=False."
        )


def left_out(observation: Observation, names: Sequence[str]) -> str:
    """A sentence for captions on the layers that are not multiplied though no names were given; empty if all are."""
    others = [] if names else [layer.name for layer in observation.attention.not_of_answer]
    return f" The output does not depend on {', '.join(others)}, so they are left out." if others else ""


def names_of(layers: Sequence[str]) -> tuple[str]:
    """What a map of several layers calls them."""
    return (", ".join(layers) or "all",)


def start_row(
    observation: Observation, layers: Sequence[Layer], gradients: Sequence[Tensor] = ()
) -> Float[Tensor, "b n"]:
    """The mean over the tokens from which the prediction is read: CLS, the patches, or a pool's queries.

    With the `gradients` of a class at the last layer, over those of them from which this class is read.
    """
    # A row of ones over the readout tokens: their mean is one row, so many readers cost no more than CLS alone.
    read_from = observation.read_from
    readout = readout_in(layers[-1], layers, read_from.tokens, read_from.among)
    of_each = readers_of_each(layers[-1], readout, read_from)
    vectors = readout_vectors(layers[-1], readout, of_each).to(layers[-1].kept_rows.dtype)
    if gradients:  # a model may have a token for each class
        of_class = vectors * queries_reached(layers[-1], gradients)
        vectors = torch.where(of_class.any(dim=1, keepdim=True), of_class, vectors)
    return (vectors / vectors.sum(dim=1, keepdim=True)).expand(len(layers[-1].kept_rows), -1)


def carry(
    layer: Layer, row: Float[Tensor, "b n"], chunks: Iterable[tuple[slice, Float[Tensor, "b h r m"]]]
) -> Float[Tensor, "b m"]:
    """A row times the mean over heads of a layer's weights, given chunk by chunk."""
    return sum_chunks(row_times(row[:, queries], weights) for queries, weights in chunks)


def row_times(row: Float[Tensor, "b r"], weights: Float[Tensor, "b h r m"]) -> Float[Tensor, "b m"]:
    """A row vector times the mean over heads of some rows of attention."""
    per_head = row.to(weights.dtype)[:, None, None] @ weights  # averaged afterwards: the weights are not copied
    return per_head[:, :, 0].mean(dim=1)


def weights_and_gradients(
    layer: Layer, out_gradients: Sequence[Tensor]
) -> Iterator[tuple[slice, Float[Tensor, "b h r m"], Float[Tensor, "b h r m"]]]:
    """Rows of the attention A and of ∂y/∂A, a chunk of queries at a time.

    For Z = A v, ∂y/∂A = (∂y/∂Z) vᵀ: the gradient of what the call of attention returned is all that is needed, so the
    fused kernel, which never forms A, can stay.
    """
    for queries, rows in layer.chunks():
        yield queries, rows.detach(), layer.weight_gradients(out_gradients, queries)


def positive_relevance(
    layer: Layer, out_gradients: Sequence[Tensor]
) -> Iterator[tuple[slice, Float[Tensor, "b h r m"]]]:
    """(∂y/∂A ∘ A)⁺, a chunk of queries at a time (Chefer et al. 2021, "Generic Attention-model Explainability", eq.
    5)."""
    for queries, weights, gradients in weights_and_gradients(layer, out_gradients):
        yield queries, (weights * gradients).clamp_min(0)
