"""Permutations: for a ViT a permutation of patches only renames its parameters; of all pixels it does not."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from tiny import redraw
from vitral.nn.zoo import create
from vitral.studies.dataset_changes import PATCH, permute_patches, permute_pixels, permute_within_patches

SIDE, SEED = 32, 3
GRID = SIDE // PATCH


@pytest.fixture
def vit():
    """The ViT of the studies on a grid of 4 x 4, with random parameters, in double precision."""
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


def assert_learns_the_same(one, other, pixels, permuted, name, renamed):
    """`other` on permuted pixels is and learns what `one` is and learns, but for the order of one parameter."""
    (logits, gradients), (moved, moved_gradients) = learned(one, pixels), learned(other, permuted(pixels, SEED))
    torch.testing.assert_close(moved, logits, rtol=1e-10, atol=1e-10)
    gradients[name] = renamed(gradients[name])
    for key, gradient in gradients.items():
        torch.testing.assert_close(moved_gradients[key], gradient, rtol=1e-9, atol=1e-12, msg=key)


def test_permuting_patches_is_the_same_as_permuting_positions(vit, pixels):
    """Logits and gradients are the same, so training takes the same steps and loses nothing."""
    order = torch.from_numpy(np.random.default_rng(SEED).permutation(GRID * GRID))
    other = copy.deepcopy(vit)
    other.pos_embed.data = vit.pos_embed.data[:, order]
    assert_learns_the_same(vit, other, pixels, permute_patches, "pos_embed", lambda table: table[:, order])


def test_permuting_pixels_within_patches_is_the_same_as_permuting_the_projection(vit, pixels):
    order = torch.from_numpy(np.random.default_rng(SEED).permutation(PATCH * PATCH))
    other = copy.deepcopy(vit)

    def renamed(kernel):
        return kernel.flatten(2)[:, :, order].reshape(kernel.shape)

    other.patch_embed.proj.weight.data = renamed(vit.patch_embed.proj.weight.data)
    assert_learns_the_same(vit, other, pixels, permute_within_patches, "patch_embed.proj.weight", renamed)


def test_permuting_all_pixels_is_not_the_same_as_renaming_parameters(vit, pixels):
    """No renaming of its parameters gives the same function: a patch sees pixels of the whole image."""
    with torch.no_grad():
        embedded = vit.patch_embed(given(permute_pixels(pixels, SEED)))
        changed = pixels.copy()
        changed[:, :PATCH, :PATCH] = 255 - changed[:, :PATCH, :PATCH]  # one patch of the image as it was
        other = vit.patch_embed(given(permute_pixels(changed, SEED)))
    assert ((embedded - other).abs().amax(dim=(0, 2)) > 1e-6).sum() > GRID * GRID // 2


@pytest.mark.parametrize("permuted", [permute_patches, permute_within_patches, permute_pixels])
def test_a_resnet_changes_under_every_permutation(permuted, pixels):
    """The output of a 3 x 3 convolution for one patch then depends on other pixels."""
    model = redraw(create("resnet_nano_48", img_size=SIDE, num_classes=3)).double().eval()
    with torch.no_grad():
        apart = (model(given(permuted(pixels, SEED))) - model(given(pixels))).abs().max()
    assert apart > 1e-3
