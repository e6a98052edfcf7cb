"""Write a model in another library's format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitral.tasks.opening import opened
from vitral.tasks.progress import Progress, progress_for
from vitral.weights.convert import write


@dataclass(frozen=True)
class ConversionResult:
    """The files written, what they cannot express, and where the model comes from."""

    files: tuple[Path, ...]
    lost: tuple[str, ...]
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()


def convert(
    model: str | Path,
    out: str | Path,
    to: Literal["timm", "hf", "torchvision", "npz"] = "timm",
    *,
    progress: bool | Progress = False,
    **options: Any,
) -> ConversionResult:
    """Write a run or a published checkpoint to the folder `out` as another library saves it.

    The files are read back, and must give the same logits. `options` say what the checkpoint does not (`source`,
    `weights`, `num_heads`, `trained_at`, `sha256`). Raises `ConfigError` if the format cannot hold the model, or if the
    folder is not empty.
    """
    progress = progress_for(progress)
    trained = opened(str(model), progress, **options)
    files, lost = write(trained, Path(out), to)
    return ConversionResult(tuple(files), tuple(lost), dict(trained.provenance), tuple(progress.notes))
