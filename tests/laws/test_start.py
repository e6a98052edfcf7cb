"""Before it has learned anything, a model finds every class as likely, and its blocks add nothing."""

import math

import pytest
import torch
import torch.nn.functional as F

from tiny import redraw
from vitral import create, list_models
from vitral.nn.head import MLPHead

SMALL = [name for name in list_models() if name.split("_")[1] in ("nano", "micro", "tiny")]


def test_the_small_presets_are_found():
    assert len(SMALL) >= 8


@pytest.mark.parametrize("name", SMALL)
def test_the_first_loss_is_log_of_the_number_of_classes(name):
    model = create(name, num_classes=7)
    logits = model(torch.randn(2, 3, *model.preprocessing.size))
    assert F.cross_entropy(logits, torch.tensor([2, 6])).item() == pytest.approx(math.log(7), rel=0.05)


@pytest.mark.parametrize("parts", [{}, {"head": MLPHead}])
def test_the_first_gradient_reaches_the_head(parts):
    model = create("vit_nano_patch8_48", num_classes=3, **parts)
    F.cross_entropy(model(torch.randn(4, 3, 48, 48)), torch.tensor([0, 1, 2, 2])).backward()
    last = [module for module in model.head.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert torch.equal(last.weight, torch.zeros_like(last.weight))
    assert last.weight.grad.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["vit_nano_patch8_48", "vit_micro_patch4_32", "vit_tiny_patch16_224"])
def test_each_block_starts_as_the_identity(name):
    model = create(name)
    x = torch.randn(2, 5, model.config["embed_dim"])
    for block in model.blocks:
        assert torch.equal(block(x), x)
    assert (redraw(model.blocks[0])(x) - x).abs().max() > 0.1


def test_a_patch_of_unit_variance_starts_as_a_token_of_unit_variance():
    model = create("vit_nano_patch8_48")
    tokens = model.patch_embed(torch.randn(64, 3, 48, 48))
    assert tokens.var().item() == pytest.approx(1, rel=0.1)


def test_learned_tokens_and_positions_start_small_and_not_zero():
    model = create("vit_tiny_patch16_224")
    for parameter in (model.cls_token, model.pos_embed):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.2)
