"""After `watch`, the model and PyTorch are as they were."""

import contextlib
import gc
import os
import threading
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral import watch
from vitral.base.errors import UsageError
from vitral.explain import attention
from vitral.recording.calls import detached_copy


def state(model):
    """Everything that hangs on the model and its parts, by identity, and what is switched on in PyTorch."""
    parts = {}
    for name, module in model.named_modules():
        parts[name] = {key: id(value) for key, value in vars(module).items() if not isinstance(value, dict | bool)}
        for key, value in vars(module).items():
            if isinstance(value, dict):
                parts[f"{name}/{key}"] = {inner: id(item) for inner, item in value.items()}
            elif isinstance(value, bool):
                parts[f"{name}/{key}"] = value
        parts[f"{name}/class"] = type(module).forward, type(module).__call__
    return parts, modes(), torch.get_rng_state().tolist(), torch.is_grad_enabled()


def modes():
    """The modes of this thread, and whether compiled modules run compiled."""
    return torch.overrides._get_current_function_mode_stack(), torch._dynamo.eval_frame._stance.stance


FUNCTIONS = {
    "sdpa": lambda: torch.nn.functional.scaled_dot_product_attention,
    "softmax": lambda: torch.nn.functional.softmax,
    "matmul": lambda: torch.Tensor.__matmul__,
    "mha": lambda: nn.MultiheadAttention.forward,
}


@pytest.mark.parametrize("rows", ["prefix", [1], "all"], ids=str)
def test_nothing_is_left_behind(vit, images, rows):
    before, functions = state(vit), {name: get() for name, get in FUNCTIONS.items()}
    with watch(vit, rows=rows):
        vit(images)
    assert state(vit) == before
    assert modes() == ([], "default")
    assert {name: get() for name, get in FUNCTIONS.items()} == functions


def test_nothing_is_left_behind_by_an_error_inside_the_block(vit, images):
    before = state(vit)
    with pytest.raises(ZeroDivisionError), watch(vit):
        vit(images)
        raise ZeroDivisionError
    assert state(vit) == before


def test_nothing_is_left_behind_by_a_refusal(vit, images):
    before = state(vit)
    with pytest.raises(UsageError), watch(vit, rows=[99]):
        vit(images)
    assert state(vit) == before
    with watch(vit) as seen:
        vit(images)
    assert len(seen.layers) == 3


def test_what_was_seen_stays_as_it_was_when_the_model_runs_again(vit, images):
    with torch.no_grad(), watch(vit, rows="all") as seen:
        vit(images)
    before = [layer.weights().clone() for layer in seen.layers]
    vit(images + 1)
    assert len(seen.layers) == 3
    for layer, weights in zip(seen.layers, before, strict=True):
        assert torch.equal(layer.weights(), weights)


def test_a_block_inside_a_block_is_refused_and_the_outer_one_goes_on(vit, images):
    before = state(vit)
    with watch(vit) as seen:
        with pytest.raises(UsageError, match="already being watched in this thread"), watch(vit):
            pass
        vit(images)
    assert len(seen.layers) == 3
    assert state(vit) == before


@pytest.mark.parametrize("query", [0, 99], ids=["explained", "an explanation that fails"])
def test_each_part_keeps_its_own_mode(vit, images, query):
    vit.train()
    vit.blocks[1].eval()
    before = state(vit)
    with pytest.raises(UsageError) if query == 99 else contextlib.nullcontext():
        attention(vit, images, query=query)
    assert state(vit) == before
    assert vit.training
    assert not vit.blocks[1].attn.training


class Waiting(nn.Module):
    """A block that stops in the middle of the model until another thread has come as far."""

    def __init__(self, block, barrier):
        super().__init__()
        self.block, self.barrier = block, barrier

    def forward(self, x):
        self.barrier.wait(30)
        return self.block(x)


def in_threads(*work):
    """Run all at once; their results, or the first error."""
    results, errors = [None] * len(work), []

    def run(place, function):
        try:
            results[place] = function()
        except BaseException as error:  # whatever a thread raises is raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    return results


def test_two_threads_that_watch_two_models_at_once_see_each_their_own(images):
    barrier = threading.Barrier(2)
    models = [tiny_vit(seed=1, depth=2), tiny_vit(seed=2, depth=2, num_heads=2)]
    alone = []
    for model in models:
        with torch.no_grad(), watch(model) as seen:
            model(images)
        alone.append([layer.rows([0]) for layer in seen.layers])
        model.blocks = nn.ModuleList(Waiting(block, barrier) for block in model.blocks)

    def watched(model):
        with torch.no_grad(), watch(model) as seen:
            barrier.wait(30)
            model(images)
            barrier.wait(30)
        return [layer.rows([0]) for layer in seen.layers], [layer.name for layer in seen.layers]

    for (rows, names), expected in zip(in_threads(*(lambda m=m: watched(m) for m in models)), alone, strict=True):
        assert names == ["blocks.0.block.attn", "blocks.1.block.attn"]
        for got, wanted in zip(rows, expected, strict=True):
            assert torch.equal(got, wanted)


def test_what_another_thread_runs_is_not_seen(vit, images):
    with torch.no_grad(), watch(vit) as seen:
        (other,) = in_threads(lambda: vit(images))
        assert not seen.layers
        assert torch.equal(vit(images), other)
    assert len(seen.layers) == 3


@pytest.mark.parametrize("first_out", [0, 1])
def test_threads_that_stop_watching_in_any_order_leave_nothing_switched_on(vit, images, first_out):
    """The second begins inside the first; who leaves last notes what is still on when the other has left."""
    still_on, begun, one_left = [], [threading.Event() for _ in range(2)], threading.Event()

    def watching(number):
        if number == 1:
            begun[0].wait(30)
        with torch.no_grad(), watch(vit):
            begun[number].set()
            begun[1].wait(30)
            vit(images)
            if first_out != number:
                one_left.wait(30)
                still_on.append(modes()[1])
        one_left.set()

    in_threads(lambda: watching(0), lambda: watching(1))
    assert still_on == ["force_eager"]  # who stays still sees compiled models through their eager modules
    assert modes() == ([], "default")


@torch.no_grad()
def kept_by_watching(model, images, rows):
    """What was seen, and the bytes that it keeps: of rows, and of everything."""
    gc.collect()
    before = {id(thing) for thing in gc.get_objects() if type(thing) is torch.Tensor}
    with watch(model, rows) as seen:
        model(images)
    gc.collect()
    kept = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and id(thing) not in before]
    stored = {thing.untyped_storage().data_ptr(): thing.untyped_storage().nbytes() for thing in kept}
    return seen, sum(layer.kept_rows.untyped_storage().nbytes() for layer in seen.layers), sum(stored.values())


def test_rows_that_pass_keep_no_q_no_k_and_no_v(vit, images):
    """What stays of a layer is its rows: one of 7 tokens each, not (2, 4, 7, 4) of queries, keys and values."""
    seen, rows, everything = kept_by_watching(vit, images, "prefix")
    assert everything <= rows
    assert all(layer.roles for layer in seen.layers)


def test_rows_for_later_keep_q_and_k_and_no_more(vit, images):
    _, rows, everything = kept_by_watching(vit, images, "all")
    assert everything - rows <= 2 * 3 * (2 * 7 * 16) * 4  # 2 · layers · B·N·D numbers of 4 bytes


@pytest.mark.parametrize("count", [3, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_has_memory_of_its_own_and_gives_it_back(count, dtype):
    whole = torch.randn(2, count, 3, dtype=dtype, requires_grad=True)
    part = whole[:, :, :2].mT
    kept = detached_copy(part)
    assert torch.equal(kept, part) and kept.dtype == dtype and not kept.requires_grad
    assert kept.untyped_storage().nbytes() == part.nbytes
    before = resident()
    del kept
    assert before - resident() > 0.9 * part.nbytes or count == 3


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@torch.no_grad()
def test_what_was_seen_goes_with_its_last_reference(vit, images):
    """At once, not when Python next looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        with watch(vit, rows="all") as seen:
            vit(images)
        kept = [weakref.ref(layer.compute.q) for layer in seen.layers]
        assert all(one() is not None for one in kept)
        del seen
        assert all(one() is None for one in kept)
    finally:
        gc.enable()
