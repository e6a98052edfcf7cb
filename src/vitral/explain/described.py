"""What a model says about itself: how it takes images, and what it calls its classes."""

from torch import nn

from vitral.base.preprocessing import Preprocessing
from vitral.base.record import number_classes


def preprocessing_of(model: nn.Module) -> Preprocessing | None:
    """What a model says of how it takes images; None if it does not say, or calls something else by that name."""
    said = getattr(model, "preprocessing", None)
    return said if isinstance(said, Preprocessing) else None


def classes_of(model: nn.Module) -> tuple[str, ...] | None:
    """What a model calls its classes; None if nobody has named them."""
    said = getattr(model, "classes", None)
    if not isinstance(said, list | tuple) or not all(isinstance(name, str) for name in said):
        return None
    return None if tuple(said) == number_classes(len(said)) else tuple(said)
