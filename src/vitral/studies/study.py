"""What a study is: a value that says beforehand what is asked, of which models, how it is measured and decided.

    question -> claim as people state it -> arms that differ in one thing -> a measure of each trained model
             -> hypotheses: a formula of the measures, and the rule by which its interval decides

Nothing here trains or measures: `runner` does that, `results` decides.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, find, names
from vitral.studies.rules import Rule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitral.studies.results import Results
    from vitral.studies.training import Trained

Preset = Literal["smoke", "quick", "full"]
Measures = Mapping[str, float | list[float] | list[list[float]]]


@dataclass(frozen=True)
class Arm:
    """One of the models that are compared, and how it is trained where that differs from the others.

    Its parameters and multiply-adds must be those of the study's reference (see `matching`), unless `unmatched` says
    why they cannot be. `samples` is its share of the study's samples: 0 leaves it untrained. `loop` is the path of
    another training loop, as `object_path` gives it.
    """

    name: str
    model: str = "iso_attention_nano_patch8_48"
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    change: str = ""
    samples: int | float = 1.0
    loop: str = ""
    unmatched: str = ""


@dataclass(frozen=True)
class Condition:
    """What all arms are trained on. `change` names what is done to the data's splits first (see `changes`)."""

    name: str
    data: str
    change: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    arms: tuple[str, ...] = ()  # only these; all if none is named


@dataclass(frozen=True)
class Budget:
    """How much a preset spends: samples a training, seeds, and the learning rates (multiples) that are swept.

    `images` is how many each drawn data set has, where that is fewer, `judged` how many of each split a model is
    judged by; `only` leaves out the other conditions, `without`
    leaves out arms.
    """

    samples: int
    seeds: int
    rates: tuple[float, ...] = (1.0,)
    images: int | None = None
    judged: int = 2_000
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def has(self, arm: Arm, condition: Condition) -> bool:
        """Whether the arm is trained on the condition."""
        asked = condition.name in self.only if self.only else True
        return asked and arm.name not in self.without and (not condition.arms or arm.name in condition.arms)


@dataclass(frozen=True)
class Hypothesis:
    """A sentence that can be false, and how it is decided.

    `effect` is a formula of one seed's measures, as `accuracy["vit", "plain"] - accuracy["cnn", "plain"]`; `rule` says
    what of its interval over the seeds supports the sentence, and what refutes it.
    """

    sentence: str
    effect: str
    rule: Rule


@dataclass(frozen=True)
class Regime:
    """What the reference arm must have reached on validation data before arms are compared."""

    arm: str
    condition: str
    least: float


@dataclass(frozen=True)
class Fact:
    """A statement that others published or that a test proves, and where."""

    text: str
    source: str


@dataclass(frozen=True)
class Outcomes:
    """What the first hypothesis says of the claim, written before anything was measured."""

    supported: str
    refuted: str
    inconclusive: str = "These runs cannot tell."


def no_measure(trained: "Trained") -> Measures:
    return {}


@dataclass(frozen=True)
class Study:
    """A claim, and how it is tested. The first hypothesis decides it; the others say more.

    `measure` is given each trained model and returns numbers by name; accuracy on validation, test and training images
    is measured always. `figures` draw from the results. `sweep` is the condition on which learning rates are chosen, on
    validation data, by the same sweep for all arms. A study that measures time runs `alone`; one with `own_data` can be
    asked of any images.
    """

    name: str  # of its file, its object and on the command line
    number: int
    title: str
    claim: str
    question: str
    arms: tuple[Arm, ...]
    conditions: tuple[Condition, ...]
    hypotheses: tuple[Hypothesis, ...]
    outcomes: Outcomes
    would_change: str
    budgets: Mapping[Preset, Budget]
    regime: Regime | None = None
    measure: Callable[["Trained"], Measures] = no_measure
    figures: "tuple[Callable[[Results], tuple[Figure, str]], ...]" = ()
    exact: tuple[Fact, ...] = ()
    published: tuple[Fact, ...] = ()
    correction: str = ""
    sweep: str = ""
    own_data: bool = False
    alone: bool = False

    def __post_init__(self) -> None:
        arms, conditions = [arm.name for arm in self.arms], [one.name for one in self.conditions]
        for kind, found in (("arms", arms), ("conditions", conditions)):
            if len(set(found)) != len(found) or not found:
                raise ConfigError(f"{self.title!r} has the {kind} {', '.join(found)}: each needs a name of its own.")
        for arm in (name for one in self.conditions for name in one.arms):
            check_name(arm, arms, "arm")
        if self.regime:
            check_name(self.regime.arm, arms, "arm")
            check_name(self.regime.condition, conditions, "condition")
        if self.sweep:
            check_name(self.sweep, conditions, "condition")
        if not self.hypotheses:
            raise ConfigError(f"{self.title!r} has no hypothesis, so nothing could refute it.")

    def within(self, preset: Preset) -> "Study":
        """With as many images as a preset has."""
        most = self.budgets[preset].images
        if most is None:
            return self
        return replace(self, conditions=tuple(replace(one, data=smaller(one.data, most)) for one in self.conditions))


def smaller(data: str, images: int) -> str:
    """A data set's spec, `shapes:n=20000`, with no more than so many images."""
    return re.sub(r"\bn=(\d+)", lambda found: f"n={min(images, int(found[1]))}", data)


def studies() -> dict[str, Study]:
    """Every study by name, in the order of their numbers."""
    found = {name: find("studies.claims", name, "study") for name in names("studies.claims")}
    return dict(sorted(found.items(), key=lambda pair: pair[1].number))
