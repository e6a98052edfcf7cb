"""`artifact.json`: what an exported model is, and how far its files were found to agree with the model.

preprocess      a decoded image, (1, y, x, 3) bytes -> the model's input, (1, c, h, w)
model           inputs, (b, c, h, w) -> what a person reads, and logits
whole           a decoded image -> what a person reads, and logits
artifact.json   classes, task, preprocessing, where it comes from, hashes, and the comparison

With `maps` the two graphs of the model also give rows of attention (`vitral.store.artifact_maps`).
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from vitral.base.calibration import Calibration
from vitral.base.errors import StoreError
from vitral.base.files import sha256
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, Task
from vitral.store import ARTIFACT
from vitral.store.artifact_maps import ArtifactMaps
from vitral.store.card import check_calibration, check_distinct, check_preprocessing
from vitral.store.runtimes.graphs import GRAPHS, graph_files
from vitral.store.runtimes.session import Precision, Runtime

IMAGE, INPUT, LOGITS = "image", "pixels", "logits"


class Artifact(BaseModel, extra="forbid"):
    """The content of `artifact.json`. `files` are the SHA-256 of each; `agreement` is what `verify` measured.

    `settings` are what the runtime must be told for each graph, and `needs` says what else whoever runs it needs.
    `quantisation` says how int8 was calibrated, which layers stayed in float, and what it changes.
    """

    format: Literal["vitral-artifact"] = "vitral-artifact"
    version: Literal[1] = 1
    runtime: Runtime = "onnx"
    precision: Precision = "fp32"
    output: Literal["probabilities", "numbers", "mask"]
    classes: Annotated[list[str], Field(min_length=1), AfterValidator(check_distinct)]
    task: Task
    thresholds: tuple[float, ...] | None = None
    calibration: Annotated[Calibration | None, AfterValidator(check_calibration)] = None
    preprocessing: Annotated[Preprocessing, AfterValidator(check_preprocessing)]
    preprocessing_in_words: str
    grid: tuple[int, int] | None = None
    num_prefix_tokens: int | None = None
    maps: ArtifactMaps | None = None
    files: dict[str, str]
    agreement: dict[str, Any]
    settings: dict[str, dict[str, str]] = {}
    needs: str = ""
    quantisation: dict[str, Any] | None = None
    provenance: dict[str, Any]
    versions: dict[str, str]

    def record(self) -> ModelRecord:
        """The record of a model that runs these files."""
        return ModelRecord(
            tuple(self.classes),
            self.preprocessing,
            self.task,
            self.thresholds,
            self.calibration,
            self.grid,
            self.num_prefix_tokens,
            why_unknown="an exported model has no statistics of them; the run that it was exported from has",
            provenance=self.provenance,
        )


def read_artifact(folder: Path) -> Artifact:
    """The card of an exported model, whose files are the ones that it describes.

    Raises `StoreError` for a card that is not valid, and for a file that is missing or has changed since.
    """
    path = folder / ARTIFACT
    try:
        card = Artifact.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = " -> ".join(map(str, first["loc"])) or "the whole file"
        raise StoreError(f"{path} does not describe an exported model: {place}: {first['msg'].lower()}.") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}.") from error
    for name in (name for graph in GRAPHS for name in graph_files(graph, card.runtime)):
        file = folder / name
        if not file.is_file():
            raise StoreError(f"{file} is missing, but {path} describes it. Export the model again.")
        if sha256(file) != card.files.get(name):
            raise StoreError(f"{file} is not the file that {path} describes: it was changed. Export the model again.")
    return card
