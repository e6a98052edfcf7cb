"""An image becomes a sequence of patch tokens (Dosovitskiy et al. 2021, §3.1, equation 1).

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   n patches (n = gy gx)   d width
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError, ShapeError

Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    """Height and width, where one number stands for both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_sizes(least: int = 1, /, **sizes: int) -> None:
    """Raise `ConfigError` that names each size below `least`."""
    if wrong := [f"{name}={value}" for name, value in sizes.items() if value < least]:
        raise ConfigError(f"{', '.join(wrong)}: must be at least {least}.")


class PatchEmbedding(nn.Module):
    """Cut an image into patches and project each to `embed_dim` numbers with one linear layer.

    A convolution whose stride is its kernel size visits each patch once, so it *is* that linear layer: images
    (B, C, H, W) -> tokens (B, N, D), row by row. Sizes are a number or (height, width).

    >>> import torch
    >>> from vitral import PatchEmbedding
    >>> PatchEmbedding(img_size=224, patch_size=16)(torch.zeros(2, 3, 224, 224)).shape  # 14 x 14 patches
    torch.Size([2, 196, 768])

    Raises `ConfigError` if patches do not tile the image, `ShapeError` for images of another size.
    """

    def __init__(self, img_size: Size = 224, patch_size: Size = 16, in_channels: int = 3, embed_dim: int = 768):
        super().__init__()
        self.img_size, self.patch_size = pair(img_size), pair(patch_size)
        (height, width), (patch_height, patch_width) = self.img_size, self.patch_size
        if patch_height < 1 or patch_width < 1:
            raise ConfigError(f"patch_size={patch_height}x{patch_width}: each side must be at least 1 pixel.")
        if height % patch_height or width % patch_width or height < 1 or width < 1:
            fit = tuple(max(1, round(side / patch)) * patch for side, patch in zip(self.img_size, self.patch_size))
            raise ConfigError(
                f"img_size={height}x{width} cannot be cut into patches of {patch_height}x{patch_width}: "
                f"each side must be a multiple of the patch's. The nearest size that works: {fit[0]}x{fit[1]}."
            )
        self.grid = height // patch_height, width // patch_width
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=self.patch_size, stride=self.patch_size)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        self.check(images, self.proj.in_channels)
        return rearrange(self.proj(images), "b d gy gx -> b (gy gx) d")

    def check(self, images: Float[Tensor, "b c y x"], in_channels: int) -> None:
        expected = (in_channels, *self.img_size)
        if images.shape[1:] != expected:
            raise ShapeError(
                f"The model takes images of (channels, height, width) = {expected}, but was given "
                f"{tuple(images.shape[1:])}. Resize them, or create the model with img_size= and in_channels= to fit."
            )
