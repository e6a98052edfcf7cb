"""A run folder: never overwritten, and each file in it is written whole.

config.yaml         the settings, with presets filled in
splits.csv          of a folder: which image trains, validates and tests
metrics.jsonl       one line per log entry or evaluation
model.safetensors   the best model so far, by validation, with model.json
training_images.safetensors   statistics that tell what is unlike the training images
checkpoints/        the state to resume from
confusion.csv       of one class of many: images per true class (rows) and predicted class (columns)
report.html         the results
job.txt             under torchrun: by which launcher, so that a restarted one finds its run
"""

import json
import shlex
from contextlib import suppress
from hashlib import sha256
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any

from vitral.base.config import read_settings, to_yaml
from vitral.base.errors import StoreError
from vitral.base.files import write_file, writing_to
from vitral.training.recipe import Recipe

CONFIG, METRICS, REPORT = "config.yaml", "metrics.jsonl", "report.html"
CHANGEABLE = ("epochs", "on_bad_image")  # settings that a run may change when it is resumed


class Run:
    """A run's folder and what is written there during training."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def new(cls, path: Path | None, recipe: Recipe) -> "Run":
        """Create the folder (by default `runs/DATA-1`, `-2`, ...) and write the settings.

        Raises `StoreError` if it exists and is not empty.
        """
        if path is None:
            path = numbered(Path("runs"), Path(recipe.data.partition(":")[0]).name or "data")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(
                f"{path} exists and is not overwritten. Choose another --out, "
                f"or continue the run in it with --resume {shlex.quote(str(path))}."
            )
        write_file(path / CONFIG, to_yaml(recipe))
        return cls(path)

    @classmethod
    def existing(cls, path: Path) -> tuple["Run", Recipe]:
        """The run in a folder, and its settings. Raises `StoreError` if there is none."""
        if not (path / CONFIG).is_file():
            raise StoreError(f"{path} is not a run folder: it has no {CONFIG}. `vitral train` creates one.")
        return cls(path), Recipe(**read_settings(path / CONFIG, Recipe))

    def log(self, **record: Any) -> None:
        """Append a line to `metrics.jsonl`; null for a figure that does not exist, as the mean of no class."""
        known = {
            key: None if isinstance(value, float) and not isfinite(value) else value for key, value in record.items()
        }
        with writing_to(self.path / METRICS), (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(known, allow_nan=False) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a last line cut short by a crash is left out. Raises `StoreError`."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines() if path.is_file() else []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                if number == len(lines):
                    break
                raise StoreError(f"{path} is damaged: line {number} is not JSON.") from error
            if not isinstance(found[-1], dict) or not isinstance(found[-1].get("step"), int):
                raise StoreError(f"{path} is damaged: line {number} has no step number.")
        return found

    @property
    def settings_sha256(self) -> str:
        """Of config.yaml as it is written, without the settings that a resumed run may change.

        Of the file rather than of its settings: a later version of Vitral may have more of these.
        """
        lines = (self.path / CONFIG).read_text(encoding="utf-8").splitlines()
        own = [line for line in lines if line.partition(":")[0] not in CHANGEABLE]
        return sha256("\n".join(own).encode()).hexdigest()

    def change(self, recipe: Recipe) -> None:
        """Write the settings of a resumed run that are others now; all other lines stay as they are."""
        lines = (self.path / CONFIG).read_text(encoding="utf-8").splitlines()
        values = {name: f"{name}: {getattr(recipe, name)}" for name in CHANGEABLE}
        changed = [values.get(line.partition(":")[0], line) for line in lines]
        write_file(self.path / CONFIG, "\n".join(changed) + "\n")

    def rewind(self, step: int, is_finished: bool = False) -> None:
        """Remove what was logged after a step, since those steps are about to be taken again; and what tests said,
        unless the run is finished."""
        tested = [] if is_finished else [record for record in self.records() if "test_loss" in record]
        kept = [json.dumps(record) for record in self.records() if record["step"] <= step and record not in tested]
        write_file(self.path / METRICS, "".join(line + "\n" for line in kept))


def numbered(home: Path, name: str) -> Path:
    """Create the first of `home/name-1`, `home/name-2`, ... that does not exist, safely beside other processes."""
    for number in count(1):
        path = home / f"{name}-{number}"
        with writing_to(path), suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise AssertionError
