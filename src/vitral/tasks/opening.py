"""A task's MODEL: a path or name, or an `nn.Module` that is there already."""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import nn

from vitral.base.errors import ConfigError, UsageError, VitralError
from vitral.base.preprocessing import Preprocessing
from vitral.recording.forward import logits_of
from vitral.store.classifier import Classifier, numbered
from vitral.store.code import from_code, is_code
from vitral.store.foreign import TIMM, foreign, is_hugging_face
from vitral.store.model import dress
from vitral.tasks.progress import Progress
from vitral.training.checkpoint import PREFIX
from vitral.training.checkpoint import WEIGHTS as CHECKPOINT_WEIGHTS
from vitral.weights.load import is_published, load, told


def opened(name: str, progress: Progress, code: str | None = None, **settings: Any) -> Classifier:
    """A run, or a published checkpoint; and of that what was assumed and what was left out, said to the user."""
    model = load(name, code, **settings)
    if is_published(told(name)[0]):
        for line in read_as(model.provenance):
            progress.note(line)
    return model


def read_as(provenance: dict[str, Any]) -> list[str]:
    """How a published checkpoint was read."""
    reasons: dict[str, list[str]] = {}
    for name, reason in provenance["dropped"].items():
        reasons.setdefault(reason, []).append(name)
    return [
        f"read as of {provenance['source']}",
        *(f"  assumed: {line}" for line in provenance["assumed"]),
        *(
            f"  left out: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}, {reason}"
            for reason, names in reasons.items()
        ),
    ]


def open_model(name: str | Path | nn.Module, progress: Progress, code: str | None = None) -> Classifier:
    """A trained model to explain: a run, a checkpoint of one, `timm:NAME`, a published checkpoint, or `file.py:Name`.

    A checkpoint's weights are those of its step; the rest is its run's. A model of `file.py:Name` is as its class makes
    it, trained if that loads weights. A Hugging Face folder that is none of Vitral's sources' is read by transformers.
    """
    if isinstance(name, nn.Module):
        return cast(Classifier, name)
    name = str(name)
    if name.startswith(TIMM):
        return foreign(name)
    if is_code(name):
        model = from_code(name, 1000, (224, 224))
        progress.note(
            getattr(
                model, "origin", f"{name} is used as constructed; it is untrained unless its constructor loads weights."
            )
        )
        side = getattr(model, "img_size", 224)
        size = tuple(side) if isinstance(side, tuple | list) else (side, side)
        preprocessing = getattr(model, "preprocessing", Preprocessing(size=size))
        return dress(model, class_names(model, outputs(model.eval(), preprocessing)), preprocessing, {}).eval()
    folder = Path(name)
    if folder.name.startswith(PREFIX) and (folder / CHECKPOINT_WEIGHTS).is_file():
        model = opened(str(folder.parent.parent), progress, code)
        model.load_state_dict(load_file(folder / CHECKPOINT_WEIGHTS))
        return model
    if not is_hugging_face(folder):
        return opened(name, progress, code)
    try:
        return opened(name, progress)
    except VitralError as error:
        progress.note(f"Vitral cannot read this itself, so transformers is asked to: {error}")
        return foreign(name)


@torch.no_grad()
def outputs(model: nn.Module, seen: Preprocessing) -> int:
    """How many classes a model of `file.py:Name` scores, as it answers an empty image; none if it scores no classes.

    Raises `ShapeError` if it does not take images that are prepared so.
    """
    channels = len(seen.mean)
    try:
        return logits_of(model, torch.zeros(1, channels, *seen.size, device=next(model.parameters()).device)).shape[1]
    except UsageError:
        return 0


def class_names(model: nn.Module, count: int) -> list[str]:
    """A model's own `class_names`, or numbers. Raises `ConfigError` if they are not one for each class."""
    own = getattr(model, "class_names", None)
    if own is None:
        return numbered(count)
    if not isinstance(own, list | tuple) or len(own) != count or not all(isinstance(name, str) for name in own):
        raise ConfigError(f"The model's `class_names` should be {count} texts, one for each class; found {own!r}.")
    return list(own)
