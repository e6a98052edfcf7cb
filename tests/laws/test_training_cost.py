"""The operations of a training step: forward, and for backward each product once for what it trains and once for what
comes before it."""

import pytest
import torch
from torch import nn

from vitral import create
from vitral.nn.cost import cost
from vitral.training.cost import training_operations


def patch_operations(model):
    """Of the patch embedding, whose images need no gradient."""
    weight, (rows, columns) = model.patch_embed.proj.weight, model.grid
    return 2 * weight.numel() * rows * columns


@pytest.mark.parametrize("name", ["vit_nano_patch8_48", "vit_micro_patch8_64"])
def test_all_layers_take_three_times_the_forward_pass_but_for_the_gradient_of_the_image(name):
    model = create(name, num_classes=10)
    assert training_operations(model) == 3 * 2 * cost(model).macs - patch_operations(model)


def test_a_frozen_model_with_a_trained_head_takes_little_more_than_the_forward_pass():
    model = create("vit_nano_patch8_48", num_classes=10)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    assert training_operations(model) == 2 * cost(model).macs + 2 * model.head.weight.numel()


def test_the_model_is_as_it_was():
    model = create("vit_nano_patch8_48", num_classes=10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    training_operations(model)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_model_without_gradients_in_eval_mode_is_not_counted():
    class Inner(nn.Linear):
        def forward(self, x):
            if not self.training:
                raise RuntimeError("backward can only be called in training mode")
            return super().forward(x)

    model = create("vit_nano_patch8_48", num_classes=10)
    model.head = Inner(model.head.in_features, 10)
    assert training_operations(model) is None
