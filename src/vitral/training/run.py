"""A run folder: never overwritten, and each file in it whole.

config.yaml         the settings, as given and filled in
metrics.jsonl       a line a log entry or evaluation
model.safetensors   the best model so far, by validation, with model.json
checkpoints/        where to go on from
report.html         what came out
"""

import json
import shlex
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from vitral.base.config import read_settings, to_yaml
from vitral.base.errors import StoreError
from vitral.base.files import write_file, writing_to
from vitral.training.recipe import Recipe

CONFIG, METRICS = "config.yaml", "metrics.jsonl"


class Run:
    """A run's folder and what is written there while it trains."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.checkpoints = folder / "checkpoints"

    @classmethod
    def new(cls, folder: Path | None, recipe: Recipe) -> "Run":
        """Make the folder (by default `runs/DATA-1`, `-2`, ...) and note the settings.

        Raises `StoreError` if it is taken.
        """
        if folder is None:
            folder = numbered(Path("runs"), Path(recipe.data.partition(":")[0]).name or "data")
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            name = shlex.quote(str(folder))
            raise StoreError(
                f"{folder} is taken, and nothing is overwritten. Choose another --out, or go on with --resume {name}."
            )
        write_file(folder / CONFIG, to_yaml(recipe))
        return cls(folder)

    @classmethod
    def existing(cls, folder: Path) -> tuple["Run", Recipe]:
        """The run in a folder, and its settings."""
        if not (folder / CONFIG).is_file():
            raise StoreError(
                f"{folder} is no run: there is no {CONFIG} in it. --resume takes the folder that `vitral train` named."
            )
        return cls(folder), Recipe(**read_settings(folder / CONFIG, Recipe))

    def log(self, **record: Any) -> None:
        """Append a line to `metrics.jsonl`."""
        with writing_to(self.folder / METRICS), (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a last line cut short by a crash is left out."""
        path = self.folder / METRICS
        lines = path.read_bytes().splitlines() if path.is_file() else []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                if number == len(lines):
                    break
                raise StoreError(f"{path} is damaged: its line {number} is no JSON.") from error
            if not isinstance(found[-1], dict) or not isinstance(found[-1].get("step"), int):
                raise StoreError(f"{path} is damaged: its line {number} is no record of a step.")
        return found

    def rewind(self, step: int) -> None:
        """Forget what was logged after a step: it is about to happen again."""
        kept = [json.dumps(record) for record in self.records() if record["step"] <= step]
        write_file(self.folder / METRICS, "".join(line + "\n" for line in kept))


def numbered(home: Path, name: str) -> Path:
    """Make the first of `home/name-1`, `home/name-2`, ... that does not exist, though others make theirs meanwhile."""
    for number in count(1):
        folder = home / f"{name}-{number}"
        with writing_to(folder), suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError
