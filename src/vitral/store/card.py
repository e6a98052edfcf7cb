"""`model.json`: what the weights are the weights of, checked when it is read."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vitral.base.errors import StoreError
from vitral.base.preprocessing import Preprocessing

CARD = "model.json"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Code(Strict):
    """Where a model of the reader's own was built from."""

    file: str
    name: str
    sha256: str


class Architecture(Strict):
    """Either the `config` of a VisionTransformer, or the reader's own code."""

    vit: dict[str, Any] | None = None
    code: Code | None = None


class Weights(Strict):
    """The weights' file, always beside the card, and its hash."""

    file: Literal["model.safetensors"] = "model.safetensors"
    sha256: str


class Card(Strict):
    format: Literal["vitral-model"] = "vitral-model"
    version: Literal[1] = 1
    architecture: Architecture
    classes: list[str] = Field(min_length=1)
    preprocessing: Preprocessing
    weights: Weights
    provenance: dict[str, Any]

    @field_validator("classes")
    @classmethod
    def apart(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have the same name")
        return classes

    @field_validator("preprocessing")
    @classmethod
    def possible(cls, value: Preprocessing) -> Preprocessing:
        if not (min(value.size) >= 1 and 0 < value.crop <= 1):
            raise ValueError("size must be at least 1 and crop in (0, 1]")
        if not (len(value.mean) == len(value.std) > 0 and min(value.std) > 0):
            raise ValueError("mean and std need a number a channel, and std above zero")
        return value

    @field_validator("provenance")
    @classmethod
    def typed(cls, value: dict[str, Any]) -> dict[str, Any]:
        kinds = {"data": str, "seed": int, "data_sha256": str}
        if wrong := [name for name, kind in kinds.items() if not isinstance(value.get(name, kind()), kind)]:
            raise ValueError(f"{wrong[0]} must be a value of type {kinds[wrong[0]].__name__}")
        return value


def read_card(folder: Path) -> Card:
    """The card of the model in a folder. Raises `StoreError` if there is none, or it is no such card."""
    path = folder / CARD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format") == "vitral-model" and content.get("version", 1) != 1:
            raise StoreError(f"{path} is of version {content['version']}; this Vitral reads version 1. Update Vitral.")
        return Card.model_validate(content)
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} holds no model: there is no {CARD} in it. A run that has been evaluated once has one."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = " -> ".join(map(str, first["loc"])) or "the whole"
        reason = first["msg"].removeprefix("Value error, ").lower()
        raise StoreError(f"{path} is not the card of a Vitral model: {place}: {reason}.") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON: {error}.") from error
