"""How a block loses its stream, or a branch its norm."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vitral.lab.solutions.block import Block
from vitral.lab.station import Mistake


def flowing(forward: Callable[[Any, Tensor], Tensor]) -> dict[str, Any]:
    """A `Block` through which something else flows."""
    return {"Block": type("Block", (Block,), {"forward": forward})}


def normed_after(self: Any, x: Tensor) -> Tensor:
    x = self.norm1(x + self.attn(x))
    return self.norm2(x + self.mlp(x))


def first_normed_after(self: Any, x: Tensor) -> Tensor:
    x = self.norm1(x + self.attn(x))
    return x + self.mlp(self.norm2(x))


def second_normed_after(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm1(x))
    return self.norm2(x + self.mlp(x))


def result_normed(self: Any, x: Tensor) -> Tensor:
    x = x + self.norm1(self.attn(x))
    return x + self.norm2(self.mlp(x))


def stream_normed(self: Any, x: Tensor) -> Tensor:
    x = self.norm1(x)
    x = self.norm2(x + self.attn(x))
    return x + self.mlp(x)


def attention_replaces(self: Any, x: Tensor) -> Tensor:
    x = self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


def mlp_replaces(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm1(x))
    return self.mlp(self.norm2(x))


def first_norm_twice(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm1(x))


def norms_swapped(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm2(x))
    return x + self.mlp(self.norm1(x))


def attention_unnormed(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(x)
    return x + self.mlp(self.norm2(x))


def mlp_unnormed(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(x)


def normed_on_the_way_out(self: Any, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm1(x))
    return self.norm2(x + self.mlp(self.norm2(x)))


def beside_each_other(self: Any, x: Tensor) -> Tensor:
    return x + self.attn(self.norm1(x)) + self.mlp(self.norm2(x))


def thought_first(self: Any, x: Tensor) -> Tensor:
    x = x + self.mlp(self.norm2(x))
    return x + self.attn(self.norm1(x))


def added_to_the_old(self: Any, x: Tensor) -> Tensor:
    met = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(met))


class OneNorm(Block):
    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__(attn, mlp, embed_dim)
        self.norm2 = self.norm1


class NormsOfTorch(Block):
    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__(attn, mlp, embed_dim)
        for name in ("norm1", "norm2"):
            self.add_module(name, nn.LayerNorm(embed_dim))


post_norm = Mistake(
    "The norms stand on the stream, after each sum (post-norm); they belong on the branches, before attn and mlp.",
    "If attn and mlp gave zeros, would your block give its input?",
    flowing(normed_after),
)
first_half_post_norm = Mistake(
    "norm1 stands on the stream, after the sum; it belongs on the branch, before attn. The second half is right.",
    "What does attn read in your block, and what in the drawing?",
    flowing(first_normed_after),
)
second_half_post_norm = Mistake(
    "norm2 stands on the stream, after the sum; it belongs on the branch, before mlp. The first half is right.",
    "What does mlp read in your block, and what in the drawing?",
    flowing(second_normed_after),
)
norm_behind_the_branch = Mistake(
    "The norms stand behind attn and mlp; each branch should read the stream through its norm.",
    "In the drawing, what does attn read: the stream, or what norm1 made of it?",
    flowing(result_normed),
)
sum_with_the_normed = Mistake(
    "The branches are added to the normed tokens; they should be added to the stream as it came in.",
    "After `x = norm1(x)`, where is the stream that came in?",
    flowing(stream_normed),
)
attention_not_added = Mistake(
    "What attn found replaces the stream; it should be added to it.",
    "If attn gave zeros, what would be left of the input?",
    flowing(attention_replaces),
)
mlp_not_added = Mistake(
    "What mlp found replaces the stream; it should be added to it.",
    "If mlp gave zeros, what would be left for the next block?",
    flowing(mlp_replaces),
)
same_norm_for_both = Mistake(
    "norm1 stands on both branches, and norm2 is never used.",
    "Which of your parts does no gradient reach?",
    flowing(first_norm_twice),
)
norms_exchanged = Mistake(
    "The two norms have changed places: norm1 goes before attn, norm2 before mlp.",
    "With weights that are already learned, which norm was learned together with attn?",
    flowing(norms_swapped),
)
attention_without_norm = Mistake(
    "attn reads the stream without a norm.",
    "What stands between the stream and attn in the drawing?",
    flowing(attention_unnormed),
)
mlp_without_norm = Mistake(
    "mlp reads the stream without a norm.",
    "What stands between the stream and mlp in the drawing?",
    flowing(mlp_unnormed),
)
side_by_side = Mistake(
    "Both branches read the input; mlp should read the stream after attn has added to it.",
    "Which x does the second line read: the one that came in, or the one that the first line made?",
    flowing(beside_each_other),
)
mlp_first = Mistake(
    "mlp comes before attn; tokens meet first, then each thinks for itself.",
    "Which of the two pluses in the drawing comes first?",
    flowing(thought_first),
)
attention_forgotten = Mistake(
    "mlp is added to the input of the block, so that what attn added is lost from the stream.",
    "To which x is the second branch added?",
    flowing(added_to_the_old),
)
one_norm_object = Mistake(
    "norm1 and norm2 are the same object, so both branches share one scale and one offset.",
    "How often does your code make a LayerNorm?",
    {"Block": OneNorm},
)
norms_of_torch = Mistake(
    "The norms are PyTorch's with an eps of 1e-5; yours has 1e-6. It shows in tokens that hardly vary.",
    "Which LayerNorm does your block make: the one of your own file?",
    {"Block": NormsOfTorch},
)
normed_at_the_end = Mistake(
    "Both branches are right, but the stream is normed once more on its way out.",
    "In the drawing, what stands between the second + and the end?",
    flowing(normed_on_the_way_out),
)
