"""What every file in `studies/claims` keeps; a new one is enrolled by existing."""

import inspect
import math
from pathlib import Path

import pytest

from vitral.base.lookup import names
from vitral.studies.arms import SAMPLES
from vitral.studies.results import Results, rule_words
from vitral.studies.runner import planned
from vitral.studies.study import studies
from vitral.studies.task import FIRST

ROOT = Path(__file__).parents[2]
NAMES = names("studies.claims")
PRESETS = ("smoke", "quick", "full")


@pytest.fixture(params=NAMES)
def study(request):
    return studies()[request.param]


def test_it_is_called_like_its_file(study):
    assert studies()[study.name] is study


def test_its_numbers_are_its_own():
    numbers = [study.number for study in studies().values()]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("preset", PRESETS)
def test_its_arms_match_and_can_be_trained(study, preset):
    """`planned` refuses what does not."""
    plan = planned(study, preset)
    assert plan.tasks()
    assert len({task.name for task in plan.tasks()}) == len(plan.tasks())


def test_its_presets_grow(study):
    smoke, quick, full = (study.budgets[preset] for preset in PRESETS)
    assert smoke.samples <= quick.samples <= full.samples and smoke.seeds <= quick.seeds <= full.seeds
    assert quick.seeds >= 3, "an interval over fewer seeds decides nothing"
    assert smoke.judged <= 400


def test_it_says_everything_beforehand(study):
    said = [study.title, study.claim, study.question, study.would_change]
    said += [study.outcomes.supported, study.outcomes.refuted, study.outcomes.inconclusive]
    assert all((len(text) > 10 and text[0].isupper()) or text[0].isdigit() for text in said[1:])
    assert all(one.sentence.endswith(".") for one in study.hypotheses)
    assert all(rule_words(one) for one in study.hypotheses)
    assert study.exact or study.published, "a page keeps what is proved or published apart from what is measured"
    assert study.figures


def test_its_facts_name_their_source(study):
    assert all(len(fact.source) > 8 for fact in (*study.exact, *study.published))
    for fact in study.exact:
        if fact.source.startswith("tests/"):
            path = fact.source.partition("::")[0].split(",")[0]
            assert (ROOT / path).is_file(), path


def test_its_measure_says_what_it_returns(study):
    assert inspect.getdoc(study.measure) or study.measure.__name__ == "no_measure"


def test_formulas_name_arms_and_conditions_that_are_there(study):
    """Each is computed on made-up records in which every run has every measure."""
    for one in study.hypotheses:
        seen: list[tuple[str, str]] = []
        runs = tuple(Everything(task, seen) for task in planned(study, "quick").tasks() if not task.sweep)
        results = Results(study, "quick", tuple(run for run in runs if run["seed"] == FIRST))
        values = results.effect(one.effect)
        assert not any(math.isnan(value) for value in values), one.effect


class Everything(dict):
    """A record with every measure: a number that is also lists of numbers."""

    def __init__(self, task, seen):
        accuracies = {f"{split}_accuracy": 0.5 for split in ("test", "val", "train")}
        super().__init__(
            arm=task.arm,
            condition=task.condition,
            seed=task.seed,
            status="done",
            record=accuracies,
            size=dict(parameters=100, macs=1000),
            measures=Anything(),
        )


class Anything(dict):
    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return Number(0.5)


class Number(float):
    """0.5, and every item of itself."""

    def __getitem__(self, place):
        return self[0:0] if isinstance(place, slice) else Number(0.5)

    def __iter__(self):
        return iter([Number(0.5)] * 4)

    def __len__(self):
        return 4


def test_all_of_quick_is_within_its_hours():
    """Two hours and a half, at 2,100 images of a 48-pixel ViT a second on two cores."""
    total, seen = 0.0, set()
    for study in studies().values():
        for task in planned(study, "quick").tasks():
            if task.training.key not in seen:
                seen.add(task.training.key)
                total += task.work
    vit = next(task for task in planned(studies()["global_attention"], "quick").tasks() if task.arm == "vit")
    assert total / vit.work * SAMPLES / 2_100 / 3_600 <= 2.5
