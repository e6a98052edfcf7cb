"""`vitral train --init RUN --adapt ...`: what each way changes and saves, how `auto` decides, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from test_resume import equal, state, untimed

import vitral as library
from shell import Trained, paint
from vitral.base.numerics import choose
from vitral.tasks.prepare import prepare
from vitral.tasks.progress import Progress
from vitral.training.adapt import adapt
from vitral.training.fit import Evaluation, fit
from vitral.training.recipe import Recipe
from vitral.training.run import Run

DATA = "shades"
WORDS = ("train", "--data", DATA, "--epochs", 4, "--batch-size", 14, "--init", "start")  # 12 steps
LINEAR = (".attn.qkv.weight", ".attn.proj.weight", ".mlp.fc1.weight", ".mlp.fc2.weight")


@pytest.fixture
def start(trained, tmp_path):
    """A trained run to start from, beside a folder of 60 pictures in four classes that are not easy to tell apart."""
    paint(tmp_path / DATA, {"black": 60, "dark": 80, "light": 100, "white": 120}, count=15)
    return trained.copy(tmp_path / "start")


def stopping_after(steps):
    """Stops a run after so many steps."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= steps


def test_a_lora_run_saves_a_plain_model_with_its_updates_merged(start, monkeypatch):
    """Its outputs are those of the model that was trained, and each layer changed by a product of this rank."""
    monkeypatch.chdir(start.folder.parent)
    recipe = Recipe(data=DATA, init="start", adapt="lora", lora_rank=2, epochs=1, batch_size=42, lr=0.01, warmup=0)
    model, data = prepare(recipe, Progress())
    torch.nn.init.normal_(model.head.weight)  # a new head of zeros would let no gradient through
    before = {name: values.clone() for name, values in model.state_dict().items()}
    adapt(model, recipe)
    run = Run.new(Path("run"), recipe)
    saved = [
        event.step
        for event in fit(model, data, recipe, choose("float32", "never", 64, 0.0), run)
        if isinstance(event, Evaluation) and event.best
    ]
    plain = library.load("run")
    assert saved == [1] and plain.state_dict().keys() == before.keys()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), model.eval()(images), atol=1e-5, rtol=1e-5)
    moved = {name for name, values in plain.state_dict().items() if not torch.equal(values, before[name])}
    assert {name for name in moved if not name.startswith("head.")} == {
        name for name in before if name.endswith(LINEAR)
    }
    for name in moved - {"head.weight", "head.bias"}:
        assert torch.linalg.matrix_rank(plain.state_dict()[name] - before[name], atol=1e-5) <= 2, name


@pytest.mark.parametrize("way", ["lora", "auto"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit_without_its_start(start, way, monkeypatch):
    home = start.folder.parent
    monkeypatch.chdir(home)
    monkeypatch.setattr("vitral.tasks.choose_adaptation.choose_way", lambda found, n: ("full", "full: by this test"))
    settings = dict(data=DATA, epochs=4, batch_size=14, init=str(start.folder), adapt=way, optimizer="adamw", lr=0.001)
    library.train(**settings, out=home / "whole")
    stopped = library.train(**settings, out=home / "run", stop=stopping_after(5))
    assert stopped.stopped and Trained(home / "run").last_checkpoint.name == "step-000005"
    shutil.rmtree(start.folder)
    assert library.train(resume=home / "run").steps == 12
    run, whole = Trained(home / "run"), Trained(home / "whole")
    for file in ("model.safetensors", "config.yaml", f"checkpoints/{run.last_checkpoint.name}/weights.safetensors"):
        assert (run.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file
    assert equal(state(run), state(whole)) and untimed(run) == untimed(whole)


def test_auto_is_the_run_that_it_chose_and_says_why(vitral, start):
    answers = [vitral(*WORDS, "--adapt", "auto", "--out", out).done() for out in ("one", "two")]
    runs = [Trained(start.folder.parent / out) for out in ("one", "two")]
    chosen = yaml.safe_load((runs[0].folder / "config.yaml").read_text())["adapt"]
    assert chosen in ("probe", "lora", "full")
    for answer in answers:
        assert "accuracy on 8 validation images: probe " in answer.messages
        assert "lora " in answer.messages and "after 3 steps" in answer.messages
        assert f"--adapt auto chose {chosen}: " in answer.messages and "±" in answer.messages
    vitral(*WORDS, "--adapt", chosen, "--out", "three").done()
    other = Trained(start.folder.parent / "three")
    for run in runs:
        assert (run.folder / "model.safetensors").read_bytes() == (other.folder / "model.safetensors").read_bytes()
        assert untimed(run) == untimed(other)
        assert (run.folder / "config.yaml").read_text() == (other.folder / "config.yaml").read_text()


def test_the_trials_of_auto_are_part_of_the_minutes(vitral, start):
    words = (*WORDS[:3], *WORDS[5:], "--adapt", "auto", "--out", "run")
    answer = vitral(*words, "--minutes", 0.6, "--lr", 0.004).done()
    settings = yaml.safe_load((start.folder.parent / "run" / "config.yaml").read_text())
    assert settings["minutes"] is None and settings["adapt"] in ("probe", "lora", "full")
    left = [line for line in answer.messages.split("--minutes ") if line[0].isdigit()]
    if settings["adapt"] == "probe":
        assert not left and settings["epochs"] == 0
    else:
        assert float(left[-1].split(":")[0]) < 0.6 and settings["epochs"] > 0
    message = "--minutes 0.01 is too short"
    vitral(*words[:-1], "other", "--minutes", 0.01).failed(2, message)


@pytest.mark.parametrize("way", ["lora", "auto", "probe"])
def test_segmentation_numbers_and_several_classes_are_adapted(vitral, start, colours, greys, way):
    scenes = ("--data", "scenes:size=16,n=32,held_out=8", "--epochs", 2, "--batch-size", 8)
    tables = ("--epochs", 2, "--augment", "none", "--img-size", 16, "--batch-size", 32)
    for name, words in {
        "mIoU": scenes,
        "mAP": ("--data", "colours", *tables),
        "R2": ("--data", "greys", *tables),
    }.items():
        answer = vitral("train", *words, "--init", "start", "--adapt", way, "--out", name, "--json").done()
        assert name in answer.json["figures"] or name == "R2"
        run = Trained(start.folder.parent / name)
        assert not any("lora" in key for key in run.weights)
        assert "--adapt auto chose" in answer.messages or way != "auto"
        if way == "lora":
            last = load_file(run.last_checkpoint / "weights.safetensors")
            assert any(values.any() for key, values in last.items() if key.endswith(".lora_b"))
            fixed = {key for key in last if key.endswith((*LINEAR, "norm1.weight", "cls_token"))}
            prefix = "encoder." if name == "mIoU" else ""
            own = {key for key in fixed if key.startswith(prefix) and key.removeprefix(prefix) in start.weights}
            assert own and all(np.array_equal(last[key], start.weights[key.removeprefix(prefix)]) for key in own)
        # What is fine-tuned again starts from the merged weights.
        again = ("train", *words, "--init", name, "--adapt", "lora", "--out", f"{name}2")
        vitral(*again).done()


def test_what_cannot_be_adapted_is_refused(vitral, start):
    for way in ("lora", "auto", "probe"):
        words = ("train", "--data", DATA, "--adapt", way)
        vitral(*words).refused(2, f"--adapt {way} adapts a trained model: name the run or checkpoint")
    for way in ("lora", "auto"):
        words = (*WORDS[:3], "--init", "start", "--epochs", 0, "--adapt", way)
        vitral(*words).refused(2, f"--adapt {way} takes training steps, and --epochs 0 takes none: use --adapt probe")
    vitral(*WORDS, "--adapt", "lorra").refused(2, "lora")
    vitral(*WORDS, "--adapt", "lora", "--lora-rank", 0).refused(2, "1")
    assert not (start.folder.parent / "runs").exists()


def test_a_model_of_convolutions_is_not_adapted_by_lora_but_by_auto(vitral, tmp_path):
    paint(tmp_path / DATA, {"black": 60, "white": 120}, count=15)
    words = ("train", "--data", DATA, "--epochs", 1, "--batch-size", 16, "--img-size", 16)
    vitral(*words, "--model", "resnet_nano_48", "--out", "start").done()
    own = (*words, "--init", "start", "--adapt")
    vitral(*own, "lora").failed(2, "the blocks of this ResNet have none. Use --adapt full or --adapt probe.")
    answer = vitral(*own, "auto", "--out", "run").done()
    assert "--adapt auto leaves out lora: LoRA changes the linear layers" in answer.messages
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["adapt"] in ("probe", "full")


def test_a_run_whose_config_is_set_back_to_auto_is_not_resumed(vitral, start):
    vitral(*WORDS, "--adapt", "lora", "--out", "run").done()
    config = start.folder.parent / "run" / "config.yaml"
    config.write_text(config.read_text().replace("adapt: lora", "adapt: auto"))
    vitral("train", "--resume", "run").failed(1, "config.yaml has changed since the run started")
