"""Real code is generated and compiled once for each family, forwards and backwards, and computes what eager does.

What the other parts trace to is in `test_family_parts.py`, without the minute that a C++ compiler takes for each.
"""

import shutil

import pytest
import torch

from tiny import redraw
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.cnn import ResNet
from vitral.nn.family.mlp import SwiGLU
from vitral.nn.family.position import NoPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.vit import VisionTransformer

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),  # of PyTorch, about itself
]

SMALL = dict(img_size=16, patch_size=4, num_classes=5, embed_dim=16, depth=1, num_heads=2)
ROTARY = dict(tokens={"cls_token": 1, "reg_token": 2}, position=NoPosition, mixer=RotaryAttention, block=ScaledBlock)
ROTARY |= dict(mlp=SwiGLU)
FAMILIES = {
    "lecture": lambda: VisionTransformer(**SMALL),
    "rotary": lambda: VisionTransformer(**SMALL, **ROTARY),
    "Swin": lambda: SwinTransformer(
        img_size=16, patch_size=2, num_classes=5, embed_dim=8, depths=(2,), num_heads=(2,), window_size=4
    ),
    "ResNet": lambda: ResNet(img_size=16, num_classes=5, embed_dim=8, depths=(1,)),
}


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_compiled_code_computes_what_eager_does(make):
    model = redraw(make())
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    ours, wanted = compiled(images), model(images)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    gradients = (torch.autograd.grad(logits.square().sum(), parameters) for logits in (ours, wanted))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-6)
