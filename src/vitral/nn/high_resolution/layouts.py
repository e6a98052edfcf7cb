"""How the tokens of images of different sizes stand in one tensor, and attend within their own image only.

As one sequence (Dehghani et al. 2023, "Patch n' Pack: NaViT", §2.1), linear layers, norms and MLPs run over the tokens
of all images, and nothing is computed for padding. Attention runs image by image, where the paper masks one matrix of
all tokens by all tokens.

Axes:  b images   n tokens (of one image, or of all)   d width   h heads   e width of one head
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.nn.attention import Attend, Heads, attend


@dataclass(frozen=True)
class OneSequence:
    """The tokens of all images one after another, (1, Σn, D); attention runs in a loop over the images.

    `lengths` are the numbers of their tokens, `alone` is how each image's tokens attend when it is alone.
    """

    joins_images: ClassVar[bool] = True  # so that no attention map is shown that mixes them
    lengths: Sequence[int]
    alone: Sequence[Attend]

    def arrange(self, tokens: Sequence[Float[Tensor, "1 _ d"]]) -> Float[Tensor, "1 n d"]:
        return torch.cat(list(tokens), dim=1)

    def split(self, x: Float[Tensor, "1 n d"]) -> list[Float[Tensor, "1 _ d"]]:
        return list(x.split(list(self.lengths), dim=1))

    def __call__(self, q: Heads, k: Heads, v: Heads) -> Float[Tensor, "1 n d"]:
        each = zip(self.alone, *(x.split(list(self.lengths), dim=2) for x in (q, k, v)))
        return torch.cat([alone(*heads) for alone, *heads in each], dim=1)


@dataclass(frozen=True)
class Padded(OneSequence):
    """The tokens of each image padded to the longest, (B, n, D), where no token attends to padding."""

    def arrange(self, tokens: Sequence[Float[Tensor, "1 _ d"]]) -> Float[Tensor, "b n d"]:
        longest = max(self.lengths)
        return torch.cat([F.pad(x, (0, 0, 0, longest - x.shape[1])) for x in tokens])

    def split(self, x: Float[Tensor, "b n d"]) -> list[Float[Tensor, "1 _ d"]]:
        return [one[None, :length] for one, length in zip(x, self.lengths)]

    def __call__(self, q: Heads, k: Heads, v: Heads) -> Float[Tensor, "b n d"]:
        if any(alone is not attend for alone in self.alone):  # windows, which each image has of its own
            heads = zip(self.alone, *(self.split_heads(x) for x in (q, k, v)))
            return self.arrange([alone(*one) for alone, *one in heads])
        padding = torch.arange(q.shape[2]) >= torch.tensor(self.lengths)[:, None]
        hidden = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)[:, None, None]
        return attend(q, k, v, hidden.to(q))

    def split_heads(self, x: Heads) -> list[Float[Tensor, "1 h _ e"]]:
        return [one[None, :, :length] for one, length in zip(x, self.lengths)]
