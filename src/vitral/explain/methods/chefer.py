"""`chefer`: gradient-weighted attention through all layers (Chefer et al. 2021, "Generic Attention-model
Explainability", §3, for self-attention).

    Ā_l = mean over heads of (∂y/∂A_l ∘ A_l)⁺        R = (I + Ā_L) ··· (I + Ā_1)        map = R[CLS, patches]

y is the logit of a class, so the map is of that class; the ⁺ leaves out whatever speaks against it. As in `rollout`,
only the row of CLS is carried, from the top, and one chunk of a layer's weights is held at a time.

Axes:  b images   h heads   r rows   n m tokens
"""

from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.gradients import watched_with_gradients, weights_and_gradients
from vitral.explain.maps import Maps
from vitral.explain.methods.rollout import first_row, same_tokens, through
from vitral.explain.one_map import one_map
from vitral.explain.readout import readers_of, tokens_read
from vitral.explain.target import Target
from vitral.recording.layers import total


def chefer(model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None) -> Maps:
    """Each patch's relevance to a class's logit, as multiples of uniform. `target` is by default the model's answer.

    It starts from what the answer is read from (`explain.readout`): CLS, or the mean of the patches. Raises
    `UsageError` for a class that does not exist, or for layers that do not hold the same tokens; `WatchError` if
    nothing is seen or verified, or no gradient reaches the attention.
    """
    with evaluating(model):
        readers = tokens_read(model, images)
        seen, gradients, classes = watched_with_gradients(model, images, target)
    layers = same_tokens(seen, "chefer")
    row = first_row(layers[-1], readers_of(layers[-1], seen, readers))
    for number, layer in reversed(list(enumerate(layers))):
        if number not in gradients:
            continue
        flown = total(
            through(layer, row[:, queries], (rows * gradient).clamp_min(0))
            for queries, rows, gradient in weights_and_gradients(layer, gradients[number])
        )
        row = row + flown if layer.among_themselves else flown
    tokens = layers[0].tokens
    prefix, patches = row.detach().split([len(tokens.prefix), row.shape[1] - len(tokens.prefix)], dim=1)
    return one_map(
        "chefer",
        "Shown is what speaks for the class in the attention of all layers, by its gradient.",
        model,
        images,
        patches,
        tokens.grid,
        prefix_mass=prefix.sum(dim=1) / row.detach().sum(dim=1),
        residual=seen.residual,
        targets=classes,
    )
