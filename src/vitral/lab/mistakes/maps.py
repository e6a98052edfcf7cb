"""How a map, a rollout or an occlusion goes wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.station import Mistake


def map_by(read: Callable[[Tensor], Tensor]) -> Mapping[str, Any]:
    """A `cls_map` that reads other numbers (b, n) from the weights."""

    def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
        return read(weights).unflatten(1, grid)

    return {"cls_map": cls_map}


def made_whole(weights: Tensor) -> Tensor:
    row = weights[:, :, 0, 1:].mean(dim=1)
    return row / row.sum(dim=-1, keepdim=True)


def down_the_columns(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    return weights[:, :, 0, 1:].mean(dim=1).unflatten(1, grid[::-1]).mT


def identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype)


def half(weights: Tensor) -> Tensor:
    return (weights.mean(dim=1) + identity(weights)) / 2


def rollout_by(step: Callable[[Tensor, Tensor], Tensor]) -> Mapping[str, Any]:
    """A `rollout` in which a block's weights and what was mixed before it give something else."""

    def rollout(layers: list[Tensor]) -> Tensor:
        mixed = identity(layers[0])
        for weights in layers:
            mixed = step(weights, mixed)
        return mixed

    return {"rollout": rollout}


def heads_apart(layers: list[Tensor]) -> Tensor:
    mixed = identity(layers[0])
    for weights in layers:
        mixed = (weights + identity(weights)) / 2 @ mixed
    return mixed.mean(dim=1)


def first_as_it_is(layers: list[Tensor]) -> Tensor:
    mixed = layers[0].mean(dim=1)
    for weights in layers[1:]:
        mixed = half(weights) @ mixed
    return mixed


def occlusion_by(lost: Callable[[Tensor, Tensor], Tensor], fresh: bool = True) -> Mapping[str, Any]:
    """An `occlusion` that takes another number from the logits before and after, or whose covers stay."""

    @torch.no_grad()
    def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
        rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
        found = torch.zeros(len(images), rows, columns, dtype=images.dtype)
        covered = images.clone()
        for row in range(rows):
            for column in range(columns):
                covered = images.clone() if fresh else covered
                down, right = row * patch_size, column * patch_size
                covered[:, :, down : down + patch_size, right : right + patch_size] = 0
                found[:, row, column] = lost(model(images), model(covered))
        return found

    return {"occlusion": occlusion}


def fallen(before: Tensor, after: Tensor) -> Tensor:
    """By how much the highest number of `before` is lower in `after`."""
    answer = before.argmax(dim=-1, keepdim=True)
    return (before.gather(1, answer) - after.gather(1, answer))[:, 0]


def probability_fallen(before: Tensor, after: Tensor) -> Tensor:
    return fallen(before.softmax(dim=-1), after.softmax(dim=-1))


def answer_of_the_first(before: Tensor, after: Tensor) -> Tensor:
    before, after = before.softmax(dim=-1), after.softmax(dim=-1)
    answer = int(before[0].argmax())
    return before[:, answer] - after[:, answer]


column_read = Mistake(
    "The map is column 0 of the weights: what every patch takes from the class token, not what that token takes.",
    "In row i and column j of the weights, who takes, and from whom? Which of the two is the class token here?",
    map_by(lambda weights: weights[:, :, 1:, 0].mean(dim=1)),
)
class_token_kept = Mistake(
    "The map begins with the class token itself, so every patch stands one place too late and the last is missing.",
    "Whose is the first number of the class token's row? Has it a place in the image?",
    map_by(lambda weights: weights[:, :, 0, :-1].mean(dim=1)),
)
columns_first = Mistake(
    "The map was filled column by column, where patches run along the rows. It would not show on every square map.",
    "Which patch comes second in the sequence: the one beside the first, or the one below it?",
    {"cls_map": down_the_columns},
)
every_token_read = Mistake(
    "The map is the mean of the rows of all tokens, where only the class token was asked for.",
    "From which token is the answer read? Which row is that?",
    map_by(lambda weights: weights.mean(dim=(1, 2))[:, 1:]),
)
heads_summed = Mistake(
    "The heads were added up, where their mean was asked for: the map holds more than there is to take.",
    "The class token's row of one head is one in sum. What is yours in sum, with three heads?",
    map_by(lambda weights: weights[:, :, 0, 1:].sum(dim=1)),
)
first_leftmost = Mistake(
    "The blocks were multiplied the other way round: in yours, early blocks read what later ones mixed.",
    "In R = A B, row 0 of A says which rows of B are taken. Which block did the taking last?",
    rollout_by(lambda weights, mixed: mixed @ half(weights)),
)
no_identity = Mistake(
    "The identity is missing: what went past the attention on the stream is not counted.",
    "A block adds what it found to what it was given. Where is what it was given in your product?",
    rollout_by(lambda weights, mixed: weights.mean(dim=1) @ mixed),
)
not_halved = Mistake(
    "The identity was added but the sum not halved: every block doubles what there is.",
    "What are the rows of A in sum, and those of A + 1? What should those of a mixture be?",
    rollout_by(lambda weights, mixed: (weights.mean(dim=1) + identity(weights)) @ mixed),
)
place_by_place = Mistake(
    "The blocks were multiplied place by place (*), which lets nothing flow from token to token.",
    "Token 0 takes from token 3, which took from token 5. Which product finds its way from 0 to 5?",
    rollout_by(lambda weights, mixed: half(weights) * mixed),
)
heads_followed_apart = Mistake(
    "Each head was followed through all blocks by itself, and the mean taken at the end. After every block the heads "
    "are mixed, so head 0 does not go on as head 0.",
    "What does `proj` do with the heads at the end of each block?",
    {"rollout": heads_apart},
)
first_without_stream = Mistake(
    "The first block stands in the product as it is, without the half that went past it.",
    "With what does your product begin? Has the first block a stream too?",
    {"rollout": first_as_it_is},
)
covers_stay = Mistake(
    "The covers were not taken off again: each patch was covered beside all that came before it.",
    "How many patches are zero when you ask the model for the last time?",
    occlusion_by(probability_fallen, fresh=False),
)
logits_compared = Mistake(
    "The fall of the logit was measured, where that of the probability was asked for.",
    "A logit falls by one. What does that say of the probability, if all other logits fall by one too?",
    occlusion_by(fallen),
)
answer_chosen_again = Mistake(
    "The answer was chosen again for each covered image: yours compares the highest probabilities, perhaps of two "
    "different classes.",
    "A patch is covered and the model now says another class, just as surely. What should be lost?",
    occlusion_by(lambda before, after: before.softmax(dim=-1).amax(dim=-1) - after.softmax(dim=-1).amax(dim=-1)),
)
largest_head = Mistake(
    "The map is the largest of the heads in each place, where their mean was asked for.",
    "Three heads give a patch 0.9, 0 and 0. What should the map have there?",
    map_by(lambda weights: weights[:, :, 0, 1:].amax(dim=1)),
)
map_made_whole = Mistake(
    "The map was divided by its sum; what the class token takes from itself should be missing from it.",
    "If the class token takes nearly all from itself, how much is left for the patches?",
    map_by(made_whole),
)
wrong_sign = Mistake(
    "The sign is the wrong way round: a patch that the answer needs should get a number above zero.",
    "The probability falls from 0.9 to 0.2. By how much has it fallen, and what does yours say?",
    occlusion_by(lambda before, after: -probability_fallen(before, after)),
)
one_answer_for_all = Mistake(
    "The first image's answer was taken for all images of the batch.",
    "How many answers does your code choose for three images?",
    occlusion_by(answer_of_the_first),
)
