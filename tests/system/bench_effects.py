"""The effect of each option of `vitral bench`."""

import torch
from effects import effect
from in_process import InProcess

from shell import OWN, paint

QUICKLY = ("--seconds", 0.1, "--threads", 1)


def measure_in_process(monkeypatch):
    monkeypatch.setattr("vitral.exporting.speed.rounds.WayProcess", InProcess)


@effect("bench", "model")
@effect("bench", "ways")
@effect("bench", "batches")
@effect("bench", "threads")
@effect("bench", "images")
@effect("bench", "json")
def ways_batches_threads_and_images_are_those_that_were_specified(vitral, trained, tmp_path, monkeypatch):
    measure_in_process(monkeypatch)
    paint(tmp_path / "photos", {"dark": 60, "light": 190}, count=3)
    words = ("--ways", "packed", "eager", "--batches", 3, 1, "--images", "photos", "--json")
    found = vitral("bench", trained.folder, *words, *QUICKLY).done().json
    assert [one["way"] for one in found["ways"]] == ["eager", "packed"] and not found["unavailable"]
    for one in found["ways"]:
        assert [timing["batch"] for timing in one["timings"]] == [1, 3]
        assert all(timing["threads"] == 1 and timing["rounds"] >= 6 for timing in one["timings"])
        assert one["agreement"]["images"] == one["agreement"]["same"] == 3 and one["agreement"]["largest"] < 1e-5
    assert found["images_from"] == "photos: 3 of 6, drawn at random"
    vitral("bench", "nowhere").refused(2, "There is no run 'nowhere'")
    vitral("bench", trained.folder, "--ways", "eagre").refused(2, "Did you mean 'eager'?", "packed-bf16")
    vitral("bench", trained.folder, "--batches", 2, 2).refused(2, "batches must be different numbers")
    (tmp_path / "empty").mkdir()
    vitral("bench", trained.folder, "--images", "empty").refused(2, "There are no images in empty")


@effect("bench", "seconds")
def more_seconds_take_more_passes(vitral, trained, monkeypatch):
    measure_in_process(monkeypatch)
    passes = []
    for seconds in (0.1, 2):
        words = ("--ways", "eager", "--batches", 1, "--threads", 1, "--seconds", seconds, "--json")
        (one,) = vitral("bench", trained.folder, *words).done().json["ways"]
        passes.append(one["timings"][0]["passes"])
    assert passes[1] > passes[0]


@effect("bench", "device")
def the_device_is_that_or_refused(vitral, trained, monkeypatch):
    measure_in_process(monkeypatch)
    words = ("bench", trained.folder, "--ways", "eager", "--batches", 1, *QUICKLY)
    assert vitral(*words, "--device", "cpu", "--json").done().json["device"] == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    vitral(*words, "--device", "cuda").refused(2, "PyTorch finds no GPU here")


@effect("bench", "code")
def code_builds_a_run_of_the_readers_own_model(vitral, photos, tmp_path, monkeypatch):
    measure_in_process(monkeypatch)
    (tmp_path / "own.py").write_text(OWN)
    words = ("--model", "own.py:Mine", "--img-size", 16, "--epochs", 1, "--batch-size", 8, "--out", "run")
    vitral("train", "--data", "photos", *words).done()
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    words = ("bench", "run", "--ways", "eager", "--batches", 1, *QUICKLY)
    vitral(*words).refused(1, "is missing or has changed since")
    vitral(*words, "--code", "moved.py:Mine").done()
