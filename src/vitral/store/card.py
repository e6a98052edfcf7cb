"""`model.json`: the architecture and the record of the weights beside it, checked when it is read.

Version 2 added `task`, `thresholds`, `grid` and `num_prefix_tokens`; files of version 1 are read as models of one
class. Version 3 added `calibration`; a model without it is written as version 2.
"""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from vitral.base.calibration import Calibration
from vitral.base.errors import StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import VERSION, ModelRecord, Task

CARD = "model.json"


class Code(BaseModel, extra="forbid"):
    """Where the reader's own module was built from."""

    file: str
    name: str
    sha256: str


class Architecture(BaseModel, extra="forbid"):
    """Either the `config` of one of Vitral's models, or the reader's own code."""

    vit: dict[str, Any] | None = None
    code: Code | None = None


class Weights(BaseModel, extra="forbid"):
    """The weights' file, always beside the card, and its hash."""

    file: Literal["model.safetensors"] = "model.safetensors"
    sha256: str


def check_distinct(classes: list[str]) -> list[str]:
    if len(set(classes)) < len(classes):
        raise ValueError("two classes have the same name")
    return classes


def check_preprocessing(value: Preprocessing) -> Preprocessing:
    if not (min(value.size) >= 1 and 0 < value.crop <= 1):
        raise ValueError("size must be at least 1 and crop in (0, 1]")
    if not (len(value.mean) == len(value.std) > 0 and min(value.std) > 0):
        raise ValueError("mean and std need one number per channel, and std above zero")
    return value


def check_provenance(value: dict[str, Any]) -> dict[str, Any]:
    kinds = {"data": str, "seed": int, "data_sha256": str}
    if wrong := [name for name, kind in kinds.items() if not isinstance(value.get(name, kind()), kind)]:
        raise ValueError(f"{wrong[0]} must be a value of type {kinds[wrong[0]].__name__}")
    return value


def check_calibration(value: Calibration | None) -> Calibration | None:
    temperature = 1.0 if value is None or value.temperature is None else value.temperature
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError("temperature must be above 0")
    return value


class Card(BaseModel, extra="forbid"):
    """The content of `model.json`: the fields of `ModelRecord`, and what is needed to build the model."""

    format: Literal["vitral-model"] = "vitral-model"
    version: Literal[1, 2, 3] = 1
    architecture: Architecture
    classes: Annotated[list[str], Field(min_length=1), AfterValidator(check_distinct)]
    task: Task = "one class"
    thresholds: tuple[float, ...] | None = None
    calibration: Annotated[Calibration | None, AfterValidator(check_calibration)] = None
    preprocessing: Annotated[Preprocessing, AfterValidator(check_preprocessing)]
    grid: tuple[int, int] | None = None
    num_prefix_tokens: int | None = Field(default=None, ge=0)
    weights: Weights
    provenance: Annotated[dict[str, Any], AfterValidator(check_provenance)]

    @model_validator(mode="after")
    def check_thresholds(self) -> "Card":
        if self.thresholds is not None:
            if self.task != "several classes" or len(self.thresholds) != len(self.classes):
                raise ValueError("thresholds need one number per class, and the task 'several classes'")
            if not all(0 <= value <= 1 for value in self.thresholds):
                raise ValueError("thresholds must be in [0, 1]")
        return self

    def record(self) -> ModelRecord:
        shared = {field.name: getattr(self, field.name) for field in fields(ModelRecord) if hasattr(self, field.name)}
        return ModelRecord(**shared | {"classes": tuple(self.classes), "version": VERSION})


def read_card(folder: Path) -> Card:
    """The card of the model in a folder. Raises `StoreError` if there is none, or if it is not valid."""
    path = folder / CARD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format") == "vitral-model":
            version = content.get("version", 1)
            if isinstance(version, int) and version > VERSION:
                raise StoreError(
                    f"{path} has version {version}; this Vitral reads up to version {VERSION}. Update Vitral."
                )
        return Card.model_validate(content)
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} does not contain a model: there is no {CARD} in it. A run has one after its first evaluation."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = " -> ".join(map(str, first["loc"])) or "the whole file"
        reason = first["msg"].removeprefix("Value error, ").lower()
        raise StoreError(f"{path} is not a valid Vitral model card: {place}: {reason}.") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON: {error}.") from error
