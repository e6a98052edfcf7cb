"""Mistakes in adding the class token and the positions."""

import torch
from torch import Tensor

from vitral.lab.solutions.tokens import with_tokens
from vitral.lab.station import mistake


def prepend(class_token: Tensor, patches: Tensor) -> Tensor:
    """Put the class token before the patches of every image."""
    return torch.cat([class_token.expand(len(patches), -1, -1), patches], dim=1)


@mistake("with_tokens")
def token_last(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The class token comes last, after the patches.

    At which position does the figure show CLS?
    """
    return torch.cat([patches, cls_token.expand(len(patches), -1, -1)], dim=1) + pos_embed


@mistake("with_tokens")
def no_positions(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """No positions are added, so that the model cannot know the order of the patches.

    How could attention tell the first patch from the last one?
    """
    return prepend(cls_token, patches)


@mistake("with_tokens")
def none_for_class_token(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The patches have their positions, but the class token has none: the first row of `pos_embed` is its own.

    How many rows does `pos_embed` have, and to which token does the first one belong?
    """
    return prepend(cls_token, patches + pos_embed[:, 1:])


@mistake("with_tokens")
def one_too_early(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """Each patch has the position of the one before it, and the class token has none: the positions are added before
    the class token is there.

    At which position of the finished sequence is the first patch?
    """
    return prepend(cls_token, patches + pos_embed[:, :-1])


@mistake("with_tokens")
def first_patch_lost(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The class token replaces the first patch, so that one corner of the image is lost.

    n patches go in. How many tokens should come out?
    """
    return prepend(cls_token, patches[:, 1:]) + pos_embed[:, :-1]


@mistake("with_tokens")
def no_class_token(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The sequence has no class token: it consists of the patches with their positions.

    Which token will the head take, if none belongs to the whole image?
    """
    return patches + pos_embed[:, 1:]


@mistake("with_tokens")
def added_to_all(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The class token is added to every patch; it should be a token of its own, before them.

    Does an addition change the number of tokens?
    """
    return patches + cls_token + pos_embed[:, 1:]


@mistake("with_tokens")
def one_for_all(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """All tokens have the first position, so that positions do not distinguish them.

    How many different rows of `pos_embed` does your code use?
    """
    return prepend(cls_token, patches) + pos_embed[:, :1]


@mistake("with_tokens")
def twice(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The patches get their positions twice: once alone, and once together with the class token.

    Where does your code add positions, and which tokens are there each time?
    """
    return prepend(cls_token, patches + pos_embed[:, 1:]) + pos_embed


@mistake("with_tokens")
def put_beside(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The positions are appended to the numbers of each token, which makes it twice as wide; add them instead.

    How many numbers does a token have before, and how many after?
    """
    tokens = prepend(cls_token, patches)
    return torch.cat([tokens, pos_embed.expand(len(tokens), -1, -1)], dim=-1)


@mistake("with_tokens")
def token_of_zeros(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The first token is zeros; the learned `cls_token` is not used.

    Which of the three arguments does your code never use?
    """
    return prepend(torch.zeros_like(cls_token), patches) + pos_embed


@mistake("with_tokens")
def mean_of_patches(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The first token is the mean of the patches; it should be the learned `cls_token`, the same for every image.

    Does the class token depend on the image before the first block?
    """
    return prepend(patches.mean(dim=1, keepdim=True), patches) + pos_embed


@mistake("with_tokens")
def token_cut_off(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """No gradient reaches the class token (because of detach, .data or a new tensor), so that it would never learn.

    On which path does a gradient get from the result to `cls_token`?
    """
    return with_tokens(patches, cls_token.detach(), pos_embed)


@mistake("with_tokens")
def stretched(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The tokens are multiplied by √d before the positions are added, as in transformers for text. A ViT does not
    scale them.

    Does the figure multiply the tokens by anything?
    """
    return prepend(cls_token, patches) * patches.shape[-1] ** 0.5 + pos_embed


@mistake("with_tokens")
def positions_multiplied(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The tokens are multiplied by their positions; the positions should be added.

    What should the result be if all positions are zeros? What is yours?
    """
    return prepend(cls_token, patches) * pos_embed


@mistake("with_tokens")
def class_row_last(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The class token has the last row of `pos_embed`, and every patch the row of the position before its own.

    At which position of the sequence is the class token, and which row belongs to that position?
    """
    return prepend(cls_token, patches) + pos_embed.roll(1, dims=1)
