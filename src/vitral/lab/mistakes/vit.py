"""Mistakes in the whole Vision Transformer: its sequence, its norm, and what the head takes."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.mistakes.tokens import prepend
from vitral.lab.solutions.tokens import with_tokens
from vitral.lab.solutions.vit import VisionTransformer
from vitral.lab.station import mistake


def embed(model: Any, images: Tensor) -> Tensor:
    return with_tokens(model.patch_embed(images), model.cls_token, model.pos_embed)


def run_blocks(model: Any, x: Tensor) -> Tensor:
    for block in model.blocks:
        x = block(x)
    return x


def encode(model: Any, images: Tensor) -> Tensor:
    return model.norm(run_blocks(model, embed(model, images)))


def classify(model: Any, x: Tensor) -> Tensor:
    """Return the logits for tokens before the first block."""
    return model.head(model.norm(run_blocks(model, x))[:, 0])


@mistake("VisionTransformer.forward")
def mean_of_all(self: Any, images: Tensor) -> Tensor:
    """The head takes the mean of all tokens; it should take the class token alone.

    How many tokens of an image go into the head in the figure?
    """
    return self.head(encode(self, images).mean(dim=1))


@mistake("VisionTransformer.forward")
def mean_of_patches(self: Any, images: Tensor) -> Tensor:
    """The head takes the mean of the patches; in this model it takes the class token.

    What is the class token for, if the head does not take it?
    """
    return self.head(encode(self, images)[:, 1:].mean(dim=1))


@mistake("VisionTransformer.forward")
def last_token(self: Any, images: Tensor) -> Tensor:
    """The head takes the last token, which is a patch; the class token is the first.

    At which end of the sequence did you put the class token?
    """
    return self.head(encode(self, images)[:, -1])


@mistake("VisionTransformer.forward")
def first_image(self: Any, images: Tensor) -> Tensor:
    """The head takes all tokens of the first image; it should take the first token of every image.

    Which axis of (batch, tokens, width) does [0] index?
    """
    return self.head(encode(self, images)[0])


@mistake("VisionTransformer.forward")
def no_last_norm(self: Any, images: Tensor) -> Tensor:
    """The last norm is missing: the head takes the output of the blocks as it is.

    Where in your forward is `norm`?
    """
    return self.head(run_blocks(self, embed(self, images))[:, 0])


@mistake("VisionTransformer.forward")
def norm_before_blocks(self: Any, images: Tensor) -> Tensor:
    """The norm comes before the blocks; it belongs after the last of them.

    Is the stream normalised after the blocks have added to it?
    """
    return self.head(run_blocks(self, self.norm(embed(self, images)))[:, 0])


@mistake("VisionTransformer.forward")
def no_positions(self: Any, images: Tensor) -> Tensor:
    """The positions are never added.

    If two patches of the image were swapped, would your logits change?
    """
    return classify(self, prepend(self.cls_token, self.patch_embed(images)))


@mistake("VisionTransformer.forward")
def class_token_unplaced(self: Any, images: Tensor) -> Tensor:
    """Positions are added to the patches only; the class token has a row of its own, the first.

    How many rows does pos_embed have, and how many of them do you use?
    """
    return classify(self, prepend(self.cls_token, self.patch_embed(images) + self.pos_embed[:, 1:]))


@mistake("VisionTransformer.forward")
def class_token_behind(self: Any, images: Tensor) -> Tensor:
    """The class token comes after the patches, so that the first token, which the head takes, is a patch.

    What is the first token of your sequence?
    """
    patches = self.patch_embed(images)
    x = torch.cat([patches, self.cls_token.expand(len(images), -1, -1)], dim=1) + self.pos_embed
    return classify(self, x)


@mistake("VisionTransformer.__init__")
def one_block_only(self: Any, *sizes: Any) -> None:
    """One block is used again and again: a list times a number repeats the same object. Every layer needs weights of
    its own.

    How often is Block(...) called while your model is built?
    """
    VisionTransformer.__init__(self, *sizes)
    self.blocks = nn.ModuleList([self.blocks[0]] * len(self.blocks))


@mistake("VisionTransformer.forward")
def last_block_left_out(self: Any, images: Tensor) -> Tensor:
    """The last block is never called.

    How many blocks process an image in a model of depth 3?
    """
    x = embed(self, images)
    for block in list(self.blocks)[:-1]:
        x = block(x)
    return self.head(self.norm(x)[:, 0])


@mistake("VisionTransformer.forward")
def softmax_at_the_end(self: Any, images: Tensor) -> Tensor:
    """The model returns probabilities; it should return logits. The loss applies the softmax itself.

    What is the sum of your outputs for one image? Should it be?
    """
    return VisionTransformer.forward(self, images).softmax(dim=-1)


@mistake("VisionTransformer.__init__")
def hidden_width_fixed(self: Any, *sizes: Any) -> None:
    """The hidden width of the MLPs is always 4 x d; it should follow mlp_ratio.

    Which of the arguments did you not use?
    """
    VisionTransformer.__init__(self, *sizes[:7], mlp_ratio=4.0)


@mistake("VisionTransformer.__init__")
def tokens_too_large(self: Any, *sizes: Any) -> None:
    """cls_token and pos_embed start with a standard deviation of 1; it should be 0.02, so that they do not drown out
    the patches.

    How large are the numbers that torch.randn returns?
    """
    VisionTransformer.__init__(self, *sizes)
    nn.init.normal_(self.cls_token)
    nn.init.normal_(self.pos_embed)


@mistake("VisionTransformer.__init__")
def class_from_nothing(self: Any, *sizes: Any) -> None:
    """cls_token starts with zeros; it should start with random numbers of standard deviation 0.02, like pos_embed.

    With which numbers does your class token start, and with which your positions?
    """
    VisionTransformer.__init__(self, *sizes)
    nn.init.zeros_(self.cls_token)
