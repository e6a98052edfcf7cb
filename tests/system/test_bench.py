"""`vitral bench`: every way is measured, or is a line with the reason; and what cannot be measured."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_effects import QUICKLY, measure_in_process
from export_effects import exported_folder

import vitral as library
from shell import QUICK, paint
from tiny import tiny_vit, with_record
from vitral.base.errors import UsageError
from vitral.base.numerics import computes_in_bfloat16
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord
from vitral.exporting.speed.agreement import answers_agree
from vitral.exporting.speed.result import BenchResult, Measured, Timing
from vitral.exporting.speed.way import Conditions, find_ways

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "measure-speed.md").read_text(encoding="utf-8")
EXTRAS = ("onnx", "onnxruntime", "openvino", "nncf")


@pytest.fixture(autouse=True)
def same_threads():
    """Ways that run in this process set its number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_way_is_a_row_or_a_line_with_the_reason(vitral, trained, monkeypatch):
    """In processes of their own, on a machine without the extras and without a compiler."""
    monkeypatch.setattr("vitral.exporting.speed.way.find_spec", lambda name: None if name in EXTRAS else name)
    monkeypatch.setattr("vitral.exporting.speed.ways.compiled.compiles", lambda device: False)
    answer = vitral("bench", trained.folder, "--batches", 2, *QUICKLY, "--json").done()
    found = answer.json
    rows, lines = ([one["way"] for one in found[key]] for key in ("ways", "unavailable"))
    in_half = ["eager-bf16", "packed-bf16"] if computes_in_bfloat16("cpu") else []
    assert set(rows) == {"eager", "packed", *in_half} and set(rows) | set(lines) == set(find_ways())
    assert "not measured: onnx: needs onnx, onnxruntime: pip install 'vitral[export]'" in answer.err
    assert "pip install 'vitral[export,openvino]'" in answer.err and "install g++ or clang" in answer.err
    assert "int8" in answer.err and "preparing eager (1 of" in answer.err and "At batch 2" in answer.err
    for one in found["ways"]:
        (timing,) = one["timings"]
        assert timing["p99_seconds"] >= timing["p50_seconds"] > 0 and timing["images_per_second"] > 0
        assert timing["memory_bytes"] is None or 0 < timing["memory_bytes"] < 2e9
        assert one["agreement"]["largest"] < (0.1 if "bf16" in one["way"] else 1e-5)
    assert found["fastest"]["2"]["ways"][0] in rows


def test_files_for_other_runtimes_are_measured_and_int8_is_calibrated(vitral, trained, tmp_path, monkeypatch):
    measure_in_process(monkeypatch)
    paint(tmp_path / "photos", {"dark": 60, "light": 190}, count=32)
    words = ("--ways", "eager", "onnx", "onnx-int8", "--images", "photos", "--batches", 1, "--seconds", 0.1)
    found = vitral("bench", trained.folder, *words, "--json").done().json
    assert [one["precision"] for one in found["ways"]] == ["float32", "float32", "int8"]
    _, onnx, int8 = (one["agreement"] for one in found["ways"])
    assert onnx["largest"] < 1e-5 < int8["largest"] and onnx["same"] == 32


def test_openvino_is_measured_in_three_precisions(vitral, trained, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    measure_in_process(monkeypatch)
    paint(tmp_path / "photos", {"dark": 60, "light": 190}, count=32)
    words = ("--ways", "openvino", "openvino-bf16", "openvino-int8", "--images", "photos", "--batches", 1)
    found = vitral("bench", trained.folder, *words, *QUICKLY, "--json").done().json
    assert found["ways"][0]["agreement"]["largest"] < 1e-4
    assert {one["precision"] for one in found["ways"]} >= {"float32", "int8"}


def test_a_compiled_model_is_measured(vitral, trained, monkeypatch):
    """With the compiler replaced: what it makes is tested elsewhere."""
    measure_in_process(monkeypatch)
    monkeypatch.setattr("vitral.exporting.speed.ways.compiled.compiles", lambda device: True)
    monkeypatch.setattr("torch.compile", lambda model: model)
    found = vitral("bench", trained.folder, "--ways", "compiled", "--batches", 1, "--seconds", 0.1, "--json").done()
    assert [one["way"] for one in found.json["ways"]] == ["compiled"]


def test_an_exported_model_is_compared_with_nothing(vitral, trained, tmp_path, monkeypatch):
    measure_in_process(monkeypatch)
    folder = exported_folder(trained, tmp_path, monkeypatch)
    answer = vitral("bench", folder, "--batches", 1, 2, *QUICKLY, "--json").done()
    (one,) = answer.json["ways"]
    assert (one["way"], one["runs_in"], one["agreement"]) == ("exported", "ONNX Runtime", None)
    assert "nothing to compare with" in answer.json["unavailable"][0]["reason"]
    assert "eager" in answer.json["unavailable"][0]["way"] and "only exported was measured" in answer.json["advice"]
    vitral("bench", folder, "--ways", "eager").refused(2, "runs in one way")
    with pytest.raises(UsageError, match="from its files"):
        library.bench(library.load(folder))


FAILING = (
    QUICK
    + """

import os, signal


class Picky(Quick):
    def __init__(self, num_classes=3):
        super().__init__(num_classes)

    def forward(self, images):
        if len(images) == 5:
            raise RuntimeError("five is too many\\nand so on")
        if len(images) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)
"""
)


def test_a_way_that_fails_or_dies_says_so(vitral, tmp_path, monkeypatch):
    (tmp_path / "picky.py").write_text(FAILING)
    words = ("bench", "picky.py:Picky", "--ways", "eager", *QUICKLY)
    vitral(*words, "--batches", 6).refused(1, "No way", "eager: the system ended its process", "memory ran out")
    measure_in_process(monkeypatch)
    vitral(*words, "--batches", 5).refused(1, "No way", "eager: five is too many.")


def test_weights_that_a_constructor_draws_are_the_same_for_all_ways(vitral, tmp_path, monkeypatch):
    measure_in_process(monkeypatch)
    (tmp_path / "picky.py").write_text(FAILING)
    words = ("--ways", "eager", "packed", "--batches", 1)
    found = vitral("bench", "picky.py:Picky", *words, *QUICKLY, "--json").done().json
    assert all(one["agreement"]["largest"] < 1e-5 for one in found["ways"])


def test_a_module_is_measured_and_left_as_it_is(monkeypatch):
    measure_in_process(monkeypatch)
    model = with_record(tiny_vit())
    model.train()
    found = library.bench(model, ways=["eager"], batches=[1], seconds=0.1, threads=1)
    assert found.measured[0].agreement.largest == 0 and model.training
    model.hook = lambda: None
    with pytest.raises(UsageError, match="cannot be pickled"):
        library.bench(model, ways=["eager"], batches=[1], seconds=0.1, threads=1)


def test_a_way_with_other_answers_is_not_recommended():
    eager, packed = (find_ways()[name] for name in ("eager", "packed"))
    record = ModelRecord(("a", "b"), Preprocessing(size=(8, 8)))
    own = np.array([[1.0, 0.0], [0.01, 0.0], [3.0, 0.0]])
    near, wrong = own * [[1], [-1], [1]], own * -1
    agreements = [answers_agree(own, other, record) for other in (own, near, wrong)]
    assert [(one.same, one.near) for one in agreements] == [(3, 3), (2, 3), (0, 1)]
    times = Timing(1, 1, (2.0,) * 6, (2.0,) * 6, None), Timing(1, 1, (1.0,) * 6, (1.0,) * 6, None)
    for agreement, advice in (
        (agreements[1], "At batch 1 take packed: 2.00 times as fast as the next"),
        (agreements[2], "At batch 1 only eager was measured. Left out, since its answers differ: packed"),
    ):
        measured = Measured(eager, times[:1], agreements[0]), Measured(packed, times[1:], agreement)
        assert advice in BenchResult(measured, (), "cpu", 1, 3, "here").advice


@pytest.mark.parametrize(
    ("task", "classes", "shape"),
    [
        ("several classes", 3, (4, 3)),
        ("numbers", 3, (4, 3)),
        ("segmentation", 3, (4, 3, 5, 6)),
        ("one class", 0, (4, 7)),
    ],
)
def test_answers_of_every_task_are_compared(task, classes, shape):
    record = ModelRecord(tuple("abc"[:classes]), Preprocessing(size=(8, 8)), task)
    own = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    same = answers_agree(own, own + 1e-6, record)
    assert same.is_enough and same.same == 4 and same.largest < 1e-4
    other = answers_agree(own, -own, record)
    assert not other.is_enough and other.same < 4 and other.largest > 0.1


def test_on_a_gpu_what_runs_on_the_processor_only_says_so():
    reasons = {name: way.why_not(Conditions("cuda")) for name, way in find_ways().items() if "eager" not in name}
    assert "runs on the CPU only: --device cpu" in reasons["packed"] and "CPU only" in reasons["openvino-bf16"]
    assert not reasons["compiled"]


def test_the_code_of_the_guide_runs(vitral, isolated, tmp_path):
    paint(tmp_path / "photos", {"dark": 60, "light": 190})
    words = ("--model", "vit_nano_patch4_32", "--img-size", 32, "--epochs", 1, "--batch-size", 16)
    vitral("train", "--data", "photos", *words).done()
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    eager, packed, advice, shape = done.stdout.splitlines()
    assert eager.startswith("eager ") and packed.startswith("packed ") and advice.startswith("At batch 8 ")
    assert shape == "torch.Size([1, 2])"


def test_the_guide_names_every_way():
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`([\w-]+)`", row)] == list(find_ways())
