"""What patches and their positions make of a permutation: to a ViT it is another name for the same function."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from tiny import redraw
from vitral.nn.zoo import create
from vitral.studies.changes import PATCH, permuted_patches, permuted_pixels, permuted_within

SIDE, SEED = 32, 3
GRID = SIDE // PATCH


@pytest.fixture
def vit():
    """The ViT of the studies on a grid of 4 x 4, every parameter drawn anew, in double precision."""
    return redraw(create("iso_attention_nano_patch8_48", img_size=SIDE, num_classes=3)).double()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


def given(pixels):
    return rearrange(torch.from_numpy(pixels).double() / 128 - 1, "b y x c -> b c y x")


def learned(model, pixels):
    """Logits, and the gradient of each parameter."""
    logits = model(given(pixels))
    F.cross_entropy(logits, torch.arange(len(pixels)) % 3).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def test_patches_in_another_order_are_positions_in_another_order(vit, pixels):
    """Logits and gradients are the same, so the same steps are taken and nothing is lost."""
    order = torch.from_numpy(np.random.default_rng(SEED).permutation(GRID * GRID))
    other = copy.deepcopy(vit)
    other.pos_embed.data = vit.pos_embed.data[:, order]
    (logits, slopes), (moved, moved_slopes) = learned(vit, pixels), learned(other, permuted_patches(pixels, SEED))
    torch.testing.assert_close(moved, logits, rtol=1e-10, atol=1e-10)
    slopes["pos_embed"] = slopes["pos_embed"][:, order]
    for name, slope in slopes.items():
        torch.testing.assert_close(moved_slopes[name], slope, rtol=1e-9, atol=1e-12, msg=name)


def test_pixels_in_another_order_within_patches_are_another_projection(vit, pixels):
    order = torch.from_numpy(np.random.default_rng(SEED).permutation(PATCH * PATCH))
    other = copy.deepcopy(vit)
    kernel = vit.patch_embed.proj.weight.data
    other.patch_embed.proj.weight.data = kernel.flatten(2)[:, :, order].reshape(kernel.shape)
    (logits, slopes), (moved, moved_slopes) = learned(vit, pixels), learned(other, permuted_within(pixels, SEED))
    torch.testing.assert_close(moved, logits, rtol=1e-10, atol=1e-10)
    slopes["patch_embed.proj.weight"] = slopes["patch_embed.proj.weight"].flatten(2)[:, :, order].reshape(kernel.shape)
    for name, slope in slopes.items():
        torch.testing.assert_close(moved_slopes[name], slope, rtol=1e-9, atol=1e-12, msg=name)


def test_pixels_in_another_order_are_not(vit, pixels):
    """No renaming of its parameters gives the same function: a patch sees pixels of the whole image."""
    with torch.no_grad():
        embedded = vit.patch_embed(given(permuted_pixels(pixels, SEED)))
        changed = pixels.copy()
        changed[:, :PATCH, :PATCH] = 255 - changed[:, :PATCH, :PATCH]  # one patch of the image as it was
        other = vit.patch_embed(given(permuted_pixels(changed, SEED)))
    assert ((embedded - other).abs().amax(dim=(0, 2)) > 1e-6).sum() > GRID * GRID // 2


@pytest.mark.parametrize("permuted", [permuted_patches, permuted_within, permuted_pixels])
def test_a_convolution_of_patches_and_a_resnet_cannot_rename_their_way_out(permuted, pixels):
    """What comes out of a 3 x 3 convolution for one patch depends on other pixels than before."""
    model = redraw(create("resnet_nano_48", img_size=SIDE, num_classes=3)).double().eval()
    with torch.no_grad():
        apart = (model(given(permuted(pixels, SEED))) - model(given(pixels))).abs().max()
    assert apart > 1e-3
