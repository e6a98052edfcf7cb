"""`chefer`: gradient-weighted attention through all layers (Chefer et al. 2021, "Generic Attention-model
Explainability", §3, for self-attention).

    Ā_l = mean over heads of (∂y/∂A_l ∘ A_l)⁺        R = (I + Ā_L) ··· (I + Ā_1)        map = R[CLS, patches]

y is the logit of a class, so the map is of that class; the ⁺ leaves out whatever speaks against it.

Axes:  b images   h heads   n m tokens
"""

from collections.abc import Sequence

from vitral.explain.flow import (
    carry,
    check_gradients,
    further_use_note,
    global_layers,
    left_out,
    names_of,
    positive_relevance,
    start_row,
)
from vitral.explain.method import PatchMap, method, share_of_prefix
from vitral.explain.observation import Observation, Target

ANY_CLASS = " Relevance starts from the readout tokens of all classes, since these tokens are normalised together."


@method(needs=["attention", "gradients"])
def chefer(observation: Observation, target: Target = None, *, layers: Sequence[str] = ()) -> PatchMap:
    """Each patch's relevance to a class's logit, as multiples of uniform.

    `layers` names the layers that count, for a model of which some are not known.

    `target` is by default the model's prediction. Relevance starts from the tokens from which the prediction is read
    (`explain.readout`): CLS, the mean of the patches, or, where a class has a token of its own, that of the target.
    Raises `UsageError` for a class that does not exist, for layers that do not hold the same tokens, or for weights
    that the model also uses elsewhere; `WatchError` if there is no attention, it cannot be verified, or no gradient
    reaches it.
    """
    gradients = observation.layer_gradients(target)
    shown = global_layers(observation, "chefer", layers)
    check_gradients("chefer", observation.attention, shown, gradients)
    # Behind a norm of all tokens, the gradient of one class reaches the tokens of all.
    read_from, of_class = observation.read_from, gradients[max(shown)]
    is_joint = read_from.norm != "none" and len(read_from.tokens) > 1
    row = start_row(observation, list(shown.values()), () if is_joint else of_class)
    for number, layer in reversed(shown.items()):
        flown = carry(layer, row, positive_relevance(layer, gradients[number]))
        row = row + flown if layer.queries_are_keys else flown
    tokens = next(iter(shown.values())).tokens
    return PatchMap(
        tokens.patches(row),
        tokens.grid,
        f"This map shows what {observation.supports} in the attention of {', '.join(layers) or 'all layers'}, by the "
        f"{observation.answer_kind.per_output}'s gradient."
        + read_from.note
        + (ANY_CLASS if is_joint else "")
        + left_out(observation, list(shown.values()), layers)
        + further_use_note(list(shown.values())),
        layers=names_of(layers),
        prefix_mass=share_of_prefix(row, tokens),
        residual=observation.residual,
        classes=observation.classes(target),
        why_zero=f"No attention to a patch, in any layer, raises {observation.score}.",
    )
