"""Mistakes in attention maps, rollout and occlusion."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitral.lab.station import mistake


def identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype)


def mix(weights: Tensor) -> Tensor:
    """Average the heads and the identity of the residual stream."""
    return (weights.mean(dim=1) + identity(weights)) / 2


def accumulate(layers: list[Tensor], step: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply `step` to each block's weights and the mixture so far."""
    mixture = identity(layers[0])
    for weights in layers:
        mixture = step(weights, mixture)
    return mixture


def cover(
    model: nn.Module, images: Tensor, patch_size: int, measure: Callable[[Tensor, Tensor], Tensor], fresh: bool = True
) -> Tensor:
    """Apply `measure` to the logits before and after each patch is covered; without `fresh`, covers stay."""
    with torch.no_grad():
        rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
        lost = torch.zeros(len(images), rows, columns, dtype=images.dtype)
        covered = images.clone()
        for row in range(rows):
            for column in range(columns):
                covered = images.clone() if fresh else covered
                top, left = row * patch_size, column * patch_size
                covered[:, :, top : top + patch_size, left : left + patch_size] = 0
                lost[:, row, column] = measure(model(images), model(covered))
    return lost


def fall(before: Tensor, after: Tensor) -> Tensor:
    """Compute by how much the highest number of `before` is lower in `after`."""
    answer = before.argmax(dim=-1, keepdim=True)
    return (before.gather(1, answer) - after.gather(1, answer))[:, 0]


def probability_fall(before: Tensor, after: Tensor) -> Tensor:
    return fall(before.softmax(dim=-1), after.softmax(dim=-1))


@mistake("cls_map")
def column_read(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map is column 0 of the weights: how much every patch attends to the class token, not the reverse.

    In row i and column j of the weights, which token attends to which? Which of the two is the class token here?
    """
    return weights[:, :, 1:, 0].mean(dim=1).unflatten(1, grid)


@mistake("cls_map")
def class_token_kept(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map begins with the class token itself, so that every patch is one place too late and the last is missing.

    Which token does the first number of the class token's row belong to? Does it have a place in the image?
    """
    return weights[:, :, 0, :-1].mean(dim=1).unflatten(1, grid)


@mistake("cls_map")
def columns_first(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map is filled column by column; patches run along the rows. A square map might not show it.

    Which patch comes second in the sequence: the one to the right of the first, or the one below it?
    """
    return weights[:, :, 0, 1:].mean(dim=1).unflatten(1, grid[::-1]).mT


@mistake("cls_map")
def every_token_read(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map is the mean over the rows of all tokens; it should be the row of the class token.

    Which token does the head take? Which row is that?
    """
    return weights.mean(dim=(1, 2))[:, 1:].unflatten(1, grid)


@mistake("cls_map")
def heads_summed(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map is the sum of the heads; it should be their mean.

    The class token's row of one head adds up to 1. What does yours add up to, with three heads?
    """
    return weights[:, :, 0, 1:].sum(dim=1).unflatten(1, grid)


@mistake("rollout")
def first_leftmost(layers: list[Tensor]) -> Tensor:
    """The blocks are multiplied in reverse order, as if early blocks attended to the output of later ones.

    In R = A B, row 0 of A says which rows of B are mixed. Which block mixes last?
    """
    return accumulate(layers, lambda weights, mixture: mixture @ mix(weights))


@mistake("rollout")
def no_identity(layers: list[Tensor]) -> Tensor:
    """The identity is missing, which stands for the residual stream around the attention.

    A block adds its output to its input. Where is the input in your product?
    """
    return accumulate(layers, lambda weights, mixture: weights.mean(dim=1) @ mixture)


@mistake("rollout")
def not_halved(layers: list[Tensor]) -> Tensor:
    """The identity is added but the sum is not halved, so that every block doubles the total.

    What do the rows of A add up to, and those of A + 1? What should those of a mixture add up to?
    """
    return accumulate(layers, lambda weights, mixture: (weights.mean(dim=1) + identity(weights)) @ mixture)


@mistake("rollout")
def place_by_place(layers: list[Tensor]) -> Tensor:
    """The blocks are multiplied element by element (*), which passes nothing from token to token.

    Token 0 attends to token 3, which attended to token 5. Which product leads from 0 to 5?
    """
    return accumulate(layers, lambda weights, mixture: mix(weights) * mixture)


@mistake("rollout")
def heads_followed_apart(layers: list[Tensor]) -> Tensor:
    """Each head has a rollout of its own, and the mean is taken at the end. But every block mixes its heads, so that
    head 0 does not go on as head 0.

    What does `proj` do with the heads at the end of the attention?
    """
    return accumulate(layers, lambda weights, mixture: (weights + identity(weights)) / 2 @ mixture).mean(dim=1)


@mistake("rollout")
def first_without_stream(layers: list[Tensor]) -> Tensor:
    """The first block is in the product without its identity.

    With what does your product begin? Does the first block have a residual stream, too?
    """
    mixture = layers[0].mean(dim=1)
    for weights in layers[1:]:
        mixture = mix(weights) @ mixture
    return mixture


@mistake("occlusion")
def covers_stay(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """The covers are not removed: each patch is covered in addition to all before it.

    How many patches are zero when you call the model for the last time?
    """
    return cover(model, images, patch_size, probability_fall, fresh=False)


@mistake("occlusion")
def logits_compared(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """The result is the fall of the logit; it should be the fall of the probability.

    If all logits fall by one, by how much does the probability fall?
    """
    return cover(model, images, patch_size, fall)


@mistake("occlusion")
def answer_chosen_again(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """The class is chosen again for each covered image: your code compares the highest probabilities, perhaps of two
    different classes.

    With one patch covered, the model predicts another class, just as surely. What should the result be?
    """
    return cover(model, images, patch_size, lambda *both: both[0].softmax(-1).amax(-1) - both[1].softmax(-1).amax(-1))


@mistake("cls_map")
def largest_head(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map is the maximum over the heads; it should be their mean.

    Three heads give a patch the weights 0.9, 0 and 0. What should the map have there?
    """
    return weights[:, :, 0, 1:].amax(dim=1).unflatten(1, grid)


@mistake("cls_map")
def map_made_whole(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map is divided by its sum; it should add up to less than 1, since the class token attends to itself, too.

    If the class token attends almost only to itself, how much is left for the patches?
    """
    row = weights[:, :, 0, 1:].mean(dim=1)
    return (row / row.sum(dim=-1, keepdim=True)).unflatten(1, grid)


@mistake("occlusion")
def wrong_sign(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """The sign is wrong: a patch that the prediction depends on should get a positive number.

    The probability falls from 0.9 to 0.2. By how much has it fallen, and what does your code return?
    """
    return cover(model, images, patch_size, lambda before, after: -probability_fall(before, after))


@mistake("occlusion")
def one_answer_for_all(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """The class predicted for the first image is used for all images of the batch.

    How many classes does your code choose for three images?
    """

    def fall_of_first(before: Tensor, after: Tensor) -> Tensor:
        answer = int(before[0].argmax())
        return before.softmax(dim=-1)[:, answer] - after.softmax(dim=-1)[:, answer]

    return cover(model, images, patch_size, fall_of_first)
