"""`attention_gradient`: attention x gradient in the last layer that a gradient reaches (Chefer et al. 2021, "Generic
Attention-model Explainability", eq. 5, one layer alone).

    mean over heads of (∂y/∂A ∘ A)⁺ [CLS, patches]

Where the prediction is read from more tokens than CLS, their rows are added up; attention within windows is put where
the windows stand.

Axes:  b images   h heads   r rows   m key tokens
"""

from vitral.explain.flow import check_further_uses, further_use_note, positive_relevance
from vitral.explain.method import PatchMap, check_shares, method, share_of_prefix
from vitral.explain.observation import Observation, Target
from vitral.explain.readout import readers_of_each, readout_in
from vitral.recording.layers import sum_chunks
from vitral.recording.queries import readout_vectors


@method(needs=["attention", "gradients"])
def attention_gradient(observation: Observation, target: Target = None) -> PatchMap:
    """What speaks for a class in the last layer's attention, as multiples of uniform.

    `target` is by default the model's prediction. Raises `UsageError` for a class that does not exist, or if the
    answer also uses the layer's weights elsewhere, `WatchError` if
    there is no attention, it cannot be verified, or no gradient reaches it.
    """
    gradients = observation.layer_gradients(target)
    last = max(gradients)
    layer = observation.layers[last]
    # A later layer that no gradient reaches may be used by its weights alone.
    seen = observation.attention
    check_further_uses("attention_gradient", seen, [one for one in seen.layers[last:] if one in seen.of_answer])
    check_shares(layer.kept_rows, layer.name)
    read_from = observation.read_from
    readout = readout_in(layer, observation.attention.of_answer, read_from.tokens, read_from.among)
    readers = readout_vectors(layer, readout, readers_of_each(layer, readout, read_from.of_each))
    row = sum_chunks(
        (relevance.mean(dim=1).mT @ readers[:, queries, None].to(relevance.dtype))[..., 0]
        for queries, relevance in positive_relevance(layer, gradients[last])
    )
    if layer.windows is not None:
        row = layer.windows.spread(row[:, None])[:, 0]
    tokens = layer.tokens
    return PatchMap(
        tokens.patches(row),
        tokens.grid,
        f"This map shows what {observation.supports} in the attention of {layer.name}, by the "
        f"{observation.answer_kind.per_output}'s gradient." + read_from.note + further_use_note([layer]),
        layers=(layer.name,),
        prefix_mass=share_of_prefix(row, tokens),
        residual=observation.residual,
        classes=observation.classes(target),
        why_zero=f"No attention to a patch in {layer.name} raises the class's logit.",
    )
