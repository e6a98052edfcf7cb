"""`chefer`: gradient-weighted attention through all layers (Chefer et al. 2021, "Generic Attention-model
Explainability", §3, for self-attention).

    Ā_l = mean over heads of (∂y/∂A_l ∘ A_l)⁺        R = (I + Ā_L) ··· (I + Ā_1)        map = R[CLS, patches]

y is the logit of a class, so the map is of that class; the ⁺ leaves out whatever speaks against it.

Axes:  b images   h heads   n m tokens
"""

from vitral.explain.flow import carry, global_layers, positive_relevance, start_row
from vitral.explain.method import PatchMap, method, share_of_prefix
from vitral.explain.observation import Observation, Target


@method(needs=["attention", "gradients"])
def chefer(observation: Observation, target: Target = None) -> PatchMap:
    """Each patch's relevance to a class's logit, as multiples of uniform.

    `target` is by default the model's prediction. Relevance starts from the tokens from which the prediction is read
    (`explain.readout`): CLS, or the mean of the patches. Raises `UsageError` for a class that does not exist, or for
    layers that do not hold the same tokens; `WatchError` if there is no attention, it cannot be verified, or no
    gradient reaches it.
    """
    gradients = observation.layer_gradients(target)
    layers = global_layers(observation, "chefer")
    row = start_row(observation, layers)
    for number, layer in reversed(list(enumerate(layers))):
        if number in gradients:
            flown = carry(layer, row, positive_relevance(layer, gradients[number]))
            row = row + flown if layer.queries_are_keys else flown
    prefix = layers[0].num_prefix_tokens
    return PatchMap(
        row[:, prefix:],
        layers[0].tokens.grid,
        "This map shows what supports the class in the attention of all layers, by its gradient.",
        prefix_mass=share_of_prefix(row, prefix),
        residual=observation.residual,
        classes=observation.classes(target),
    )
