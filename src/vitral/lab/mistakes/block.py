"""Mistakes in a block: the order of norms and branches, and what is added to the stream."""

from typing import Any

from torch import Tensor, nn

from vitral.lab.solutions.block import Block
from vitral.lab.station import mistake


@mistake("Block.forward")
def post_norm(self: Any, x: Tensor) -> Tensor:
    """The norms are on the stream, after each sum (post-norm); they belong on the branches, before attn and mlp.

    If attn and mlp returned zeros, would your block return its input?
    """
    x = self.norm1(x + self.attn(x))
    return self.norm2(x + self.mlp(x))


@mistake("Block.forward")
def first_half_post_norm(self: Any, x: Tensor) -> Tensor:
    """norm1 is on the stream, after the sum; it belongs on the branch, before attn. The second half is right.

    What is the input of attn in your block, and what in the figure?
    """
    x = self.norm1(x + self.attn(x))
    return x + self.mlp(self.norm2(x))


@mistake("Block.forward")
def second_half_post_norm(self: Any, x: Tensor) -> Tensor:
    """norm2 is on the stream, after the sum; it belongs on the branch, before mlp. The first half is right.

    What is the input of mlp in your block, and what in the figure?
    """
    x = x + self.attn(self.norm1(x))
    return self.norm2(x + self.mlp(x))


@mistake("Block.forward")
def norm_behind_the_branch(self: Any, x: Tensor) -> Tensor:
    """The norms come after attn and mlp; each branch should begin with its norm.

    What is the input of attn in the figure: the stream, or the output of norm1?
    """
    x = x + self.norm1(self.attn(x))
    return x + self.norm2(self.mlp(x))


@mistake("Block.forward")
def sum_with_the_normed(self: Any, x: Tensor) -> Tensor:
    """The branches are added to the normalised tokens; they should be added to the stream as it was.

    After `x = norm1(x)`, where is the original stream?
    """
    x = self.norm1(x)
    x = self.norm2(x + self.attn(x))
    return x + self.mlp(x)


@mistake("Block.forward")
def attention_not_added(self: Any, x: Tensor) -> Tensor:
    """The output of attn replaces the stream; it should be added to it.

    If attn returned zeros, what would be left of the input?
    """
    x = self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


@mistake("Block.forward")
def mlp_not_added(self: Any, x: Tensor) -> Tensor:
    """The output of mlp replaces the stream; it should be added to it.

    If mlp returned zeros, what would be left for the next block?
    """
    x = x + self.attn(self.norm1(x))
    return self.mlp(self.norm2(x))


@mistake("Block.forward")
def same_norm_for_both(self: Any, x: Tensor) -> Tensor:
    """norm1 is used on both branches, and norm2 is never used.

    Which of your modules gets no gradient?
    """
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm1(x))


@mistake("Block.forward")
def norms_exchanged(self: Any, x: Tensor) -> Tensor:
    """The two norms are swapped: norm1 belongs before attn, norm2 before mlp.

    In a trained model, which norm was trained together with attn?
    """
    x = x + self.attn(self.norm2(x))
    return x + self.mlp(self.norm1(x))


@mistake("Block.forward")
def attention_without_norm(self: Any, x: Tensor) -> Tensor:
    """attn takes the stream without a norm.

    What is between the stream and attn in the figure?
    """
    x = x + self.attn(x)
    return x + self.mlp(self.norm2(x))


@mistake("Block.forward")
def mlp_without_norm(self: Any, x: Tensor) -> Tensor:
    """mlp takes the stream without a norm.

    What is between the stream and mlp in the figure?
    """
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(x)


@mistake("Block.forward")
def side_by_side(self: Any, x: Tensor) -> Tensor:
    """Both branches take the input of the block; mlp should take the stream after attn is added to it.

    Which x does the second line take: the input, or the result of the first line?
    """
    return x + self.attn(self.norm1(x)) + self.mlp(self.norm2(x))


@mistake("Block.forward")
def mlp_first(self: Any, x: Tensor) -> Tensor:
    """mlp comes before attn; attention comes first, then the MLP.

    Which of the two branches in the figure comes first?
    """
    x = x + self.mlp(self.norm2(x))
    return x + self.attn(self.norm1(x))


@mistake("Block.forward")
def attention_forgotten(self: Any, x: Tensor) -> Tensor:
    """The output of mlp is added to the input of the block, so that the output of attn is lost from the stream.

    To which x is the second branch added?
    """
    after_attention = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(after_attention))


@mistake("Block.__init__")
def one_norm_object(self: Any, attn: nn.Module, mlp: nn.Module, embed_dim: int) -> None:
    """norm1 and norm2 are the same object, so that both branches share one weight and one bias.

    How often does your code call LayerNorm(...)?
    """
    Block.__init__(self, attn, mlp, embed_dim)
    self.norm2 = self.norm1


@mistake("Block.__init__")
def norms_of_torch(self: Any, attn: nn.Module, mlp: nn.Module, embed_dim: int) -> None:
    """The norms are PyTorch's, with an eps of 1e-5; yours has 1e-6. It shows in tokens that hardly vary.

    Which LayerNorm does your block use: the one from your own file?
    """
    Block.__init__(self, attn, mlp, embed_dim)
    self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)


@mistake("Block.forward")
def normed_at_the_end(self: Any, x: Tensor) -> Tensor:
    """Both branches are right, but the stream is normalised once more at the end.

    In the figure, what is between the second + and the end?
    """
    x = x + self.attn(self.norm1(x))
    return self.norm2(x + self.mlp(self.norm2(x)))
