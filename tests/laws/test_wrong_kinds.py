"""What is no model, no batch of images, no data set or no map is refused in a sentence."""

import numpy as np
import pytest
import torch

from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import ConfigError, ShapeError, UsageError
from vitral.base.lookup import names
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split
from vitral.explain.metric import metric
from vitral.nn.high_resolution.any_size import AnySizeViT
from vitral.nn.high_resolution.mixed_sizes import MixedSizes
from vitral.nn.high_resolution.token_merging import MergingViT
from vitral.nn.high_resolution.windowed import windowed
from vitral.nn.packed import packed
from vitral.nn.zoo import create
from vitral.recording.forward import logits_of, model_output

METHODS = sorted(names("explain.methods"))
every = pytest.mark.parametrize("method", METHODS)


@every
@pytest.mark.parametrize("model", ["runs/shapes-1", None], ids=str)
def test_a_model_that_is_none(method, model, images):
    with pytest.raises(UsageError, match=rf"a {type(model).__name__} was passed\. Load one"):
        getattr(explain, method)(model, images)


@every
def test_images_that_are_still_an_array(method, vit, images):
    with pytest.raises(UsageError, match=r"Images must be a tensor \(B, C, H, W\).*, not a ndarray"):
        getattr(explain, method)(vit, images.numpy())


class Around(torch.nn.Module):
    """A model around a ViT."""

    def __init__(self):
        super().__init__()
        self.vit = tiny_vit()


class InPlace(Around):
    """Prepares its input where it stands."""

    def forward(self, images):
        return self.vit(images.sub_(0.5))


@every
def test_images_that_a_model_changes_are_as_they_were(method, images):
    before = images.clone()
    getattr(explain, method)(InPlace(), images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("asks", [model_output, logits_of])
def test_images_that_are_nothing(asks, vit):
    with pytest.raises(UsageError, match="not a NoneType"):
        asks(vit, None)


@every
def test_one_image_is_no_batch(method, vit, images):
    with pytest.raises(ShapeError, match=r"For one image: images\[None\]"):
        getattr(explain, method)(vit, images[0])


@every
def test_a_model_that_gives_whole_numbers(method, images):
    class Whole(Around):
        def forward(self, images):
            return self.vit(images).round().long()

    with pytest.raises(UsageError, match=r"Whole returned torch\.int64 values; return logits"):
        getattr(explain, method)(Whole(), images)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32])
def test_a_target_of_any_whole_numbers(kind, vit, images):
    expected = explain.input_gradient(vit, images, [3, 1]).values
    np.testing.assert_array_equal(explain.input_gradient(vit, images, np.array([3, 1], kind)).values, expected)
    assert explain.grad_cam(vit, images, torch.tensor([3, 1], dtype=torch.int16)).targets == (3, 1)


def test_a_target_of_no_classes(vit, images):
    with pytest.raises(UsageError, match="target has 0 classes for 2 images"):
        explain.occlusion(vit, images, [])


SIX = Split(np.random.default_rng(0).integers(0, 256, (6, 8, 18, 3), dtype=np.uint8), np.zeros(6, int))
NOISE = Dataset("noise", tuple("abcde"), Preprocessing((8, 18)), lambda name: SIX)


class Always(Around):
    """Its answer is always the first class, so that all six images are explained."""

    def forward(self, images):
        return self.vit(images) + torch.eye(5)[0] * 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(data="cued"), r"takes a data set with its classes, not a str\. To find one by name: .*find_data"),
        (dict(data=SIX), "takes a data set with its classes, not a Split"),
        (dict(metrics=None), "No metric was chosen: give a list of names, from agreement"),
        (dict(methods=None), "No method was chosen: give a list of names, from attention"),
        (dict(methods=(name for name in ["rollout"])), "No method was chosen: give a list"),
        (dict(model="runs/shapes-1"), "A model is a torch.nn.Module, but a str was passed"),
    ],
    ids=["data by name", "a split", "no metrics", "no methods", "a generator", "a model by name"],
)
def test_what_cannot_be_scored(changes, message):
    asked = dict(methods=["rollout"], metrics=["deletion"], model=Always(), data=NOISE) | changes
    with pytest.raises(UsageError, match=message):
        explain.score(**asked)


def nothing(model, images, target=None):
    return None


def array(model, images, target=None):
    return np.ones((len(images), 2, 3))


def one_for_all(model, images, target=None):
    return explain.rollout(model, images[:1])


@pytest.mark.parametrize(
    ("method", "found"), [(nothing, "NoneType"), (array, "ndarray"), (one_for_all, r"maps of \(1, 2, 3\)")]
)
def test_a_method_that_does_not_give_one_map_an_image(method, found):
    with pytest.raises(UsageError, match=rf"{method.__name__} returned {found} for 6 images: a method returns Maps"):
        explain.score(["rollout", method], ["deletion"], Always(), NOISE)


def only_with_all(model, images, target=None):
    """Gives too few once it is asked again."""
    only_with_all.asked += 1
    return explain.rollout(model, images if only_with_all.asked == 1 else images[:2])


def test_a_method_that_gives_fewer_maps_when_it_is_asked_again():
    only_with_all.asked = 0
    with pytest.raises(UsageError, match=r"only_with_all returned maps of \(2, 2, 3\) for 6 images"):
        explain.score([only_with_all], ["stability"], Always(), NOISE)


def metric_that_gives(values):
    @metric(better="higher")
    def mine(maps, case):
        return values

    return mine


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros(2), r"values of \(2,\)"),
        (np.zeros((6, 2)), r"values of \(6, 2\)"),
        ([0.0] * 5, r"values of \(5,\)"),
        (0.5, "a float"),
        (None, "a NoneType"),
        ({"a": 1}, "a dict"),
        ([[1, 2], [3]], "a list"),
    ],
    ids=str,
)
def test_a_metric_that_does_not_give_a_number_an_image(given, said):
    with pytest.raises(UsageError, match=rf"mine returned {said} for the maps of 6 images: a metric returns one"):
        explain.score(["rollout"], [metric_that_gives(given)], Always(), NOISE)


@pytest.mark.parametrize("given", [[0.5] * 6, (1,) * 6, np.ones(6, bool), torch.ones(6)], ids=str)
def test_numbers_of_any_kind_are_numbers(given):
    table = explain.score(["rollout"], [metric_that_gives(given)], Always(), NOISE)
    assert table.scores[0].n == 6 and table.scores[0].value == float(given[0])


def test_what_is_no_model_cannot_be_packed():
    with pytest.raises(ConfigError, match=r"takes an nn.Module, not a int"):
        packed(3)


@pytest.mark.parametrize("orders", [2.5, "39", True, float("nan"), [39]], ids=str)
def test_orders_that_are_not_a_number(orders, vit, images):
    with pytest.raises(UsageError, match="is not a number of random orders: give a whole number, 19 or more"):
        explain.tested(vit, images, explain.rollout(vit, images), orders)


def test_models_that_have_no_windows_no_mixed_sizes_and_no_tokens_to_merge():
    swin, vit = create("swin_nano_patch2_window6_48"), create("vit_nano_patch8_48")
    with pytest.raises(ConfigError, match="not a SwinTransformer"):
        windowed(swin, 2)
    with pytest.raises(ConfigError, match="not a SwinTransformer"):
        MergingViT(swin)
    with pytest.raises(ConfigError, match="takes an AnySizeViT, not a VisionTransformer"):
        MixedSizes(vit)
    with pytest.raises(ShapeError, match="Image 0 is a str"):
        MixedSizes(AnySizeViT(16, 4, embed_dim=16, depth=1, num_heads=2))(["image.png"])
