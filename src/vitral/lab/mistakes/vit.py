"""How a Vision Transformer is put together wrongly."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.solutions.tokens import with_tokens
from vitral.lab.solutions.vit import VisionTransformer
from vitral.lab.station import Mistake


def running(forward: Callable[[Any, Tensor], Tensor]) -> dict[str, Any]:
    """A `VisionTransformer` with another way from images to logits."""
    return {"VisionTransformer": type("VisionTransformer", (VisionTransformer,), {"forward": forward})}


def begun(model: Any, images: Tensor) -> Tensor:
    return with_tokens(model.patch_embed(images), model.cls_token, model.pos_embed)


def through(model: Any, x: Tensor) -> Tensor:
    for block in model.blocks:
        x = block(x)
    return x


def mean_read(self: Any, images: Tensor) -> Tensor:
    return self.head(self.norm(through(self, begun(self, images))).mean(dim=1))


def patches_read(self: Any, images: Tensor) -> Tensor:
    return self.head(self.norm(through(self, begun(self, images)))[:, 1:].mean(dim=1))


def last_read(self: Any, images: Tensor) -> Tensor:
    return self.head(self.norm(through(self, begun(self, images)))[:, -1])


def image_read(self: Any, images: Tensor) -> Tensor:
    return self.head(self.norm(through(self, begun(self, images)))[0])


def unnormed(self: Any, images: Tensor) -> Tensor:
    return self.head(through(self, begun(self, images))[:, 0])


def normed_before(self: Any, images: Tensor) -> Tensor:
    return self.head(through(self, self.norm(begun(self, images)))[:, 0])


def without_positions(self: Any, images: Tensor) -> Tensor:
    patches = self.patch_embed(images)
    x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
    return self.head(self.norm(through(self, x))[:, 0])


def patches_placed(self: Any, images: Tensor) -> Tensor:
    patches = self.patch_embed(images) + self.pos_embed[:, 1:]
    x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
    return self.head(self.norm(through(self, x))[:, 0])


def class_behind(self: Any, images: Tensor) -> Tensor:
    patches = self.patch_embed(images)
    x = torch.cat([patches, self.cls_token.expand(len(images), -1, -1)], dim=1) + self.pos_embed
    return self.head(self.norm(through(self, x))[:, 0])


def all_but_the_last(self: Any, images: Tensor) -> Tensor:
    x = begun(self, images)
    for block in list(self.blocks)[:-1]:
        x = block(x)
    return self.head(self.norm(x)[:, 0])


def probabilities(self: Any, images: Tensor) -> Tensor:
    return VisionTransformer.forward(self, images).softmax(dim=-1)


class OneBlock(VisionTransformer):
    def __init__(self, *sizes: Any):
        super().__init__(*sizes)
        self.blocks = nn.ModuleList([self.blocks[0]] * len(self.blocks))


class FourTimes(VisionTransformer):
    def __init__(self, *sizes: Any):
        super().__init__(*sizes[:7], mlp_ratio=4.0)


class LargeTokens(VisionTransformer):
    def __init__(self, *sizes: Any):
        super().__init__(*sizes)
        nn.init.normal_(self.cls_token)
        nn.init.normal_(self.pos_embed)


class ClassFromNothing(VisionTransformer):
    def __init__(self, *sizes: Any):
        super().__init__(*sizes)
        nn.init.zeros_(self.cls_token)


mean_of_all = Mistake(
    "The head reads the mean of all tokens; it should read the class token alone.",
    "How many tokens of an image does the drawing give to the head?",
    running(mean_read),
)
mean_of_patches = Mistake(
    "The head reads the mean of the patches; here it is the class token that has gathered what it needs.",
    "What is the class token for, if the head does not read it?",
    running(patches_read),
)
last_token = Mistake(
    "The head reads the last token, which is a patch; the class token is the first.",
    "At which end of the sequence did you put the class token?",
    running(last_read),
)
first_image = Mistake(
    "The first image was taken, with all its tokens, where the first token of every image was meant.",
    "Which axis of (batch, tokens, width) does [0] take from?",
    running(image_read),
)
no_last_norm = Mistake(
    "The last norm is missing: the head reads the stream as it leaves the blocks.",
    "Where in your forward does `norm` stand?",
    running(unnormed),
)
norm_before_blocks = Mistake(
    "The norm stands before the blocks; it belongs behind the last of them.",
    "Does anything bring the stream back to one size after the blocks have added to it?",
    running(normed_before),
)
no_positions = Mistake(
    "The positions are made but never added.",
    "If two patches of the image changed places, would your logits change?",
    running(without_positions),
)
class_token_unplaced = Mistake(
    "Positions were added to the patches only: the class token has a row of its own, the first.",
    "How many rows has pos_embed, and how many of them do you use?",
    running(patches_placed),
)
class_token_behind = Mistake(
    "The class token stands behind the patches, and the head reads the first token, which is then a patch.",
    "What is the first token of your sequence?",
    running(class_behind),
)
one_block_only = Mistake(
    "One block is used again and again: a list times a number repeats the same object. Every layer needs weights of "
    "its own.",
    "How often is Block(...) called while your model is made?",
    {"VisionTransformer": OneBlock},
)
last_block_left_out = Mistake(
    "The last block is never run.",
    "How many blocks does an image go through in a model of depth 3?",
    running(all_but_the_last),
)
softmax_at_the_end = Mistake(
    "The model gives probabilities; it should give logits. The loss takes the softmax by itself.",
    "What do your outputs of one image add up to? Should they?",
    running(probabilities),
)
hidden_width_fixed = Mistake(
    "The hidden width of the MLPs is always 4 x d; it should follow mlp_ratio.",
    "Which of the arguments did you not use?",
    {"VisionTransformer": FourTimes},
)
tokens_too_large = Mistake(
    "cls_token and pos_embed begin with a deviation of 1; asked for is 0.02, so that they do not drown the patches.",
    "How large are the numbers that torch.randn draws?",
    {"VisionTransformer": LargeTokens},
)
class_from_nothing = Mistake(
    "cls_token begins with zeros; asked for are random numbers with deviation 0.02, as for pos_embed.",
    "With which numbers does your class token begin, and with which do your positions?",
    {"VisionTransformer": ClassFromNothing},
)
