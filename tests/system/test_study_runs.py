"""A study's runs in separate processes: resumed after a kill, repeatable to the last digit, isolated failures."""

import json
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest

import studied
from studied import study
from vitral.base.errors import ConfigError, StoreError, UsageError
from vitral.studies.running import runner
from vitral.studies.running.plan import FIRST_SEED, plan_study
from vitral.studies.running.records import collect_results, execute
from vitral.studies.running.runner import run, start_pool
from vitral.studies.study import Arm, Budget, Condition

DIVERGING = '''
import torch
from torch import nn


class Diverging(nn.Module):
    """Returns NaN from its second step on."""

    def __init__(self, num_classes):
        super().__init__()
        self.linear, self.steps = nn.Linear(3, num_classes), 0

    def forward(self, images):
        self.steps += self.training
        return self.linear(images.mean(dim=(2, 3))) * (float("nan") if self.steps > 1 else 1.0)
'''
TIMES = ("seconds", "time", "machine", "versions", "code")


def done(one, folder, processes=1, **options):
    """Every record of a study's runs in the folder, and the progress reports."""
    plan = plan_study(one, "quick")
    finished = list(run([plan], folder / "quick", folder / "models", processes, 1, **options))
    return plan.records, finished


def timeless(record):
    inner = {key: value for key, value in record["record"].items() if key != "seconds"}
    return {key: value for key, value in record.items() if key not in TIMES} | {"record": inner}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    return folder, *done(study(), folder, processes=2)


def test_every_run_has_a_record(first):
    folder, records, finished = first
    assert len(records) == 3 * 2 and all(record["status"] == "done" for record in records.values())
    assert finished[-1].runs == (6, 6) and finished[-1].work[0] == finished[-1].work[1]
    assert {record["measures"]["seed"] for record in records.values()} == {FIRST_SEED, FIRST_SEED + 1}
    assert len(list((folder / "models").glob("*.safetensors"))) == 6
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_the_same_seeds_give_the_same_numbers_in_any_order(first, tmp_path):
    again = done(replace(study(), arms=study().arms[::-1]), tmp_path)[0]
    one, other = ({name: timeless(record) for name, record in records.items()} for records in (first[1], again))
    assert one == other


def test_recorded_runs_are_not_repeated(first):
    folder, records, _ = first
    again, finished = done(study(), folder)
    assert all(one.cached for one in finished) and again == records


def test_a_trained_model_is_shared_with_another_study(first):
    folder = first[0]
    before = {path: path.stat().st_mtime_ns for path in (folder / "models").iterdir()}
    done(replace(study(), name="another"), folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "models").iterdir()} == before


def test_a_damaged_model_is_trained_again(first):
    folder = first[0]
    weights = sorted((folder / "models").glob("*.safetensors"))
    whole = weights[0].read_bytes()
    weights[0].write_bytes(whole[:-8] + bytes(8))
    done(replace(study(), name="third"), folder)
    assert weights[0].read_bytes() == whole


def test_records_by_a_different_version_of_the_code_are_computed_again_or_refused(tmp_path):
    one = study(arms=study().arms[:1])
    done(one, tmp_path)
    for path in (tmp_path / "quick").rglob("*.json"):
        record = json.loads(path.read_text())
        record["key"], record["code"]["nn/vit.py"] = "another", "another"
        path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"computed by a different version of the code \(nn/vit.py changed\)"):
        done(one, tmp_path, stale="refuse")
    messages = []
    _, finished = done(one, tmp_path, notify=messages.append)
    assert not any(one.cached for one in finished)
    assert len(messages) == 1 and "nn/vit.py changed" in messages[0]
    assert all(one.cached for one in done(one, tmp_path)[1])


def test_a_damaged_record_is_computed_again(tmp_path):
    one = study(arms=study().arms[:1])
    done(one, tmp_path)
    paths = sorted((tmp_path / "quick").rglob("*.json"))
    paths[0].write_text("{")
    paths[1].write_text("[]")
    assert [finished.cached for finished in done(one, tmp_path)[1]] == [False, False]


def test_one_run_that_fails_does_not_lose_the_others(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(DIVERGING)
    arms = (study().arms[0], Arm("diverging", f"{file}:Diverging", unmatched="it is a test's"), study().arms[1])
    one = study(arms=arms, measure=studied.raises_for_convolutions)
    records, _ = done(one, tmp_path)
    assert [records[f"vit-plain-seed-{seed}"]["status"] for seed in (FIRST_SEED, FIRST_SEED + 1)] == ["done", "done"]
    statuses = {records[f"diverging-plain-seed-{seed}"]["status"] for seed in (FIRST_SEED, FIRST_SEED + 1)}
    assert statuses == {"diverged"}
    assert records[f"diverging-plain-seed-{FIRST_SEED}"]["record"]["test_accuracy"] == 1 / 8
    assert "loss is nan at step 2" in records[f"diverging-plain-seed-{FIRST_SEED}"]["why"]
    statuses = {records[f"dwconv3-plain-seed-{seed}"]["status"] for seed in (FIRST_SEED, FIRST_SEED + 1)}
    assert statuses == {"failed"}
    found = collect_results(one, "quick", tmp_path / "quick")
    assert len(found.unfinished) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(settings=dict(patch_size=5)), "patch"),
        (dict(loop="studies.none:none"), "studies.none:none"),
        (dict(recipe=dict(augment="shifft")), "Did you mean 'shift'"),
        (dict(recipe=dict(lr=-1.0)), "lr=-1.0 is out of range"),
    ],
)
def test_an_arm_that_cannot_be_trained_is_refused_before_anything_starts(changes, message):
    with pytest.raises(UsageError, match=message):
        plan_study(study(arms=(replace(study().arms[0], **changes),)), "quick")


def test_a_measure_that_raises_is_recorded_with_its_line_and_tried_again(tmp_path):
    one = study(arms=study().arms[:1], measure=studied.raises)
    records, _ = done(one, tmp_path)
    assert "a measure of the test's (studied.py, line" in records[f"vit-plain-seed-{FIRST_SEED}"]["why"]
    assert not any(finished.cached for finished in done(one, tmp_path)[1])


def test_a_process_that_is_killed_loses_no_other_run(tmp_path):
    condition = Condition("plain", studied.DATA, settings={"mark": str(tmp_path / "mark")})
    one = study(conditions=(condition,), measure=studied.dies_once)
    records, _ = done(one, tmp_path, processes=2)
    assert {record["status"] for record in records.values()} == {"done"}


@pytest.mark.parametrize("under_way", [0, 1])
def test_a_process_that_dies_before_the_next_run_starts_loses_none(tmp_path, monkeypatch, under_way):
    """The pool is broken when a run is handed to it, rather than while it waits for one."""
    pools = []

    def first_one_breaks(processes, threads):
        pool = start_pool(processes, threads)
        pools.append(pool)
        if len(pools) == 1:
            submit, handed = pool.submit, iter(range(100))

            def submit_to_a_broken_pool(*task):
                if next(handed) == under_way:
                    assert isinstance(submit(os._exit, 1).exception(), BrokenProcessPool)
                return submit(*task)

            monkeypatch.setattr(pool, "submit", submit_to_a_broken_pool)
        return pool

    monkeypatch.setattr(runner, "start_pool", first_one_breaks)
    records, _ = done(study(arms=study().arms[:2]), tmp_path, processes=2)
    assert len(pools) == 2 and len(records) == 4
    assert {record["status"] for record in records.values()} == {"done"}


def test_a_run_that_always_kills_its_process_is_recorded_as_that(tmp_path):
    one = study(arms=study().arms[:1], measure=studied.dies)
    records, _ = done(one, tmp_path)
    assert records[f"vit-plain-seed-{FIRST_SEED}"]["status"] == "done"
    assert "it was killed or ran out of memory" in records[f"vit-plain-seed-{FIRST_SEED + 1}"]["why"]


def test_rates_are_chosen_on_validation_data_by_the_same_sweep_for_all_arms(tmp_path):
    budget = Budget(256, 1, (0.001, 1.0), eval_images=64)
    plan = plan_study(study(budgets={"quick": budget}), "quick")
    list(run([plan], tmp_path / "quick", tmp_path / "models", 1, 1))
    for arm in plan.study.arms:
        sweep = [record for record in plan.records.values() if record["sweep"] and record["arm"] == arm.name]
        tried = {record["rate"]: record["record"]["val_accuracy"] for record in sweep}
        assert set(tried) == {0.001, 1.0}
        assert tried[plan.rates[arm.name]] == max(tried.values())
        chosen = plan.records[f"{plan.study.arms[0].name.replace(' ', '-')}-plain-seed-{FIRST_SEED}"]
    assert chosen["rate"] == plan.rates["vit"]
    assert {record["seed"] for record in plan.records.values() if not record["sweep"]} == {FIRST_SEED}


def test_a_full_disk_ends_it_with_a_message(tmp_path, monkeypatch):
    one = next(iter(plan_study(study(), "quick").tasks()))

    def full(path, content):
        raise StoreError(f"{path} could not be written. The disk is full: free some space.")

    monkeypatch.setattr("vitral.studies.running.records.write_file", full)
    with pytest.raises(StoreError, match="The disk is full"):
        execute(one, tmp_path, tmp_path / "models")


def test_killed_and_run_again_it_ends_as_if_it_had_never_stopped(terminal, tmp_path):
    words = ("study", "run", "locality", "--preset", "smoke", "--processes", 2)
    whole = tmp_path / "whole"
    terminal(*words, "--out", whole).done()
    broken = tmp_path / "broken"

    def some():
        return len(list((broken / "smoke").rglob("*seed*.json"))) >= 5

    killed = terminal.stopped(*words, "--out", broken, when=some, by=signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (broken / "smoke").rglob("*seed*.json")}
    terminal(*words, "--out", broken).done()
    assert len(kept) >= 5 and all(path.stat().st_mtime_ns == time for path, time in kept.items())
    one, other = (json.loads((folder / "smoke" / "locality.json").read_text()) for folder in (whole, broken))
    assert [timeless(run) for run in one["runs"]] == [timeless(run) for run in other["runs"]]
    assert (one["hypotheses"], one["verdict"]) == (other["hypotheses"], other["verdict"])


def test_an_interrupt_ends_it_with_a_message_and_leaves_no_process(terminal, tmp_path):
    words = ("study", "run", "locality", "--preset", "smoke", "--processes", 2, "--out", tmp_path / "out")

    def some():
        return len(list((tmp_path / "out").rglob("*seed*.json"))) >= 1

    stopped = terminal.stopped(*words, when=some, by=signal.SIGINT)
    assert stopped.code == 130 and "interrupted" in stopped.err and "Traceback" not in stopped.err
    mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and str(tmp_path).encode() in command(pid)]  # noqa: PTH208
    assert not mine


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""
