"""A trained model as the start of another: its body for other classes and another size of image, its head if it fits.

Kornblith, Shlens & Le 2019, "Do Better ImageNet Models Transfer Better?", is what to expect of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vitral.base.errors import ConfigError
from vitral.nn.zoo import build
from vitral.store.classifier import Classifier
from vitral.store.model import dress
from vitral.weights.load import fitted

KEPT = ("source", "file", "sha256", "assumed", "dropped")  # of a checkpoint's provenance


@torch.no_grad()
def started(
    trained: Classifier, classes: Sequence[str], img_size: tuple[int, int] | None
) -> tuple[Classifier, list[str]]:
    """A model with the weights of `trained`, for these classes and images of this size; and what was done, in words.

    Positions are resampled as the checkpoint's own library does. The head is kept if the classes are the same; else it
    is new, its last linear map zero. Raises `ConfigError` for a model that is not Vitral's, and sizes that do not fit.
    """
    config: dict[str, Any] = getattr(trained, "config", {})
    if not config:
        raise ConfigError(
            f"{type(trained).__name__} is a model of your own: --init takes one of Vitral's, or a published "
            "checkpoint. Load its weights where its class makes it."
        )
    size = img_size or trained.preprocessing.size
    same = tuple(classes) == tuple(trained.classes) and config["num_classes"] == len(classes)
    wanted = {"img_size": size, "num_classes": len(classes)}
    model = build(config | wanted)
    how = trained.provenance.get("resampling", "timm")
    settings = config | ({} if same else {"num_classes": None})
    tensors, done = fitted(trained.state_dict(), settings, wanted, how)
    left = model.load_state_dict(tensors, strict=False)
    if wrong := [name for name in left.missing_keys if not name.startswith("head.")] + left.unexpected_keys:
        raise ConfigError(f"The checkpoint's {wrong[0]} has no place in the model for images of {size[0]}x{size[1]}.")
    preprocessing = replace(trained.preprocessing, size=size)
    kept = {key: trained.provenance[key] for key in KEPT if key in trained.provenance}
    return dress(model, list(classes), preprocessing, kept | {"resampling": how}), done
