"""Dropout, NaN, devices, half precision, compiled, scripted and traced models, errors: exact, or refused by cause."""

import gc

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from own_vit import OwnViT
from tiny import gradients_plain_and_watched, redraw
from vitral import explain, watch
from vitral.base.errors import ShapeError, UsageError, WatchError
from vitral.base.lookup import names

METHODS = sorted(names("explain.methods"))


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 16, 16)


def on():
    """What watching switches on in this thread."""
    modes = (
        torch.overrides._get_current_function_mode_stack(),
        torch.utils._python_dispatch._get_current_dispatch_mode(),
    )
    return *modes, torch._C._get_graph_executor_optimize(), torch.is_grad_enabled(), torch.get_rng_state().tolist()


def hooks(model):
    return [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()]


def test_dropout_in_training_mode_is_seen_as_it_was_drawn(pictures):
    model = redraw(OwnViT(dropout=0.5)).train()
    torch.manual_seed(3)
    plain = model(pictures)
    torch.manual_seed(3)
    with watch(model, "all") as seen:
        watched = model(pictures)
    assert torch.equal(watched, plain) and model.training
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        assert 0.3 < (layer.weights() == 0).float().mean() < 0.7
        torch.testing.assert_close(layer.weights(), block.weights)
        assert layer.roles[:2] == ("cls", "patch 0 0")


@pytest.mark.parametrize("method", METHODS)
def test_maps_of_a_model_in_training_mode_are_those_of_its_eval_mode(pictures, method):
    model = redraw(OwnViT(dropout=0.5))
    expected = getattr(explain, method)(model, pictures)
    np.testing.assert_array_equal(getattr(explain, method)(model.train(), pictures).values, expected.values)
    assert all(part.training for part in model.modules())


class WithNaN(OwnViT):
    def enter(self, tokens):
        return torch.where(torch.arange(17)[:, None] == 3, torch.nan, tokens)


@pytest.mark.parametrize("rows", ["prefix", "all"])
def test_attention_that_is_not_a_number_is_refused_by_cause(pictures, rows):
    model, before = redraw(WithNaN()), on()
    words = r"attention of blocks\.0 returned values that are not finite.*NaN in the images and in the weights"
    with pytest.raises(WatchError, match=words), watch(model, rows):
        model(pictures)
    with pytest.raises(WatchError, match=words):
        explain.attention(model, pictures)
    assert on() == before


def test_images_that_hold_nan_are_named_among_the_causes(pictures):
    model = redraw(OwnViT())
    pictures[0, 0, 0, 0] = float("nan")
    with pytest.raises(WatchError, match="NaN in the images"), watch(model):
        model(pictures)


@pytest.mark.parametrize("method", METHODS)
def test_images_and_weights_on_different_devices_get_a_sentence(pictures, method):
    class Elsewhere(OwnViT):  # no accelerator here: its weights are said to be on one
        def parameters(self, recurse=True):
            yield type("Weight", (), dict(device=torch.device("cuda", 0), dtype=torch.float32, is_meta=False,
                                          is_floating_point=lambda self: True))()  # fmt: skip

        def before(self, images):
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")

    from vitral.recording.forward import run_model

    with pytest.raises(UsageError, match=r"is on cuda:0 and the images are on cpu\. Move them: images\.to\('cuda:0'\)"):
        run_model(Elsewhere(), pictures)
    with pytest.raises(UsageError, match="The images are on the meta device, which holds no values"):
        getattr(explain, method)(redraw(OwnViT()), pictures.to("meta"))
    with pytest.raises(UsageError, match="OwnViT is on the meta device, where weights have no values"):
        getattr(explain, method)(OwnViT().to("meta").eval(), pictures)


def test_on_the_meta_device_there_is_nothing_to_see_and_nothing_is_left(pictures):
    model, before = OwnViT().to("meta"), on()
    with pytest.raises(WatchError, match="on the meta device, which holds no values"), watch(model):
        model(pictures.to("meta"))
    with pytest.raises(RuntimeError, match="device meta"), watch(model):
        model(pictures)
    assert on() == before and set(hooks(model)) == {0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_another_precision_is_explained_in_it(pictures, dtype, method):
    expected = getattr(explain, method)(redraw(OwnViT()), pictures).values
    found = getattr(explain, method)(redraw(OwnViT()).to(dtype), pictures.to(dtype)).values
    assert found.shape == expected.shape and np.isfinite(found).all()
    if dtype == torch.float64:
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_what_is_seen_in_half_precision_is_what_was_used(pictures, dtype):
    model = redraw(OwnViT()).to(dtype)
    with watch(model, "all") as seen:
        model(pictures.to(dtype))
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        torch.testing.assert_close(layer.weights().to(dtype), block.weights)
        assert layer.roles[:2] == ("cls", "patch 0 0")
    with pytest.raises(
        UsageError, match=rf"OwnViT has {dtype} weights and the images are torch\.float32\. Convert them"
    ):
        explain.attention(model, pictures)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_under_autocast_it_is_explained_too(pictures, dtype, method):
    expected = getattr(explain, method)(redraw(OwnViT()), pictures)
    with torch.autocast("cpu", dtype):
        found = getattr(explain, method)(redraw(OwnViT()), pictures)
    assert found.layers == expected.layers and np.isfinite(found.values).all()


TRACING = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")


@TRACING
@pytest.mark.parametrize("ran_before", [0, 1, 3])
@pytest.mark.parametrize("graph", [True, False])
def test_a_traced_model_is_seen_however_often_it_ran(pictures, ran_before, graph):
    model = redraw(OwnViT())
    traced = torch.jit.trace(model, pictures, check_trace=False)
    for _ in range(ran_before):
        traced(pictures)
    before = on()
    with torch.set_grad_enabled(graph), watch(traced, "all") as seen:
        traced(pictures)
    model(pictures)
    assert on() == before and len(seen.layers) == 2
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        torch.testing.assert_close(layer.weights(), block.weights)
        assert layer.roles[:2] == ("cls", "patch 0 0")


@TRACING
def test_maps_of_a_traced_model_are_those_of_its_module_at_the_size_it_was_traced_for(pictures):
    model = redraw(OwnViT())
    traced = torch.jit.trace(model, pictures, check_trace=False)
    expected, found = (explain.attention(one, pictures) for one in (model, traced))
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5)
    with pytest.raises(ShapeError, match="A traced model takes the sizes that it was traced with"):
        explain.attention(traced, pictures[:1])


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


@TRACING
def test_a_scripted_model_is_refused_with_what_to_watch_instead(pictures):
    model, before = torch.jit.script(Doubled()), on()
    for refused in (lambda: watch(model).__enter__(), lambda: explain.attention(model, pictures)):
        with pytest.raises(
            UsageError, match=r"torch\.jit\.script module takes no hooks.*Watch the module that was scripted"
        ):
            refused()
    assert on() == before


@TRACING
@pytest.mark.parametrize("method", METHODS)
def test_a_scripted_part_of_a_model_does_not_matter(pictures, method):
    class Partly(OwnViT):
        def __init__(self, part):
            super().__init__()
            self.part = part

        def enter(self, tokens):
            return self.part(tokens)

    expected, found = (
        getattr(explain, method)(redraw(Partly(part)), pictures) for part in (Doubled(), torch.jit.script(Doubled()))
    )
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)


def test_nested_watching_of_another_model_is_refused_and_both_go_on(pictures):
    model, other, before = redraw(OwnViT()), redraw(OwnViT(), seed=1), on()
    with watch(model) as seen:
        with pytest.raises(UsageError, match="already being watched in this thread"), watch(other):
            pass
        with pytest.raises(UsageError, match="already being watched in this thread"):
            explain.attention(other, pictures)
        model(pictures)
    assert len(seen.layers) == 2 and set(hooks(model) + hooks(other)) == {0}
    assert on() == before


class Mine(Exception):
    pass


@pytest.mark.parametrize("error", [Mine("mine"), KeyError("mine"), KeyboardInterrupt(), StopIteration()], ids=repr)
@pytest.mark.parametrize("place", ["before", "enter", "answer"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_model_is_its_own_with_its_own_traceback(pictures, error, place, stream):
    def fail(self, value):
        raise error

    model = redraw(type("Failing", (OwnViT,), {place: fail})())
    before = on()
    with pytest.raises(type(error)) as caught, watch(model, stream=stream):
        model(pictures)
    assert caught.value is error
    assert caught.traceback[-1].name == "fail" and caught.value.__cause__ is None
    assert on() == before and set(hooks(model)) == {0}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_watch_that_cannot_begin_leaves_nothing_switched_on(pictures, monkeypatch):
    from vitral.recording import intercept

    def no_stream(*args, **kwargs):
        raise RuntimeError("no hooks here")

    model, before = redraw(OwnViT()), on()
    monkeypatch.setattr(intercept, "Stream", no_stream)
    with pytest.raises(RuntimeError, match="no hooks here"), watch(model, stream=True):
        pass
    assert on() == before and set(hooks(model)) == {0}


@pytest.mark.parametrize("method", ["chefer", "attention_gradient", "grad_cam"])
def test_a_model_with_checkpoints_is_explained_like_one_without(pictures, method):
    class Saving(OwnViT):
        def run(self, block, tokens):
            return checkpoint(block, tokens, use_reentrant=False)

    expected, found = (getattr(explain, method)(redraw(kind()), pictures).values for kind in (OwnViT, Saving))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_gradients_through_checkpoints_are_those_of_an_unwatched_pass(pictures):
    class Saving(OwnViT):
        def run(self, block, tokens):
            return checkpoint(block, tokens, use_reentrant=False)

    model = redraw(Saving()).train()
    gradients = gradients_plain_and_watched(model, pictures)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_failed_watch_holds_nothing(pictures):
    gc.collect()
    before = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
    model = redraw(WithNaN())
    with pytest.raises(WatchError), watch(model, "all", stream=True):
        model(pictures)
    del model
    gc.collect()
    assert sum(type(thing) is torch.Tensor for thing in gc.get_objects()) <= before + 8
