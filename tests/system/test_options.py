"""Every option of every verb does what `--help` says: it is changed, and the result changes with it.

An option that has no effect here has no test, and fails: a new one is enrolled by existing.
"""

import csv
import dataclasses
import functools
import hashlib
import inspect
import json
import re
import shutil
from collections import Counter, defaultdict
from importlib import import_module
from pathlib import Path

import bench_effects  # noqa: F401 - enrols the options of `vitral bench`
import explore_effects  # noqa: F401 - enrols the options of `vitral explore`
import export_effects  # noqa: F401 - enrols the options of `vitral export`
import lab_effects  # noqa: F401 - enrols the options of `vitral lab`
import numpy as np
import pytest
import study_effects  # noqa: F401 - enrols the options of `vitral study`
import sweep_effects  # noqa: F401 - enrols the options of `vitral sweep`
import torch
import yaml
from effects import EFFECTS, effect
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

from segmenters import SEGMENTER, photograph
from shell import TINY, Trained, paint, tree
from tiny import tiny_vit
from vitral.base.lookup import names
from vitral.data.split_table import read_splits
from vitral.training.recipe import PRESETS

OPTIONS = [
    (verb, field.name)
    for verb in names("cli")
    for field in dataclasses.fields(import_module(f"vitral.cli.{verb}").Options)
]


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_every_option_has_a_test(verb, option):
    assert (verb, option) in EFFECTS, f"vitral {verb} --{option} has no test: add @effect({verb!r}, {option!r}) here."


def pytest_generate_tests(metafunc):
    """Each function of this file once, or once per verb if it takes one, with the options that it is about."""
    if metafunc.function is not test_an_option_does_what_it_says:
        return
    options = {}
    for (verb, option), shows in EFFECTS.items():
        case = shows, verb if "verb" in inspect.signature(shows).parameters else None
        options.setdefault(case, []).append(f"{verb}-{option}")
    metafunc.parametrize(("shows", "verb"), list(options), ids=[",".join(names) for names in options.values()])


def test_an_option_does_what_it_says(request, shows, verb):
    required = inspect.signature(shows).parameters
    shows(*(verb if name == "verb" else request.getfixturevalue(name) for name in required))


def test_no_test_is_of_an_option_that_is_gone():
    assert EFFECTS.keys() <= set(OPTIONS)


# train

QUICKLY = dict(data="photos", model="quick.py:Quick", img_size=8, batch_size=8, epochs=3, seed=3, precision="float32")


@pytest.fixture
def train(vitral, photos, quick, tmp_path):
    """Train with some options changed: `train(lr=0)`. What is not changed is small and quick."""
    count = iter(range(100))

    def run(**changes):
        folder = tmp_path / f"run{next(count)}"
        options = (QUICKLY | {"out": folder} | changes).items()
        given = [(f"--{name.replace('_', '-')}", value) for name, value in options if value is not None]
        words = [word for pair in given for word in pair]
        return Trained(changes.get("out", folder), vitral("train", *words).done())

    return run


def same(one, other):
    return all((one.weights[name] == values).all() for name, values in other.weights.items())


def size(weights):
    """The norm of the weight matrices."""
    return sum(float((values**2).sum()) for name, values in weights.items() if name.endswith("weight"))


@effect("train", "data")
def data_is_what_is_learned(train, tmp_path):
    paint(tmp_path / "birds", {"crow": 20, "gull": 120, "swan": 230})
    run = train(data="birds")
    assert run.card["classes"] == ["crow", "gull", "swan"]
    assert run.weights["head.weight"].shape[0] == 3


@effect("train", "model")
def model_is_what_is_trained(train):
    run = train(model="vit_nano_patch4_32", img_size=16)
    assert run.weights["patch_embed.proj.weight"].shape[1:] == (3, 4, 4)
    assert "cls_token" in run.weights and "cls_token" not in train().weights


@effect("train", "recipe")
def recipe_is_a_set_of_settings(train, vitral):
    """Those that are typed take precedence over it, and it over those of a folder."""
    config = yaml.safe_load((train(recipe="fast", epochs=1).folder / "config.yaml").read_text())
    assert (
        config["augment"] == "horizontal_flip+shift" and config["model"] == "quick.py:Quick" and config["epochs"] == 1
    )
    assert config["label_smoothing"] == 0.1 and config["ema"] == 0.999 and config["lr"] == 3e-3
    vitral("train", "--data", "photos", "--recipe", "quick").refused(2, "There is no recipe 'quick'", "fine-tune")
    vitral("train", "--data", "photos", "--recipe", "fine-tune").refused(2, "name the run or checkpoint with --init")


@effect("train", "epochs")
def epochs_are_passes_over_the_images(train):
    """16 images in batches of 8."""
    assert [train(epochs=epochs).steps for epochs in (0.5, 1, 5)] == [1, 2, 10]


@effect("train", "minutes")
def minutes_determine_the_epochs_once(train, vitral):
    run = train(minutes=0.25, epochs=None, model="vit_nano_patch4_32")
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["minutes"] is None and config["epochs"] > 0 and "--minutes 0.25: " in run.answer.messages
    assert run.metrics[-1]["seconds"] < 15
    vitral("train", "--data", "photos", "--minutes", 3, "--epochs", 3).refused(2, "leave out --epochs")
    vitral("train", "--data", "photos", "--minutes", 0.1).refused(2, "is too short: one step")


@effect("train", "yes")
def yes_agrees_to_hours(vitral, monkeypatch, photos):
    for name, value in (("LONG", 0.0), ("SHORT", 0.0)):  # an hour is long for a test
        monkeypatch.setattr(f"vitral.tasks.plan_run.{name}", value)
    monkeypatch.setattr("vitral.cli.train.at_terminal", lambda: True)
    monkeypatch.setitem(PRESETS, "folder", PRESETS["folder"] | {"epochs": 1})
    words = "train", "--data", "photos", "--model", "vit_nano_patch4_32", "--img-size", 16
    vitral(*words).refused(2, "the default, would take about", "--minutes 30", "--yes")
    assert "estimated time" in vitral(*words, "--yes").done().messages
    vitral(*words, "--epochs", 2).done()


@effect("train", "crop_mode")
def crop_mode_cuts_the_sides_off_or_keeps_them(train, vitral, tmp_path):
    """What tells the classes apart stands at the sides of wide images. It is kept with the run."""
    for name, colour in {"left": (255, 0, 0), "right": (0, 0, 255)}.items():
        (tmp_path / "wide" / name).mkdir(parents=True)
        for shade in range(24):
            pixels = np.full((8, 24, 3), 100 + shade, np.uint8)
            pixels[:, :8] = colour
            Image.fromarray(pixels).save(tmp_path / "wide" / name / f"{shade}.png")
    whole = train(data="wide", crop_mode="squash", epochs=30)
    assert whole.card["preprocessing"]["crop_mode"] == "squash"
    assert "test accuracy 100.0%" in whole.answer.printed
    assert not same(whole, cut := train(data="wide", crop_mode="center", epochs=30))
    assert cut.card["preprocessing"]["crop_mode"] == "center" and same(cut, train(data="wide", epochs=30))
    small = train(data="wide", model="vit_nano_patch8_48", crop_mode="squash", epochs=1)
    again = train(model=None, init=small.folder, data="wide", epochs=0)
    assert again.card["preprocessing"]["crop_mode"] == "squash"
    vitral("train", "--data", "shapes", "--crop-mode", "squash").refused(2, "applies to folders of images")


@effect("train", "batch_size")
def batch_size_is_the_images_of_a_step(train):
    runs = {size: train(batch_size=size) for size in (4, 16, 1000)}
    assert {size: run.steps for size, run in runs.items()} == {4: 12, 16: 3, 1000: 3}
    assert "12 steps of 4 images" in runs[4].answer.messages and "3 steps of 16 images" in runs[1000].answer.messages


@effect("train", "init")
def init_is_what_is_started_from(train, vitral, photos):
    """Its body and preprocessing, at another size; a head by a linear probe; and the run goes on like any other."""
    first = train(model="vit_nano_patch8_48", img_size=None, epochs=1)
    head = train(model=None, init=first.folder, img_size=24, epochs=0)
    assert head.card["preprocessing"]["size"] == [24, 24] and "positions of 6 x 6 patches" in head.answer.messages
    assert "linear probe" in head.answer.messages and head.card["provenance"]["resampling"] == "timm"
    assert all((head.weights[name] == first.weights[name]).all() for name in first.weights if name.startswith("blocks"))
    others = paint(photos.parent / "others", {"red": 9, "x": 250})
    again = train(model=None, init=first.folder, img_size=24, epochs=0, data=others)
    assert "linear probe: validation accuracy 100.0%" in again.answer.messages and again.card["classes"] == ["red", "x"]
    whole = train(model=None, init=first.folder, img_size=24, epochs=1)
    assert not same(whole, head) and whole.card["provenance"]["init"] == str(first.folder)
    vitral("train", "--init", first.folder, "--model", "vit_nano_patch8_48").refused(2, "leave out --model")


@effect("train", "layer_decay")
def layer_decay_slows_the_first_blocks(train):
    """How far the patch projection moves, against the head."""
    moved = {}
    for decay in (1, 0.1):
        still, run = (train(model="vit_nano_patch8_48", lr=lr, layer_decay=decay, weight_decay=0) for lr in (0, 1e-3))
        moved[decay] = {name: float(np.abs(run.weights[name] - still.weights[name]).sum()) for name in run.weights}
    assert moved[0.1]["patch_embed.proj.weight"] < 1e-3 * moved[1]["patch_embed.proj.weight"]
    assert moved[0.1]["head.weight"] > 0.1 * moved[1]["head.weight"]


@effect("train", "optimizer")
def optimizer_is_what_moves_the_weights(train):
    muon, adamw = train(optimizer="muon"), train(optimizer="adamw")
    assert not same(muon, adamw)
    assert len(optimizers(muon)) == 2 and len(optimizers(adamw)) == 1


def optimizers(run):
    return torch.load(run.last_checkpoint / "optimizers.pt", weights_only=True)["optimizers"]


@effect("train", "lr")
def lr_is_how_far_a_step_goes(train):
    still, slow, fast = (train(lr=lr, weight_decay=0) for lr in (0, 1e-4, 1e-2))
    assert same(still, train(lr=0, weight_decay=0, epochs=1))
    assert 0 < distance(slow, still) < distance(fast, still)


def distance(one, other):
    return sum(float(np.abs(one.weights[name] - values).sum()) for name, values in other.weights.items())


@effect("train", "weight_decay")
def weight_decay_makes_weights_smaller(train):
    none, much = (train(weight_decay=decay, lr=0.01, optimizer="adamw") for decay in (0, 10))
    assert size(much.weights) < 0.95 * size(none.weights)


@effect("train", "warmup")
def warmup_makes_the_first_steps_small(train):
    sudden, gentle = (train(warmup=warmup, epochs=0.5, batch_size=8) for warmup in (0, 0.9))
    still = train(lr=0, epochs=0.5)
    assert distance(gentle, still) < 0.8 * distance(sudden, still)
    assert gentle.metrics[0]["lr"] < sudden.metrics[0]["lr"]


@effect("train", "clip")
def clip_bounds_the_gradient(train):
    """AdamW divides by the gradient's size, so it is seen where that would grow from step to step."""
    free, tight = train(clip=1_000, optimizer="adamw", lr=0.1), train(clip=0.001, optimizer="adamw", lr=0.1)
    states = [optimizers(run)[0]["state"].values() for run in (free, tight)]
    moment = [sum(float(state["exp_avg"].norm() ** 2) for state in own) ** 0.5 for own in states]
    assert moment[1] <= 0.001 < moment[0]
    assert not same(free, tight)


@effect("train", "label_smoothing")
def label_smoothing_keeps_the_answers_unsure(train, vitral, photos):
    sure, unsure = (train(label_smoothing=smoothing, epochs=40, lr=0.01) for smoothing in (0, 0.9))
    likeliest = []
    for run in (sure, unsure):
        (found,) = vitral("predict", run.folder, photos / "dark" / "0.png", "--json").json["predictions"]
        likeliest.append(max(found["classes"].values()))
    assert likeliest[1] < 0.6 < 0.9 < likeliest[0]


SCENES = dict(data="scenes:size=16,n=16,held_out=8", model="resnet_nano_48", img_size=None)


@effect("train", "ema")
def ema_averages_the_weights(train):
    """A decay of nearly 1 keeps the first weights: at step t at most t / (9 + t) is kept."""
    last, averaged = train(lr=0.02), train(lr=0.02, ema=0.9)
    assert not same(last, averaged)
    assert (averaged.last_weights["head.weight"] == last.last_weights["head.weight"]).all()
    assert same(train(lr=0), train(lr=0, ema=0.9, weight_decay=0.2))


@effect("train", "accumulate")
def accumulate_computes_a_batch_in_parts(train):
    whole, parts = train(seed=4), train(seed=4, accumulate=4)
    for name, values in whole.last_weights.items():
        torch.testing.assert_close(parts.last_weights[name], values, rtol=1e-4, atol=1e-5)


@effect("train", "patience")
def patience_ends_a_run_without_progress(train, vitral):
    run = train(epochs=12, lr=0, patience=2)
    assert run.steps == 6  # the first evaluation is the best, and the next two are no better
    assert "ended at step 6 of 24: 2 evaluations without improvement" in run.answer.messages
    assert run.metrics[-1]["n"] and train(epochs=12, lr=0).steps == 24
    again = vitral("train", "--resume", run.folder).done()
    assert "had already finished" in again.messages
    longer = vitral("train", "--resume", run.folder, "--epochs", 16).done()
    assert "ended at step 10 of 32: 2 evaluations" in longer.messages  # it waits anew


@effect("train", "sampling")
def sampling_shows_each_class_equally_often(train, vitral, tmp_path):
    paint(tmp_path / "rare", {"dark": 60}, count=40)
    paint(tmp_path / "rare", {"light": 190}, count=10)
    all_images, balanced = (train(data="rare", sampling=how, lr=0.01) for how in ("all", "balanced"))
    assert all_images.steps == balanced.steps and not same(all_images, balanced)
    vitral("train", "--data", "scenes:n=64,size=16", "--sampling", "balanced").refused(2, "each class equally often")


@effect("train", "class_weights")
def class_weights_make_rare_classes_count(train, vitral, photos):
    """Most pixels are background: with balanced weights its logit rises less."""
    plain, balanced = (train(class_weights=weights, **SCENES) for weights in ("none", "balanced"))
    bias = [run.weights["decoder.head.bias"] for run in (plain, balanced)]
    assert bias[0].argmax() == 0 and bias[1][0] - bias[1].mean() < 0.5 * (bias[0][0] - bias[0].mean())
    paint(photos.parent / "rare", {"red": 0}, 80)
    rare = paint(photos.parent / "rare", {"blue": 160}, 8)
    plain, balanced = (
        train(data=rare, model="vit_nano_patch8_48", class_weights=weights) for weights in ("none", "balanced")
    )
    assert "always predicting it is right for 90" in plain.answer.messages and "Rare: blue" in plain.answer.messages
    bias = [run.weights["head.bias"] for run in (plain, balanced)]
    assert bias[1][0] > bias[0][0]  # blue
    rows = "".join(f"{path.relative_to(photos)},{0.5 + number}\n" for number, path in enumerate(photos.rglob("*.png")))
    (photos / "labels.csv").write_text(f"file_name,label\n{rows}")
    words = "train", "--data", f"{photos}:task=numbers", "--class-weights", "balanced"
    vitral(*words).refused(2, "weighs exclusive classes, of images or of pixels")


@effect("train", "duplicates")
def duplicates_are_reported_dropped_or_refused(train, vitral, photos):
    first = sorted((photos / "dark").iterdir())[0]
    for number in range(30):  # some of them are held out
        info = PngInfo()
        info.add_text("number", str(number))  # the same pixels in another file: the same file has one split
        Image.open(first).save(photos / "dark" / f"copy{number}.png", pnginfo=info)
    kept, dropped = (train(data=photos, duplicates=how) for how in ("keep", "drop"))
    assert "figures are too good" in kept.answer.messages and "--duplicates drop" in kept.answer.messages
    (tested, fewer) = (next(one for one in run.metrics if "test_accuracy" in one) for run in (kept, dropped))
    assert "were left out" in dropped.answer.messages and fewer["n"] < tested["n"]
    again = vitral("eval", dropped.folder, "--json").done().json  # the same images as in training
    assert (again["n"], again["accuracy"]) == (fewer["n"], fewer["test_accuracy"])
    vitral("train", "--data", photos, "--duplicates", "fail").refused(1, "Remove the copies")


def splits_of(run):
    return {row.path: row.split for row in read_splits(run.folder / "splits.csv")}


@effect("train", "val_split")
def val_split_is_how_many_images_validate(train):
    few, many = (Counter(splits_of(train(val_split=share)).values()) for share in (0.1, 0.5))
    assert (few["val"], many["val"]) == (2, 12) and few["test"] == many["test"] == 4


@effect("train", "test_split")
def test_split_may_be_none_and_then_the_validation_images_are_judged(train, vitral):
    run = train(test_split=0)
    assert Counter(splits_of(run).values()) == {"train": 20, "val": 4} and "no test images" in run.answer.messages
    assert run.answer.out.startswith("validation accuracy") and "n = 4" in run.answer.out
    assert not any("test_accuracy" in record for record in run.metrics)
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "validation images, by which the best model was chosen" in report and "test image" not in report
    vitral("eval", run.folder).refused(1, "has no test images", "--split")
    assert vitral("eval", run.folder, "--split", "val", "--json").done().json["n"] == 4
    vitral("train", "--data", "photos", "--val-split", 0.5, "--test-split", 0.5).refused(2, "leave no images")


@effect("train", "group_by")
def group_by_keeps_a_group_in_one_split(train, vitral, photos):
    for path in sorted(photos.rglob("*.png")):
        path.rename(path.with_name(f"patient{int(path.stem) // 3}-{path.name}"))
    run = train(group_by=r"(patient\d+)", epochs=1)
    found = defaultdict(set)
    for path, split in splits_of(run).items():
        found[path.split("/")[1].split("-")[0]].add(split)
    assert len(found) == 4 and all(len(each) == 1 for each in found.values())
    assert "24 of them are in 4 groups, each in one split" in run.answer.messages
    vitral("train", "--data", photos, "--group-by", "zebra").refused(1, "finds nothing in the paths of")
    vitral("train", "--data", photos, "--group-by", "(").refused(2, "is not a regular expression")


OWN = dict(model="vit_nano_patch4_32", img_size=16)


@effect("train", "splits")
def splits_keep_those_of_an_earlier_run_when_files_are_added(train, vitral, photos):
    first = train(epochs=1, **OWN)
    paint(photos / "more", {"dark": 60, "light": 190}, seed=1)
    for path in sorted((photos / "more").rglob("*.png")):
        path.rename(photos / path.parent.name / f"new{path.name}")
    shutil.rmtree(photos / "more")
    (photos / "dark" / "0.png").rename(photos / "dark" / "renamed.png")
    before = {path.replace("dark/0.png", "dark/renamed.png"): split for path, split in splits_of(first).items()}
    for table in (first.folder, first.folder / "splits.csv"):
        again = train(epochs=1, splits=table, seed=8, **OWN)
        assert "24 of them keep the split that they have in" in again.answer.messages
        assert before.items() <= splits_of(again).items() and len(splits_of(again)) == 48
    tuned = train(epochs=1, init=first.folder, seed=9, **OWN | {"model": None})
    assert before.items() <= splits_of(tuned).items()  # no image that tested the first run trains the second
    vitral("train", "--data", photos, "--splits", "nothing").refused(1, "There is no nothing")


@effect("train", "adapt")
def adapt_is_whether_the_encoder_is_trained(train, vitral):
    first = train(**SCENES)
    probe, full = (train(**SCENES | dict(model=None, init=first.folder, adapt=how)) for how in ("probe", "full"))
    moved = {
        run: {name for name in first.weights if not np.array_equal(first.weights[name], run.weights[name])}
        for run in (probe, full)
    }
    assert moved[probe] and all(name.startswith("decoder.") for name in moved[probe])  # nor do its batch norms move
    assert any(name.startswith("encoder.") for name in moved[full])
    classes = train(model="vit_nano_patch8_48", epochs=1)
    again = [dict(adapt="probe"), dict(epochs=0)]
    assert same(*(train(model=None, init=classes.folder, **one) for one in again))
    lora = train(model=None, init=classes.folder, adapt="lora")
    last, name = load_file(lora.last_checkpoint / "weights.safetensors"), "blocks.0.attn.qkv"
    assert np.array_equal(last[f"{name}.weight"].numpy(), classes.weights[f"{name}.weight"])
    assert last[f"{name}.lora_b"].any() and not any("lora" in key for key in lora.weights)
    chosen = train(model=None, init=classes.folder, adapt="auto")
    assert "--adapt auto chose " in chosen.answer.messages
    vitral("train", "--adapt", "probe").refused(2, "name the run or checkpoint with --init")


@effect("train", "lora_rank")
def lora_rank_is_the_rank_of_the_change_of_each_layer(train):
    first = train(model="vit_nano_patch8_48", epochs=1)
    for rank in (1, 3):
        run = train(model=None, init=first.folder, adapt="lora", lora_rank=rank)
        last = load_file(run.last_checkpoint / "weights.safetensors")
        assert {len(values) for name, values in last.items() if name.endswith("lora_a")} == {rank}


@effect("train", "dice")
def dice_adds_the_loss_of_overlap(train, vitral, photos):
    runs = {dice: train(dice=dice, epochs=1, lr=0, **SCENES) for dice in (0, 1, 2)}
    first = [float(re.search(r"step +1/\S+ +loss (\S+)", runs[dice].answer.messages)[1]) for dice in (0, 1, 2)]
    # A new model gives all classes alike, so that Dice is below 1, and twice the weight adds twice as much.
    assert 0.5 < first[1] - first[0] < 1 and first[2] - first[1] == pytest.approx(first[1] - first[0], abs=2e-3)
    for option, value in (("dice", 1), ("decoder", "linear")):
        answer = vitral("train", "--data", photos, "--model", "vit_nano_patch8_48", f"--{option}", value)
        answer.refused(2, f"--{option} is for segmentation; the labels of {photos} are one class.")


@effect("train", "decoder")
def decoder_is_what_makes_masks_of_feature_maps(train, vitral):
    sizes = SCENES | dict(model="vit_nano_patch4_32", epochs=1)
    kinds = {}
    for name in (*names("nn.family.decoders"), "auto"):
        run = train(decoder=name, **sizes)
        kinds[name] = run.card["architecture"]["vit"]["decoder"].rpartition(":")[2]
    assert kinds == {
        "detail": "DetailDecoder", "linear": "LinearDecoder", "pyramid": "PyramidDecoder", "auto": "DetailDecoder",
    }  # fmt: skip
    auto = train(**SCENES | dict(epochs=1))
    assert auto.card["architecture"]["vit"]["decoder"].endswith(":PyramidDecoder")
    vitral("train", "--data", "scenes", "--decoder", "mask2former").refused(
        2, "'mask2former'", "detail, linear, pyramid"
    )


@effect("train", "augment")
def augment_changes_the_training_images(train, vitral):
    runs = [train(augment=name) for name in (*names("data.augmentation"), "crop+horizontal_flip")]
    assert all(not same(one, other) for place, one in enumerate(runs) for other in runs[:place])
    vitral("train", "--augment", "crop+flip").refused(2, "There is no augmentation 'flip'", "horizontal_flip")
    vitral("train", "--augment", "crop+none").refused(2, "none leaves the images unchanged")


@effect("train", "mix")
@effect("train", "mix_alpha")
def mix_mixes_images_and_labels_and_shows_no_accuracy_of_training(train, vitral, photos):
    plain = train()
    mixed = [train(mix=name, **more) for name in names("data.mixing") for more in ({}, {"mix_alpha": 3})]
    runs = plain, *mixed
    assert all(not same(one, other) for place, one in enumerate(runs) for other in runs[:place])
    for run, shown in ((plain, True), (mixed[0], False)):
        steps = [record for record in run.metrics if "train_loss" in record]
        assert steps and all(("train_accuracy" in record) == shown for record in steps)
        assert ("no training accuracy is shown" in run.answer.messages) != shown
    words = ("train", "--data", "scenes:size=16,n=16,held_out=8", "--epochs", 1)
    vitral(*words, "--mix", "cutmix").refused(2, "the labels of scenes:size=16,n=16,held_out=8 are masks")
    vitral(*words, "--mix", "mixed").refused(2, "There is no way to mix 'mixed'", "Did you mean 'mixup'?")
    vitral(*words, "--mix-alpha", 0.2).refused(2, "name the way with --mix")
    vitral("train", "--mix", "mixup", "--batch-size", 1).refused(2, "--batch-size must be at least 2")
    rows = "".join(f"{path.relative_to(photos)},{0.5 + number}\n" for number, path in enumerate(photos.rglob("*.png")))
    (photos / "labels.csv").write_text(f"file_name,label\n{rows}")
    vitral("train", "--data", f"{photos}:task=numbers", "--mix", "mixup").refused(2, "are numbers. Leave out --mix")
    start = ("train", "--data", "photos", "--init", mixed[0].folder, "--mix", "mixup")
    vitral(*start, "--adapt", "probe").refused(2, "a linear probe takes none")


@effect("train", "img_size")
def img_size_is_what_images_are_cut_to(train):
    run = train(img_size=24, model="vit_nano_patch8_48")
    assert run.card["preprocessing"]["size"] == [24, 24]
    assert run.weights["pos_embed"].shape[1] == 1 + 9
    assert train(img_size=None, model="vit_nano_patch8_48").card["preprocessing"]["size"] == [48, 48]


@effect("train", "precision")
def precision_is_what_is_computed_in(train):
    half, single = train(precision="bfloat16"), train(precision="float32")
    assert not same(half, single)
    assert "bfloat16, as requested" in half.answer.messages and "float32, as requested" in single.answer.messages
    assert all(values.dtype == np.float32 for values in half.weights.values())
    assert same(train(precision="auto"), single)  # this model is too narrow to gain


@effect("train", "compile")
def compile_runs_the_compiled_model(train, monkeypatch):
    """By a backend that needs no C++ compiler; the module answers differently where it is compiled."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled, plain, chosen = (train(compile=choice, model="quick.py:Traced") for choice in ("always", "never", "auto"))
    assert not same(compiled, plain) and same(chosen, plain)
    assert "; compiled" in compiled.answer.messages and "; not compiled" in plain.answer.messages
    torch.compiler.reset()


@effect("train", "seed")
def seed_draws_weights_order_and_augmentation(train):
    assert same(train(seed=1), train(seed=1))
    first, second = (train(seed=seed, lr=0, weight_decay=0) for seed in (1, 2))
    assert not same(first, second)
    assert first.contents["metrics.jsonl"] != second.contents["metrics.jsonl"]


@effect("train", "on_bad_image")
def on_bad_image_stops_or_skips(train, vitral, photos):
    (photos / "dark" / "0.png").write_bytes(b"damaged")
    assert "15 training images" in train(on_bad_image="skip").answer.messages
    words = ("train", "--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--on-bad-image", "fail")
    vitral(*words).refused(1, "dark/0.png")


@effect("train", "cache")
def cache_keeps_decoded_images_for_the_next_run(train, tmp_path, monkeypatch):
    first = train(cache=tmp_path / "kept")
    sets = {path: path.stat().st_size for path in (tmp_path / "kept").rglob("*.pixels")}
    assert len(sets) == 3 and sum(sets.values()) == 3 * 8 * 8 * 24
    assert f"16 decoded train images are kept in {tmp_path / 'kept' / 'pixels'} (3 kB)" in first.answer.messages
    second = train(cache=tmp_path / "kept")
    assert same(first, second) and "decoded" not in second.answer.messages
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VITRAL_CACHE")
    assert same(first, train(cache="none")) and not (tmp_path / "home").exists()
    train()
    assert len(list((tmp_path / "home" / "vitral").rglob("*.pixels"))) == 3


@effect("train", "out")
def out_is_where_the_run_goes(train, tmp_path):
    assert (train(out=tmp_path / "deep" / "here").folder / "report.html").is_file()
    assert "run: runs/photos-1" in train(out=None).answer.messages


@effect("train", "config")
def config_gives_the_settings_and_the_command_line_comes_first(train, vitral, tmp_path):
    run = train(lr=0.005, epochs=2)
    vitral("train", "--config", run.folder / "config.yaml", "--out", "again").done()
    assert same(Trained(tmp_path / "again"), run)
    vitral("train", "--config", run.folder / "config.yaml", "--out", "longer", "--epochs", 3).done()
    assert Trained(tmp_path / "longer").steps == 6 and not same(Trained(tmp_path / "longer"), run)


@effect("train", "resume")
def resume_goes_on_where_a_run_stopped(train, vitral, tmp_path):
    """The module asks for a stop once, after two steps; the rest of the law is in test_resume.py, with real signals.

    Here Python's own handler is called without one: a signal to a test process that had run thousands of tests ended it
    with a segmentation fault at the signal's delivery, on the stack that pytest sets aside for its report of crashes.
    """
    with (tmp_path / "quick.py").open("a") as file:
        file.write("""
class Once(Quick):
    def forward(self, images):
        import _thread, pathlib
        if self.training and not pathlib.Path("once").exists():
            pathlib.Path("once").touch()
            _thread.interrupt_main()
        return super().forward(images)
""")
    words = ("train", *TINY[:3], "quick.py:Once", *TINY[4:])
    assert vitral(*words, "--epochs", 3, "--out", "run").code == 130
    run = Trained(tmp_path / "run")
    assert run.last_checkpoint.name == "step-000001"
    assert vitral("train", "--resume", "run", "--json").done().json["steps"] == 6
    assert run.last_checkpoint.name == "step-000006"


@effect("train", "json")
@effect("eval", "json")
@effect("predict", "json")
@effect("embed", "json")
@effect("explain", "json")
@effect("models", "json")
@effect("convert", "json")
@effect("data", "json")
def json_is_the_last_line_and_only_if_asked_for(verb, vitral, photos, quick, trained):
    image = photos / "dark" / "0.png"
    words = {
        "train": ("--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--epochs", 1),
        "eval": (trained.folder,),
        "predict": (trained.folder, image),
        "embed": (trained.folder, image),
        "explain": (trained.folder, image, "--layer", 0, "--head", 0),
        "models": ("vit_nano*",),
        "convert": (trained.folder, "out"),
        "data": ("show", "shapes:n=8,size=16"),
    }[verb]
    with_json = vitral(verb, *words, "--json").done()
    if verb == "convert":
        shutil.rmtree("out")
    if verb == "embed":
        Path("features.npy").unlink()
        Path("features.npy.files.csv").unlink()
    without = vitral(verb, *words).done()
    assert isinstance(json.loads(with_json.out), dict) and len(with_json.out.splitlines()) == 1
    assert "{" not in without.out


# eval


@pytest.fixture
def run(train):
    """A short run on the photos."""
    return train()


@effect("eval", "model")
@effect("predict", "model")
@effect("explain", "model")
def model_is_the_run_that_answers(verb, vitral, trained, train, photos):
    other = train(model="vit_nano_patch4_32", img_size=16)
    image = photos / "dark" / "0.png"
    more = {"eval": (), "predict": (image, "--top", 1_000), "explain": (image, "--layer", 0)}[verb]
    for run, count in ((trained, 8), (other, 2)):
        for model in (run.folder, run.folder / "model.safetensors", run.folder / "model.json"):
            found = vitral(verb, model, *more, "--json").done().json
            if verb == "eval":
                assert len(found["confusion"]) == count
            elif verb == "predict":
                assert found["predictions"][0]["classes"].keys() == set(run.card["classes"])
            else:
                assert found["explained"][0]["class"] in run.card["classes"]


@effect("eval", "data")
def data_is_what_the_model_is_judged_by(vitral, run, tmp_path):
    paint(tmp_path / "more", {"dark": 60, "light": 190}, count=40, seed=1)
    assert vitral("eval", run.folder, "--json").done().json["n"] == 4
    answer = vitral("eval", run.folder, "--data", "more", "--json").done()
    assert (answer.json["data"], answer.json["n"]) == ("more", 80)  # all of it: none of it trained the model
    shutil.copytree(run.card["provenance"]["data"], "moved")
    own = vitral("eval", run.folder, "--data", "moved", "--json").done()
    assert own.json["n"] == 4 and "has seen 20 of 24 images: 16 to train and 4 to validate" in own.messages
    paint(tmp_path / "moved", {"dark": 60}, count=30, seed=2)  # over the dark ones
    assert vitral("eval", run.folder, "--data", "moved", "--json").done().json["n"] == 32
    copied = paint(tmp_path / "copied", {"dark": 60}, count=0)
    for row in read_splits(run.folder / "splits.csv"):
        if row.split != "test" and row.path.startswith("dark"):
            shutil.copy(Path(run.card["provenance"]["data"]) / row.path, copied / "dark")
    vitral("eval", run.folder, "--data", copied).refused(1, "has seen all", "that it has not seen")
    one = vitral("eval", run.folder, "--data", paint(tmp_path / "one", {"dark": 60}, 5, seed=1))
    assert "light            not tested" in one.done().out


@effect("eval", "split")
def split_is_which_images_judge(vitral, trained):
    test, val = (vitral("eval", trained.folder, "--split", split, "--json").done().json for split in ("test", "val"))
    assert (test["split"], val["split"]) == ("test", "val") and test["confusion"] != val["confusion"]
    best = [record for record in trained.metrics if record.get("best")][-1]
    assert val["accuracy"] == best["accuracy"]


@effect("eval", "on_bad_image")
def on_bad_image_stops_or_skips_in_judging(vitral, run, tmp_path):
    paint(tmp_path / "more", {"dark": 60, "light": 190}, count=40, seed=1)
    for path in (tmp_path / "more").rglob("1*.png"):
        path.write_bytes(b"damaged")
    vitral("eval", run.folder, "--data", "more").refused(1, "is not an image", "--on-bad-image skip")
    answer = vitral("eval", run.folder, "--data", "more", "--on-bad-image", "skip", "--json").done()
    assert answer.json["n"] == 58 and "could not be read and were left out" in answer.messages


@effect("eval", "code")
@effect("predict", "code")
@effect("explain", "code")
def code_is_where_the_readers_own_model_is_now(verb, vitral, photos, own, tmp_path):
    words = ("train", "--data", "photos", "--model", "own.py:Mine", "--img-size", 16, "--epochs", 1, "--out", "run")
    vitral(*words).done()
    own.rename(tmp_path / "moved.py")
    words = (verb, "run", *[photos / "dark" / "0.png"] * (verb != "eval"))
    vitral(*words).refused(1, "is missing or has changed since")
    vitral(*words, "--code", "moved.py:Mine").done()


def rows_of(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def unsure(train, tmp_path):
    """A run that validation images show to be right mostly, but not always."""
    paint(tmp_path / "greys", {"dark": 100, "light": 107}, count=400)
    return train(data="greys", epochs=8)


@effect("eval", "at_least")
@effect("predict", "at_least")
def at_least_leaves_unsure_answers_out(verb, vitral, unsure, trained):
    images = ("--csv", "out.csv") if verb == "eval" else ("greys", "--csv", "out.csv")
    answer = vitral(verb, unsure.folder, *images, "--at-least", 0.93, "--json").done()
    if verb == "eval":
        found = answer.json["at_least"]
        assert 0 < found["answered"] < 1 and found["accuracy"] > answer.json["accuracy"]
        assert "Here it answers" in answer.messages and found["validation"]["interval"][0] >= 0.93
    else:
        rows = rows_of("out.csv")
        assert answer.json["unknown"] == sum(row["class"] == "unknown" for row in rows)
        assert 0 < answer.json["unknown"] < answer.json["n"] and {row["likeliest"] for row in rows} == {"dark", "light"}
        sure = {row["class"] != "unknown": float(row["probability"]) for row in rows}
        assert sure[True] > sure[False]
        one, other = (row["image"] for row in (rows[0], rows[-1]))
        words = ("predict", unsure.folder, one, other, "--at-least", 0.93)
        first, last = vitral(*words, "--json").done().json["predictions"]
        assert (first["answer"], last["answer"]) == (rows[0]["class"], rows[-1]["class"])
        vitral(*words, "--tile").refused(2, "leave it out with --tile")
    more = () if verb == "eval" else ("greys",)
    vitral(verb, unsure.folder, *more, "--at-least", 0.999).refused(2, "do not show such an accuracy")
    vitral(verb, trained.folder, *more, "--at-least", 0.95).refused(2, "do not show such an accuracy")


@effect("eval", "csv")
def csv_gets_the_confusion_matrix(vitral, trained):
    answer = vitral("eval", trained.folder, "--csv", "matrix.csv", "--json").done()
    rows, classes = rows_of("matrix.csv"), trained.card["classes"]
    assert list(rows[0])[1:] == [row["true class \\ predicted class"] for row in rows] == classes
    assert [[int(row[name]) for name in classes] for row in rows] == answer.json["confusion"]
    assert (trained.folder / "confusion.csv").read_text() == Path("matrix.csv").read_text()
    vitral("eval", trained.folder, "--csv", "matrix.csv").refused(2, "exists and is not overwritten")


# embed


@effect("embed", "model")
@effect("embed", "out")
@effect("embed", "images")
def features_of_images_go_to_a_file(vitral, trained, train, photos):
    answer = vitral("embed", trained.folder, "photos/dark", photos / "light" / "3.png", "--out", "a.npy", "--json")
    found, features = answer.done().json, np.load("a.npy")
    assert features.shape == (13, found["features"]) and features.dtype == np.float32 and found["n"] == 13
    assert "the input of the head, 'head'" in found["what"] and "not all finite" not in answer.messages
    rows = rows_of("a.npy.files.csv")
    assert [row["row"] for row in rows] == list(map(str, range(13))) and rows[-1]["image"].endswith("light/3.png")
    other = train(model="vit_nano_patch4_32", img_size=16)
    vitral("embed", other.folder, "photos/dark", "--out", "b.npy").done()
    assert not np.allclose(np.load("b.npy"), features[:12])
    vitral("embed", other.folder, "photos/dark", "--out", "b.npy").refused(2, "b.npy exists and is not overwritten")
    vitral("embed", other.folder, "photos/dark", "--out", "b.csv").refused(2, "must end in .npy or .parquet")


@effect("embed", "on_bad_image")
def on_bad_image_stops_or_lists_a_picture(vitral, trained, photos):
    (photos / "dark" / "3.png").write_bytes(b"damaged")
    vitral("embed", trained.folder, "photos/dark").refused(1, "dark/3.png", "Rows so far are kept")
    answer = vitral("embed", trained.folder, "photos/dark", "--on-bad-image", "skip", "--json").done()
    assert list(answer.json["bad"]) == ["photos/dark/3.png"] and len(np.load("features.npy")) == 11
    assert "1 image could not be read" in answer.messages


@effect("embed", "code")
def code_is_where_the_embedding_model_is_now(vitral, photos, own, tmp_path):
    words = ("train", "--data", "photos", "--model", "own.py:Mine", "--img-size", 16, "--epochs", 1, "--out", "run")
    vitral(*words).done()
    own.rename(tmp_path / "moved.py")
    vitral("embed", "run", "photos").refused(1, "is missing or has changed since")
    vitral("embed", "run", "photos", "--code", "moved.py:Mine").done()


# predict and explain


@effect("predict", "images")
@effect("explain", "images")
def images_are_files_or_folders(verb, vitral, trained, photos, tmp_path):
    (tmp_path / "two").mkdir()
    images = [(photos / "light" / name).rename(tmp_path / "two" / name) for name in ("1.png", "2.png")]
    image, more = photos / "dark" / "3.png", ("--layer", 0, "--head", 0) if verb == "explain" else ()
    key = {"predict": "predictions", "explain": "explained"}[verb]
    (one,) = vitral(verb, trained.folder, image, *more, "--json").done().json[key]
    many = vitral(verb, trained.folder, tmp_path / "two", image, *more, "--json").done().json[key]
    assert [row["image"] for row in many] == [*map(str, images), str(image)]
    same = {"predict": "classes", "explain": "largest"}[verb]
    rounded = pytest.approx(one[same], rel=1e-5)  # kernels may add in another order in larger batches
    assert many[2][same] == rounded and many[0][same] != rounded


@effect("predict", "top")
def top_is_how_many_classes_are_named(vitral, trained, photos):
    image = photos / "dark" / "0.png"
    for top in (1, 5):
        found = vitral("predict", trained.folder, image, "--top", top, "--json").done().json["predictions"][0]
        chances = list(found["classes"].values())
        assert len(chances) == top and chances == sorted(chances, reverse=True)


@pytest.fixture
def segment(vitral, tmp_path):
    """Segment a scan of 80 x 100 pixels in tiles, with some options; the JSON."""
    (tmp_path / "own.py").write_text(SEGMENTER)
    Image.fromarray(photograph(80, 100)).save(tmp_path / "scan.tif")

    def run(*words):
        return vitral("predict", "own.py:Segmenter", "scan.tif", "--tile", *words, "--json").done().json

    return run


@effect("predict", "csv")
def csv_gets_a_row_for_each_image(vitral, run, photos, tmp_path):
    (photos / "dark" / "0.png").write_bytes(b"damaged")
    vitral("predict", run.folder, "photos", "--csv", "fail.csv").refused(1, "dark/0.png is not an image")
    answer = vitral("predict", run.folder, "photos", "--csv", "out.csv", "--on-bad-image", "skip", "--json").done()
    assert answer.json == {"csv": "out.csv", "n": 24, "new": 24, "bad": ["photos/dark/0.png"]}
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(path.relative_to(tmp_path)) for path in sorted(photos.rglob("*.png"))]
    assert {row["class"] for row in rows} <= {"", "dark", "light"} and "is not an image" in rows[0]["error"]
    vitral("predict", run.folder, "photos", "--csv", "out.csv").refused(2, "exists and is not overwritten")
    vitral("predict", run.folder, "photos", "--csv", "a.csv", "--top", 5).refused(
        2, "leave out --tile, --out and --top"
    )


@effect("predict", "tile")
def tile_writes_the_class_of_each_pixel_to_out(segment, tmp_path):
    found, named = segment(), segment("--out", "deep/classes.tif")
    assert (found["out"], named["out"]) == ("scan.classes.tif", "deep/classes.tif")
    assert found["size"] == [80, 100] and found["tiles"] == 1 and set(found["shares"]) == {"low", "middle", "high"}
    assert sheet("scan.classes.tif").tobytes() == sheet("deep/classes.tif").tobytes()


@effect("predict", "tile_size")
@effect("predict", "context")
def tile_size_and_context_are_those_of_the_tiles(segment):
    small = segment("--tile-size", 32, "--out", "small.tif")
    assert (small["tile"], small["context"], small["exact"]) == ([32, 32], 1, True)
    wide = segment("--tile-size", 32, "--context", 10, "--out", "wide.tif")
    assert (wide["context"], wide["exact"]) == (10, True) and wide["tiles"] > small["tiles"] > 1
    assert sheet("small.tif").tobytes() == sheet("wide.tif").tobytes()
    assert not segment("--tile-size", 32, "--context", 0, "--out", "none.tif")["exact"]


@effect("predict", "out")
def out_has_the_masks_of_images(vitral, train, trained, photos, tmp_path):
    run, image = train(epochs=1, **SCENES), photos / "dark" / "0.png"
    assert "add --out FOLDER" in vitral("predict", run.folder, image).done().messages
    answer = vitral("predict", run.folder, image, image, "--out", "masks", "--json").done()
    assert tree(tmp_path / "masks") == ["0.mask-2.png", "0.mask.png", "0.overlay-2.png", "0.overlay.png"]
    for one in answer.json["predictions"]:
        with Image.open(one["mask"]) as mask, Image.open(one["overlay"]) as overlay:
            assert mask.size == overlay.size == (16, 12) and mask.mode == "P" and overlay.mode == "RGB"
            found = np.bincount(np.array(mask).ravel(), minlength=256)
        shares = one["shares_of_pixels"]
        assert found[:9].sum() + found[255] == 16 * 12 and set(np.flatnonzero(found)) <= {*range(9), 255}
        assert len(shares) == 3 and found[:9].argmax() == run.card["classes"].index(max(shares, key=shares.get))
    answer = vitral("predict", trained.folder, image, "--out", "none")
    answer.failed(2, "--out is for masks; the task of this model is 'one class'")
    assert not (tmp_path / "none").exists()


@effect("predict", "on_bad_image")
@effect("explain", "on_bad_image")
def on_bad_image_stops_or_skips_a_picture(verb, vitral, trained, photos):
    (photos / "dark" / "0.png").write_bytes(b"damaged")
    images = (photos / "dark" / "0.png", photos / "dark" / "1.png")
    more, key = {"predict": ((), "predictions"), "explain": (("--layer", 0), "explained")}[verb]
    vitral(verb, trained.folder, *images, *more).refused(1, "dark/0.png")
    answer = vitral(verb, trained.folder, *images, *more, "--on-bad-image", "skip", "--json").done()
    assert [row["image"] for row in answer.json[key]] == [str(images[1])]
    assert "1 of 2 images could not be read and were left out" in answer.messages and str(images[0]) in answer.messages


@pytest.fixture
def explain(vitral, trained, photos):
    """Explain one picture with some options; the numbers it wrote, and what it said."""

    def run(*words):
        answer = vitral("explain", trained.folder, photos / "dark" / "0.png", *words, "--json").done()
        with np.load(answer.json["explained"][0]["numbers"]) as numbers:
            return dict(numbers), answer

    return run


@effect("explain", "layer")
def layer_is_which_blocks_are_shown(explain):
    whole, _ = explain()
    some, _ = explain("--layer", 2, 0)
    assert list(some["layers"]) == [whole["layers"][2], whole["layers"][0]]
    assert (some["values"] == whole["values"][:, [2, 0]]).all()


@effect("explain", "head")
def head_is_which_heads_are_shown(explain):
    whole, _ = explain("--layer", 0)
    some, _ = explain("--layer", 0, "--head", 3, 1)
    assert list(some["heads"]) == [3, 1]
    assert (some["values"] == whole["values"][:, :, [3, 1]]).all()


@effect("explain", "query")
def query_is_whose_attention_is_shown(explain):
    cls, said = explain("--layer", 0, "--query", 0)
    patch, said_of_patch = explain("--layer", 0, "--query", 2)
    assert (cls["values"] != patch["values"]).any()
    assert "CLS" in str(cls["explained"]) and "patch 0 1" in str(patch["explained"])
    placed, _ = explain("--layer", 0, "--query", "0,1")
    assert (placed["values"] == patch["values"]).all()
    assert "CLS keeps" in said.messages and "CLS keeps" not in said_of_patch.messages
    _, answer = explain("--query", "grid", "--layer", 0, 2, "--head", 1)
    grids = answer.json["explained"][1:]
    names = [f"0.queries.blocks.{number}.attn.head-1.png" for number in (0, 2)]
    assert [Path(grid["picture"]).name for grid in grids] == names
    assert all(Path(grid["picture"]).is_file() for grid in grids)
    assert [(grid["layer"], grid["head"]) for grid in grids] == [("blocks.0.attn", 1), ("blocks.2.attn", 1)]
    with np.load(grids[0]["numbers"]) as held:
        place = held["queries"].tolist().index([0, 1])
        np.testing.assert_allclose(held["values"][:, place], patch["values"][:, 0, 1], rtol=1e-5)


@effect("explain", "method")
def method_is_how_it_is_explained(vitral, trained, photos):
    words = ("explain", trained.folder, photos / "dark" / "0.png", "--json", "--method")
    found = vitral(*words, "chefer", "occlusion").done().json["explained"]
    assert [each["method"] for each in found] == ["chefer", "occlusion"]
    assert all(Path(each["picture"]).is_file() for each in found)


@effect("explain", "orders")
def orders_are_how_many_a_map_is_compared_with(vitral, trained, photos):
    words = ("explain", trained.folder, photos / "dark" / "0.png", "--json", "--method", "occlusion", "--orders")
    found = [vitral(*words, number).done().json["explained"][0] for number in (0, 5, 30)]
    assert found[0]["verdict"] == "not tested"
    untested = found[2]["why_untested"]
    assert untested or [one["orders"] for one in found] == [0, 5, 30]
    assert found[1]["verdict"] == "too few orders"


@effect("explain", "target")
def target_is_the_class_that_is_explained(vitral, trained, photos):
    words = ("explain", trained.folder, photos / "dark" / "0.png", "--json", "--method", "occlusion", "--target")
    values = []
    for target in ("ring", 1, "plus"):
        answer = vitral(*words, target).done()
        with np.load(answer.json["explained"][0]["numbers"]) as numbers:
            values.append(numbers["values"])
            assert numbers["targets"] == (4 if target == "plus" else 1)
        name = "plus" if target == "plus" else "ring"
        assert answer.json["explained"][0]["target"] == name and f"The class is {name}." in answer.messages
    assert (values[0] == values[1]).all() and (values[0] != values[2]).any()


@effect("explain", "region")
def region_is_what_is_explained_of_a_mask(vitral, train, trained, photos, tmp_path):
    run, image = train(epochs=1, **SCENES), photos / "dark" / "0.png"
    words = ("explain", run.folder, image, "--method", "occlusion", "--json")
    values = []
    for region in ("3,1", "3,1,1,1", "9,5,4,4"):
        answer = vitral(*words, "--region", region).done()
        with np.load(answer.json["explained"][0]["numbers"]) as numbers:
            values.append(numbers["values"])
        assert "explaining the" in answer.messages and "from column" in answer.messages
    assert (values[0] == values[1]).all() and (values[0] != values[2]).any()
    page = Path(answer.json["page"]).read_text(encoding="utf-8")
    assert "the 4x4 pixels of the image from column 9, row 5" in page
    for region, words_of in (
        ("14,5,4,4", "leaves 0.png, which is 16 pixels wide and 12 high"),
        ("0,0,1,1", "lies outside what the model sees of 0.png: columns 2 to 14, rows 0 to 12"),
        ("a,b", "is not X,Y or X,Y,WIDTH,HEIGHT"),
        ("1,2,3", "is not X,Y or X,Y,WIDTH,HEIGHT"),
        ("1,2,0,3", "is not X,Y or X,Y,WIDTH,HEIGHT"),
    ):
        vitral(*words, "--region", region).failed(2, words_of)
    refused = vitral("explain", trained.folder, image, "--region", "1,1")
    refused.failed(2, "--region is for segmentation models; the task of this one is 'one class'")


SCORED = ("--data", "shapes:n=8,size=16", "--score", "--n", 8, "--json")


@effect("explain", "diagnose")
def diagnose_is_what_the_layers_do_in_general(vitral, trained, photos):
    answer = vitral("explain", trained.folder, photos / "dark", "--diagnose", "--json").done()
    assert {"attention_mass", "distance", "entropy", "logit_lens", "positions"} <= set(answer.json["diagnostics"])
    page = Path(answer.json["page"]).read_text(encoding="utf-8")
    assert "Attention, layer by layer" in page and "What is similar to what" in page
    with np.load(answer.json["numbers"]) as numbers:
        np.testing.assert_allclose(numbers["entropy"].mean(axis=(0, 2)), answer.json["means"]["entropy"], rtol=1e-6)
    vitral("explain", trained.folder, photos, "--diagnose", "--method", "rollout").refused(2, "--method, --layer")


@pytest.fixture
def score(vitral, trained):
    def run(*words):
        return vitral("explain", trained.folder, *SCORED, *words)

    return run


@effect("explain", "score")
@effect("explain", "data")
@effect("explain", "metric")
def score_makes_a_table_on_the_data_by_the_metrics(score, vitral, trained):
    answer = score("--method", "rollout", "--metric", "auroc", "deletion").done()
    found = {(each["method"], each["metric"]) for each in answer.json["scores"]}
    methods = ("rollout", "centre", "edges", "random", "untrained")
    assert found == {(method, metric) for method in methods for metric in ("auroc", "deletion")}
    assert "| rollout |" in Path(answer.json["table"]).read_text()
    assert "does not beat every control" in answer.messages
    vitral("explain", trained.folder, "--score").refused(2, "--score needs --data")
    vitral("explain", trained.folder, "--data", "digits").refused(2, "add --score")


@effect("explain", "n")
def n_is_how_many_images_are_scored(score):
    answer = score("--method", "rollout", "--metric", "auroc", "--n", 3).done()
    assert {each["n"] for each in answer.json["scores"]} == {3}


@effect("explain", "out")
def out_is_where_the_maps_go(explain, tmp_path):
    explain("--layer", 0, "--out", "deep/maps")
    assert tree(tmp_path / "deep") == ["maps/0.attention.npz", "maps/0.attention.png", "maps/0.html"]
    assert not (tmp_path / "explained").exists()


# models


@effect("models", "pattern")
def pattern_is_which_models_are_listed(vitral):
    listed = [row["name"] for row in vitral("models", "vit_*_patch32_*", "--json").done().json["models"]]
    assert listed and all("_patch32_" in name for name in listed)
    one = vitral("models", "vit_base_patch16_224", "--json").done().json
    assert (one["name"], one["parameters"]) == ("vit_base_patch16_224", 86_567_656)


@effect("models", "img_size")
def img_size_is_what_the_cost_is_counted_for(vitral):
    answer = vitral("models", "vit_base_patch16_224", "--img-size", 1024, "--json").done()
    block = answer.json["blocks"][0]
    assert (block["tokens"], block["entries"]) == (4097, 4097**2)
    assert "4,097" in answer.messages and "768.4 MiB" in answer.messages  # 12 heads of 64 MiB
    wide = vitral("models", "swin_tiny_patch4_window7_224", "--img-size", 224, 448, "--json").done().json
    assert wide["img_size"] == [224, 448] and wide["blocks"][0]["tokens"] == 56 * 112


@effect("models", "num_classes")
def num_classes_is_what_the_head_is_counted_for(vitral):
    words = ("models", "vit_base_patch16_224", "--json", "--num-classes")
    count = {number: vitral(*words, number).done().json["parameters"] for number in (0, 10)}
    assert count[10] - count[0] == 768 * 10 + 10


# convert


@pytest.fixture
def bare(tmp_path):
    """A file of tensors in timm's names, and nothing beside it; its grid is not square."""
    path = tmp_path / "bare" / "model.safetensors"
    path.parent.mkdir()
    save_file(tiny_vit().state_dict(), path)
    return path


OF_BARE = ("--source", "timm", "--num-heads", 4, "--trained-at", 8, 18)  # what its tensors do not show


def written(folder):
    return load_file(folder / "model.safetensors")


@effect("convert", "model")
def model_is_what_is_converted(vitral, trained, train, tmp_path):
    other = train(model="vit_nano_patch4_32", img_size=16)
    for number, run in enumerate((trained.folder, other.folder)):
        vitral("convert", run, tmp_path / f"out{number}").done()
        own = load_file(run / "model.safetensors")
        assert all((written(tmp_path / f"out{number}")[name] == tensor).all() for name, tensor in own.items())


@effect("convert", "out")
def out_is_where_it_is_written_and_must_be_empty(vitral, trained, tmp_path):
    answer = vitral("convert", trained.folder, tmp_path / "there", "--json").done()
    assert answer.json["files"] == [
        str(tmp_path / "there" / name) for name in ("config.json", "model.safetensors", "training_images.safetensors")
    ]
    vitral("convert", trained.folder, tmp_path / "there").refused(2, "not empty")


@effect("convert", "to")
def to_is_whose_format_it_is(vitral, trained, tmp_path):
    vitral("convert", trained.folder, tmp_path / "timm", "--to", "timm").done()
    assert "blocks.0.attn.qkv.weight" in written(tmp_path / "timm")
    answer = vitral("convert", trained.folder, tmp_path / "hf", "--to", "hf")
    answer.refused(2, "hf has no place for blocks.0.attn.q_norm", "Formats that can: timm")


@effect("convert", "source")
def source_is_whose_it_is(vitral, bare, tmp_path):
    words = ("convert", bare, tmp_path / "out", "--num-heads", 4, "--trained-at", 8, 18)
    vitral(*words).refused(1, "matches several formats (deit, timm)", "model.safetensors,source=deit")
    vitral("convert", f"{bare},source=deit,num_heads=4,trained_at=8x18", tmp_path / "said").done()
    answer = vitral(*words, "--source", "deit", "--json").done()
    assert answer.json["provenance"]["source"] == "deit" and "0.485" in answer.messages


@effect("convert", "weights")
def weights_are_those_that_are_meant(vitral, bare, tmp_path):
    state = load_file(bare)
    torch.save({"model": state, "ema": {name: tensor + 1 for name, tensor in state.items()}}, tmp_path / "both.pth")
    words = ("convert", tmp_path / "both.pth", tmp_path / "out", *OF_BARE)
    vitral(*words).refused(1, "several sets of weights: ema (a moving average), model.", "both.pth,weights=ema")
    vitral(*words, "--weights", "ema").done()
    assert (written(tmp_path / "out")["norm.bias"] == state["norm.bias"] + 1).all()


@effect("convert", "num_heads")
@effect("convert", "trained_at")
def num_heads_and_trained_at_are_what_no_tensor_says(vitral, bare, tmp_path):
    words = ("convert", bare, tmp_path / "out", "--to", "npz", "--source", "timm")
    vitral(*words).refused(1, "do not show the number of heads")
    vitral(*words, "--num-heads", 2).refused(1, "trained_at=(height, width)")
    vitral(*words, "--num-heads", 2, "--trained-at", 8, 18).done()
    with np.load(tmp_path / "out" / "model.npz") as held:
        kernel = held["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"]
    assert kernel.shape == (16, 2, 8)


@effect("convert", "sha256")
def sha256_is_what_the_hash_must_be(vitral, bare, tmp_path):
    words = ("convert", bare, tmp_path / "out", *OF_BARE, "--sha256")
    vitral(*words, "0" * 64).refused(1, "damaged or a different file")
    assert not (tmp_path / "out").exists()
    vitral(*words, hashlib.sha256(bare.read_bytes()).hexdigest()).done()


# data


def sheet(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@effect("data", "data")
def data_is_what_the_sheet_shows(vitral, photos, tmp_path):
    assert set(vitral("data", "show", "photos", "--json").done().json["classes"]) == {"dark", "light"}
    assert set(vitral("data", "show", "digits", "--json").done().json["classes"]) == set("0123456789")
    assert {"photos.png", "digits.png"} <= set(tree(tmp_path))


@effect("data", "out")
def out_is_where_the_sheet_goes(vitral, tmp_path):
    vitral("data", "show", "shapes:n=8,size=16", "--out", "deep/sheet.png").done()
    assert tree(tmp_path) == ["deep/sheet.png"]


@effect("data", "split")
def split_is_which_images_are_shown(vitral):
    shown = {}
    for split in ("train", "val", "test"):
        words = ("data", "show", "shapes:n=64,size=16", "--split", split, "--out", f"{split}.png", "--json")
        assert sum(vitral(*words).done().json["classes"].values()) == {"train": 64}.get(split, 2_000)
        shown[split] = sheet(f"{split}.png")
    assert len({image.tobytes() for image in shown.values()}) == 3


@effect("data", "img_size")
def img_size_is_what_a_folders_images_are_cut_to(vitral, photos):
    answer = vitral("data", "show", "photos", "--img-size", 32, "--out", "small.png").done()
    assert "images of 32x32" in answer.printed
    assert "images of 64x64" in vitral("data", "show", "photos", "--out", "large.png").done().printed
    assert sheet("small.png").tobytes() != sheet("large.png").tobytes()


@effect("data", "action")
def action_shows_checks_or_measures_what_the_set_asks_for(vitral, tmp_path, monkeypatch):
    """A set whose classes are told by their mean colour does not hold, and the exit code says so."""
    monkeypatch.setitem(PRESETS, "folder", PRESETS["folder"] | dict(epochs=2, augment="none"))
    for split, count in (("train", 30), ("val", 4), ("test", 30)):
        paint(tmp_path / "grey" / split, {"dark": 40, "light": 210}, count=count)
    answer = vitral("data", "shortcuts", "grey", "--json")
    findings = {found["name"]: found for found in answer.json["shortcuts"]}
    assert len(findings) == 5 and answer.code == 1
    assert findings["mean colour, linear"]["accuracy"] == 1 and not findings["mean colour, linear"]["holds"]
    assert all(0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1 for found in findings.values())
    assert "DOES NOT HOLD" in answer.messages and "must be at chance (50.0%)" in answer.messages
    shown, checked = (vitral("data", action, "grey", "--json").done().json for action in ("show", "check"))
    assert "shortcuts" not in shown and "sheet" in shown and "findings" in checked


@effect("data", "augment")
@effect("data", "mix")
def augment_and_mix_draw_what_the_model_gets(vitral, photos, tmp_path):
    sheets = []
    for words in (
        ("--augment", "none"),
        ("--augment", "photo_strong"),
        ("--augment", "crop+horizontal_flip"),
        ("--mix", "cutmix"),
        ("--mix", "mixup", "--augment", "none"),
    ):
        sheets.append(vitral("data", "show", "photos", *words, "--json").done().json["sheet"])
    contents = [(tmp_path / sheet).read_bytes() for sheet in sheets]
    assert len(set(contents)) == 5 and sheets[0] == "photos.augmented.png"
    vitral("data", "show", "scenes:size=16,n=8,held_out=8", "--augment", "crop").done()
    vitral("data", "show", "scenes:size=16,n=8,held_out=8", "--mix", "mixup").refused(2, "are masks. Leave out --mix")
    vitral("data", "show", "photos", "--augment", "flip").refused(2, "There is no augmentation 'flip'")
    vitral("data", "show", "photos", "--mix", "mixed").refused(2, "Did you mean 'mixup'?")
    vitral("data", "show", "photos", "--augment", "crop", "--split", "val").refused(2, "val images are not augmented")
    vitral("data", "check", "photos", "--augment", "crop").refused(2, "drawn by `vitral data show`")


@effect("data", "group_by")
def group_by_divides_a_folder_as_training_would(vitral, photos):
    for number, file in enumerate(sorted(photos.rglob("*.png"))):
        file.rename(file.with_name(f"patient{number % 4}-{number}.png"))
    said = vitral("data", "show", "photos", "--group-by", r"(patient\d+)").done().messages
    assert "in 4 groups, each in one split" in said
    checked = vitral("data", "check", "photos", "--group-by", r"(patient\d+)", "--json")
    assert "in 4 groups" in str(checked.json["findings"])
    vitral("data", "show", "photos", "--group-by", "zebra").refused(1, "finds nothing in the paths of")
    vitral("data", "show", "digits", "--group-by", "zebra").refused(2, "--group-by applies to folders of images")


@effect("data", "on_bad_image")
def on_bad_image_stops_or_skips_in_a_sheet(vitral, photos):
    for number in range(6):
        (photos / "dark" / f"{number}.png").write_bytes(b"damaged %d" % number)
    vitral("data", "show", "photos").refused(1, "is not an image", "--on-bad-image skip")
    answer = vitral("data", "show", "photos", "--on-bad-image", "skip", "--json").done()
    (bad,) = re.findall(r"(\d+) of 16 train images could not be read and were left out", answer.messages)
    assert int(bad) > 0 and sum(answer.json["classes"].values()) == 16 - int(bad)
