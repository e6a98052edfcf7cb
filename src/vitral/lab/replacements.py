"""Modules that call a reader's function in place of a part of Vitral's model, with that part's weights."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vitral.nn.vit import VisionTransformer


class PatchEmbeddingWith(nn.Module):
    """A patch embedding whose patches are cut by another function."""

    def __init__(self, patchify: Callable[[Tensor, int], Tensor], ours: Any):
        super().__init__()
        self.patchify, self.proj, self.grid = patchify, ours.proj, ours.grid

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patchify(images, self.proj.kernel_size[0])
        return patches @ self.proj.weight.flatten(1).T + self.proj.bias


class AttentionWith(nn.Module):
    """Multi-head attention whose heads are computed by another function."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor], ours: Any):
        super().__init__()
        self.attend, self.qkv, self.proj, self.num_heads = attend, ours.qkv, ours.proj, ours.num_heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        return self.proj(rearrange(self.attend(q, k, v), "b h n e -> b n (h e)"))


def copy_weights(module: nn.Module, ours: nn.Module) -> nn.Module:
    """Return the module in eval mode with the weights of ours; both have the same parameter names."""
    loaded = module.load_state_dict(ours.state_dict(), strict=False)
    parameters = {name for name, _ in module.named_parameters()}
    assert not loaded.unexpected_keys and not parameters & set(loaded.missing_keys)
    return module.eval()


def build_random_model() -> tuple[VisionTransformer, Tensor]:
    """Return a small ViT with 2 x 3 patches and two images.

    All weights are random: with the zeros and ones of a new model, tokens would attend almost evenly.
    """
    generator = torch.Generator().manual_seed(0)
    model = VisionTransformer(img_size=(16, 24), patch_size=8, num_classes=5, embed_dim=16, depth=3, num_heads=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model.eval(), torch.randn(2, 3, 16, 24, generator=generator)
