"""Where a run stands, on disk: enough to go on as if nothing had happened, bit for bit."""

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from vitral.base.errors import StoreError
from vitral.base.files import sha256, write_folder
from vitral.data.dataset import Split
from vitral.training.steps import Step

PREFIX = "step-"
STATE, WEIGHTS, OPTIMIZERS = "state.json", "weights.safetensors", "optimizers.pt"


@dataclass(frozen=True)
class Progress:
    """How far a run is, and what it must still match to be continued."""

    step: int
    best: tuple[float, float]
    recent: tuple[Step, ...]
    settings: str
    data: str
    code: str


def fingerprint(*splits: Split) -> str:
    """A hash of all images and labels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.labels.tobytes())
        digest.update(split.pixels.data.cast("B"))
    return digest.hexdigest()


def save_checkpoint(
    home: Path, progress: Progress, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> Path:
    """Write `home/step-000123/` whole, then remove the checkpoints before it."""
    folder = home / f"{PREFIX}{progress.step:06d}"
    with write_folder(folder) as new:
        weights = {
            name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()
        }
        (new / WEIGHTS).write_bytes(save(weights))
        state = {"optimizers": [optimizer.state_dict() for optimizer in optimizers], "random": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        content = io.BytesIO()
        torch.save(state, content)  # to memory first: on a full disk its own writing fails without saying why
        (new / OPTIMIZERS).write_bytes(content.getbuffer())
        record = asdict(progress) | {"files": {name: sha256(new / name) for name in (WEIGHTS, OPTIMIZERS)}}
        (new / STATE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    begun = home.glob(f".{PREFIX}*")  # left by a process that was killed while it wrote
    for older in (*checkpoints(home), *begun):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    return folder


def checkpoints(home: Path) -> list[Path]:
    """The checkpoints in a run, oldest first."""
    found = [folder for folder in home.glob(f"{PREFIX}*") if folder.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix(PREFIX)))


def read_progress(home: Path) -> tuple[Path, Progress]:
    """The last checkpoint and its progress, its files being as they were written.

    Raises `StoreError` if there is none, or if a file was changed.
    """
    found = checkpoints(home)
    if not found:
        raise StoreError(
            f"{home.parent} has no checkpoint to go on from. "
            f"Start again with the same settings: --config {home.parent / 'config.yaml'}."
        )
    folder = found[-1]
    try:
        record: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        files = record.pop("files")
        recent = tuple(Step(**step) for step in record["recent"])
        progress = Progress(**record | {"best": tuple(record["best"]), "recent": recent})
        if folder.name != f"{PREFIX}{progress.step:06d}" or not isinstance(files, dict):
            raise ValueError("it is not as it was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / STATE} cannot be read: {error}. The run cannot be continued from it.") from error
    for name, expected in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise StoreError(
                f"{folder / name} is not as it was written: it is damaged, missing or was changed. "
                "The run cannot be continued."
            )
    return folder, progress


def load_checkpoint(folder: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Put a checkpoint's weights, optimiser states and random state back."""
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
        state = torch.load(io.BytesIO((folder / OPTIMIZERS).read_bytes()), weights_only=True)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"{folder} belongs to another model: {str(error).strip().splitlines()[-1].strip()}") from error
    torch.set_rng_state(state["random"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
