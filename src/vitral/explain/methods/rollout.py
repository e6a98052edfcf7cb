"""`rollout`: how much of each patch flows into CLS through all layers (Abnar & Zuidema 2020, §3).

    M_l = ½ mean over heads of A_l + ½ I        R = M_L ··· M_1        map = R[CLS, patches]

The half that stays is an assumption about the residual path, not a measurement; values, MLPs and norms are left out; it
knows no class.

Axes:  b images   h heads   r rows   n m tokens
"""

from collections.abc import Sequence

from vitral.base.errors import UsageError
from vitral.explain.flow import (
    carry,
    further_use_note,
    global_layers,
    left_out,
    names_of,
    start_row,
    without_residual,
)
from vitral.explain.method import PatchMap, method, share_of_prefix
from vitral.explain.observation import Observation, Target


@method(needs=["attention"])
def rollout(
    observation: Observation, target: Target = None, *, stays: float = 0.5, first: int = 0, layers: Sequence[str] = ()
) -> PatchMap:
    """The share of each patch in what CLS ends with, as multiples of uniform.

    `stays` is the assumed share of the residual path, in [0, 1]; `first` the first layer that counts; `layers` names
    the layers that count, for a model of which some are not known. It starts from the tokens from which the prediction
    is read (`explain.readout`): CLS, the mean of the patches, or a pool's query.
    `target` is ignored.

    Raises `UsageError` if the layers do not hold the same tokens (windows, merged patches) or the model also uses their
    weights elsewhere, `WatchError` if there is no attention or it cannot be verified.
    """
    if not 0 <= stays <= 1:
        raise UsageError(f"stays={stays} must be in [0, 1].")
    shown = list(global_layers(observation, "rollout", layers).values())
    if not 0 <= first < len(shown):
        raise UsageError(f"first={first} is not a layer: the model has {len(shown)}, 0 to {len(shown) - 1}.")
    row = start_row(observation, shown)
    for layer in reversed(shown[first:]):
        flown = carry(layer, row, layer.chunks())
        row = stays * row + (1 - stays) * flown if layer.queries_are_keys else flown
    tokens = shown[0].tokens
    return PatchMap(
        tokens.patches(row),
        tokens.grid,
        f"This map shows how attention flows from the patches to the prediction if {stays:.0%} of each token "
        f"stays{without_residual(observation, shown[first:])}; it is the same for every class."
        + observation.read_from.note
        + left_out(observation, shown, layers)
        + further_use_note(shown),
        layers=(f"{first} to {len(shown) - 1}",) if first else names_of(layers),
        prefix_mass=share_of_prefix(row, tokens),
        residual=observation.residual,
        why_zero="No attention flows from the patches to the prediction.",
    )
