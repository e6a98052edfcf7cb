"""Small studies for testing the engine, with measures that worker processes can import."""

import os
import signal
from dataclasses import replace

from vitral.studies.arms import BAG, DWCONV3, VIT
from vitral.studies.decision_rules import Beyond
from vitral.studies.effects import Measure
from vitral.studies.running.plan import FIRST_SEED
from vitral.studies.study import Budget, Condition, Hypothesis, Outcomes, Reference, Study

DATA = "shapes:n=64,size=16"
SMALL = dict(patch_size=4)
BUDGET = Budget(256, 2, eval_images=64)


def arm(known, **changes):
    return replace(known, settings={**known.settings, **SMALL}, **changes)


def seeds(trained):
    return {"seed": trained.training.seed, "squares": [1.0, 4.0]}


def raises(trained):
    raise RuntimeError("a measure of the test's")


def raises_for_convolutions(trained):
    if "mixer" in trained.training.settings:
        raise RuntimeError("a measure of the test's")
    return {}


def dies_once(trained):
    """Kills its own process the first time that the second seed is measured."""
    mark = trained.condition["mark"]
    if trained.training.seed == FIRST_SEED + 1 and not os.path.exists(mark):  # noqa: PTH110
        open(mark, "w").close()  # noqa: PTH123
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": trained.training.seed}


def dies(trained):
    if trained.training.seed == FIRST_SEED + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": trained.training.seed}


def study(**changes):
    """Two arms and a control on 64 shapes, two steps each."""
    known = dict(
        name="tried",
        number=99,
        title="Tried",
        claim="Engines run.",
        question="Does it?",
        arms=(arm(VIT), arm(DWCONV3), arm(BAG)),
        conditions=(Condition("plain", DATA),),
        hypotheses=(Hypothesis("Seeds count.", Measure("seed")["vit"] + 1, Beyond(0.5)),),
        outcomes=Outcomes("It runs.", "It does not run."),
        would_change="Nothing.",
        budgets={"smoke": BUDGET, "quick": BUDGET, "full": BUDGET},
        reference=Reference("vit", "plain", 0.0),
        measure=seeds,
    )
    return Study(**(known | changes))
