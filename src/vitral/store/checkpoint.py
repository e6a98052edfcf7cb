"""Names in a training checkpoint's folder, which training writes and loading reads."""

from pathlib import Path

PREFIX, WEIGHTS = "step-", "weights.safetensors"


def is_training_checkpoint(folder: Path) -> bool:
    """Whether a folder is `RUN/checkpoints/step-000200`, with weights in it."""
    return folder.name.startswith(PREFIX) and (folder / WEIGHTS).is_file()
