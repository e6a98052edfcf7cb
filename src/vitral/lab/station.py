"""What a station is: a value that says what is asked of an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from vitral.base.lookup import find, names
from vitral.lab.inspection import RELATIVE, Inspection

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Law:
    """An equation that every right answer fulfils, whatever is drawn; to rounding, or `within` so much of itself."""

    sentence: str
    sides: Callable[[Inspection], Pair]
    within: float = RELATIVE


@dataclass(frozen=True)
class Prediction:
    """What was asked before: the right letter, and why."""

    right: str
    why: str


@dataclass(frozen=True)
class Station:
    """One step of the lab.

    `observe` asks the answer, and the solution alike; `laws` are asked of the answer alone. `graft` puts the answer
    into a trained model in the place of Vitral's own part; `applied` gives what it does there beside what ours does.
    """

    name: str  # of its files
    number: int
    title: str
    minutes: int
    difficulty: int  # 1 to 5
    prediction: Prediction
    hints: tuple[str, str, str]
    observe: Callable[[Inspection], None]
    laws: tuple[Law, ...]
    graft: Callable[[nn.Module, Any], nn.Module] | None = None
    applied: Callable[[Any], Mapping[str, Pair]] | None = None

    @property
    def solution(self) -> Any:
        return import_module(f"vitral.lab.solutions.{self.name}")

    @property
    def mistakes(self) -> "list[Mistake]":
        return [
            own for own in vars(import_module(f"vitral.lab.mistakes.{self.name}")).values() if isinstance(own, Mistake)
        ]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with a name: what it is, and a question that leads to it.

    `instead` are the definitions in which it differs from the solution.
    """

    name: str
    question: str
    instead: Mapping[str, Any]

    def answer(self, solution: Any) -> Any:
        """The solution with these definitions instead."""
        return Answer({name: getattr(solution, name) for name in vars(solution)} | dict(self.instead))


class Answer:
    """What a file defines, by name."""

    def __init__(self, defined: Mapping[str, Any]):
        vars(self).update(defined)


def stations() -> dict[str, Station]:
    """Every station by name, in the order of their numbers."""
    found = {name: find("lab.stations", name, "station") for name in names("lab.stations")}
    return dict(sorted(found.items(), key=lambda pair: pair[1].number))
