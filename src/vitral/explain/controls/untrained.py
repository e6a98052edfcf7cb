"""`untrained`: the last attention of the same model with nothing learned (the sanity check of Adebayo et al. 2018, §3).

For a model without attention, Grad-CAM.
"""

from vitral.base.errors import WatchError
from vitral.explain.method import PatchMap, method
from vitral.explain.methods.attention import attention
from vitral.explain.methods.grad_cam import grad_cam
from vitral.explain.observation import Observation, Target, observe
from vitral.explain.untrained_twin import untrained_twin


@method()
def untrained(observation: Observation, target: Target = None, *, seed: int = 0) -> PatchMap:
    """What the untrained twin attends to in its last layer, heads averaged. Raises `WatchError` if nothing is seen."""
    twin = untrained_twin(observation.model, seed)
    try:
        shown = attention(observe(twin, observation.images, attention.needs), layers=[-1])
        values = shown.scaled[:, -1].mean(dim=1)
    except WatchError:
        shown = grad_cam(observe(twin, observation.images, grad_cam.needs), target)
        values = shown.values
    return PatchMap(
        values,
        shown.grid,
        "This map shows where an untrained copy of the model attends.",
        layers=shown.layers[:1],
        residual=shown.residual,
    )
