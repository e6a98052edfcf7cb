"""Images unlike the training images: what is stored with a model, and where it is said."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.tiny import redraw
from torch import nn

import vitral
from vitral.base.feature_statistics import NO_STATISTICS, UNKNOWN, UNLIKE, Distance
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, Task, attach_record
from vitral.data.dataset import Dataset, Split
from vitral.explain.observation import observe
from vitral.explain.trials import trust
from vitral.store.image_features import find_head, image_features, patches_of, training_distances
from vitral.store.model import WEIGHTS, load_model, save_model
from vitral.store.training_images import STATISTICS, save_statistics
from vitral.training.feature_statistics import fit_feature_statistics
from vitral.weights.convert import write

PAIR = ("a", "b")


class Convolution(nn.Module):
    """A reader's own module, whose head has another name; without a `head` name there is a linear layer at its end."""

    def __init__(self, channels: int = 3, outputs: int = 2):
        super().__init__()
        self.filter = nn.Conv2d(channels, 6, 3)
        self.classifier = nn.Linear(6, outputs)

    def forward(self, images):
        return self.classifier(self.filter(images).relu().mean(dim=(2, 3)))


class Headless(nn.Module):
    """A module that has no linear layer."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Conv2d(3, 2, 3)

    def forward(self, images):
        return self.filter(images).mean(dim=(2, 3))


def smooth(count, size, seed):
    """Images with a colour gradient and little noise."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size[1])[None, None, :, None]
    colours = rng.uniform(40, 200, (2, count, 1, 1, 3))
    pixels = colours[0] * ramp + colours[1] * (1 - ramp) + rng.normal(0, 6, (count, *size, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def noise(count, size):
    return np.random.default_rng(9).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def data_of(size, task: Task = "one class", count=150):
    def read(name):
        pixels = smooth(count, size, {"train": 1, "val": 2, "test": 3}[name])
        bright = pixels.mean(axis=(1, 2, 3)) > 120
        labels = {
            "one class": bright.astype(int),
            "several classes": np.stack([bright, ~bright], axis=1),
            "numbers": np.stack([pixels.mean(axis=(1, 2, 3))] * 2, axis=1).astype(np.float32),
        }[task]
        return Split(pixels, labels)

    return Dataset("smooth", PAIR, Preprocessing(size=size), read, task)


def fitted(model, data, channels=3):
    """The model with a record, and in it the statistics of the data."""
    preprocessing = Preprocessing(size=data.preprocessing.size, mean=(0.5,) * channels, std=(0.5,) * channels)
    thresholds = (0.5, 0.5) if data.task == "several classes" else None
    known = attach_record(redraw(model), ModelRecord(PAIR, preprocessing, data.task, thresholds))
    statistics = fit_feature_statistics(known, data)
    assert not isinstance(statistics, str)
    return attach_record(known, replace(known.record, feature_statistics=statistics))


def vit(size=(16, 24), channels=3):
    return vitral.create(
        "vit_nano_patch8_48", img_size=size, patch_size=4, in_channels=channels, num_classes=2, depth=2
    )


MEMBERS = {
    "one class": lambda: fitted(vit(), data_of((16, 24))),
    "several classes": lambda: fitted(vit(), data_of((16, 24), "several classes")),
    "numbers": lambda: fitted(vit(), data_of((16, 24), "numbers")),
    "grey": lambda: fitted(vit(channels=1), data_of((16, 24)), channels=1),
    "another size": lambda: fitted(vit((32, 20)), data_of((32, 20))),
    "8 x 8": lambda: fitted(vit((8, 8)), data_of((8, 8))),
    "own module": lambda: fitted(Convolution(), data_of((17, 13))),
    "own grey module": lambda: fitted(Convolution(channels=1), data_of((17, 13)), channels=1),
    "without a head": lambda: fitted(Headless(), data_of((16, 16))),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_noise_is_unlike_smooth_images_and_new_smooth_images_are_not(name):
    model = MEMBERS[name]()
    size = model.preprocessing.size
    strange, familiar = vitral.predict(model, list(noise(20, size))), vitral.predict(model, list(smooth(100, size, 7)))
    assert all(one.distance.is_unlike for one in strange)
    assert sum(one.distance.is_unlike for one in familiar) <= 15  # 5 are expected of 100, with a threshold set on 150
    assert all(UNLIKE in one.text() and one.to_json()["unlike_training_images"] is True for one in strange)
    known = [one for one in familiar if not one.distance.is_unlike]
    assert not any(UNLIKE in one.text() for one in known)
    assert not any(UNKNOWN in note for note in strange.notes)
    assert strange.training_images["training_images"]["threshold"] == strange[0].distance.threshold


def test_the_head_is_found_under_any_name():
    own, headless = MEMBERS["own module"](), MEMBERS["without a head"]()
    assert find_head(own) is own.classifier and find_head(headless) is None
    assert own.record.feature_statistics.head is not None and headless.record.feature_statistics.head is None
    images = torch.randn(3, 3, 17, 13)
    np.testing.assert_allclose(
        image_features(own, images).head, own.filter(images).relu().mean(dim=(2, 3)).detach(), atol=1e-6
    )


def test_patches_are_squares_of_the_input_evenly_spaced_in_large_images():
    images = torch.arange(2 * 3 * 9 * 12.0).reshape(2, 3, 9, 12)
    found = patches_of(images)
    assert found.shape == (2, 2 * 3, 48)
    np.testing.assert_array_equal(found[1, 4], images[1, :, 4:8, 4:8].flatten())  # row 1, column 1
    assert patches_of(torch.zeros(1, 3, 224, 224)).shape == (1, 14 * 14, 48)
    assert patches_of(torch.zeros(1, 1, 2, 3)).shape == (1, 1, 6)


def test_the_same_model_gets_the_same_statistics_and_its_random_state_stays():
    before = torch.get_rng_state()
    first, second = (MEMBERS["own module"]().record.feature_statistics.arrays for _ in range(2))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    model = MEMBERS["own module"]()
    torch.set_rng_state(before)
    fit_feature_statistics(model, data_of((17, 13)))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_in_order_of_class_are_drawn_fairly():
    """Of more images than are used, every part of the split is used."""
    seen = []

    class Watching(Convolution):
        def forward(self, images):
            seen.extend(images.mean(dim=(1, 2, 3)).tolist())
            return super().forward(images)

    ordered = np.repeat(np.arange(2400) // 10, 8 * 8 * 3).reshape(2400, 8, 8, 3).astype(np.uint8)
    split = Split(ordered, np.arange(2400) % 2, source_index=np.arange(2400))  # as if it were in random order already
    data = Dataset("ordered", PAIR, Preprocessing(size=(8, 8)), lambda name: split)
    model = attach_record(Watching(), ModelRecord(PAIR, Preprocessing(size=(8, 8))))
    fit_feature_statistics(model, data)
    assert len(seen) == 2000
    assert abs(np.mean(seen[:1000]) - np.mean(seen[1000:])) < 0.1 and max(seen[:1000]) > 0.8 and min(seen) < -0.95


@pytest.mark.parametrize("count", [1, 3, 18])
def test_too_few_images_are_refused_in_a_sentence(count):
    model = attach_record(Convolution(), ModelRecord(PAIR, Preprocessing(size=(8, 8))))
    found = fit_feature_statistics(model, data_of((8, 8), count=count))
    assert found == (
        f"there are {count} training and {count} validation images, and a threshold needs at least 19 of each"
    )


def test_the_same_statistics_are_written_as_the_same_bytes(tmp_path):
    model = vit()
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    statistics = fit_feature_statistics(model, data_of(model.preprocessing.size))
    written = [save_statistics(statistics, model.preprocessing, tmp_path / WEIGHTS).read_bytes() for _ in range(8)]
    assert len(set(written)) == 1


def test_a_saved_model_keeps_its_statistics(tmp_path):
    model = MEMBERS["one class"]()
    save_model(model, tmp_path, {})
    assert (tmp_path / STATISTICS).stat().st_size < 100_000
    assert "feature_statistics" not in json.loads((tmp_path / "model.json").read_text())
    loaded, images = load_model(tmp_path), torch.randn(4, 3, 16, 24)
    assert training_distances(loaded, images) == training_distances(model, images)


def test_an_observation_knows_the_distances_without_another_pass():
    model, images, passes = MEMBERS["one class"](), torch.randn(4, 3, 16, 24), []
    expected = training_distances(model, images)
    observation = observe(model, images, ["feature maps"])
    model.register_forward_hook(lambda *given: passes.append(given))
    assert observation.training_distances == expected and not passes
    # With the watched pass alone, or with none, the model is run once more.
    assert observe(model, images, ["feature maps"], "rows").training_distances == expected and len(passes) > 1


@pytest.mark.parametrize("format", ["timm", "hf", "npz"])
def test_a_converted_model_keeps_its_statistics(tmp_path, format):
    plain = vitral.VisionTransformer(
        img_size=32, patch_size=16, num_classes=2, embed_dim=64, depth=2, num_heads=2 if format == "hf" else 1
    )
    model, images = fitted(plain, data_of((32, 32))), torch.randn(4, 3, 32, 32)
    write(model, tmp_path / "out", format)
    loaded = vitral.load(
        tmp_path / "out" / ("model.npz" if format == "npz" else ""), num_heads=plain.config["num_heads"]
    )
    found, expected = training_distances(loaded, images), training_distances(model, images)
    assert [one.value for one in found] == pytest.approx([one.value for one in expected], rel=1e-4)


def without_file(folder):
    (folder / STATISTICS).unlink()


def with_damage(folder):
    (folder / STATISTICS).write_bytes(b"not a file of tensors")


def with_part(folder):
    tensors = load_file(folder / STATISTICS)
    del tensors["patches.mean"]
    save_file(tensors, folder / STATISTICS)


def of_another_model(folder):
    statistics = (folder / STATISTICS).read_bytes()
    other = MEMBERS["one class"]()
    with torch.no_grad():
        other.head.weight += 1
    save_model(other, folder, {})
    (folder / STATISTICS).write_bytes(statistics)


def with_preprocessing(folder):
    card = json.loads((folder / "model.json").read_text())
    card["preprocessing"]["mean"] = [0.4, 0.4, 0.4]
    (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_file, NO_STATISTICS),
        (with_damage, "is damaged"),
        (with_part, "is damaged"),
        (of_another_model, "belongs to other weights"),
        (with_preprocessing, "prepared in another way"),
    ],
)
def test_statistics_that_are_missing_or_do_not_belong_are_said_once(tmp_path, change, reason):
    save_model(MEMBERS["one class"](), tmp_path, {})
    change(tmp_path)
    found = vitral.predict(tmp_path, list(noise(3, (16, 24))))
    (note,) = [note for note in found.notes if UNKNOWN in note]
    assert reason in note and found.training_images == {
        "training_images": None,
        "why_unknown": note.removeprefix(f"{UNKNOWN}: "),
    }
    assert all(one.distance is None and "distance" not in one.to_json() for one in found)


def test_features_that_are_not_numbers_are_unlike_any():
    model = MEMBERS["own module"]()
    with torch.no_grad():
        model.filter.bias.fill_(float("nan"))
    (one,) = training_distances(model, torch.zeros(1, 3, 17, 13))
    assert one.is_unlike and one.to_json()["distance"] is None
    assert Distance(float("inf"), 2.0).is_unlike and not Distance(2.0, 2.0).is_unlike


def test_a_test_against_chance_says_that_the_image_is_unlike():
    model = MEMBERS["one class"]()
    pixels = np.stack([noise(1, (16, 24))[0], smooth(1, (16, 24), 2)[0]])
    images = vitral.data.preprocess.batch_of(list(pixels), model.preprocessing)
    maps = vitral.explain.occlusion(model, images)
    strange, familiar = trust(model, images, maps)
    assert UNLIKE in strange.sentence and UNLIKE not in familiar.sentence


@pytest.mark.parametrize("name", ["one class", "several classes", "numbers"])
def test_explanations_say_that_an_image_is_unlike_in_captions_and_on_the_page(tmp_path, name):
    model, files = MEMBERS[name](), []
    for number, pixels in enumerate([noise(1, (16, 24))[0], smooth(1, (16, 24), 2)[0]]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    found = vitral.explain_images(model, files, ["occlusion", "chefer"], out=tmp_path / "out")
    strange, familiar = found.images
    assert UNLIKE in strange.answer and UNLIKE not in familiar.answer
    for one in strange.maps:
        assert UNLIKE in one.trust.sentence and UNLIKE in one.maps.caption_of(0)
    assert not any(UNLIKE in one.maps.caption_of(0) for one in familiar.maps)
    page = found.page.read_text()
    assert page.count(UNLIKE) >= 1 + len(strange.maps)
    assert found.training_images["training_images"]["validation_images"] == 150


def test_weights_of_a_training_checkpoint_have_no_statistics(tmp_path):
    model = MEMBERS["one class"]()
    save_model(model, tmp_path, {})
    step = tmp_path / "checkpoints" / "step-000001"
    step.mkdir(parents=True)
    save_file(load_file(tmp_path / WEIGHTS), step / "weights.safetensors")
    loaded = vitral.load(step)
    assert loaded.record.feature_statistics is None and "training checkpoint" in loaded.record.why_unknown
