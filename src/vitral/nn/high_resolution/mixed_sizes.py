"""A ViT on images of different sizes at once: each gives what it gives alone, and so do the gradients.

Axes:  c channels   y x pixels   gy gx rows, columns of patches   b images   n tokens (of one image, or of all)
       d width   k classes
"""

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError, ShapeError
from vitral.nn.attention import attend
from vitral.nn.high_resolution.any_size import AnySizeViT
from vitral.nn.high_resolution.layouts import OneSequence
from vitral.nn.high_resolution.windows import on_grid
from vitral.nn.parts import check_layers

Images = Sequence[Float[Tensor, "_ _ _"]] | Float[Tensor, "b c y x"]  # each (c y x), of its own size


class MixedSizes(nn.Module):
    """Runs an `AnySizeViT`, whose weights it shares, on a list of images (C, H, W) -> logits (B, k), in order.

    `layout` is `OneSequence` or `Padded`. Raises `ConfigError` for another model, or one whose stochastic depth would
    drop a branch for all images at once; `ShapeError` for what is not a list of images.

    >>> import torch
    >>> from vitral.nn.high_resolution.any_size import AnySizeViT
    >>> from vitral.nn.high_resolution.mixed_sizes import MixedSizes
    >>> model = MixedSizes(AnySizeViT(48, 8, num_classes=3, embed_dim=64, depth=2, num_heads=4))
    >>> model([torch.zeros(3, 48, 64), torch.zeros(3, 96, 32)]).shape
    torch.Size([2, 3])
    """

    def __init__(self, model: AnySizeViT, layout: type[OneSequence] = OneSequence):
        super().__init__()
        if not isinstance(model, AnySizeViT):
            raise ConfigError(
                f"MixedSizes takes an AnySizeViT, not a {type(model).__name__}: load a published ViT with "
                "any_size=True, or build one: vitral.nn.families.construct('any_size', **settings)."
            )
        mixers: list[Any] = [block.attn for block in model.blocks]
        if wrong := [mixer for mixer in mixers if "attend" not in signature(mixer.forward).parameters]:
            raise ConfigError(
                f"{type(wrong[0]).__name__} cannot keep the tokens of several images apart: it takes no `attend`."
            )
        self.model, self.layout = model, layout

    def encode(self, images: Images) -> Iterator[tuple[OneSequence, Float[Tensor, "b n d"]]]:
        """The tokens of all images after each block, and their layout."""
        self.check(images)
        model, grids = self.model, [self.model.grid_of(image[None]) for image in images]
        tokens = [model.embed(image[None]) for image in images]
        lengths = [one.shape[1] for one in tokens]
        x = self.layout(lengths, ()).arrange(tokens)
        for block in model.blocks:
            alone = [on_grid(block, grid).get("attend", attend) for grid in grids]
            layout = self.layout(lengths, alone)
            x = block(x, attend=layout)
            yield layout, x

    def check(self, images: Images) -> None:
        channels = self.model.config["in_channels"]
        if not len(images):
            raise ShapeError("There are no images.")
        for number, image in enumerate(images):
            if not isinstance(image, Tensor):
                raise ShapeError(f"Image {number} is a {type(image).__name__}; the model takes a list of tensors.")
            if image.ndim != 3 or image.shape[0] != channels or not image.numel():
                raise ShapeError(
                    f"Image {number} has shape {tuple(image.shape)}; the model takes a list of images "
                    f"({channels}, height, width)."
                )
        if self.training and self.model.config.get("drop_path_rate"):
            raise ConfigError(
                "Stochastic depth drops branches image by image, and these images run as one sequence: create the "
                "model with drop_path_rate=0, or train on images of one size."
            )

    def forward(self, images: Images) -> Float[Tensor, "b k"]:
        model = self.model
        for layout, x in self.encode(images):
            last = layout, x
        each = last[0].split(model.norm(last[1]))
        return model.head(torch.cat([model.pool(tokens, model.num_prefix_tokens) for tokens in each]))

    def features(self, images: Images, layers: Sequence[int]) -> list[list[Float[Tensor, "d _ _"]]]:
        """Feature maps of each image after each of the given blocks: one list per block, in the order of the images."""
        check_layers(layers, len(self.model.blocks), "blocks")
        self.check(images)
        rows, prefix = [self.model.grid_of(image[None])[0] for image in images], self.model.num_prefix_tokens
        after = [layout.split(x) for layout, x in self.encode(images)]
        return [
            [rearrange(x[0, prefix:], "(gy gx) d -> d gy gx", gy=own) for x, own in zip(after[layer], rows)]
            for layer in layers
        ]
