"""Segmenters: built again, saved, started from other models; and explained, region by region."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tiny import redraw
from two_tones import agreement
from vitral import create, explain
from vitral.base.errors import ConfigError, ShapeError, UsageError
from vitral.base.lookup import find, names
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.batches import batches
from vitral.data.dataset import Split
from vitral.explain import RegionModel
from vitral.explain.observation import observe
from vitral.explain.trials import Trials
from vitral.nn.families import build, construct
from vitral.nn.family.segmenter import Segmenter, best_decoder, spread
from vitral.store.model import load_model, save_model
from vitral.weights.transfer import transfer_encoder, transfer_weights

ENCODERS = {
    "vit": lambda **sizes: create("vit_nano_patch8_48", img_size=32, embed_dim=16, depth=3, num_heads=2, **sizes),
    "swin": lambda **sizes: create("swin_nano_patch2_window6_48", img_size=32, embed_dim=16, window_size=4, **sizes),
    "resnet": lambda **sizes: create("resnet_nano_48", img_size=32, embed_dim=8, **sizes),
}
DECODERS = names("nn.family.decoders")
SUITED = [
    (encoder, head) for encoder in ENCODERS for head in DECODERS if head != "detail" or encoder == "vit"
]  # a detail decoder reads maps of one resolution
NAMES = ("background", "cat", "dog")


def decoder(name):
    return find("nn.family.decoders", name, "decoder")


def with_classes(model, task="segmentation"):
    return attach_record(model, ModelRecord(NAMES, Preprocessing((32, 32), mean=(0.4,) * 3), task))


def segmenter(encoder="vit", head=None, seed=0):
    """Redrawn, so that every parameter matters."""
    inner = ENCODERS[encoder](num_classes=0)
    model = Segmenter(inner, len(NAMES), decoder(head or best_decoder(inner)))
    return with_classes(redraw(model, seed))


class PixelByPixel(nn.Module):
    """The reader's own module: each pixel's logits depend on that pixel alone."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, images):
        return {"out": self.head(self.first(images).tanh())}


def own_module():
    return with_classes(redraw(PixelByPixel()))


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def rectangle(top, left, height, width):
    region = np.zeros((32, 32), bool)
    region[top : top + height, left : left + width] = True
    return region


# building, saving, starting


@pytest.mark.parametrize(("encoder", "head"), SUITED)
def test_any_encoder_and_decoder_give_logits_per_pixel_and_are_built_again(encoder, head, images):
    model = segmenter(encoder, head)
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (2, 3, 32, 32) and logits.std() > 0.01
    again = build(json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images), logits)
        torch.testing.assert_close(model(images[:1])[0], logits[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("encoder", "head"), SUITED)
def test_a_new_segmenter_finds_all_classes_alike_and_learns_everywhere(encoder, head, images):
    """Its loss is log K; after a step has moved the head, every parameter has a gradient."""
    inner = ENCODERS[encoder](num_classes=0)
    model = Segmenter(inner, 3, decoder(head))
    assert not model(images).any()
    redraw(model)
    model.train()(images).square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_saved_segmenter_is_loaded_as_it_was(encoder, images, tmp_path):
    model = segmenter(encoder)
    save_model(model, tmp_path, {})
    loaded = load_model(tmp_path)
    assert loaded.record.task == "segmentation" and tuple(loaded.classes) == NAMES
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    assert json.loads(json.dumps(loaded.config)) == json.loads(json.dumps(model.config))


@pytest.mark.parametrize(("encoder", "head"), SUITED)
def test_a_start_keeps_the_features_of_its_encoder_to_the_bit(encoder, head, images):
    classifier = with_classes(redraw(ENCODERS[encoder](num_classes=3)), "one class")
    model, changes = transfer_encoder(classifier, ("ground", "road"), None, decoder(head))
    assert any("for 2 classes, untrained" in change for change in changes)
    assert model.record.task == "segmentation" and model.record.preprocessing == classifier.record.preprocessing
    with torch.no_grad():
        for own, known in zip(
            model.eval().features(images, model.layers_read), classifier.features(images, model.layers_read)
        ):
            assert torch.equal(own, known)
        assert model(images).shape == (2, 2, 32, 32)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_start_may_have_another_size(encoder):
    classifier = with_classes(redraw(ENCODERS[encoder](num_classes=3)), "one class")
    model, _ = transfer_encoder(classifier, NAMES, (48, 64), decoder("linear"))
    assert model.eval()(torch.randn(1, 3, 48, 64)).shape == (1, 3, 48, 64)
    assert model.record.preprocessing.size == (48, 64)
    moved = model.encoder.state_dict()
    same = [
        name for name, tensor in classifier.state_dict().items() if name in moved and tensor.shape == moved[name].shape
    ]
    assert all(torch.equal(moved[name], classifier.state_dict()[name]) for name in same) and len(same) > 10


def test_a_segmenter_as_a_start_keeps_its_decoder_for_the_same_classes(images):
    model = segmenter()
    again, changes = transfer_encoder(model, NAMES, None, decoder("detail"))
    with torch.no_grad():
        assert torch.equal(again.eval()(images), model(images))
    assert not any("new" in change for change in changes)
    for classes, head in ((("background", "dog", "cat"), "detail"), (NAMES, "linear"), (NAMES[:2], "detail")):
        other, changes = transfer_encoder(model, classes, None, decoder(head))
        assert any("untrained" in change for change in changes)
        with torch.no_grad():
            assert not other.eval()(images).any()
    with pytest.raises(ConfigError, match="A segmentation model is not fine-tuned for another task"):
        transfer_weights(model, NAMES, None)
    with pytest.raises(ConfigError, match="PixelByPixel is not one of Vitral's models"):
        transfer_encoder(own_module(), NAMES, None, decoder("linear"))


@pytest.mark.parametrize("encoder", ["swin", "resnet"])
def test_a_detail_decoder_needs_maps_of_one_resolution(encoder):
    with pytest.raises(
        ConfigError, match=r"reads maps of one resolution; .* stands for \d+, \d+.* pixels\. Use pyramid"
    ):
        Segmenter(ENCODERS[encoder](num_classes=0), 3, decoder("detail"))


def test_one_class_is_not_enough():
    with pytest.raises(ConfigError, match=r"num_classes=1: a segmenter needs at least 2 classes"):
        Segmenter(ENCODERS["vit"](num_classes=0), 1, decoder("linear"))


@given(depth=st.integers(1, 48))
def test_the_blocks_that_are_read_are_spread_evenly_and_end_with_the_last(depth):
    read = spread(depth)
    assert read[-1] == depth - 1 and len(read) == min(4, depth) and list(read) == sorted(set(read)) and read[0] >= 0
    gaps = np.diff((-1, *read))
    assert gaps.max() - gaps.min() <= 1


# batches


@pytest.mark.parametrize("name", names("data.augmentation"))
def test_the_masks_of_a_batch_move_with_its_images(name):
    """Light disks on dark whose place differs from image to image: light is where the mask says."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    centres = rng.integers(12, 36, (24, 2))
    labels = np.stack([(y - row) ** 2 + (x - column) ** 2 < 80 for row, column in centres]).astype(np.uint8)
    labels[:, :2] = 255  # ignored
    pixels = np.repeat(np.where(labels == 1, 210, 60).astype(np.uint8)[..., None], 3, axis=3)
    split = Split(pixels, labels)
    augment = find("data.augmentation", name, "augmentation")
    found, seen = [], 0
    for images, masks in islice(batches(split, Preprocessing((48, 48)), 8, 3, augment), 6):
        assert masks.dtype == torch.uint8 and set(masks.unique().tolist()) <= {0, 1, 255}
        assert masks.eq(1).flatten(1).any(dim=1).float().mean() > 0.5  # a crop may leave an object out
        found += agreement((images + 1) * 127.5, masks == 1)
        seen += len(masks)
    assert seen == 48 and len(found) > 30 and sum(found) / len(found) > 0.97


# regions


@given(top=st.integers(0, 30), left=st.integers(0, 30), height=st.integers(1, 32), width=st.integers(1, 32))
def test_a_regions_logits_are_the_mean_of_its_pixels(top, left, height, width):
    model, region = segmenter(), rectangle(top, left, height, width)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, whole = RegionModel(model, region)(images), model(images)
    mean = torch.stack([whole[..., y, x] for y, x in zip(*np.nonzero(region))]).mean(dim=0)
    torch.testing.assert_close(found, mean)
    assert (found.argmax(1) == mean.argmax(1)).all()


def test_a_region_answers_as_its_pixels_where_they_all_agree(images):
    model = segmenter()
    with torch.no_grad():
        predicted = model(images[:1]).argmax(1)[0].numpy()
    for index in np.unique(predicted):
        with torch.no_grad():
            assert int(RegionModel(model, predicted == index)(images[:1]).argmax()) == index


def test_what_is_not_a_region_of_a_segmentation_model_is_refused():
    model = segmenter()
    with pytest.raises(UsageError, match="The region has no pixel"):
        RegionModel(model, np.zeros((32, 32), bool))
    with pytest.raises(ShapeError, match=r"The region is 16x32, but the model takes 32x32\. Mark the pixels"):
        RegionModel(model, np.ones((16, 32), bool))
    classifier = with_classes(ENCODERS["vit"](num_classes=3), "one class")
    with pytest.raises(UsageError, match="this one has the task 'one class'"):
        RegionModel(classifier, np.ones((32, 32), bool))
    with pytest.raises(UsageError, match="this one has no record"):
        RegionModel(nn.Conv2d(3, 3, 1), np.ones((32, 32), bool))


MODELS = {name: lambda name=name: segmenter(name) for name in ENCODERS} | {"own": own_module}
EVERYWHERE = ("occlusion", "grad_cam", "integrated_gradients", "input_gradient")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", [name for name in EVERYWHERE if name in names("explain.methods")])
def test_a_region_is_explained_by_methods_for_any_model(kind, method, images):
    maps = getattr(explain, method)(RegionModel(MODELS[kind](), rectangle(4, 8, 12, 12)), images[:1], target=1)
    values = np.asarray(maps.values)
    assert np.isfinite(values).all() and values.std() > 0


@pytest.mark.parametrize("kind", ["vit", "swin"])
@pytest.mark.parametrize("method", ["attention", "rollout", "chefer"])
def test_a_region_is_explained_by_attention(kind, method, images):
    region = RegionModel(segmenter(kind), rectangle(4, 8, 12, 12))
    if kind == "swin" and method != "attention":
        with pytest.raises(UsageError, match="window"):
            getattr(explain, method)(region, images[:1], target=1)
        return
    maps = getattr(explain, method)(region, images[:1], target=1)
    assert np.isfinite(maps.values).all() and np.asarray(maps.values).max() > 0


def test_the_attention_of_a_region_is_that_of_its_patches(images):
    """A linear decoder enlarges by interpolation: the middle of a patch is read from it and those beside it."""
    model = segmenter("vit", "linear")
    prefix, (_, columns) = model.num_prefix_tokens, model.grid
    observation = observe(RegionModel(model, rectangle(2 * 8 + 3, 8 + 3, 2, 2)), images[:1])
    near = {prefix + row * columns + column for row in (1, 2, 3) for column in (0, 1, 2)}
    assert set(observation.readout) <= near and prefix + 2 * columns + 1 in observation.readout
    whole = observe(RegionModel(model, np.ones((32, 32), bool)), images[:1])
    assert set(whole.readout) == set(range(prefix, prefix + 16))


@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients"])
def test_only_what_a_region_depends_on_is_marked(method, images):
    """Each pixel's logits depend on that pixel alone, so patches outside the region have no part in its score."""
    region = rectangle(0, 8, 16, 8)
    maps = getattr(explain, method)(RegionModel(own_module(), region), images[:1], target=2)
    values = np.asarray(maps.values).reshape(*maps.grid)
    rows, columns = (32 // side for side in maps.grid)
    inside = region.reshape(maps.grid[0], rows, maps.grid[1], columns).any(axis=(1, 3))
    assert (np.abs(values[inside]) > 0).all() and np.allclose(values[~inside], 0, atol=1e-7)


@pytest.mark.parametrize("kind", MODELS)
def test_deletion_is_measured_on_the_region(kind, images):
    region = RegionModel(MODELS[kind](), rectangle(4, 8, 12, 12))
    trials = Trials(observe(region, images[:1], ["feature maps"]))
    with torch.no_grad():
        known = region(images[:1]).double().softmax(1).numpy()
    np.testing.assert_allclose(trials.scores, known, atol=1e-6)
    (test,) = trials.trust(explain.occlusion(region, images[:1]))
    assert test.label == NAMES[known.argmax()] and test.score == f"the probability of {test.label}"
    assert test.untested or (0 < test.area < 1 and len(test.by_chance) >= 19)


def test_a_map_of_a_region_covers_what_the_region_shows(images):
    """Where a pixel counts for itself alone, covering a patch outside the region changes nothing."""
    region = RegionModel(own_module(), rectangle(0, 8, 16, 8))
    maps = explain.occlusion(region, images[:1])
    trials = Trials(observe(region, images[:1], ["feature maps"]))
    rows, columns = maps.grid
    shown = np.zeros(maps.grid, bool)
    shown[: rows // 2, columns // 4 : columns // 2] = True
    covered = np.stack([shown, ~shown, np.ones_like(shown)]).reshape(3, -1)
    scores = trials.scores_covered(0, covered, maps.grid)
    np.testing.assert_allclose(scores[1], trials.scores[0], atol=1e-6)
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-6)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


@pytest.mark.parametrize("head", ["linear", "detail"])
@pytest.mark.parametrize("size", [(32, 32), (36, 41), (25, 47)])
def test_an_encoder_of_any_size_is_decoded_where_its_patches_lie(head, size):
    """Padding on the right and at the bottom is decoded with the rest, and cut off."""
    settings = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0)
    model = redraw(Segmenter(construct("any_size", **settings), 3, decoder(head))).eval()
    image = torch.randn(1, 3, *size)
    below, right = (-side % 8 for side in size)
    with torch.no_grad():
        whole = model(F.pad(image, (0, right, 0, below)))
        torch.testing.assert_close(model(image), whole[..., : size[0], : size[1]])
