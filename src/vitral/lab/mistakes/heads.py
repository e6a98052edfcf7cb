"""Mistakes in multi-head attention: splitting into heads, and joining them again."""

from collections.abc import Callable
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from vitral.lab.solutions.head import attention
from vitral.lab.solutions.heads import Attention
from vitral.lab.station import mistake

SPLIT, JOIN = "b n (three h e) -> three b h n e", "b h n e -> b n (h e)"


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, k, v)[0]


def regroup(
    module: Any,
    x: Tensor,
    split: str = SPLIT,
    join: str = JOIN,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] = attend,
) -> Tensor:
    """Run multi-head attention with other patterns for the split and the join, or another function for the heads."""
    q, k, v = rearrange(module.qkv(x), split, three=3, h=module.num_heads)
    return module.proj(rearrange(attend(q, k, v), join))


def reshape(module: Any, x: Tensor, to_heads: bool, back: bool) -> Tensor:
    """Run multi-head attention with a reshape alone where a transpose is needed as well."""
    b, n, d = x.shape
    h = module.num_heads
    parts = module.qkv(x).chunk(3, dim=-1)
    shape = [part.reshape(b, h, n, -1) if to_heads else part.reshape(b, n, h, -1).transpose(1, 2) for part in parts]
    out = attend(*shape)
    return module.proj(out.reshape(b, n, d) if back else out.transpose(1, 2).reshape(b, n, d))


@mistake("Attention.forward")
def reshaped_only(self: Any, x: Tensor) -> Tensor:
    """Tokens are reshaped into heads and back without a transpose: each of your heads has all numbers of a few
    tokens, but it should have a few numbers of all tokens.

    Which axis of (b, n, d) should be split in two? Which one does your reshape split?
    """
    return reshape(self, x, to_heads=True, back=True)


@mistake("Attention.forward")
def split_by_reshape(self: Any, x: Tensor) -> Tensor:
    """The heads are made by one reshape to (b, heads, n, e), which mixes tokens into heads; the way back is right.

    Split d first and leave the tokens where they are: what shape is that? What remains to be done?
    """
    return reshape(self, x, to_heads=True, back=False)


@mistake("Attention.forward")
def joined_by_reshape(self: Any, x: Tensor) -> Tensor:
    """The split into heads is right, but the heads are joined by a reshape alone, which mixes tokens and heads.

    A reshape joins neighbouring axes. Are heads and e neighbours in (b, heads, n, e)?
    """
    return reshape(self, x, to_heads=False, back=True)


@mistake("Attention.forward")
def among_heads(self: Any, x: Tensor) -> Tensor:
    """The heads of one token attend to each other, and no token attends to another: the axis of the heads must come
    before that of the tokens.

    Attention works on the last two axes. Which two are they in your call?
    """
    return regroup(self, x, "b n (three h e) -> three b n h e", "b n h e -> b n (h e)")


@mistake("Attention.forward")
def among_images(self: Any, x: Tensor) -> Tensor:
    """The images of the batch attend to each other, position by position: batch and tokens are swapped.

    Should the result for one image depend on the other images of its batch?
    """
    return regroup(self, x, "b n (three h e) -> three n h b e", "n h b e -> b n (h e)")


@mistake("Attention.forward")
def head_by_head(self: Any, x: Tensor) -> Tensor:
    """The output of `qkv` is split head by head, each with its query, key and value. All queries come first, then all
    keys, then all values.

    Which of (three, heads, e) changes slowest along the 3 d numbers?
    """
    return regroup(self, x, "b n (h three e) -> three b h n e")


@mistake("Attention.forward")
def shuffled_back(self: Any, x: Tensor) -> Tensor:
    """The heads are joined as (e, heads): `proj` gets the right numbers in the wrong order.

    When heads and e are joined, which one should change faster?
    """
    return regroup(self, x, join="b h n e -> b n (e h)")


@mistake("Attention.forward")
def keys_first(self: Any, x: Tensor) -> Tensor:
    """The first third of `qkv` is used as keys and the second as queries; the queries come first.

    In which order does the figure list the three parts?
    """
    return regroup(self, x, attend=lambda q, k, v: attend(k, q, v))


@mistake("Attention.forward")
def one_head(self: Any, x: Tensor) -> Tensor:
    """All numbers are in one head: `num_heads` has no effect.

    How many tables of weights does your attention compute for an image?
    """
    return self.proj(attend(*self.qkv(x).chunk(3, dim=-1)))


@mistake("Attention.forward")
def not_mixed(self: Any, x: Tensor) -> Tensor:
    """`proj` is never used, so that the outputs of the heads are not mixed.

    What is the last step in the figure?
    """
    q, k, v = rearrange(self.qkv(x), SPLIT, three=3, h=self.num_heads)
    return rearrange(attend(q, k, v), JOIN)


@mistake("Attention.__init__")
def no_bias(self: Any, embed_dim: int, num_heads: int) -> None:
    """`qkv` has no bias; trained models have one there.

    What does nn.Linear have besides its weight, by default?
    """
    Attention.__init__(self, embed_dim, num_heads)
    self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)


@mistake("Attention.forward")
def scaled_twice(self: Any, x: Tensor) -> Tensor:
    """The queries are divided by √e before your `attention`, which divides by √e itself: once is enough.

    Where is √e already used?
    """
    return regroup(self, x, attend=lambda q, k, v: attend(q / q.shape[-1] ** 0.5, k, v))


@mistake("Attention.forward")
def scaled_by_all(self: Any, x: Tensor) -> Tensor:
    """The scores are divided by √d, for the width of all heads together; each head divides by its own √e.

    Over how many numbers does a product sum in one head?
    """
    return regroup(self, x, attend=lambda q, k, v: attend(q / q.shape[1] ** 0.5, k, v))


@mistake("Attention.forward")
def input_added(self: Any, x: Tensor) -> Tensor:
    """The input is added to the result. The block does that, around the attention; here it would be added twice.

    Does the figure have an arrow around the attention?
    """
    return x + Attention.forward(self, x)


@mistake("Attention.forward")
def places_first(self: Any, x: Tensor) -> Tensor:
    """The d numbers of a token are split as (e, heads), so that each head has every h-th number. They should be split
    as (heads, e): each head has e neighbouring numbers.

    With d = 6 and two heads, which numbers does the first head have: 0, 1, 2, or 0, 2, 4?
    """
    return regroup(self, x, "b n (three e h) -> three b h n e")


@mistake("Attention.forward")
def values_for_keys(self: Any, x: Tensor) -> Tensor:
    """The second third of `qkv` is used as values and the last as keys; the keys come before the values.

    In which order does the figure list the three parts, and in which order does your `attention` take them?
    """
    return regroup(self, x, attend=lambda q, k, v: attend(q, v, k))
