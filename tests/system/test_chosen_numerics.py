"""What "auto" chose stands in config.yaml, and a resumed run computes so, also on another machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from shell import TINY, Trained
from vitral.base import numerics
from vitral.tasks import choose_numerics, plan_run
from vitral.training.checkpoint import read_progress

# A run that is measured, of steps that take no time.
WIDE = ("train", "--data", "photos", "--model", "vit_nano_patch4_32", "--img-size", 16, "--batch-size", 8)


@pytest.fixture
def measured(monkeypatch):
    """A machine on which every run is worth measuring, with so many times of each step."""

    def make(has_bfloat16=True, **factors):
        for module, name in ((plan_run, "SHORT"), (plan_run, "WORTH"), (choose_numerics, "WORTH_COMPILING")):
            monkeypatch.setattr(module, name, 0.0)
        monkeypatch.setattr(choose_numerics, "computes_in_bfloat16", lambda device: has_bfloat16)
        monkeypatch.setattr(choose_numerics, "compiles", lambda device: True)
        timed = choose_numerics.time_steps

        def time_steps(model, data, recipe, chosen, processes, compiled=None):
            timed(model, data, recipe, chosen, processes, compiled)  # real steps
            return [factors.get("compiled" if compiled is not None else chosen.precision, 1.0)]

        monkeypatch.setattr(choose_numerics, "time_steps", time_steps)
        compiled = choose_numerics.compile_model

        def compile_model(*given):
            """At no cost, so that the load of this machine decides nothing."""
            return replace(compiled(*given), seconds=1e-9)

        monkeypatch.setattr(choose_numerics, "compile_model", compile_model)
        compile = torch.compile
        monkeypatch.setattr(torch, "compile", lambda model: compile(model, backend="eager"))

    yield make
    torch.compiler.reset()


def config(run="run"):
    return yaml.safe_load(Path(run, "config.yaml").read_text())


def test_the_choice_is_measured_said_and_written(vitral, photos, measured):
    measured(float32=1e-6, bfloat16=1e-7, compiled=1e-7)
    answer = vitral(*WIDE, "--epochs", 2, "--out", "run").done()
    assert "--precision auto: bfloat16, 0.0 ms per step; float32 takes" in answer.messages
    assert "bfloat16, as measured; not compiled, as measured" in answer.messages  # which would gain nothing
    assert (config()["precision"], config()["compile"]) == ("bfloat16", "never")


def test_a_resumed_run_computes_as_it_began_on_a_machine_that_would_choose_otherwise(
    vitral, photos, measured, monkeypatch
):
    measured(float32=1e3, bfloat16=1e-9)
    vitral(*WIDE, "--epochs", 2, "--compile", "never", "--out", "run").done()
    measured(float32=1e-9, bfloat16=1e3)
    monkeypatch.setattr(numerics, "cpu_computes_in_bfloat16", lambda: False)
    answer = vitral("train", "--resume", "run", "--epochs", 3).done()
    assert "bfloat16, as requested; not compiled" in answer.messages and "auto" not in answer.messages
    assert config()["precision"] == "bfloat16"


def test_a_compiled_run_pays_back_and_is_resumed_compiled(vitral, photos, measured):
    measured(compiled=1e-9)
    answer = vitral(*WIDE, "--epochs", 2, "--out", "run").done()
    assert "; compiled, as measured" in answer.messages and config()["compile"] == "always"
    assert "as requested; compiled" in vitral("train", "--resume", "run", "--epochs", 3).done().messages


def test_a_model_that_does_not_compile_is_trained(vitral, photos, measured, monkeypatch):
    measured()

    def fails(model):
        raise RuntimeError("no compiler for this")

    monkeypatch.setattr(torch, "compile", fails)
    answer = vitral(*WIDE, "--epochs", 2, "--precision", "float32", "--out", "run").done()
    assert "could not compile this model: no compiler for this" in answer.messages
    assert config()["compile"] == "never"


def test_a_short_run_is_left_to_the_rules_which_are_written_too(vitral, photos, quick):
    answer = vitral("train", *TINY, "--epochs", 2, "--out", "run").done()
    assert "because the width of" in answer.messages and "because 1" not in answer.messages.partition("; ")[0]
    assert (config()["precision"], config()["compile"]) == ("float32", "never")


def test_a_run_of_an_older_version_is_resumed_and_reported(vitral, photos, quick):
    """Its settings say "auto", and its steps have no parts."""
    vitral("train", *TINY, "--epochs", 2, "--precision", "float32", "--compile", "never", "--out", "run").done()
    run = Trained(photos.parent / "run")
    metrics = run.folder / "metrics.jsonl"
    columns = ("forward", "backward", "optimizer", "stepping")
    records = [
        {name: value for name, value in record.items() if name not in columns}
        for record in run.metrics
        if "memory_kind" not in record
    ]
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    state = run.last_checkpoint / "state.json"
    old = json.loads(state.read_text())
    for step in old["recent"]:
        for name in columns[:3]:
            del step[name]
    state.write_text(json.dumps(old))
    vitral("train", "--resume", "run").done()  # its report again
    report = (run.folder / "report.html").read_text()
    assert "Where the time went" in report and "waiting for the batch" in report and "backward" not in report
    vitral("train", "--resume", "run", "--epochs", 60).done()
    last = [record for record in run.metrics if "images_per_second" in record][-1]
    assert sum(last[name] for name in ("waiting", *columns[:3])) <= 1 and "stepping" not in last
    assert read_progress(run.folder / "checkpoints")[1].recent[-1].backward > 0
    report = (run.folder / "report.html").read_text()
    assert "backward" in report and "Steps took" not in report


def test_a_resumed_run_has_the_columns_and_says_where_its_time_went(vitral, photos, quick):
    vitral("train", *TINY, "--epochs", 2, "--out", "run").done()
    answer = vitral("train", "--resume", "run", "--epochs", 20).done()
    run = Trained(photos.parent / "run")
    paces = [record for record in run.metrics if "images_per_second" in record]
    assert len(paces) > 1
    for record in paces:
        assert 0 < sum(record[name] for name in ("waiting", "forward", "backward", "optimizer")) <= 1
        assert 0 < record["stepping"] <= record["seconds"]
    assert paces[-1]["stepping"] > paces[0]["stepping"]
    assert "time of a step: " in answer.messages and "% backward" in answer.messages
    assert "of memory (resident)" in answer.messages and "GEMM" not in answer.messages  # a run of a second
    assert "Steps took" in (run.folder / "report.html").read_text()


def test_a_longer_run_is_compared_with_the_peak_of_the_machine(vitral, photos, quick, monkeypatch):
    monkeypatch.setattr("vitral.tasks.time_use.WORTH", 0.0)
    answer = vitral("train", *TINY, "--epochs", 2, "--out", "run").done()
    assert "% of the GEMM peak" in answer.messages
    (machine,) = [record for record in Trained(photos.parent / "run").metrics if "memory_kind" in record]
    assert machine["peak_flops"] > 1e8 and machine["operations"] > 0
    report = (photos.parent / "run" / "report.html").read_text()
    assert "of the peak measured after training" in report
    vitral("train", "--resume", "run").done()  # writes the report again, and measures nothing
    assert (photos.parent / "run" / "report.html").read_text().count("of the peak measured after training") == 1
