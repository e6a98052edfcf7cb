"""`explain.NAME(model, images, target, **options)`: observe a model and explain it by one method."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vitral.explain.maps import Maps, as_maps
from vitral.explain.method import Method
from vitral.explain.observation import Observation, Target, observe

FIRST = [
    inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
    for name, default in (("model", inspect.Parameter.empty), ("images", inspect.Parameter.empty), ("target", None))
]


def explainer(method: Method) -> Callable[..., Maps]:
    """The method as a function of a model and images: it observes the model for this method alone."""

    def explain(model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None, **options: Any) -> Maps:
        return explain_observed(method, observe(model, images, method.needs), target, **options)

    explain.__name__, explain.__doc__, explain.__module__ = method.name, method.__doc__, method.__module__
    explain.__signature__ = inspect.Signature([*FIRST, *method.options.values()], return_annotation=Maps)  # type: ignore[attr-defined]  # typeshed does not know that functions may carry one
    return explain


def explain_observed(method: Method, observation: Observation, target: Target = None, **options: Any) -> Maps:
    """The maps of a method for a model that was observed already."""
    return as_maps(method.name, method(observation, target, **options), observation)
