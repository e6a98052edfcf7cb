"""What a study is: a value that states in advance what is asked, which models are compared, and how it is decided.

    question -> claim as people state it -> arms that differ in one thing -> measures of each trained model
             -> hypotheses: an effect computed from the measures, and the rule by which its interval decides

Nothing here trains or measures: `running` does that, and `results` decides.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, find, names
from vitral.studies.decision_rules import Rule
from vitral.studies.effects import Effect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitral.studies.training import Trained

Preset = Literal["smoke", "quick", "full"]
Quantity = Literal["parameters", "macs"]
# What arms may be matched in: its name, and the largest relative difference from the first arm that still counts.
MATCHED: dict[Quantity, tuple[str, float]] = {"parameters": ("parameters", 0.01), "macs": ("multiply-adds", 0.15)}
YOURS = "yours"  # the arm that is the reader's own model
Measures = Mapping[str, float | list[float] | list[list[float]]]


@dataclass(frozen=True)
class Arm:
    """One of the models that are compared, and how its training differs from the others'.

    Its size must match that of the study's first arm (see `Study.matched`), unless `unmatched` gives the reason why it
    cannot. `samples` is its share of the study's training samples; 0 leaves it
    untrained. `loop` is the path of another training loop, as `object_path` gives it.
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
    """The data that arms are trained on. `change` names a change to its splits (see `dataset_changes`).

    `samples` is its share of each arm's training samples; 0 leaves models untrained. Where time is measured, a run
    needs the machine `alone`.
    """

    name: str
    data: str
    change: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    arms: tuple[str, ...] = ()  # the arms that are trained on it; empty: all
    samples: float = 1.0
    alone: bool = False


@dataclass(frozen=True)
class Budget:
    """What a preset spends: training samples per run, seeds, and the learning rates (as multiples) that are swept.

    `images` limits the size of each synthetic data set, `eval_images` the images of each split that a model is
    evaluated on. `only` keeps just these conditions; `without` leaves out arms.
    """

    samples: int
    seeds: int
    rates: tuple[float, ...] = (1.0,)
    images: int | None = None
    eval_images: int = 2_000
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def includes(self, arm: Arm, condition: Condition) -> bool:
        """Whether the arm is trained on the condition."""
        kept = condition.name in self.only if self.only else True
        return kept and arm.name not in self.without and (not condition.arms or arm.name in condition.arms)


@dataclass(frozen=True)
class Hypothesis:
    """A sentence that can be false, and how it is decided.

    `effect` is one number per seed, as in `accuracy["vit", "plain"] - accuracy["cnn", "plain"]`; `rule` states which
    intervals over the seeds support the sentence and which refute it.
    """

    sentence: str
    effect: Effect
    rule: Rule


@dataclass(frozen=True)
class Reference:
    """The arm that must be trained well enough, and the validation accuracy it must reach, before arms are compared."""

    arm: str
    condition: str
    min_accuracy: float


@dataclass(frozen=True)
class Fact:
    """A statement that a test proves or that others published, and where."""

    text: str
    source: str

    @staticmethod
    def proved(study: str, *texts: str) -> "tuple[Fact, ...]":
        """What the law tests of a study prove."""
        return tuple(Fact(text, f"tests/laws/test_study_{study}.py") for text in texts)


@dataclass(frozen=True)
class Outcomes:
    """What each verdict on the deciding hypothesis means for the claim, written before anything was measured.

    The first sentence becomes the headline, after the scope; the others add detail.
    """

    supported: str
    refuted: str
    inconclusive: str = "These runs do not decide it."


@runtime_checkable
class RunValues(Protocol):
    """The measures of all runs, from which figures are drawn; `results.Results` has them."""

    @property
    def arms(self) -> tuple[str, ...]: ...

    @property
    def conditions(self) -> tuple[str, ...]: ...

    def values(self, measure: str, arm: str, condition: str) -> np.ndarray:
        """One row per seed; empty if no run has the measure."""
        ...


DrawFigure = Callable[[RunValues], "tuple[Figure, str]"]  # a figure and its caption


def measure_nothing(trained: "Trained") -> Measures:
    """For studies that need no measure besides accuracy."""
    return {}


@dataclass(frozen=True)
class Study:
    """A claim and how it is tested. The first hypothesis that compares matched arms decides; the others add detail.

    `measure` takes each trained model and returns numbers by name; accuracy on validation, test and training images is
    always measured. `sweep` names the condition on which each arm's learning rate is chosen, by validation accuracy
    (the first condition if empty). `matched` are the quantities in which arms must be equal to within a little; a study
    of costs leaves those out that it compares. One with `own_data` accepts any images, and `on_own_images` holds those
    of its fields that differ on them.
    Raises `ConfigError` or `UnknownName` for duplicate or unknown names and for a study without a hypothesis.
    """

    name: str  # of its file, of its object and on the command line
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
    reference: Reference | None = None
    measure: Callable[["Trained"], Measures] = measure_nothing
    figures: tuple[DrawFigure, ...] = ()
    exact: tuple[Fact, ...] = ()
    published: tuple[Fact, ...] = ()
    correction: str = ""
    sweep: str = ""
    own_data: bool = False
    on_own_images: Mapping[str, Any] = field(default_factory=dict)
    matched: tuple[Quantity, ...] = tuple(MATCHED)

    def __post_init__(self) -> None:
        arms, conditions = [arm.name for arm in self.arms], [one.name for one in self.conditions]
        for kind, found in (("arms", arms), ("conditions", conditions)):
            if len(set(found)) != len(found) or not found:
                raise ConfigError(
                    f"{self.title!r} needs at least one entry in {kind}, each with its own name; found {found}."
                )
        for arm in (name for one in self.conditions for name in one.arms):
            check_name(arm, arms, "arm")
        if self.reference:
            check_name(self.reference.arm, arms, "arm")
            check_name(self.reference.condition, conditions, "condition")
        if self.sweep:
            check_name(self.sweep, conditions, "condition")
        if not self.hypotheses:
            raise ConfigError(f"{self.title!r} has no hypothesis, so no result could refute it. Add at least one.")
        for one in self.hypotheses:
            if not isinstance(one.effect, Effect):
                raise ConfigError(f'{one.sentence!r} needs an effect that names arms, as in accuracy["vit"].')

    def unmatched_in(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        """The arms of other size among those that a hypothesis compares: what it finds is context, and does not decide.

        A hypothesis about one arm compares no sizes.
        """
        arms = hypothesis.effect.arms
        return tuple(one.name for one in self.arms if one.unmatched and one.name in arms) if len(arms) > 1 else ()

    @property
    def deciding(self) -> int:
        """Which hypothesis decides the claim: the first whose arms match, or the first if no hypothesis has such."""
        return next((index for index, one in enumerate(self.hypotheses) if not self.unmatched_in(one)), 0)

    def limited_to(self, preset: Preset) -> "Study":
        """The study with no more images per data set than the preset allows."""
        most = self.budgets[preset].images
        if most is None:
            return self
        conditions = (replace(one, data=limit_images(one.data, most)) for one in self.conditions)
        return replace(self, conditions=tuple(conditions))


def limit_images(data: str, most: int) -> str:
    """A data set's spec with at most this many images.

    >>> limit_images("shapes:n=20000,size=32", 512)
    'shapes:n=512,size=32'
    """
    return re.sub(r"\bn=(\d+)", lambda found: f"n={min(most, int(found[1]))}", data)


def studies() -> dict[str, Study]:
    """Every study by name, in the order of their numbers."""
    found = {name: find("studies.claims", name, "study") for name in names("studies.claims")}
    return dict(sorted(found.items(), key=lambda pair: pair[1].number))


def with_custom_inputs(study: Study, data: Path | None, model: str | None) -> Study:
    """The study with a folder of images instead of its synthetic ones, and with `file.py:Name` as a further arm.

    The required accuracy was set for the study's own images, so it is dropped for others. Raises `ConfigError` for a
    study whose measures need to know how its images were generated.
    """
    if data is not None:
        if not study.own_data:
            accepting = ", ".join(name for name, one in studies().items() if one.own_data)
            raise ConfigError(
                f"{study.name} needs synthetic images, because its measures depend on how the images were generated. "
                f"Leave --data out, or choose a study that accepts any images: {accepting}."
            )
        study = replace(study, **study.on_own_images, reference=None)
        study = replace(study, conditions=tuple(replace(one, data=str(data)) for one in study.conditions))
    if model is not None:
        own = Arm(YOURS, model, unmatched="it is your own")
        conditions = tuple(replace(one, arms=(*one.arms, YOURS) if one.arms else ()) for one in study.conditions)
        study = replace(study, arms=(*study.arms, own), conditions=conditions)
    return study
