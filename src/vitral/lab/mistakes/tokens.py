"""How tokens and positions are put together wrongly."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitral.lab.solutions.tokens import with_tokens
from vitral.lab.station import Mistake


def joined(class_tokens: Tensor, patches: Tensor) -> Tensor:
    """The class token before the patches of every image."""
    return torch.cat([class_tokens.expand(len(patches), -1, -1), patches], dim=1)


def put(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, Any]:
    """A `with_tokens` of patches, class token and positions."""
    return {"with_tokens": function}


def beside(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    tokens = joined(cls_token, patches)
    return torch.cat([tokens, pos_embed.expand(len(tokens), -1, -1)], dim=-1)


token_last = Mistake(
    "The class token stands last, behind the patches.",
    "In which place does the figure have CLS?",
    put(lambda patches, cls, pos: torch.cat([patches, cls.expand(len(patches), -1, -1)], dim=1) + pos),
)
no_positions = Mistake(
    "No positions were added: whatever follows sees a bag of patches.",
    "How could attention tell the first patch from the last one?",
    put(lambda patches, cls, pos: joined(cls, patches)),
)
none_for_class_token = Mistake(
    "The patches have their positions, but the class token has none: the first row of `pos_embed` is its own.",
    "How many rows does `pos_embed` have, and for whom is the first?",
    put(lambda patches, cls, pos: joined(cls, patches + pos[:, 1:])),
)
one_too_early = Mistake(
    "Each patch got the position of its neighbour before it, and the class token none: counting began at row 0, before "
    "the class token was there.",
    "In the finished sequence, in which place does the first patch stand?",
    put(lambda patches, cls, pos: joined(cls, patches + pos[:, :-1])),
)
first_patch_lost = Mistake(
    "The class token was written over the first patch: one corner of the image is lost.",
    "n patches go in. How many tokens should come out?",
    put(lambda patches, cls, pos: joined(cls, patches[:, 1:]) + pos[:, :-1]),
)
no_class_token = Mistake(
    "There is no class token in the sequence: the patches have their positions, and nothing stands before them.",
    "From which token will the head read, if none belongs to the whole image?",
    put(lambda patches, cls, pos: patches + pos[:, 1:]),
)
added_to_all = Mistake(
    "The class token was added to every patch; it should be a token of its own, before them.",
    "Does the number of tokens change when one is added to the others?",
    put(lambda patches, cls, pos: patches + cls + pos[:, 1:]),
)
one_for_all = Mistake(
    "All tokens got the first position, so that no place can be told from another.",
    "How many different rows of `pos_embed` does your code use?",
    put(lambda patches, cls, pos: joined(cls, patches) + pos[:, :1]),
)
twice = Mistake(
    "The patches got their positions twice: once by themselves, and once more with the class token.",
    "Where in your code are positions added, and which tokens are there each time?",
    put(lambda patches, cls, pos: joined(cls, patches + pos[:, 1:]) + pos),
)
put_beside = Mistake(
    "The positions were put beside the tokens' numbers, which makes every token twice as wide; they should be added.",
    "How many numbers does a token have before, and how many after?",
    put(beside),
)
token_of_zeros = Mistake(
    "The first token is new, of zeros: the learned `cls_token` that was given is not used.",
    "Which of the three arguments does your code never read?",
    put(lambda patches, cls, pos: joined(torch.zeros_like(cls), patches) + pos),
)
mean_of_patches = Mistake(
    "The first token is the mean of the patches; it should be the learned `cls_token`, the same for every image.",
    "What does the class token know of the image before the first block?",
    put(lambda patches, cls, pos: joined(patches.mean(dim=1, keepdim=True), patches) + pos),
)
token_cut_off = Mistake(
    "The class token was taken out of the graph (by detach, .data or a new tensor), so that it would never learn.",
    "On what way does a gradient come from the result to `cls_token`?",
    put(lambda patches, cls, pos: with_tokens(patches, cls.detach(), pos)),
)
stretched = Mistake(
    "The tokens were multiplied by √d before the positions came, as transformers for text do. A ViT does not "
    "change them.",
    "Is there a number in the figure by which tokens are multiplied?",
    put(lambda patches, cls, pos: joined(cls, patches) * patches.shape[-1] ** 0.5 + pos),
)
positions_multiplied = Mistake(
    "The tokens were multiplied by their positions, which should be added.",
    "What should come out if all positions are zeros? What does with yours?",
    put(lambda patches, cls, pos: joined(cls, patches) * pos),
)
class_row_last = Mistake(
    "The class token got the last row of `pos_embed`, and every patch the row of the place before its own.",
    "In which place of the sequence does the class token stand, and which row belongs to that place?",
    put(lambda patches, cls, pos: joined(cls, patches) + pos.roll(1, dims=1)),
)
