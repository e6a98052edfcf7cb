"""Small models for the tests, in which no parameter is zero or one."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from vitral import watch
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.vit import VisionTransformer

TINY: dict[str, Any] = dict(
    img_size=(8, 18), patch_size=(4, 6), num_classes=5, embed_dim=16, depth=3, num_heads=4, mlp_ratio=2.0
)


def redraw(module: nn.Module, seed: int = 0, deviation: float = 0.2) -> nn.Module:
    """Draw every parameter from a normal of this deviation (scales of norms around one); the module, in eval mode.

    A new model's head and projections are zero, so that it would keep any law; here each parameter matters.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            scale = getattr(part, "weight", None) if isinstance(part, nn.LayerNorm | nn.BatchNorm2d) else None
            for parameter in part.parameters(recurse=False):
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * deviation
                parameter.copy_(drawn + 1 if parameter is scale else drawn)
    return module.eval()


def tiny_vit(seed: int = 0, **changes: Any) -> VisionTransformer:
    """A ViT on a grid of 2 x 3 with patches of 4 x 6, redrawn."""
    model = VisionTransformer(**(TINY | changes))
    redraw(model, seed)
    return model


def with_record(model: nn.Module) -> nn.Module:
    """Give a model classes and preprocessing, as a trained one has."""
    seen = Preprocessing((8, 18), 0.9, "bilinear", (0.1, 0.2, 0.3))
    return attach_record(model, ModelRecord(("circle", "square", "<b>", "triangle", "ring"), seen))


def layer_norm(x: torch.Tensor, norm: nn.Module, eps: float = 1e-6) -> torch.Tensor:
    """LayerNorm written out, with the weights of a norm."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * norm.weight + norm.bias


def gradients_plain_and_watched(model: nn.Module, images: torch.Tensor) -> list[list[torch.Tensor]]:
    """The gradients of all parameters after a plain pass, and after a watched one."""
    gradients = []
    for watching in (nullcontext(), watch(model, "all")):
        model.zero_grad()
        with watching:
            out = model(images)
        out.sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    return gradients


@torch.no_grad()
def see_attention(model: nn.Module, *inputs: torch.Tensor, rows: Any = "all", **options: Any) -> Any:
    """What `watch` sees of one pass without gradients: all rows, unless others are chosen."""
    with watch(model, rows=rows, **options) as seen:
        model(*inputs)
    return seen
