"""Effects: the numbers that hypotheses are about, written as Python expressions over measures.

`accuracy["vit"] - accuracy["dwconv3"]` is an `Effect`. It computes one number from the runs of one seed, and its `text`
is the formula that a page shows and that anyone can evaluate again from the committed records.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

Record = Mapping[str, Any]

# How tightly the parts of a formula bind, so that its text has only the parentheses that it needs.
SUM, PRODUCT, ATOM = 1, 2, 3
RECORDED = {"accuracy": "test_accuracy", "mIoU": "test_mIoU"}
RECORDED |= {f"{split}_{measure}": f"{split}_{measure}" for split in ("train", "val") for measure in RECORDED}


class MissingMeasure(Exception):
    """A run that failed, that did not take place, or that has no such measure."""


@dataclass(frozen=True)
class SeedRuns:
    """The runs of one seed, by arm and condition; `default` is the condition of an effect that names none."""

    runs: Mapping[tuple[str, str], Record]
    default: str

    def value(self, measure: str, arm: str, condition: str | None) -> Any:
        return measured_value(self.runs.get((arm, condition or self.default)), measure)


def measured_value(run: Record | None, measure: str) -> Any:
    """A measure of one run. Raises `MissingMeasure`.

    A run that diverged has accuracies (those of chance), so it counts; only a failed run has no values.
    """
    if run is None or run["status"] == "failed":
        raise MissingMeasure
    if measure in RECORDED:
        if RECORDED[measure] not in run["record"]:  # accuracy of masks, or mean IoU of classes
            raise MissingMeasure
        return run["record"][RECORDED[measure]]
    if measure in ("parameters", "macs"):
        return run["size"][measure]
    if measure not in run.get("measures", {}):
        raise MissingMeasure
    return run["measures"][measure]


def recorded_score(record: Record, split: str) -> float:
    """The figure of a split by which models are compared: the accuracy, or the mean IoU of masks."""
    return next(float(record[key]) for key in (f"{split}_accuracy", f"{split}_mIoU") if key in record)


@dataclass(frozen=True)
class Place:
    """One measure of one arm on one condition (None: the study's first) that a formula uses.

    `is_share` if the measure is an accuracy on new images, or another share of images for which 1 is a ceiling.
    """

    measure: str
    arm: str
    condition: str | None
    is_share: bool


@dataclass(frozen=True)
class Effect:
    """A formula: its text, how to compute its value from the runs of one seed, and the places whose measures it uses.

    Effects combine with numbers and with each other by +, -, *, / and `abs`; an item of a measure that is a list is
    chosen by its index.
    """

    text: str
    compute: Callable[[SeedRuns], Any]
    precedence: int = ATOM
    places: tuple[Place, ...] = ()

    @property
    def arms(self) -> frozenset[str]:
        """The arms that it names."""
        return frozenset(place.arm for place in self.places)

    def __add__(self, other: "Operand") -> "Effect":
        return combine(operator.add, "+", SUM, self, other)

    def __sub__(self, other: "Operand") -> "Effect":
        return combine(operator.sub, "-", SUM, self, other)

    def __rsub__(self, other: int | float) -> "Effect":
        return combine(operator.sub, "-", SUM, other, self)

    def __mul__(self, other: "Operand") -> "Effect":
        return combine(operator.mul, "*", PRODUCT, self, other)

    def __truediv__(self, other: "Operand") -> "Effect":
        return combine(operator.truediv, "/", PRODUCT, self, other)

    def __neg__(self) -> "Effect":
        return Effect(f"-{enclosed(self, ATOM)}", lambda seed: -self.compute(seed), PRODUCT, self.places)

    def __abs__(self) -> "Effect":
        return function("abs", abs, self)

    def __getitem__(self, index: int) -> "Effect":
        return Effect(f"{enclosed(self, ATOM)}[{index}]", lambda seed: self.compute(seed)[index], places=self.places)


Operand = Effect | int | float


@dataclass(frozen=True)
class Measure:
    """A measure of every run, by name; `accuracy["vit", "plain"]` is its value for one arm on one condition.

    The condition may be left out: the study's first is meant. `is_share`: see `Place`.
    """

    name: str
    is_share: bool = False

    def __getitem__(self, place: str | tuple[str, str]) -> Effect:
        arm, condition = (place, None) if isinstance(place, str) else place
        names = f'"{arm}"' if condition is None else f'"{arm}", "{condition}"'
        places = (Place(self.name, arm, condition, self.is_share),)
        return Effect(f"{self.name}[{names}]", lambda seed: seed.value(self.name, arm, condition), places=places)


def as_effect(value: Operand) -> Effect:
    return value if isinstance(value, Effect) else Effect(repr(value), lambda seed: value)


def enclosed(effect: Effect, precedence: int) -> str:
    """The text of an effect, in parentheses where it binds less tightly than its surroundings."""
    return effect.text if effect.precedence >= precedence else f"({effect.text})"


def combine(compute: Callable[[Any, Any], Any], symbol: str, precedence: int, left: Operand, right: Operand) -> Effect:
    one, other = as_effect(left), as_effect(right)
    # a - (b - c) needs its parentheses and (a - b) - c does not: the right side must bind more tightly.
    text = f"{enclosed(one, precedence)} {symbol} {enclosed(other, precedence + 1)}"
    places = tuple(dict.fromkeys(one.places + other.places))
    return Effect(text, lambda seed: compute(one.compute(seed), other.compute(seed)), precedence, places)


def function(name: str, compute: Callable[..., Any], *values: Operand) -> Effect:
    effects = [as_effect(value) for value in values]
    text = f"{name}({', '.join(effect.text for effect in effects)})"
    places = tuple(dict.fromkeys(place for effect in effects for place in effect.places))
    return Effect(text, lambda seed: compute(*(effect.compute(seed) for effect in effects)), places=places)


# Functions of effects and numbers; each gives an effect.
mean = partial(function, "mean", lambda *numbers: float(np.mean(numbers)))
maximum, minimum = partial(function, "max", max), partial(function, "min", min)
log2 = partial(function, "log2", math.log2)

# What every run measures, whatever its study.
accuracy = Measure("accuracy", is_share=True)  # on test images
train_accuracy = Measure("train_accuracy")  # that training images are all fitted is a result, not a ceiling
val_accuracy = Measure("val_accuracy", is_share=True)
mean_iou = Measure("mIoU", is_share=True)  # of masks, in place of accuracy
parameters = Measure("parameters")
macs = Measure("macs")  # multiply-adds of one image
