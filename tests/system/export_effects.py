"""The effect of each option of `vitral export`."""

import json

import numpy as np
import pytest
from effects import effect

import vitral as library
from shell import OWN, paint
from vitral.tasks import export as task


def some_images():
    """Two, where the whole zoo is not what a test is about."""
    for height, width in ((17, 33), (40, 16)):
        yield f"{height} x {width}", np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def exported_folder(trained, folder, monkeypatch, **options):
    """What was exported of a trained run."""
    monkeypatch.setattr(task, "odd_images", some_images)
    library.export(trained.folder, folder / "exported", **options)
    return folder / "exported"


@effect("export", "model")
@effect("export", "out")
@effect("export", "images")
@effect("export", "json")
def a_model_is_written_and_compared_on_images(vitral, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "odd_images", some_images)
    paint(tmp_path / "photos", {"dark": 60, "light": 190}, count=2)
    found = vitral("export", trained.folder, "out", "--images", "photos", "--json").done().json
    assert found["agreement"]["images"] == 2 + 4 and found["agreement"]["levels"] <= 1.01
    card = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert card["classes"] == json.loads((trained.folder / "model.json").read_text())["classes"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*card["files"], "artifact.json"])
    (tmp_path / "empty").mkdir()
    vitral("export", trained.folder, "other", "--images", "empty").refused(2, "There are no images in empty")


@effect("export", "to")
@effect("export", "precision")
def files_for_openvino_compute_in_bf16(vitral, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "odd_images", some_images)
    words = ("export", trained.folder, "out", "--maps", "--precision", "bf16")
    vitral(*words).refused(2, "ONNX Runtime does not compute in bf16 on a CPU. Specify --to openvino")
    answer, precision = vitral(*words, "--to", "openvino", "--json"), "bf16"
    if answer.code:  # this CPU cannot
        answer.refused(2, "does not compute in bf16", "--precision fp32 or int8")
        answer, precision = vitral(*words[:-1], "fp32", "--to", "openvino", "--json"), "fp32"
    card = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert card["precision"] == precision
    paint(tmp_path, {"photos": 60}, count=1)
    vitral("explain", "out", "photos/0.png", "--method", "attention", "--orders", 0).done()
    assert {"model.xml", "model.bin"} < {path.name for path in (tmp_path / "out").iterdir()}
    hint = {"bf16": "bf16", "fp32": "f32"}[card["precision"]]
    assert card["settings"]["model"] == {"INFERENCE_PRECISION_HINT": hint}
    assert card["settings"]["preprocess"] == card["settings"]["whole"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert answer.done().json["needs"] == card["needs"] and "INFERENCE_PRECISION_HINT" in card["needs"]


@effect("export", "calibrate")
@effect("export", "min_agreement")
def int8_is_calibrated_and_judged_on_images_of_a_folder(vitral, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "odd_images", some_images)
    classes = json.loads((trained.folder / "model.json").read_text())["classes"]
    paint(tmp_path / "photos", {classes[0]: 60, classes[1]: 190}, count=33)
    words = ("export", trained.folder, "out", "--precision", "int8", "--calibrate", "photos")
    answer = vitral(*words, "--min-agreement", 0.5, "--json").done()
    found = answer.json["quantisation"]
    assert found["calibration"] == {"source": "photos", "calibrating": 33, "judging": 33}
    assert found["min_agreement"] == 0.5 <= found["agreement"] and found["errors"] and found["float_layers"]
    said = " ".join(answer.err.split())
    assert "expected calibration error" in said and "stayed in float" in said
    assert json.loads((tmp_path / "out" / "artifact.json").read_text())["quantisation"] == found
    vitral(*words, "--min-agreement", 1.5).refused(2, "a share above 0, up to 1; found 1.5")
    vitral(*words[:3], "--calibrate", "photos").refused(2, "--calibrate is for --precision int8")


@effect("export", "maps")
def maps_are_given_and_explained(vitral, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "odd_images", some_images)
    answer = vitral("export", trained.folder, "out", "--maps", "--json").done()
    assert "rows of attention differ from those of the model by" in answer.messages
    assert answer.json["maps"]["rows"] <= 1e-5 and answer.json["maps"]["residual"] <= 1e-5
    paint(tmp_path, {"photos": 60}, count=1)
    words = ("photos/0.png", "--method", "attention", "rollout", "--orders", 0, "--json")
    own, given = (vitral("explain", model, *words).done() for model in (trained.folder, "out"))
    assert np.load(given.json["explained"][0]["numbers"])["values"] == pytest.approx(
        np.load(own.json["explained"][0]["numbers"])["values"], abs=1e-3
    )
    assert "Checked: rows · v reproduces the output of the attention layers to" in given.messages
    assert "one row of attention per layer (here that of CLS)" in given.json["refused"]["rollout"]
    vitral("explain", "out", "photos/0.png", "--query", "3").refused(2, "Use the model that it was exported from")
    vitral("explain", "out", "photos/0.png", "--diagnose").refused(2, "is an exported model")
    # Files that were written before there were maps say nothing of them.
    card = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert card.pop("maps")["layers"][0]["reader"] == "CLS"
    (tmp_path / "out" / "artifact.json").write_text(json.dumps(card))
    vitral("explain", "out", "photos/0.png").refused(1, "was exported without its rows of attention", "--maps")


@effect("export", "code")
def code_builds_a_run_of_the_readers_own_model(vitral, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "odd_images", some_images)
    (tmp_path / "own.py").write_text(OWN)
    words = ("--model", "own.py:Mine", "--img-size", 16, "--epochs", 1, "--batch-size", 8, "--out", "run")
    vitral("train", "--data", "photos", *words).done()
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    vitral("export", "run", "out").refused(1, "is missing or has changed since")
    vitral("export", "run", "out", "--code", "moved.py:Mine").done()
