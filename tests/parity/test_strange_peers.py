"""Peers whose attention is no map of the whole image: padded windows, channels, groups, fewer keys, class attention."""

import numpy as np
import pytest
import torch

from peers import peer, shaken, timm
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError
from vitral.explain.observation import observe


def grid_of(model, images):
    return observe(model, images, ["feature maps"]).patch_grid()


def of_timm(name, **changes):
    return shaken(timm.create_model(name, num_classes=5, **changes))


@pytest.mark.parametrize("size", [(24, 24), (16, 24), (24, 32), (32, 32)], ids=str)
def test_torchvisions_swin_pads_its_last_stage_to_one_window_and_the_padding_is_not_shown(size):
    model = peer("torchvision Swin").model
    images, grid = torch.randn(2, 3, *size), (size[0] // 8, size[1] // 8)
    seen = see_attention(model, images)
    last = seen.layers[-1]
    assert last.num_tokens == 16 and len(last.kept_rows) == 2 and last.tokens.grid == grid
    real = last.weights().unflatten(3, (4, 4)).unflatten(2, (4, 4))
    real = real[:, :, : grid[0], : grid[1], : grid[0], : grid[1]]
    read, row = real.mean((2, 3)), real[:, :, 1, 1].mean(1)
    maps = explain.attention(model, images, layers=[-1])
    np.testing.assert_allclose(maps.values[:, 0], read / read.mean((2, 3), keepdim=True), rtol=1e-4)
    maps = explain.query_grid(model, images, queries=[(1, 1)])
    np.testing.assert_allclose(maps.values[:, 0], row / row.mean((1, 2), keepdim=True), rtol=1e-4)
    cam = explain.grad_cam(model, images)
    assert cam.grid == grid and cam.layers == ("leaving the last block",)
    assert explain.attention_gradient(model, images).grid == grid_of(model, images) == grid


def test_davits_channels_are_not_shown_as_an_image_with_cls():
    model = of_timm("davit_tiny", depths=(1, 1), embed_dims=(32, 64), num_heads=(1, 2))
    images = torch.randn(1, 3, 56, 56)
    seen = see_attention(model, images, rows=[0])
    assert [layer.num_tokens for layer in seen.layers] == [49, 32, 49, 32]
    for method in (explain.attention, explain.attention_gradient, explain.query_grid):
        with pytest.raises(UsageError, match="over the 32 channels of each head, not over its 49 tokens"):
            method(model, images)
    assert explain.attention(model, images, layers=[-2]).grid == explain.grad_cam(model, images).grid == (7, 7)


@pytest.mark.parametrize("count", [1, 2])
def test_of_maxvit_the_layers_are_shown_whose_tokens_are_known(count):
    model = timm.create_model("maxvit_rmlp_pico_rw_256", num_classes=5, img_size=64).eval()
    images = torch.randn(count, 3, 64, 64)
    assert explain.attention(model, images, layers=[-4]).grid == (2, 2)
    with pytest.raises(
        UsageError, match="places in the image are not known"
    ):  # each sees the whole image, nearly alike
        explain.attention(model, images)
    for method in (explain.rollout, explain.chefer):
        with pytest.raises(UsageError, match="attends within windows"):
            method(model, images)
    assert explain.attention(model, images, layers=[0]).grid == (16, 16)  # windows of neighbours
    with pytest.raises(UsageError, match="not windows of an earlier feature map"):
        explain.attention(model, images, layers=[1])  # tokens that are far apart
    with pytest.raises(UsageError, match="different numbers"):
        explain.attention(model, images, layers=[0, -4])
    # Of the last layer that is known.
    assert explain.grad_cam(model, images).grid == grid_of(model, images) == (4, 4)


def test_a_pyramids_patch_is_no_query_of_its_reduced_keys():
    sizes = dict(embed_dims=(32, 64), depths=(1, 1), num_heads=(1, 2), sr_ratios=(8, 1), mlp_ratios=(2, 2))
    model, images = of_timm("pvt_v2_b0", **sizes), torch.randn(1, 3, 64, 64)
    message = "has 256 queries for 4 tokens, so no query can be identified with the patch"
    with pytest.raises(UsageError, match=message):
        explain.query_grid(model, images, layer=0, queries=[(1, 1)])
    with pytest.raises(UsageError, match=message):
        explain.attention(model, images, layers=[0], query=(1, 1))
    assert explain.query_grid(model, images, queries=[(1, 1)]).values.shape == (1, 1, 8, 8)


def test_patches_beside_the_class_token_of_cait_are_found():
    model = of_timm("cait_xxs24_224", img_size=64, embed_dim=24, depth=1, num_heads=3)
    images = torch.randn(2, 3, 64, 64)
    assert grid_of(model, images) == explain.grad_cam(model, images).grid == (4, 4)
    assert explain.tested(model, images, explain.attention(model, images)).tested


def test_channels_first_between_the_blocks_of_coatnet():
    model = of_timm("coatnet_pico_rw_224", img_size=64)
    images = torch.randn(1, 3, 64, 64)
    cam = explain.grad_cam(model, images)
    assert cam.grid == grid_of(model, images) == (2, 2) and cam.layers == ("leaving the last block",)


def test_siglips_pool_of_a_few_patches():
    model = of_timm("vit_base_patch16_siglip_224", img_size=64, embed_dim=24, depth=2, num_heads=3)
    images = torch.randn(2, 3, 64, 64)
    maps = explain.attention(model, images)
    assert maps.reader == "the mean of all tokens (in the last layer the pool's query)" and maps.grid == (4, 4)
    with pytest.raises(UsageError, match="attn_pool has one learned query for 16 tokens"):
        explain.attention(model, images, query=(1, 1))
    assert explain.attention(model, images, layers=[0, 1], query=(1, 1)).grid == (4, 4)
