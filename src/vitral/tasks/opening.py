"""A task's MODEL: a path or name, or an `nn.Module` that is loaded already."""

from pathlib import Path
from typing import Any, cast

from torch import nn

from vitral.base.errors import UsageError
from vitral.base.record import record_of
from vitral.store.classifier import Classifier
from vitral.tasks.progress import Progress
from vitral.weights.load import load


def open_model(
    model: str | Path | nn.Module, progress: Progress, code: str | None = None, **options: Any
) -> Classifier:
    """The model, loaded by `vitral.load`, whose notes on how a file was read go to `progress`.

    Raises what `vitral.load` raises, and `UsageError` for a module without the record that says how it takes images.
    """
    if isinstance(model, nn.Module):
        if record_of(model) is None:
            raise UsageError(
                f"{type(model).__name__} has no record of its classes and preprocessing. Load it by vitral.load, or "
                "attach one: vitral.base.record.attach_record(model, ModelRecord(...))."
            )
        return cast(Classifier, model)
    loaded = load(model, code, **options)
    for note in loaded.record.notes:
        progress.note(note)
    return loaded
