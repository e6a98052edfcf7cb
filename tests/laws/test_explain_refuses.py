"""What cannot be explained is refused in a sentence: targets, grids, layers, patches, masks, batches, answers."""

import numpy as np
import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral import explain, watch
from vitral.base.errors import ShapeError, UsageError
from vitral.base.lookup import find
from vitral.explain.entry import explainer
from vitral.explain.scoring import resolve_metrics
from vitral.explain.trials import trust
from vitral.explain.untrained_twin import untrained_twin

GRADIENTS = ("input_gradient", "integrated_gradients", "grad_cam", "chefer", "attention_gradient")


@pytest.mark.parametrize("target", ["disk", 1.5, True, [0.5, 1.0], [[0], [1]], [None, 1]], ids=str)
def test_a_target_that_is_no_class(vit, images, target):
    with pytest.raises(UsageError, match="is not a class: give its number"):
        explain.occlusion(vit, images, target)


@pytest.mark.parametrize("target", [3, np.int64(3), torch.tensor(3), [3, 3], np.array([3, 3]), torch.tensor([3, 3])])
def test_targets_in_any_form(vit, images, target):
    assert explain.input_gradient(vit, images, target).targets == (3, 3)


@pytest.mark.parametrize(("grid", "error"), [((5, 5), ShapeError), ((0, 3), UsageError), ((2, 3, 1), UsageError)])
@pytest.mark.parametrize("method", ["occlusion", "input_gradient", "integrated_gradients"])
def test_a_grid_that_is_none(vit, images, method, grid, error):
    with pytest.raises(error, match="grid"):
        getattr(explain, method)(vit, images, grid=grid)


QUERIES = [[1], 1.5, "grid", (1, 2, 3), True, (True, 0), (0.5, 1), [[0, 1]], np.float64(1)]
CHOSEN = [dict(layers=3), dict(layers=["a"]), dict(heads=1.5), dict(heads=[True]), dict(layers="0")]


@pytest.mark.parametrize("chosen", [*(dict(query=query) for query in QUERIES), *CHOSEN], ids=str)
def test_a_query_that_is_none_and_layers_and_heads_that_are_no_list(vit, images, chosen):
    message = "neither a token's index nor" if "query" in chosen else "is not a list of integers"
    with pytest.raises(UsageError, match=message):
        explain.attention(vit, images, **chosen)


@pytest.mark.parametrize(
    "asked",
    [
        dict(query=np.int64(2), layers=[np.int64(0)], heads=np.array([1, 3])),
        dict(query=[0, 1], layers=np.array([0]), heads=range(1, 4, 2)),
        dict(query=(np.int32(0), np.int64(1)), layers=(0,), heads=(1, 3)),
        dict(query=np.array([0, 1]), layers=[0], heads=[np.uint8(1), 3]),
    ],
    ids=str,
)
def test_numbers_of_numpy_are_numbers(vit, images, asked):
    expected = explain.attention(vit, images, query=2, layers=[0], heads=[1, 3])
    maps = explain.attention(vit, images, **asked)
    np.testing.assert_array_equal(maps.values, expected.values)
    assert maps.heads == (1, 3) and all(type(head) is int for head in maps.heads)
    grid = explain.query_grid(vit, images, queries=np.array([[0, 1]]), layer=np.int64(0), head=np.int64(3))
    np.testing.assert_array_equal(grid.values[:, 0], expected.values[:, 0, 1])
    with watch(vit, rows=[np.int64(1)]) as seen:
        vit(images)
    assert seen.layers[0].rows([1]).shape == (2, 4, 1, 7)


@pytest.mark.parametrize("patch", [5, (0, 3), (1, 2, 3), "a"], ids=str)
@pytest.mark.parametrize("name", ["similarity", "receptive_field"])
def test_a_patch_that_is_none(vit, images, name, patch):
    with pytest.raises(UsageError, match=r"not a patch|There is no patch"):
        getattr(explain, name)(vit, images, patch)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (None, dict(rows=None), "rows=None is not supported"),
        (None, dict(rows=["a"]), "is not supported"),
        (None, dict(rows=[0.5]), "is not supported"),
        (None, dict(num_prefix_tokens=-1), "must be at least 0"),
        (3, {}, "takes a torch.nn.Module, not a int"),
    ],
    ids=str,
)
def test_what_cannot_be_watched(vit, model, arguments, message):
    with pytest.raises(UsageError, match=message):
        watch(vit if model is None else model, **arguments)


def test_a_query_of_a_grid_that_is_none(vit, images):
    with pytest.raises(UsageError, match="5 is not a patch"):
        explain.query_grid(vit, images, queries=[5])


def test_a_metric_that_is_none(vit):
    with pytest.raises(UsageError, match="3 is not a metric"):
        resolve_metrics([3])


def test_a_watch_sees_once(vit, images):
    once = watch(vit)
    with once:
        vit(images)
    with pytest.raises(UsageError, match="was already used"), once:
        vit(images)


@pytest.mark.parametrize("method", ["attention", "occlusion", "chefer", "rollout"])
def test_an_empty_batch(vit, images, method):
    with pytest.raises(UsageError, match="the batch is empty"):
        getattr(explain, method)(vit, images[:0])


@pytest.mark.parametrize("shape", [(2, 18, 8), (2, 16, 36), (1, 8, 18), (3, 8, 18)], ids=str)
def test_masks_of_another_size(vit, images, shape):
    with pytest.raises(ShapeError, match="pass one mask per image"):
        explain.attention_mass(vit, images, np.zeros(shape, bool))


def test_features_are_no_classes(images):
    with pytest.raises(UsageError, match="not one score per class"):
        explain.chefer(tiny_vit(num_classes=0), images)


@pytest.mark.parametrize("method", GRADIENTS)
def test_gradients_are_recorded_also_in_inference_mode(vit, images, method):
    expected = getattr(explain, method)(vit, images).values
    with torch.inference_mode():
        inside = images.clone()
        np.testing.assert_allclose(getattr(explain, method)(vit, inside).values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(getattr(explain, method)(vit, inside).values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", GRADIENTS)
def test_a_model_made_in_inference_mode_has_no_gradients(images, method):
    with torch.inference_mode():
        model = tiny_vit()
    with pytest.raises(UsageError, match="inference_mode"):
        getattr(explain, method)(model, images)


def test_rounding_is_no_map(vit, images):
    """With queries of zero all is uniform, but for what single precision rounds."""
    for block in vit.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
        nn.init.zeros_(block.attn.qkv.bias)
    maps = explain.rollout(vit, images)
    assert maps.constant == [0, 1]
    assert all(one.sentence == "The map ranks no patch, so it cannot be tested." for one in trust(vit, images, maps))


def test_an_image_that_does_not_divide_into_the_map_is_tested_all_the_same():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=3), nn.Flatten(), nn.Linear(8 * 12, 5)
    )
    images = torch.randn(1, 3, 32, 41)
    maps = explain.tested(model, images, explain.grad_cam(model, images))
    assert maps.grid == (3, 4) and maps.tested[0].startswith(("Tested", "The map ranks nothing"))
    assert maps.tested[0] in maps.caption_of(0)


def test_nothing_of_what_was_learned_is_left_in_the_untrained_twin():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.class_embedding = nn.Parameter(torch.full((4,), 7.0))
            self.inner = nn.MultiheadAttention(4, 2)

    odd = Odd()
    with torch.no_grad():
        for parameter in odd.parameters():
            parameter.fill_(7.0)
    assert not any((parameter == 7).any() for parameter in untrained_twin(odd).parameters())


class Keeping(nn.Module):
    """A model that keeps its last attention, as many do to show it."""

    def __init__(self):
        super().__init__()
        self.inner, self.kept = tiny_vit(), {}

    def forward(self, images):
        answer = self.inner(images)
        self.kept = {"answers": [answer, answer], "cut off": answer.detach()}
        return answer


def test_a_model_that_keeps_what_it_computed_has_an_untrained_twin_after_any_pass(images):
    untrained = explainer(find("explain.controls", "untrained", "control"))

    model = Keeping()
    before = untrained(model, images).values
    model(images)
    assert model.kept["answers"][0].grad_fn is not None
    np.testing.assert_array_equal(untrained(model, images).values, before)
    model(images)  # the observation above ran it once more, without a graph
    twin = untrained_twin(model)
    first, second = twin.kept["answers"]
    assert first is second and first.grad_fn is None and torch.equal(first, model.kept["answers"][0])
    assert model.kept["answers"][0].grad_fn is not None


@pytest.mark.parametrize("method", ["input_gradient", "grad_cam", "chefer", "attention_gradient"])
def test_images_of_whole_numbers_have_no_gradients(vit, images, method):
    with pytest.raises(UsageError, match=r"uint8 images.*Convert them"):
        getattr(explain, method)(vit, (images * 50).to(torch.uint8))


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_what_is_advised_for_inference_mode_works(images, method):
    with torch.inference_mode():
        model = tiny_vit()
    with pytest.raises(UsageError, match="inference_mode") as caught:
        getattr(explain, method)(model, images)
    assert method not in str(caught.value)
    assert "occlusion" in str(caught.value)
    assert explain.occlusion(model, images).values.shape[0] == len(images)


@pytest.mark.parametrize("method", ["input_gradient", "grad_cam", "chefer", "attention_gradient"])
def test_a_model_that_is_trained_on_is_observed_again(vit, images, method):
    found = find("explain.methods", method, "method")
    observation = explain.observe(vit, images, ["attention", "feature maps", "gradients"])
    found(observation, 1)
    with torch.no_grad():
        for weight in vit.parameters():
            weight.mul_(1.1)
    with pytest.raises(UsageError, match=r"VisionTransformer was changed .* observe it again"):
        found(observation, 1)


def test_an_observation_does_not_run_a_model_whose_weights_were_changed_since(images):
    model = tiny_vit()
    observation = explain.observe(model, images)
    assert torch.equal(observation.run(images), observation.run(images))
    with torch.no_grad():
        model.head.weight.mul_(2)
    with pytest.raises(UsageError, match="The weights of VisionTransformer were changed after it was observed"):
        find("explain.methods", "occlusion", "method")(observation)


@pytest.mark.parametrize("needs", [None, 3, [None], ["attention", 3], [["attention"]], "maps"], ids=str)
def test_needs_that_do_not_exist(vit, images, needs):
    with pytest.raises(UsageError, match=r"^needs: .* is not supported; it takes 'attention', 'feature maps'"):
        explain.observe(vit, images, needs)


@pytest.mark.parametrize("check", [None, 3, ["full"], "half"], ids=str)
def test_a_check_that_does_not_exist(vit, images, check):
    with pytest.raises(UsageError, match=r"^check: .* is not supported; it takes 'full', 'rows'"):
        explain.observe(vit, images, check=check)


def test_images_of_whole_numbers_have_pixels():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = tiny_vit()

        def forward(self, images):
            return self.vit(images.float() / 255)

    images = torch.randint(0, 256, (1, 3, 8, 18), dtype=torch.uint8)
    assert explain.occlusion(Scaled().eval(), images, 0, grid=(2, 3)).pixels.shape == (1, 8, 18, 3)
