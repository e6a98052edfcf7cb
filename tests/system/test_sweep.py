"""`vitral sweep`: one run per learning rate, with the same settings and splits, compared by validation images."""

import json
import signal

import numpy as np
import pytest

from vitral.base.errors import ConfigError, TrainingError, UsageError
from vitral.base.launch import NAMES
from vitral.tasks import sweep as task
from vitral.tasks.sweep import Rate, SweepResult, sweep

RATES = (0.0002, 0.02)


def test_a_sweep_that_was_stopped_is_continued(terminal, quick_run, tmp_path):
    """The first run is stopped in its middle; the same command gives what a sweep without a stop gives."""
    words = ("sweep", "base", "--lr", *RATES, "--epochs", 300)
    whole = terminal(*words, "--out", "whole", "--json").done().json
    begun = tmp_path / "cut" / f"lr-{RATES[0]:g}" / "metrics.jsonl"
    stopped = terminal.stopped(*words, "--out", "cut", when=begun.exists, by=signal.SIGTERM)
    assert stopped.code == 128 + signal.SIGTERM and "The same command continues." in stopped.messages
    again = terminal(*words, "--out", "cut", "--json").done()
    assert [one["value"] for one in again.json["rates"]] == [one["value"] for one in whole["rates"]]
    assert [one["loss"] for one in again.json["rates"]] == [one["loss"] for one in whole["rates"]]
    third = terminal(*words, "--out", "cut").done()
    assert third.messages.count("is trained already") == 2 and "step" not in third.messages


def test_a_rate_that_diverges_is_a_row_of_the_table(quick_run, tmp_path, monkeypatch):
    def diverging(recipe, place, cache, stop, progress):
        if recipe.lr == RATES[1]:
            raise TrainingError("The loss is nan at step 1.")
        return once(recipe, place, cache, stop, progress)

    once = task.train_once
    monkeypatch.setattr(task, "train_once", diverging)
    monkeypatch.chdir(tmp_path)
    found = sweep("base", RATES)
    assert found.best is not None and found.best.lr == RATES[0]
    assert "The loss is nan at step 1." in found.lines()[2]
    assert json.loads(json.dumps(found.to_json()))["rates"][1]["failure"].startswith("The loss is nan")


def test_what_is_refused(vitral, quick_run, tmp_path, monkeypatch):
    vitral("sweep", "nowhere").refused(1, "nowhere is not a run folder: it has no config.yaml")
    vitral("sweep", "base", "--lr", 0.1, 20).refused(2, "lr=20.0 is out of range")
    assert not (tmp_path / "base-lr").exists()
    vitral("sweep", "base", "--lr", 0.01, "--out", "once").done()
    vitral("sweep", "base", "--lr", 0.01, "--epochs", 1, "--out", "once").failed(
        1, "holds a run with other settings: epochs"
    )
    for name, value in zip(NAMES, ("0", "2", "0", "127.0.0.1", "29500")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="A sweep runs in one process"):
        sweep("base")


def test_a_linear_probe_has_no_rate(quick_run, tmp_path):
    settings = (
        (quick_run.folder / "config.yaml")
        .read_text()
        .replace("epochs: 2", "epochs: 0")
        .replace("init: null", "init: x")
    )
    (tmp_path / "probe.yaml").write_text(settings)
    with pytest.raises(ConfigError, match="is a linear probe"):
        sweep(tmp_path / "probe.yaml")


class Judged:
    """Figures of images of which a share is right."""

    loss, note = 1.0, ""

    def __init__(self, right):
        self.right = right
        self.value = float(right.mean())
        self.score, self.interval = (self.value, 0.0), (self.value, self.value)

    def value_on(self, chosen):
        return float(self.right[chosen].mean())


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.5, 0.52, 0.9), "more than the noise of ±0.0"),
        ((0.5, 0.52, 0.9), "It is the largest that was tried"),
        ((0.9, 0.5, 0.52), "It is the smallest that was tried"),
        ((0.5, 0.51, 0.5), "which is within the noise of"),
    ],
)
def test_the_verdict_says_what_the_images_show(shares, words, tmp_path):
    rates = tuple(
        Rate(lr, tmp_path, Judged(np.random.default_rng(number).permutation(200) < 200 * share))
        for number, (lr, share) in enumerate(zip((1.0, 2.0, 3.0), shares))
    )
    assert words in SweepResult(rates, "accuracy", 200).lines()[-1]
