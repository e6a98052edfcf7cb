"""How heads go wrong."""

from collections.abc import Callable
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from vitral.lab.solutions.head import attention
from vitral.lab.solutions.heads import Attention
from vitral.lab.station import Mistake

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
SPLIT, JOIN = "b n (three h e) -> three b h n e", "b h n e -> b n (h e)"


def found(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, k, v)[0]


def grouped(split: str = SPLIT, join: str = JOIN, attend: Attend = found) -> dict[str, Any]:
    """An `Attention` that groups the numbers in another way."""

    class Grouped(Attention):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = rearrange(self.qkv(x), split, three=3, h=self.num_heads)
            return self.proj(rearrange(attend(q, k, v), join))

    return {"Attention": Grouped}


def reshaped(to_heads: bool, back: bool) -> dict[str, Any]:
    """An `Attention` whose heads are made, or put beside each other again, by a reshape."""

    class Reshaped(Attention):
        def forward(self, x: Tensor) -> Tensor:
            b, n, d = x.shape
            parts = self.qkv(x).chunk(3, dim=-1)
            q, k, v = (
                part.reshape(b, self.num_heads, n, -1)
                if to_heads
                else part.reshape(b, n, self.num_heads, -1).transpose(1, 2)
                for part in parts
            )
            out = found(q, k, v)
            return self.proj(out.reshape(b, n, d) if back else out.transpose(1, 2).reshape(b, n, d))

    return {"Attention": Reshaped}


def scaled_down(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return found(q / q.shape[-1] ** 0.5, k, v)


def by_all_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return found(q / q.shape[1] ** 0.5, k, v)


class OneHead(Attention):
    """All numbers in one head."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(found(*self.qkv(x).chunk(3, dim=-1)))


class Unmixed(Attention):
    """`proj` is made, and never called."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), SPLIT, three=3, h=self.num_heads)
        return rearrange(found(q, k, v), JOIN)


class Added(Attention):
    """With the input added."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Unbiased(Attention):
    """`qkv` has no bias."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__(embed_dim, num_heads)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)


reshaped_only = Mistake(
    "Tokens were reshaped to heads and back, and no axis was ever moved: each of your heads has all numbers of a few "
    "tokens, where it should have a few numbers of all tokens.",
    "From (b, n, d), which axis should be split in two? Which one does your reshape split?",
    reshaped(to_heads=True, back=True),
)
split_by_reshape = Mistake(
    "The heads were made by one reshape to (b, heads, n, e), which mixes tokens into heads; the way back is right.",
    "Split d first and leave the tokens where they are: which shape is that? What is left to do then?",
    reshaped(to_heads=True, back=False),
)
joined_by_reshape = Mistake(
    "The heads were split well, but were put together again by a reshape alone: tokens and heads are mixed.",
    "In (b, heads, n, e), do heads and e stand beside each other, as joining them needs?",
    reshaped(to_heads=False, back=True),
)
among_heads = Mistake(
    "The heads of one token attend to each other, and no token sees another: the heads were not brought before the "
    "tokens.",
    "Attention works on the last two axes. Which two are they in what you give it?",
    grouped("b n (three h e) -> three b n h e", "b n h e -> b n (h e)"),
)
among_images = Mistake(
    "The images of the batch attend to each other, place by place: batch and tokens have changed roles.",
    "Should what an image gives depend on its neighbours in the batch?",
    grouped("b n (three h e) -> three n h b e", "n h b e -> b n (h e)"),
)
head_by_head = Mistake(
    "The numbers of `qkv` were read head by head, each with its query, key and value; first come all queries, then all "
    "keys, then all values.",
    "Of (three, heads, e), which one changes slowest along the 3 d numbers?",
    grouped("b n (h three e) -> three b h n e"),
)
shuffled_back = Mistake(
    "Heads and places in a head have changed roles on the way back: `proj` gets the right numbers in the wrong order.",
    "When heads and e are joined, which one should change faster?",
    grouped(join="b h n e -> b n (e h)"),
)
keys_first = Mistake(
    "The first third of `qkv` was taken for the keys and the second for the queries; queries come first.",
    "In which order does the figure have the three parts?",
    grouped(attend=lambda q, k, v: found(k, q, v)),
)
one_head = Mistake(
    "All numbers are in one head: `num_heads` changes nothing.",
    "How many tables of weights does your attention make for an image?",
    {"Attention": OneHead},
)
not_mixed = Mistake(
    "`proj` is there, but is never used: what the heads found stays apart.",
    "What is the last step in the figure?",
    {"Attention": Unmixed},
)
no_bias = Mistake(
    "`qkv` has no bias: trained models keep one there.",
    "What does nn.Linear hold besides its weight, if it is not told otherwise?",
    {"Attention": Unbiased},
)
scaled_twice = Mistake(
    "The queries were divided by √e before they went into your `attention`, which divides as well: once is enough.",
    "Where is √e already at work?",
    grouped(attend=scaled_down),
)
scaled_by_all = Mistake(
    "The products were divided by √d, the root of all heads' width; each head divides by that of its own, √e.",
    "Over how many numbers does a product add up in one head?",
    grouped(attend=by_all_heads),
)
input_added = Mistake(
    "The input was added to the result. A block will do that, around the attention; here it would be there twice.",
    "Does the figure have an arrow around the attention?",
    {"Attention": Added},
)
places_first = Mistake(
    "The d numbers of a token were split as (e, heads): each head got every h-th number. A head's numbers stand beside "
    "each other, as (heads, e).",
    "With d = 6 and two heads, which numbers are the first head's: 0, 1, 2, or 0, 2, 4?",
    grouped("b n (three e h) -> three b h n e"),
)
values_for_keys = Mistake(
    "The second third of `qkv` was taken for the values and the last for the keys; keys come before values.",
    "In which order does the figure have the three parts, and in which does your `attention` take them?",
    grouped(attend=lambda q, k, v: found(q, v, k)),
)
