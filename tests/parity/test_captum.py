"""Methods that Captum has too, against Captum."""

import warnings

import numpy as np
import pytest
import torch

from peers import peer, shaken, timm
from tiny import tiny_vit
from vitral import explain
from vitral.nn.family.pool import MeanPool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam, Occlusion

TARGETS = [2, 0]


def per_patch(values, grid):
    height, width = values.shape[2] // grid[0], values.shape[3] // grid[1]
    return values.unflatten(2, (grid[0], height)).unflatten(4, (grid[1], width)).sum((1, 3, 5)).detach().numpy()


@pytest.fixture(params=["vit", "timm DINOv3", "torchvision Swin"])
def case(request, vit, images):
    if request.param == "vit":
        return vit, images
    made = peer(request.param)
    return made.model, made.images()


def test_input_times_gradient(case):
    model, images = case
    maps = explain.input_gradient(model, images, TARGETS)
    expected = InputXGradient(model).attribute(images.clone().requires_grad_(), target=TARGETS)
    np.testing.assert_allclose(maps.merged, per_patch(expected, maps.grid), rtol=1e-4, atol=1e-5)


def test_integrated_gradients(case):
    model, images = case
    maps = explain.integrated_gradients(model, images, TARGETS, steps=8)
    expected = IntegratedGradients(model).attribute(images, target=TARGETS, n_steps=8, method="riemann_middle")
    np.testing.assert_allclose(maps.merged, per_patch(expected, maps.grid), rtol=1e-3, atol=1e-4)


def test_integrated_gradients_add_up_to_the_change_of_the_logit(vit, images):
    model, images = vit.double(), images.double()
    maps = explain.integrated_gradients(model, images, TARGETS, steps=400)
    with torch.no_grad():
        gained = (model(images) - model(torch.zeros_like(images))).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]
    np.testing.assert_allclose(maps.values.sum((1, 2, 3, 4)), gained, rtol=1e-3)


def test_occlusion(case):
    model, images = case
    maps = explain.occlusion(model, images, TARGETS)
    window = (3, images.shape[2] // maps.grid[0], images.shape[3] // maps.grid[1])
    found = Occlusion(model).attribute(images, sliding_window_shapes=window, strides=window, target=TARGETS)
    expected = found[:, 0, :: window[1], :: window[2]].detach().numpy()
    np.testing.assert_allclose(maps.merged, expected, rtol=1e-4, atol=1e-5)


def unit(values):
    return values / values.sum((1, 2), keepdims=True) * values[0].size


def test_grad_cam_of_a_cnn():
    model = shaken(timm.create_model("resnet18", num_classes=5))
    images = torch.randn(2, 3, 64, 96)
    maps = explain.grad_cam(model, images, TARGETS)
    expected = LayerGradCam(model, model.layer4).attribute(images, target=TARGETS, relu_attributions=True)
    np.testing.assert_allclose(maps.merged, unit(expected[:, 0].detach().numpy()), rtol=1e-3, atol=1e-4)
    assert maps.grid == (2, 3)


def test_grad_cam_of_tokens(images):
    """Captum wants a map of channels first: tokens that enter the last block, turned."""
    vit = tiny_vit()
    maps = explain.grad_cam(vit, images, TARGETS)
    x = vit.embed(images)
    for block in vit.blocks[:-1]:
        x = block(x)
    x = x.detach().requires_grad_()
    logits = vit.head(vit.pool(vit.norm(vit.blocks[-1](x)), 1))
    slopes = torch.autograd.grad(logits.gather(1, torch.tensor(TARGETS)[:, None]).sum(), x)[0][:, 1:]
    expected = (slopes.mean(1, keepdim=True) * x[:, 1:]).sum(-1).clamp_min(0).detach().reshape(2, 2, 3).numpy()
    np.testing.assert_allclose(maps.merged, unit(expected), rtol=1e-4)
    assert maps.layers == ("entering the block of blocks.2.attn",)


def test_grad_cam_takes_what_leaves_the_last_block_where_it_is_read(images):
    maps = explain.grad_cam(tiny_vit(pool=MeanPool), images, TARGETS)
    assert maps.layers == ("leaving the last block",)
