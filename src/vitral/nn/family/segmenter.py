"""Segmentation: an encoder's feature maps, and a decoder that scores every pixel's class.

Axes:  b batch   c channels   y x pixels   d width   gy gx rows, columns of a feature map   k classes
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.parts import Part, record_part

READ = 4  # blocks of a plain ViT that a decoder reads, evenly spread


class Segmenter(nn.Module):
    """Images (B, C, H, W) -> logits (B, num_classes, H, W).

    `encoder` is any model with `features(images, layers)`, built with `num_classes=0`: what follows its last block
    (norm, pool and head) is left out, since a decoder norms what it reads. `decoder(widths, strides, num_classes,
    in_channels)` gets the widths of the maps and how many pixels a place of each stands for; it turns the maps and the
    images into logits of any resolution, which are enlarged to that of the images.
    """

    config: dict[str, Any]  # enough to build the model again, untrained

    def __init__(self, encoder: Any, num_classes: int, decoder: Part):
        super().__init__()
        if num_classes < 2:
            raise ConfigError(
                f"num_classes={num_classes}: a segmenter needs at least 2 classes; the background is one."
            )
        stages = getattr(encoder, "stages", getattr(encoder, "layers", None))
        self.layers_read = spread(len(encoder.blocks)) if stages is None else tuple(range(len(stages)))
        encoder.norm, encoder.head, encoder.pool = nn.Identity(), nn.Identity(), nn.Identity()
        self.encoder = encoder
        self.preprocessing = encoder.preprocessing
        self.grid, self.num_prefix_tokens = encoder.grid, encoder.num_prefix_tokens
        widths, strides = self.measure_maps()
        channels = len(self.preprocessing.mean)
        self.decoder = decoder(widths=widths, strides=strides, num_classes=num_classes, in_channels=channels)
        self.config = dict(
            family="segmenter",
            img_size=encoder.config["img_size"],
            num_classes=num_classes,
            encoder=encoder.config,
            decoder=record_part(decoder),
        )
        nn.init.zeros_(self.decoder.head.weight)  # all classes as equally likely
        nn.init.zeros_(self.decoder.head.bias)

    @torch.no_grad()
    def measure_maps(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The widths of the encoder's maps, and how many rows of pixels a row of each stands for."""
        height, width = self.preprocessing.size
        image = torch.zeros(1, len(self.preprocessing.mean), height, width)
        training = self.encoder.training
        maps = self.encoder.eval().features(image, self.layers_read)
        self.encoder.train(training)
        return tuple(own.shape[1] for own in maps), tuple(round(height / own.shape[2]) for own in maps)

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """The encoder's feature maps."""
        return self.encoder.features(images, layers)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k y x"]:
        height, width = images.shape[2:]
        images = self.padded(images)
        logits = self.decoder(self.features(images, self.layers_read), images)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)[..., :height, :width]

    def padded(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c rows columns"]:
        """Images as an encoder of any size pads them itself: its maps cover the padding, so the decoder must see it."""
        if not hasattr(self.encoder, "grid_of"):
            return images
        below, right = (-side % patch for side, patch in zip(images.shape[2:], self.encoder.patch_embed.patch_size))
        return F.pad(images, (0, right, 0, below))


def spread(depth: int) -> tuple[int, ...]:
    """The last block and those that divide the ones before it evenly.

    >>> spread(12), spread(4), spread(3)
    ((2, 5, 8, 11), (0, 1, 2, 3), (0, 1, 2))
    """
    count = min(READ, depth)
    return tuple(round(depth * (number + 1) / count) - 1 for number in range(count))


def best_decoder(encoder: nn.Module) -> str:
    """The name of the decoder that suits an encoder: a pyramid where maps shrink from stage to stage."""
    return "detail" if hasattr(encoder, "blocks") else "pyramid"
