"""The residual stream that `watch` keeps is what each model's blocks read, and what its last one gives."""

import pytest
import torch

from peers import PEERS, peer
from tiny import see_attention, tiny_vit
from vitral import watch
from vitral.base.output import find_output


@torch.no_grad()
def test_it_is_what_our_blocks_read(vit, images):
    expected, x = [], vit.embed(images)
    for block in vit.blocks:
        expected.append(x)
        x = block(x)
    seen = see_attention(vit, images, rows="prefix", stream=True)
    assert len(seen.stream) == 4
    for found, right in zip(seen.stream, [*expected, x]):
        assert torch.equal(found, right)


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_it_has_a_place_before_each_block_and_one_after_the_last(name):
    made = peer(name)
    images = made.images()
    plain = find_output(made.model, made.model(images), len(images)).tensor
    with watch(made.model, rows=[0], stream=True) as seen:
        assert torch.equal(find_output(made.model, made.model(images), len(images)).tensor, plain)
    blocks = [layer for layer in seen.layers if layer.num_queries > 1]  # a pool's query is none
    if name == "written by hand":  # no module is a block: only what the readers are called with can be told
        pytest.skip("it has no blocks that are modules")
    assert len(seen.stream) == len(blocks) + 1
    assert all(len(tokens) == len(images) for tokens in seen.stream)


@torch.no_grad()
def test_where_attention_and_mlp_are_apart_it_is_the_sum_between(images):
    made = peer("vit-pytorch")
    images = made.images()
    with watch(made.model, stream=True) as seen:
        made.model(images)
    x = seen.stream[0]
    for (attend, think), following in zip(made.model.transformer.layers, seen.stream[1:]):
        x = attend(x) + x
        x = think(x) + x
        torch.testing.assert_close(following, x)


@torch.no_grad()
def test_nothing_stays_on_the_model(images):
    model = tiny_vit()
    with pytest.raises(ZeroDivisionError), watch(model, stream=True):
        model(images)
        raise ZeroDivisionError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_another_threads_pass_is_not_kept(vit, images):
    import threading

    with watch(vit, stream=True) as seen:
        thread = threading.Thread(target=vit, args=(images.flip(0),))
        thread.start()
        thread.join()
        vit(images)
    assert len(seen.stream) == 4
    assert torch.equal(seen.stream[0], vit.embed(images))
