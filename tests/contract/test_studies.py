"""The contract that every file in `studies/claims` keeps; a new file is tested automatically."""

import inspect
import math
from pathlib import Path

import pytest

from vitral.base.lookup import names
from vitral.studies.arms import SAMPLES
from vitral.studies.results import Results
from vitral.studies.running.plan import FIRST_SEED, plan_study
from vitral.studies.study import studies

ROOT = Path(__file__).parents[2]
NAMES = names("studies.claims")
PRESETS = ("smoke", "quick", "full")


@pytest.fixture(params=NAMES)
def study(request):
    return studies()[request.param]


def test_it_is_named_like_its_file(study):
    assert studies()[study.name] is study


def test_no_two_studies_have_the_same_number():
    numbers = [study.number for study in studies().values()]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("preset", PRESETS)
def test_its_arms_match_and_can_be_trained(study, preset):
    """`plan_study` refuses an arm that does not."""
    plan = plan_study(study, preset)
    assert plan.tasks()
    assert len({task.name for task in plan.tasks()}) == len(plan.tasks())


def test_its_presets_grow(study):
    smoke, quick, full = (study.budgets[preset] for preset in PRESETS)
    assert smoke.samples <= quick.samples <= full.samples and smoke.seeds <= quick.seeds <= full.seeds
    assert quick.seeds >= 3, "an interval over fewer seeds decides nothing"
    assert smoke.eval_images <= 400


def test_everything_is_stated_in_advance(study):
    texts = [study.title, study.claim, study.question, study.would_change]
    texts += [study.outcomes.supported, study.outcomes.refuted, study.outcomes.inconclusive]
    assert all((len(text) > 10 and text[0].isupper()) or text[0].isdigit() for text in texts[1:])
    assert all(one.sentence.endswith(".") for one in study.hypotheses)
    assert all(one.rule.text for one in study.hypotheses)
    assert study.exact or study.published, "a page separates what is proved or published from what is measured"
    assert study.figures


def test_its_facts_name_their_source(study):
    assert all(len(fact.source) > 8 for fact in (*study.exact, *study.published))
    for fact in study.exact:
        if fact.source.startswith("tests/"):
            path = fact.source.partition("::")[0].split(",")[0]
            assert (ROOT / path).is_file(), path


def test_its_measure_documents_what_it_returns(study):
    assert inspect.getdoc(study.measure) or study.measure.__name__ == "measure_nothing"


def test_effects_name_existing_arms_and_conditions(study):
    """Each is computed on made-up records in which every run has every measure."""
    for one in study.hypotheses:
        runs = tuple(EveryMeasure(task) for task in plan_study(study, "quick").tasks() if not task.sweep)
        results = Results(study, "quick", tuple(run for run in runs if run["seed"] == FIRST_SEED))
        values = results.effect(one.effect)
        assert not any(math.isnan(value) for value in values), one.effect.text


class EveryMeasure(dict):
    """A record with every measure, each a number that is also a list of numbers."""

    def __init__(self, task):
        accuracies = {f"{split}_{one}": 0.5 for split in ("test", "val", "train") for one in ("accuracy", "mIoU")}
        super().__init__(
            arm=task.arm,
            condition=task.condition,
            seed=task.seed,
            status="done",
            record=accuracies,
            size=dict(parameters=100, macs=1000),
            measures=AnyName(),
        )


class AnyName(dict):
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
    """Three hours, at 2,100 images of a 48-pixel ViT a second on two cores."""
    total, seen = 0.0, set()
    for study in studies().values():
        for task in plan_study(study, "quick").tasks():
            if task.training.key not in seen:
                seen.add(task.training.key)
                total += task.work
    vit = next(task for task in plan_study(studies()["global_attention"], "quick").tasks() if task.arm == "vit")
    assert total / vit.work * SAMPLES / 2_100 / 3_600 <= 3
