"""The parts of a training step are what they are called, and add up to at most the step."""

from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitral.base.answer import answer_for
from vitral.tasks.pace import PARTS, Pace, spent_until
from vitral.training.processes import Processes
from vitral.training.steps import Step, steps
from vitral.training.timing import StepClock

WAITING, FORWARD, BACKWARD, EXCHANGE, OPTIMIZER = 5.0, 2.0, 3.0, 0.5, 1.0


@pytest.fixture
def pass_time(monkeypatch):
    """A clock that stands still, but for what is added to it."""
    now = [100.0]
    monkeypatch.setattr(StepClock, "now", lambda self: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def slow(pass_time, parts, count=3):
    """Steps whose feed, model, gradients, exchange and optimizer each take a known time."""

    class Model(nn.Linear):
        def forward(self, x):
            pass_time(FORWARD)
            y = super().forward(x)
            y.register_hook(lambda gradient: pass_time(BACKWARD))
            return y

    class Optimizer(torch.optim.SGD):
        def step(self, closure=None):
            pass_time(OPTIMIZER)
            return super().step(closure)

    class Exchanging(Processes):
        def sum_gradients(self, model):
            pass_time(EXCHANGE)

    def feed():
        for _ in range(count):
            pass_time(WAITING)
            yield torch.ones(4, 3), torch.zeros(4, dtype=torch.int64)

    model, answer = Model(3, 2), answer_for("one class")
    loss_of = answer.loss(0.0, torch.zeros(4).numpy().astype(int), False, 0.0)
    optimizers = [Optimizer(model.parameters(), lr=0.1)]
    for step in steps(
        model, feed(), optimizers, lambda s: 1.0, torch.enable_grad, 1.0, answer, loss_of, 0, parts, Exchanging()
    ):
        yield step
        pass_time(1000.0)  # the caller's own time, as of an evaluation, is no part of any step


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_each_part_gets_its_own_time(pass_time, parts):
    taken = list(slow(pass_time, parts))
    assert len(taken) == 3
    for step in taken:
        assert step.waiting == WAITING and step.optimizer == OPTIMIZER
        assert step.forward == parts * FORWARD and step.backward == parts * BACKWARD + EXCHANGE
        assert step.seconds == step.waiting + step.forward + step.backward + step.optimizer


def test_a_feed_that_sleeps_is_waiting_in_the_log(pass_time):
    pace = Pace(3)
    for step in slow(pass_time, 1):
        pace.take(step)
    record = pace.record()
    assert record["waiting"] == pytest.approx(WAITING / (WAITING + FORWARD + BACKWARD + EXCHANGE + OPTIMIZER))
    assert record["stepping"] == pytest.approx(3 * (WAITING + FORWARD + BACKWARD + EXCHANGE + OPTIMIZER))


seconds = st.floats(0, 1e3)


@given(st.lists(st.tuples(seconds, seconds, seconds, seconds, st.floats(1e-6, 1e3)), min_size=1, max_size=60))
def test_shares_in_the_log_add_up_to_at_most_one(taken):
    pace = Pace(len(taken))
    for number, (waiting, forward, backward, optimizer, rest) in enumerate(taken, 1):
        whole = waiting + forward + backward + optimizer + rest
        pace.take(Step(number, 8, 1.0, 4, 0.1, whole, waiting, forward, backward, optimizer))
    record = pace.record()
    assert all(record[part] >= 0 for part in ("waiting", *PARTS))
    assert record["waiting"] + sum(record[part] for part in PARTS) <= 1 + 1e-9


def test_steps_of_an_older_version_have_no_parts_and_those_after_them_do():
    new = Step(3, 8, 1.0, 4, 0.1, 1.0, 0.1, 0.2, 0.3, 0.1)
    old = Step(**{name: value for name, value in asdict(new).items() if name not in PARTS})
    assert old.forward is None
    pace = Pace(100, 10.0, [old], stepping=None)
    pace.take(replace(new, number=4))
    assert not pace.record().keys() & {*PARTS, "stepping"}
    for number in range(5, 55):
        pace.take(replace(new, number=number))
    assert {part: pace.record()[part] for part in PARTS} == pytest.approx(
        dict(forward=0.2, backward=0.3, optimizer=0.1)
    )


def test_what_a_run_had_taken_is_in_its_last_record_before_the_step():
    paces = [
        {"step": step, "images_per_second": 1.0, "seconds": float(step), "stepping": step / 2} for step in (20, 40)
    ]
    others = [{"step": 40, "test_loss": 1.0, "seconds": 99.0}, {"step": 40, "memory": 1, "memory_kind": "resident"}]
    assert spent_until([*paces, *others], 45) == (40.0, 20.0)
    assert spent_until([*paces, *others], 39) == (20.0, 10.0)
    assert spent_until([], 39) == (0.0, 0.0)
    del paces[1]["stepping"]
    assert spent_until(paces, 45) == (40.0, None)
