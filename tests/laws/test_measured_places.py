"""What changing patches of the image shows of Vitral's own models is what these state of themselves."""

import pytest
import torch

from tiny import redraw, see_attention, tiny_vit
from vitral import create
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import SinCosPosition
from vitral.recording.apart import Subject
from vitral.recording.known_places import places_of

OWN = {
    "CLS": lambda: tiny_vit(),
    "no prefix": lambda: tiny_vit(tokens={}, pool=MeanPool),
    "registers": lambda: tiny_vit(tokens={"cls_token": 1, "reg_token": 2}),
    "distilled": lambda: tiny_vit(tokens={"cls_token": 1, "dist_token": 1}),
    "sine positions": lambda: tiny_vit(position=SinCosPosition),
    "deeper": lambda: tiny_vit(depth=6),
}


def measured(model, images):
    return places_of(Subject(model, images, (images,), {}))


@pytest.mark.parametrize("name", OWN)
def test_a_vits_tokens_are_those_that_it_states(name):
    model = OWN[name]()
    images = torch.randn(2, 3, 8, 18)
    places, *others = measured(model, images)
    assert len(others) == model.config["depth"] - 1 and places.asks_itself
    assert all(torch.equal(one.patches, places.patches) and one.asks_itself for one in others)
    layers = see_attention(model, images, rows=[0]).layers
    assert places.exact and places.grid == model.grid and places.batch_axis == "batch"
    for layer in layers:
        expected = [-1] * model.num_prefix_tokens + list(range(model.grid[0] * model.grid[1]))
        assert places.patches.tolist() == [expected] * layer.num_heads
        assert layer.tokens.patch_tokens == tuple(expected.index(patch) for patch in range(6))


def test_a_swins_windows_are_those_that_it_cuts():
    model = redraw(
        create("swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(2, 2), num_heads=(1, 2), embed_dim=8)
    )
    images = torch.randn(2, 3, 64, 64)
    layers = see_attention(model, images).layers
    found = measured(model, images)
    assert len(found) == len(layers) == 4
    for layer, places in zip(layers, found):
        assert places.grid == layer.tokens.grid
        heads = places.patches.unflatten(0, (-1, layer.num_heads))
        for head in range(layer.num_heads):
            assert heads[:, head].tolist() == layer.windows.places.tolist()
