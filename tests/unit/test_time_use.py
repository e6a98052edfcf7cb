"""Where the time of a run went, by its records; and advice by rules that are true."""

from dataclasses import replace

import pytest
import torch

import vitral
from vitral.base.numerics import Numerics
from vitral.base.record import ModelRecord, attach_record
from vitral.data.spec import find_data
from vitral.tasks import time_advice
from vitral.tasks.time_advice import advise, advise_on_data
from vitral.tasks.time_use import time_section, time_use
from vitral.training.recipe import Recipe

SHARES = dict(waiting=0.1, forward=0.3, backward=0.4, optimizer=0.15)
MACHINE = dict(
    processes=1,
    device="cpu",
    precision="float32",
    memory=912_000_000,
    memory_kind="resident",
    peak_flops=2e11,
    peak_size=1024,
    peak_products=30,
    threads=2,
    operations=4e8,
    advice="",
)


def pace(step, rate=100.0, **changes):
    known = dict(step=step, images_per_second=rate, seconds=step / 10, stepping=step / 20) | SHARES | changes
    return {name: value for name, value in known.items() if value is not None}


def old(step, rate=100.0):
    """A record of a version that timed the waiting only."""
    return pace(step, rate, forward=None, backward=None, optimizer=None, stepping=None)


def test_shares_are_of_the_time_and_so_are_images_per_second():
    """A step at 50 images/s takes twice the time of one at 100."""
    found = time_use([pace(60, 100.0, waiting=0.0), pace(80, 50.0, waiting=0.3, forward=0.1)], 10)
    assert found.parts["waiting"] == pytest.approx(0.2)
    assert found.rate == pytest.approx(2 / (1 / 100 + 1 / 50)) and found.step == pytest.approx(10 * 0.015)
    assert sum(found.parts.values()) <= 1


def test_the_first_steps_of_a_longer_run_do_not_count():
    compiling = pace(20, 1.0, forward=0.9)
    assert time_use([compiling, pace(60)], 10).rate == pytest.approx(100)
    assert time_use([compiling], 10).rate == pytest.approx(1)


def test_a_run_of_an_older_version_says_what_it_knows_and_one_that_was_resumed_what_is_known_since():
    only = time_use([old(60), old(80)], 10)
    assert only.parts == pytest.approx({"waiting": 0.1}) and only.stepping is None and only.utilisation is None
    assert only.line == "time of a step: 10% waiting for the batch; 100 images/s"
    both = time_use([old(60, 1.0), pace(80, stepping=None)], 10)
    assert both.parts == pytest.approx(SHARES) and both.rate == pytest.approx(100)
    (section,) = time_section([old(60), old(80)], 10)
    assert section.table == (("part of a step", "share", "time"), ("waiting for the batch", "10%", "10 ms"))
    assert "Steps took" not in section.text and "memory" not in section.text


def test_a_run_without_steps_has_no_section():
    assert time_section([{"step": 0, "loss": 1.0, "accuracy": 0.5, "best": True}], 10) == []


def test_utilisation_is_operations_per_second_over_the_peak_of_all_processes():
    assert time_use([pace(60), {"step": 60} | MACHINE], 10).utilisation == pytest.approx(100 * 4e8 / 2e11)
    two = {"step": 60} | MACHINE | {"processes": 2}
    assert time_use([pace(60), two], 10).utilisation == pytest.approx(100 * 4e8 / 4e11)
    short = {name: value for name, value in MACHINE.items() if "peak" not in name}
    assert time_use([pace(60), {"step": 60} | short], 10).utilisation is None
    assert time_use([pace(60), {"step": 60} | MACHINE | {"operations": None}], 10).utilisation is None


def test_the_last_measurement_of_a_run_that_was_made_longer_counts():
    records = [pace(60), {"step": 60} | MACHINE, pace(90), {"step": 90} | MACHINE | {"memory": 5_000_000_000}]
    assert "5.0 GB of memory (resident)" in time_use(records, 10).line


def test_the_section_states_what_each_number_is():
    machine = MACHINE | {"advice": "computing is the limit."}
    (section,) = time_section([pace(60), {"step": 60} | machine], 10)
    assert section.table[1:] == (
        ("waiting for the batch", "10%", "10 ms"),
        ("forward", "30%", "30 ms"),
        ("backward", "40%", "40 ms"),
        ("optimizer", "15%", "15 ms"),
        ("other", "5%", "5.0 ms"),
    )
    for words in (
        "100 images per second; a step of 10 images took 100 ms.",
        "Steps took 50% of the training time",
        "took at most 912 MB of memory (resident, including decoded images that it maps).",
        "0.40 GFLOP per image forward and backward, ran at 20% of the peak measured after training",
        "200 GFLOP/s (the best of 30 products of matrices of 1024 x 1024 in float32, 2 threads)",
        "Advice: computing is the limit.",
    ):
        assert words in section.text, section.text


@pytest.fixture(scope="module")
def tiny():
    data = find_data("shapes:n=64,size=16")
    model = vitral.create("vit_nano_patch4_32", num_classes=len(data.classes), img_size=16)
    attach_record(model, ModelRecord(data.classes, data.preprocessing))
    return model, data, Recipe(data="shapes:n=64,size=16", augment="colour", batch_size=16)


CPU = Numerics("cpu", "float32", False, "")


def advice(tiny, utilisation=None, processes=1, numerics=CPU, recipe=None, busy=1.0, **parts):
    model, data, own = tiny
    return advise(SHARES | parts, utilisation, model, data, recipe or own, numerics, processes, busy)


@pytest.mark.parametrize(
    ("own", "light", "words"),
    [
        (0.048, 0.012, "one takes 48 ms, and 12 ms without --augment colour. A lighter augmentation trains faster."),
        (0.048, 0.040, "one takes 48 ms, of which augmentation is at most a third."),
    ],
)
def test_where_data_is_the_limit_augmentation_is_blamed_only_if_it_was_measured(tiny, monkeypatch, own, light, words):
    monkeypatch.setattr(
        time_advice, "time_batches", lambda model, data, recipe, numerics: light if recipe.augment == "none" else own
    )
    assert advice(tiny, waiting=0.21) == f"preparing batches is the limit: {words}"
    assert advice(tiny, waiting=0.19) == ""
    assert "img-size" not in advice(tiny, waiting=0.5)  # what is drawn has the size of its data spec


def test_batches_are_timed_without_disturbing_the_run(tiny):
    state = torch.get_rng_state()
    assert "preparing batches is the limit" in advise_on_data(*tiny, CPU)
    assert torch.equal(state, torch.get_rng_state())


def test_a_machine_that_others_use_is_said_before_the_model_is_blamed(tiny):
    assert advice(tiny, 0.1, busy=0.6).startswith("this program had a processor for 60% of the time")
    assert "inner width" in advice(tiny, 0.1, busy=1.7)
    assert "preparing batches" in advice(tiny, 0.1, busy=0.6, waiting=0.5)  # measured


def test_a_large_share_of_the_optimizer(tiny):
    assert "--batch-size" in advice(tiny, optimizer=0.3) and "--optimizer adamw" in advice(tiny, optimizer=0.3)
    assert "adamw" not in advice(tiny, optimizer=0.3, recipe=replace(tiny[2], optimizer="adamw"))
    assert advice(tiny, optimizer=0.3, recipe=replace(tiny[2], batch_size=64)) == ""  # all images already


def test_computing_is_the_limit_or_the_model_is_narrow_or_nothing_is_sure(tiny, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "computing is the limit" in advice(tiny, 0.6)
    assert "inner width 64" in advice(tiny, 0.2)
    assert advice(tiny, 0.4) == "" and advice(tiny, None) == ""
    monkeypatch.setattr(time_advice, "width", lambda model: 768)
    assert advice(tiny, 0.2) == ""


def test_cores_that_the_environment_leaves_idle(tiny, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(time_advice, "usable_cores", lambda: 4)
    assert advice(tiny, 0.6) == "OMP_NUM_THREADS=1 uses 1 of 4 cores: set it to 4."
    assert "OMP" not in advice(tiny, 0.6, processes=2)
    monkeypatch.setattr(time_advice, "usable_cores", lambda: 1)
    assert "OMP" not in advice(tiny, 0.6)
