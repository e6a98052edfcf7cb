"""What Vitral runs for its own measurements leaves a model, its hooks and every random generator as they were."""

import os
import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from own_vit import OwnViT
from tiny import gradients_plain_and_watched, redraw
from vitral import explain, watch
from vitral.recording.apart import Subject
from vitral.recording.known_places import places_of
from vitral.recording.undisturbed import undisturbed


class Cache:
    """Keys and values of the last passes, as a model with a class of its own keeps them."""

    def __init__(self):
        self.keys, self.count = [], 0
        self.last = torch.zeros(4)


class Remembering(OwnViT):
    """Changes everything that a module can hold, in each pass."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(3))
        self.count, self.log, self.by_size, self.sizes = 0, [], {}, set()
        self.recent, self.cache, self.nested = deque(maxlen=2), Cache(), {"states": [torch.zeros(3)]}
        self.memory, self.generator, self.is_running = torch.zeros(3), torch.Generator().manual_seed(1), False

    def before(self, images):
        self.is_running = True  # and never false again, where the pass is stopped
        self.steps += 1
        mean = images.mean(dim=(0, 2, 3)).detach()
        self.average.lerp_(mean, 0.1)
        self.memory.add_(mean)
        self.nested["states"][0].add_(1)
        self.count += 1
        self.log.append(len(images))
        self.by_size[len(images)] = mean
        self.sizes.add(len(images))
        self.recent.append(mean)
        self.cache.keys.append(mean)
        self.cache.count += 1
        self.cache.last.fill_(len(images))
        torch.rand(3, generator=self.generator)
        torch.rand(3), random.random(), np.random.rand(3)  # noqa: NPY002 - as models do
        return self.norm(images)

    @property
    def state(self):
        tensors = (self.steps, self.average, self.memory, *self.norm.buffers(), self.nested["states"][0])
        kept = (self.count, self.log, sorted(self.by_size), self.sizes, len(self.recent), self.is_running)
        own = len(self.cache.keys), self.cache.count, self.cache.last.tolist()
        return [value.tolist() for value in tensors], kept, own, self.generator.get_state().tolist()


def drawn():
    """The state of every global generator; in the typed run beartype draws from Python's own."""
    python = () if os.environ.get("VITRAL_TYPED") else random.getstate()
    return torch.get_rng_state().tolist(), python, np.random.get_state()[1].tolist()  # noqa: NPY002


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 16, 16)


def measured(model, images):
    return places_of(Subject(model, images, (images,), {}))


IN_ORDER = [-1, *range(16)]  # the patch of each token


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("inference", [False, True])
def test_measuring_the_places_of_tokens_leaves_the_model_as_it_was(pictures, training, inference):
    with torch.inference_mode(inference):
        model = redraw(Remembering()).train(training)
        before, generators = str(model.state), drawn()
        attributes = {name: dict(vars(part)) for name, part in model.named_modules()}
        places = measured(model, pictures)[0]
        assert places.patches[0].tolist() == IN_ORDER
        assert str(model.state) == before
        assert drawn() == generators
    for name, part in model.named_modules():
        assert list(vars(part)) == list(attributes[name])
        assert all(value is attributes[name][key] for key, value in vars(part).items() if key != "training")
        assert part.training == training


def test_a_watched_pass_counts_once(pictures):
    model, twin = redraw(Remembering()), redraw(Remembering())
    for one in (model, twin):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        if one is model:
            with watch(one):
                one(pictures)
            generators = drawn()
        else:
            one(pictures)
    assert str(model.state) == str(twin.state) and generators == drawn()
    assert model.count == 1 and model.log == [2]


def test_hooks_of_the_user_see_the_watched_pass_only(pictures):
    model, seen = redraw(OwnViT()), []
    model.register_forward_pre_hook(lambda *args: seen.append("model enters"))
    handle = model.blocks[0].register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    model.head.register_forward_hook(lambda *args: seen.append("head"), always_call=True)
    with watch(model):
        model(pictures)
    assert seen == ["model enters", (2, 17, 16), "head"]
    handle.remove()
    seen.clear()
    model(pictures)
    assert seen == ["model enters", "head"]


def test_hooks_by_which_pytorch_makes_weights_run_in_measurements_too(pictures):
    model = redraw(OwnViT())
    plain = measured(model, pictures)
    prune.l1_unstructured(model.patches, "weight", 0.3)  # a hook makes the weight before each pass
    parametrizations.weight_norm(model.blocks[0].qkv)
    with undisturbed(model):
        assert len(model.patches._forward_pre_hooks) == 1
    with torch.no_grad(), watch(model, "all") as seen:
        model(pictures)
    assert torch.equal(measured(redraw(model), pictures)[0].patches, plain[0].patches)
    assert seen.layers[0].roles[:2] == ("cls", "patch 0 0")
    torch.testing.assert_close(seen.layers[0].weights(), model.blocks[0].weights)


def test_what_was_kept_of_an_earlier_pass_is_kept_still(pictures):
    model = redraw(OwnViT())
    model(pictures)
    kept = [block.weights for block in model.blocks]
    measured(model, torch.randn(1, 3, 24, 24))  # raises inside: the positions are of 4 x 4 patches
    measured(model, pictures)
    assert all(block.weights is weights for block, weights in zip(model.blocks, kept, strict=True))
    kept[0].sum().backward()  # its graph is whole


def test_gradients_under_autocast_are_those_of_an_unwatched_pass(pictures):
    model = redraw(OwnViT())
    with torch.autocast("cpu", torch.bfloat16):
        gradients = gradients_plain_and_watched(model, pictures)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_no_gradient_is_left_by_measurements(pictures):
    model = redraw(OwnViT())
    with watch(model, "all"):
        model(pictures)
    explain.attention(model, pictures)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_looking_for_feature_maps_leaves_the_model_as_it_was(pictures):
    class Counting(nn.Sequential):
        count = 0

        def forward(self, x):
            self.count += len(x) == 16  # the measurement's random images
            return super().forward(x)

    model = redraw(Counting(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    seen = []
    model[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    model.num_classes = 8
    assert explain.grad_cam(model, pictures).values.shape[0] == 2
    assert model.count == 0 and set(seen) <= {1, 2}


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_an_error_within_a_measurement_leaves_the_model_as_it_was(pictures, error):
    class Failing(Remembering):
        def before(self, images):
            super().before(images)
            raise error

    model = redraw(Failing())
    model.register_forward_hook(lambda *args: None)
    before, hooks, generators = str(model.state), model._forward_hooks, drawn()
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            measured(model, pictures)
    else:
        assert measured(model, pictures) == ()
    assert str(model.state) == before and model._forward_hooks is hooks and drawn() == generators


def test_a_container_that_refers_to_itself_or_is_large_is_left_alone(pictures):
    model = redraw(OwnViT())
    loop = [model]
    loop.append(loop)
    model.loop, model.data, model.parent = loop, [torch.zeros(1)] * 5000, (loop, {"x": loop})
    assert measured(model, pictures)[0].patches[0].tolist() == IN_ORDER
    assert model.loop is loop and loop[0] is model and loop[1] is loop and len(model.data) == 5000
