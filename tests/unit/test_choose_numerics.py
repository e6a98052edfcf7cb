"""What "auto" chooses by the time of a few steps, and when these are not taken."""

import os
from dataclasses import replace

import pytest
import torch
from torch import nn

import vitral
from vitral.base.numerics import Numerics
from vitral.base.record import ModelRecord, attach_record
from vitral.data.spec import find_data
from vitral.tasks import choose_numerics, plan_run
from vitral.tasks.choose_numerics import WORTH_COMPILING, choose_compiling, choose_precision, settled
from vitral.tasks.progress import Progress
from vitral.training import compiling
from vitral.training.compiling import Compilation, compile_model
from vitral.training.recipe import Recipe
from vitral.training.speed import Speed

AUTO = Recipe()
DATA = find_data("shapes:n=32,size=16")
RULE = Numerics("cpu", "float32", True, "float32, because of a rule; compiled, because of another")
LONG = WORTH_COMPILING * 10


@pytest.fixture
def timed(monkeypatch):
    """Steps that take a known time in each precision, and compiled; which were taken."""

    def make(float32=0.2, bfloat16=0.2, compiled=0.2, has_bfloat16=True, compiler=True):
        taken = []

        def time_steps(model, data, recipe, numerics, processes, compiled_model=None):
            name = "compiled" if compiled_model is not None else numerics.precision
            taken.append(name)
            return [dict(float32=float32, bfloat16=bfloat16, compiled=compiled)[name]] * 3

        monkeypatch.setattr(choose_numerics, "time_steps", time_steps)
        monkeypatch.setattr(choose_numerics, "computes_in_bfloat16", lambda device: has_bfloat16)
        monkeypatch.setattr(choose_numerics, "compiles", lambda device: compiler)
        return taken

    return make


def precision(numerics=RULE, recipe=AUTO, step=0.2):
    progress = Progress()
    chosen, seconds = choose_precision(recipe, nn.Linear(1, 1), DATA, numerics, step, progress)
    return chosen.precision, seconds, progress.notes


@pytest.mark.parametrize(
    ("bfloat16", "chosen"), [(0.118, "bfloat16"), (0.189, "bfloat16"), (0.191, "float32"), (0.3, "float32")]
)
@pytest.mark.parametrize("rule", ["float32", "bfloat16"])
def test_bfloat16_has_to_be_faster_by_five_percent_whatever_the_rule_says(timed, bfloat16, chosen, rule):
    timed(0.2, bfloat16)
    times = dict(float32=0.2, bfloat16=bfloat16)
    found, seconds, notes = precision(replace(RULE, precision=rule), step=times[rule])
    assert found == chosen and seconds == times[chosen]
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    assert notes == [
        f"--precision auto: {chosen}, {1000 * times[chosen]:.0f} ms per step; {other} takes "
        f"{1000 * times[other]:.0f} ms"
    ]


def test_both_are_measured_in_turns(timed):
    taken = timed(0.2, 0.15)
    assert precision(step=0.14)[:2] == ("float32", 0.14)
    assert taken == ["bfloat16", "float32"] * 2


def test_one_measurement_on_a_loaded_machine_does_not_turn_the_choice_round(timed, monkeypatch):
    timed()
    times = dict(float32=iter([2.2, 0.19]), bfloat16=iter([0.49, 0.5]))
    monkeypatch.setattr(choose_numerics, "time_steps", lambda *given: [next(times[given[3].precision])] * 3)
    assert precision(step=1.9)[:2] == ("float32", 0.19)


def test_what_is_requested_or_impossible_is_not_measured(timed):
    taken = timed(0.2, 0.1)
    assert precision(recipe=Recipe(precision="float32")) == ("float32", 0.2, [])
    taken = timed(0.2, 0.1, has_bfloat16=False)
    assert precision() == ("float32", 0.2, [])
    assert taken == []


def compiled(monkeypatch, found=None, seconds=LONG, recipe=AUTO):
    found = found or Compilation(nn.Linear(1, 1), 30.0)
    monkeypatch.setattr(choose_numerics, "compile_model", lambda *given: found)
    progress = Progress()
    numerics, step = choose_compiling(recipe, nn.Linear(1, 1), DATA, RULE, 0.2, seconds, progress)
    return numerics, step, " ".join(progress.notes)


def test_compiling_has_to_gain_more_than_it_takes(timed, monkeypatch):
    timed(compiled=0.15)
    numerics, step, notes = compiled(monkeypatch)  # 6,000 s: gains 1,500 and takes 30
    assert numerics.compile and step == 0.15
    assert numerics.reason == "float32, because of a rule; compiled, as measured"
    assert "150 ms per step compiled, 200 ms without; compiling took 30 s" in notes
    numerics, step, notes = compiled(monkeypatch, Compilation(nn.Linear(1, 1), 1501.0))
    assert not numerics.compile and step == 0.2
    timed(compiled=0.21)
    assert not compiled(monkeypatch)[0].compile


def test_a_model_that_cannot_be_compiled_is_trained_without_and_the_reason_is_noted(timed, monkeypatch):
    taken = timed()
    numerics, step, notes = compiled(monkeypatch, Compilation(None, 3.0, "Unsupported: a loop"))
    assert not numerics.compile and step == 0.2 and taken == []
    assert "could not compile this model: Unsupported: a loop" in notes
    assert numerics.reason.endswith("; not compiled, because that failed")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (dict(seconds=WORTH_COMPILING - 1), "not compiled, because the run takes less than 10 minutes"),
        (dict(compiler=False), "not compiled, because no C++ compiler was found"),
        (dict(recipe=Recipe(compile="always")), "compiled, because of another"),
    ],
)
def test_compiling_is_not_tried_where_it_cannot_gain(timed, monkeypatch, given, reason):
    timed(compiler=given.pop("compiler", True))
    monkeypatch.setattr(choose_numerics, "compile_model", pytest.fail)
    progress = Progress()
    options = dict(recipe=AUTO, seconds=LONG) | given
    recipe, seconds = options["recipe"], options["seconds"]
    numerics, step = choose_compiling(recipe, nn.Linear(1, 1), DATA, RULE, 0.2, seconds, progress)
    assert numerics.reason.endswith(f"; {reason}") and step == 0.2 and progress.notes == []


def test_what_was_chosen_stands_in_the_recipe():
    assert settled(AUTO, RULE) == replace(AUTO, precision="float32", compile="always")
    other = replace(RULE, precision="bfloat16", compile=False)
    assert settled(AUTO, other) == replace(AUTO, precision="bfloat16", compile="never")


def tiny():
    model = vitral.create("vit_nano_patch4_32", num_classes=len(DATA.classes), img_size=16)
    attach_record(model, ModelRecord(DATA.classes, DATA.preprocessing))
    return model, DATA, Recipe(data="shapes:n=32,size=16", model="vit_nano_patch4_32", batch_size=8)


def test_a_failure_of_the_compiler_is_caught(monkeypatch):
    def fails(model):
        raise RuntimeError("InductorError: no such header\nmore lines")

    monkeypatch.setattr(compiling.torch, "compile", fails)
    model, data, recipe = tiny()
    found = compile_model(model, data, recipe, replace(RULE, compile=False))
    assert found.model is None and found.failure == "InductorError: no such header"
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.skipif(bool(os.environ.get("VITRAL_TYPED")), reason="the compiler does not take checks of types")
def test_compiling_leaves_the_model_as_it_was(monkeypatch):
    compiled = torch.compile
    monkeypatch.setattr(compiling.torch, "compile", lambda model: compiled(model, backend="eager"))
    model, data, recipe = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = compile_model(model, data, recipe, replace(RULE, compile=False))
    torch.compiler.reset()
    assert found.model is not None and found.seconds > 0 and found.failure == ""
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def plan(monkeypatch, step, **settings):
    """What a plan chooses for a run of 100 steps; and what it tried."""
    model, data, recipe = tiny()
    tried = []
    monkeypatch.setattr(plan_run, "SHORT", settings.pop("short", 0.0))
    monkeypatch.setattr(plan_run, "measure_speed", lambda *given: Speed(step, 0.0, 4, 0, 0))
    for name in ("choose_precision", "choose_compiling"):

        def choose(recipe, model, data, numerics, step, *rest, name=name):
            tried.append(name)
            return numerics, step / 2

        monkeypatch.setattr(plan_run, name, choose)
    progress = Progress()
    found, numerics = plan_run.plan_run(replace(recipe, **dict(epochs=25.0) | settings), model, data, True, progress)
    assert found.precision == numerics.precision and found.compile == ("always" if numerics.compile else "never")
    return found, tried, progress.notes


def test_a_short_run_is_left_to_the_rules(monkeypatch):
    assert plan(monkeypatch, 1.0, short=1e13)[1:] == ([], [])
    assert plan(monkeypatch, 1.0)[1] == ["choose_compiling"]  # 110 s, of which compiling says that it is too short


def test_a_longer_one_is_measured_and_its_time_is_that_of_the_choice(monkeypatch):
    _, tried, notes = plan(monkeypatch, 8.0)
    assert tried == ["choose_precision", "choose_compiling"]
    assert notes == ["estimated time: 4 minutes, at 2,000 ms per step on this machine"]  # 200 s and 10 for the report


def test_the_trials_count_in_the_minutes(monkeypatch):
    clock = iter([1000.0, 1100.0, 1100.0])
    monkeypatch.setattr(plan_run.time, "monotonic", lambda: next(clock))
    found, tried, _ = plan(monkeypatch, 8.0, minutes=5.0)
    assert tried == ["choose_precision", "choose_compiling"]
    assert found.minutes is None
    assert found.epochs == int((0.95 * (300 - 100) - 10) / 2) / 4
