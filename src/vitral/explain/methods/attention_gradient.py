"""`attention_gradient`: attention x gradient in the last layer that a gradient reaches (Chefer et al. 2021, "Generic
Attention-model Explainability", eq. 5, one layer alone).

    mean over heads of (∂y/∂A ∘ A)⁺ [CLS, patches]

Where the prediction is read from more tokens than CLS, their rows are added up; attention within windows is put where
the windows stand. Where a class has a layer of its own, as a pool for each class, each image's map is of its class's.

Axes:  b images   h heads   r rows   m key tokens   l layers
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitral.base.errors import UsageError
from vitral.explain.flow import check_further_uses, further_use_note, positive_relevance
from vitral.explain.method import PatchMap, check_shares, method, padding_note, share_of_prefix
from vitral.explain.observation import Observation, Target
from vitral.explain.readout import check_beside, readers_of_each, readout_in
from vitral.explain.token_gradients import queries_reached
from vitral.recording.layers import Layer, sum_chunks
from vitral.recording.queries import readout_vectors


@method(needs=["attention", "gradients"])
def attention_gradient(observation: Observation, target: Target = None) -> PatchMap:
    """What speaks for a class in the last layer's attention, as multiples of uniform.

    `target` is by default the model's prediction. Raises `UsageError` for a class that does not exist, or if the
    answer also uses the layer's weights elsewhere, `WatchError` if
    there is no attention, it cannot be verified, or no gradient reaches it.
    """
    gradients, layers = observation.layer_gradients(target), observation.layers
    num_tokens = observation.read_from.among
    reached = images_reached(observation, gradients)
    # The last layer of each image; where the gradient is zero everywhere, that of the model.
    lasts = torch.stack([reached[number] * (number + 1) for number in gradients]).amax(dim=0) - 1
    lasts[lasts < 0] = max(gradients)
    shown = sorted(set(lasts.tolist()))
    # A later layer that no gradient reaches may be used by its weights alone.
    seen = observation.attention
    check_further_uses("attention_gradient", seen, [one for one in layers[shown[0] :] if one in seen.of_answer])
    tokens = layers[shown[-1]].tokens
    if other := next((layers[number] for number in shown if layers[number].tokens != tokens), None):
        raise UsageError(
            f"The classes of these images are read from different layers ({other.name} and {layers[shown[-1]].name}), "
            "whose tokens differ, so they do not fit one figure. Explain one image at a time."
        )
    notes = {
        check_beside(
            observation.attention, [layers[at] for at in reached if reached[at][image]], [layers[last]], num_tokens
        )
        for image, last in enumerate(lasts.tolist())
    }
    rows = {number: relevance_row(observation, layers[number], gradients[number]) for number in shown}
    row, on_padding = (
        torch.stack([rows[last][part][image] for image, last in enumerate(lasts.tolist())]) for part in (0, 1)
    )
    # A pool's single query is read in any case.
    note = observation.read_from.note if any(layers[number].num_queries > 1 for number in shown) else ""
    names = " and ".join(dict.fromkeys(seen.name_of(layers[number]) for number in shown))
    return PatchMap(
        tokens.patches(row),
        tokens.grid,
        f"This map shows what {observation.supports} in the attention of {names}, by the "
        f"{observation.answer_kind.per_output}'s gradient."
        + note
        + max(notes, key=len)
        + padding_note(float(on_padding.max()))
        + further_use_note([layers[number] for number in shown]),
        layers=(names,),
        prefix_mass=share_of_prefix(row, tokens) + on_padding,
        residual=observation.residual,
        classes=observation.classes(target),
        why_zero=f"No attention to a patch in {names} raises {observation.score}.",
    )


def images_reached(
    observation: Observation, gradients: Mapping[int, Sequence[Tensor]]
) -> dict[int, Bool[Tensor, " b"]]:
    """For which images the gradient at each layer is not zero, by the layer's number."""
    count = len(observation.images)
    layers = [observation.layers[number] for number in gradients]
    if fewer := next((layer for layer in layers if len(layer.kept_rows) % count), None):
        raise UsageError(
            f"{fewer.name} holds {len(fewer.kept_rows)} sequences for {count} images: images leave the batch on the "
            "way (early exits), or several are packed into one sequence. Explain one image at a time."
        )
    every = {number: queries_reached(observation.layers[number], parts) for number, parts in gradients.items()}
    return {number: queries.reshape(count, -1).any(dim=1).cpu() for number, queries in every.items()}


def relevance_row(
    observation: Observation, layer: Layer, gradients: Sequence[Tensor]
) -> tuple[Float[Tensor, "b m"], Float[Tensor, " b"]]:
    """The relevance of each key token of one layer, summed over the readout tokens, and the share of it that is on the
    padding of windows."""
    check_shares(layer.kept_rows, layer.name)
    read_from = observation.read_from
    readout = readout_in(layer, observation.attention.of_answer, read_from.tokens, read_from.among)
    of_each = None if layer.windows is not None else readers_of_each(layer, readout, read_from)
    readers = readout_vectors(layer, readout, of_each)
    row = sum_chunks(
        (relevance.mean(dim=1).mT @ readers[:, queries, None].to(relevance.dtype))[..., 0]
        for queries, relevance in positive_relevance(layer, gradients)
    )
    if layer.windows is None:
        return row, row.new_zeros(len(row))
    return layer.windows.spread(row[:, None])[:, 0], layer.windows.share_of_padding(row[:, None])[:, 0]
