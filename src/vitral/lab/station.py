"""A station of the lab, its laws and its named mistakes.

A law is declared with `@law()` in `stations/NAME.py`, a mistake with `@mistake(...)` in `mistakes/NAME.py`: on the
function that computes it, whose docstring is what the reader gets to see.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, TypeVar

from torch import Tensor, nn

from vitral.base.lookup import find, names
from vitral.lab.recorder import RELATIVE, Recorder

Pair = tuple[Tensor, Tensor]
Declared = TypeVar("Declared", "Law", "Mistake")


@dataclass(frozen=True)
class Law:
    """An equation that every right answer fulfils, whatever its inputs.

    `sides` computes both sides from an answer; they must agree within the relative tolerance `within`.
    """

    sentence: str
    sides: Callable[[Recorder], Pair]
    within: float = RELATIVE


@dataclass(frozen=True)
class Mistake:
    """A named wrong answer: the sentence that names it, and a question that leads the reader to it.

    `definitions` are those in which it differs from the solution, by name.
    """

    name: str
    question: str
    definitions: Mapping[str, Any]

    def build_answer(self, solution: Any) -> SimpleNamespace:
        """Return the solution with these definitions instead of its own."""
        return SimpleNamespace(**vars(solution) | dict(self.definitions))


@dataclass(frozen=True)
class RightPrediction:
    """The letter that answers the question asked before the reader writes any code, and the reason."""

    letter: str
    reason: str


@dataclass(frozen=True)
class Station:
    """One step of the lab.

    `observe` makes the calls on which an answer is compared with the solution. `insert` puts an answer into a trained
    model in place of Vitral's own part; `compare_in_use` returns what an answer computes there beside what Vitral does.
    """

    number: int
    title: str
    minutes: int
    difficulty: int  # 1 to 5
    prediction: RightPrediction
    hints: tuple[str, str, str]
    observe: Callable[[Recorder], None]
    insert: Callable[[nn.Module, Any], nn.Module] | None = None
    compare_in_use: Callable[[Any], Mapping[str, Pair]] | None = None

    @property
    def name(self) -> str:
        """The name of its files."""
        return self.observe.__module__.rpartition(".")[2]

    @property
    def solution(self) -> Any:
        return import_module(f"vitral.lab.solutions.{self.name}")

    @property
    def laws(self) -> list[Law]:
        return find_declared("stations", self.name, Law)

    @property
    def mistakes(self) -> list[Mistake]:
        return find_declared("mistakes", self.name, Mistake)


def law(within: float = RELATIVE) -> Callable[[Callable[[Recorder], Pair]], Law]:
    """Declare the decorated function as a law of its station; its docstring is the law's sentence."""
    return lambda sides: Law(join_lines(inspect.getdoc(sides) or ""), sides, within)


def mistake(target: str, **also: Any) -> Callable[[Any], Mistake]:
    """Declare the decorated function as a mistake: it replaces `target` of the station's solution.

    `target` is a definition, `"attention"`, or one method of a class, `"Block.forward"`. The docstring's first
    paragraph names the mistake, its second is the question. `also` are further definitions that change with it.
    """

    def declare(wrong: Any) -> Mistake:
        name, question = map(join_lines, (inspect.getdoc(wrong) or "").split("\n\n"))
        owner, _, method = target.partition(".")
        if method:
            solution = import_module(wrong.__module__.replace(".mistakes.", ".solutions."))
            wrong = type(owner, (getattr(solution, owner),), {method: wrong})
        return Mistake(name, question, {owner: wrong, **also})

    return declare


def join_lines(text: str) -> str:
    return " ".join(text.split())


def find_declared(folder: str, station: str, kind: type[Declared]) -> list[Declared]:
    """Return the laws or mistakes that a station's file declares, in their order."""
    return [own for own in vars(import_module(f"vitral.lab.{folder}.{station}")).values() if isinstance(own, kind)]


def load_stations() -> dict[str, Station]:
    """Return every station by name, in the order of their numbers."""
    found = {name: find("lab.stations", name, "station") for name in names("lab.stations")}
    return dict(sorted(found.items(), key=lambda pair: pair[1].number))
