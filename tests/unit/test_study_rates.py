"""The learning rate that a sweep chooses."""

import pytest

from vitral.studies.claims.locality import locality
from vitral.studies.running.plan import Plan, sweep_tasks

BUDGET = locality.budgets["quick"]


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({0.5: 0.7, 1.0: 0.8, 2.0: 0.9}, 2.0),
        ({0.5: 1.0, 1.0: 1.0, 2.0: 1.0}, 1.0),
        ({0.5: 0.9, 1.0: 0.8, 2.0: 0.8}, 0.5),
        ({0.5: 0.8, 1.0: 0.9, 2.0: None}, 1.0),  # diverged
    ],
)
def test_it_is_the_best_on_validation_and_among_equals_the_nearest_to_the_base(scores, chosen):
    sweep = list(sweep_tasks(locality, BUDGET))
    plan = Plan(locality, BUDGET, sweep)
    for task in sweep:
        score = scores[task.rate]
        status = "diverged" if score is None else "done"
        plan.records[task.name] = {"status": status, "record": {"val_accuracy": 0.125 if score is None else score}}
    assert plan.rates == {arm.name: chosen for arm in locality.arms}
