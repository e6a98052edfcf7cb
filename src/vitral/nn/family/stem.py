"""A convolutional stem as patch embedding.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   n patches   d width
"""

from itertools import pairwise

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.patch import PatchEmbedding, Size


class ConvStem(PatchEmbedding):
    """3 x 3 convolutions with stride 2, batch norm and ReLU until a patch is one pixel; then a 1 x 1 convolution.

    Xiao et al. 2021, "Early Convolutions Help Transformers See Better", §4. Widths double up to `embed_dim`.
    """

    def __init__(self, img_size: Size = 224, patch_size: Size = 16, in_channels: int = 3, embed_dim: int = 768):
        super().__init__(img_size, patch_size, in_channels, embed_dim)
        side, other = self.patch_size
        halvings = side.bit_length() - 1
        if side != other or side != 2**halvings or halvings < 1:
            raise ConfigError(f"patch_size={side}x{other} cannot be halved to one pixel: use 2, 4, 8, 16 or 32.")
        widths = [in_channels, *(max(1, embed_dim >> (halvings - 1 - step)) for step in range(halvings))]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        self.stem = nn.Sequential(*layers)
        self.in_channels = in_channels
        self.proj = nn.Conv2d(embed_dim, embed_dim, kernel_size=1)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        self.check(images, self.in_channels)
        return rearrange(self.proj(self.stem(images)), "b d gy gx -> b (gy gx) d")
