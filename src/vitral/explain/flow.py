"""Carry the readout's row through the attention of all layers, for `rollout` and `chefer`.

Only one row is wanted, and a row times M_L ··· M_1 is a row times a matrix, layer by layer from the top: no matrix is
ever multiplied by a matrix, and each layer's weights are formed a chunk of rows at a time.

Axes:  b images   h heads   r rows   n m tokens
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError, WatchError
from vitral.explain.method import check_shares
from vitral.explain.observation import Observation
from vitral.explain.readout import readers_of_each, readout_in
from vitral.explain.token_gradients import queries_reached
from vitral.recording.dataflow import Meeting
from vitral.recording.further_uses import FurtherUse
from vitral.recording.layers import Layer, Recording, sum_chunks
from vitral.recording.queries import readout_vectors


def global_layers(observation: Observation, method: str, names: Sequence[str] = ()) -> dict[int, Layer]:
    """The layers to multiply by number: those of these names, or all that the answer depends on.

    Raises `UsageError` where a product of layers has no meaning: they do not hold the same tokens, or some of all are
    not known.
    """
    recording = observation.attention
    if recording.only_rows:
        raise UsageError(f"{method} multiplies the whole attention of all layers. {recording.only_rows}")
    known = list(map(recording.name_of, recording.layers))
    alike = [layer.name for layer in recording.layers]  # a name that several calls have stands for all of them
    if unknown := [name for name in names if name not in known + alike]:
        raise UsageError(f"There is no attention layer {unknown[0]!r}; the model has {', '.join(known)}.")
    if recording.missed and not names:
        raise UsageError(
            f"{method} multiplies the attention of all layers, but in this model some attention could not be recorded: "
            f"{'; '.join(recording.missed)}. To multiply the other layers only, name them: layers={known}."
        )
    chosen = {
        number: layer
        for number, layer in enumerate(recording.layers)
        if (layer.name in names or known[number] in names if names else layer in recording.of_answer)
    }
    layers = list(chosen.values())
    # Before the order of tokens, which is not measured where weights change them in another way than by the product.
    check_further_uses(method, recording, layers, chain_at_end(recording, layers))
    # Of layers of one size the chain comes first: it says more than that the queries of one are other tokens.
    no_chain = "" if (why := why_other_sizes(recording, layers)) else why_no_chain(recording, layers)
    if why := why or ("" if no_chain else why_other_queries(recording, layers)):
        raise UsageError(
            f"{method} multiplies attention through the layers, so all of them must have the same tokens, but {why}. "
            "Try attention_gradient or grad_cam."
        )
    if no_chain:
        raise UsageError(
            f"{method} multiplies the attention of layers that follow one another, but {no_chain}. Name layers that "
            f"do: layers={chain_at_end(recording, layers) or '[...]'}; or try attention or attention_gradient, which "
            "show each layer by itself, or occlusion."
        )
    for layer in layers:
        check_shares(layer.kept_rows, layer.name)
    return chosen


def why_other_sizes(recording: Recording, layers: Sequence[Layer]) -> str:
    """What sizes show that the layers have other tokens than one another; empty if none do."""
    name_of = recording.name_of
    if windows := next((layer for layer in layers if layer.windows), None):
        return f"{name_of(windows)} attends within windows"
    if any(layer.num_queries != layer.num_tokens for layer in layers[:-1]):
        return why_other_queries(recording, layers)
    first = layers[0]
    for layer in layers:
        if layer.num_tokens != first.num_tokens:
            return f"{name_of(first)} has {first.num_tokens} tokens and {name_of(layer)} has {layer.num_tokens}"
        if len(layer.kept_rows) != len(first.kept_rows):
            groups = f"{len(first.kept_rows)} and {len(layer.kept_rows)} groups"
            return f"{name_of(first)} and {name_of(layer)} attend within {groups}"
    return ""


def why_other_queries(recording: Recording, layers: Sequence[Layer]) -> str:
    """Which layer before the last is a pool: what leaves it are no longer the tokens that the next one attends to."""
    pool = next((layer for layer in layers[:-1] if not layer.queries_are_keys), None)
    if pool is None:
        return ""
    return f"{recording.name_of(pool)} attends from {pool.num_queries} queries to {pool.num_tokens} other tokens"


def why_no_chain(recording: Recording, layers: Sequence[Layer]) -> str:
    """Why the product of these layers is not what flows to the answer; empty if it is.

    The values of each must be the tokens that the one before it wrote, in the same order, and nothing else.
    """
    name_of, answer = recording.name_of, recording.answer
    if unread := [layer for layer in layers if answer and not layer.bit & answer]:
        return f"the output does not depend on {', '.join(map(name_of, unread))}"
    for before, after in pairwise(layers):
        if not after.depends & before.bit:
            return f"{name_of(before)} and {name_of(after)} run side by side: neither depends on the other"
        if why := why_other_values(recording, before, after, layers):
            return why
    if why_other_queries(recording, layers):
        return ""  # what their tokens are need not be known
    for before, after in pairwise(layers):
        if after.tokens.patch_tokens != before.tokens.patch_tokens:
            return f"the tokens of {name_of(after)} are in a different order from those of {name_of(before)}"
    return ""


def why_other_values(recording: Recording, before: Layer, after: Layer, layers: Sequence[Layer]) -> str:
    """Why the keys and values of a layer are not what the layer before it wrote; empty if they are."""
    first, second = recording.name_of(before), recording.name_of(after)
    if not after.values_depend & before.bit:
        return (
            f"the keys and values of {second} are not computed from what {first} returned, but from earlier tokens or "
            "another part of the model"
        )
    # Of a pool, `why_other_queries` says more than that not all tokens come from it.
    meetings = meetings_between(recording, before, after, layers) if before.queries_are_keys else ()
    for meeting, between in meetings:
        if meeting.is_image and between:
            return f"the tokens of {second} are embedded from the image again, after {between[-1]}"
        if meeting.side_by_side and between:
            return f"only some of the tokens of {second} are computed from what {', '.join(between)} returned"
    return ""


def chain_at_end(recording: Recording, layers: Sequence[Layer]) -> list[str]:
    """The names of the last layers of these that may be multiplied."""
    for number in range(1, len(layers)):
        end = layers[number:]
        with suppress(UsageError, WatchError):  # tokens that are not known are no chain
            if not (why_no_chain(recording, end) or why_other_queries(recording, end) or any(map(uses_of_values, end))):
                return list(map(recording.name_of, end))
    return []


def check_further_uses(method: str, recording: Recording, layers: Sequence[Layer], others: Sequence[str] = ()) -> None:
    """Raise `UsageError` if the answer depends on the weights of a layer besides their product with the values.

    `others` are layers that may be named instead.
    """
    name_of = recording.name_of
    used = dict.fromkeys(f"those of {name_of(layer)} in {use}" for layer in layers for use in uses_of_values(layer))
    if not used:
        return
    name_others = f", or name layers without such a use: layers={list(others)}" if others else ""
    raise UsageError(
        f"{method} follows attention through the product of weights and values, but the output also depends on the "
        f"weights in another way: {'; '.join(used)}. Use attention, which shows the exact weights, or occlusion, which "
        f"needs no gradients{name_others}."
    )


def uses_of_values(layer: Layer) -> list[FurtherUse]:
    """The further uses of a layer's weights through which a gradient passes."""
    return [use for use in layer.further_uses if not use.is_choice]


def meetings_between(
    recording: Recording, before: Layer, after: Layer, layers: Sequence[Layer]
) -> Iterator[tuple[Meeting, list[str]]]:
    """Each meeting of tokens of several depths of which a layer's values are made, and not those of the layer before
    it; with the names of those of `layers` of which only the newer tokens are made."""
    for mark, meeting in recording.meetings.items():
        if mark & after.values_depend & ~before.values_depend:
            yield (
                meeting,
                [recording.name_of(one) for one in layers if one.bit & meeting.newer and not one.bit & meeting.older],
            )


def paths_not_counted(recording: Recording, layers: Sequence[Layer]) -> str:
    """Sentences for captions on what is added to the tokens between the layers and is not their attention."""
    skips, embeddings = [], []
    for before, after in pairwise(layers):
        name = recording.name_of(after)
        if after.values_depend & ~(before.values_depend | before.depends) & recording.projections:
            embeddings.append(name)
        for _, between in meetings_between(recording, before, after, layers):
            if len(between) > 1:  # around one layer it is the residual path
                skips.append(f"from before {between[0]} to {name}")
    found = f" Skip connections are not counted: {', '.join(dict.fromkeys(skips))}." if skips else ""
    if embeddings:
        found += f" A second embedding of the image, which enters before {', '.join(embeddings)}, is not counted."
    return found


def check_gradients(method: str, recording: Recording, layers: Mapping[int, Layer], reached: Collection[int]) -> None:
    """Raise `WatchError` unless a gradient reached each of these layers, by number: without one it would be left out
    of the product in silence."""
    without = [recording.name_of(layer) for number, layer in layers.items() if number not in reached]
    if without:
        others = [recording.name_of(layer) for number, layer in layers.items() if number in reached]
        raise WatchError(
            f"{method} multiplies each layer's attention by its gradient, but no gradient reaches "
            f"{', '.join(without)}: the model runs there under no_grad, detaches its tokens, or uses a checkpoint with "
            "use_reentrant=True. "
            f"Name the other layers: layers={others}; or let gradients through: use_reentrant=False."
        )


def left_out(observation: Observation, layers: Sequence[Layer], names: Sequence[str]) -> str:
    """Sentences for captions on what is not multiplied: other layers though no names were given, and other paths than
    through the attention of these layers; empty if there is nothing."""
    recording = observation.attention
    others = [] if names else [recording.name_of(layer) for layer in recording.not_of_answer]
    left = "they are" if len(others) > 1 else "it is"
    found = f" The output does not depend on {', '.join(others)}, so {left} left out." if others else ""
    return found + paths_not_counted(recording, layers)


def without_residual(observation: Observation, layers: Sequence[Layer]) -> str:
    """What captions say of layers in which no token stays, since their queries are others than their keys."""
    pools = [observation.attention.name_of(layer) for layer in layers if not layer.queries_are_keys]
    return f" (none in {', '.join(pools)}, where the queries are not the tokens)" if pools else ""


def further_use_note(layers: Sequence[Layer]) -> str:
    """A sentence for captions on further uses of the weights of these layers; empty if there are none."""
    used = dict.fromkeys(f"those of {layer.name} in {use}" for layer in layers for use in layer.further_uses)
    choices = all(use.is_choice for layer in layers for use in layer.further_uses)
    how = "to choose or to compare, where no gradient passes" if choices else "besides their product with the values"
    return f" The model also uses weights {how}, which this map leaves out: {'; '.join(used)}." if used else ""


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
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))  # half precision would round each layer
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
