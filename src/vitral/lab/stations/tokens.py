"""The tests of station 3: `with_tokens`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.station import Pair, RightPrediction, Station, law


class TokensWith:
    """A model's part `position` that calls another function: it takes off the class token that the model put on."""

    def __init__(self, with_tokens: Callable[[Tensor, Tensor, Tensor], Tensor]):
        self.with_tokens = with_tokens

    def __call__(self, tokens: Tensor, table: Tensor) -> Tensor:
        return self.with_tokens(tokens[:, 1:], tokens[:1, :1], table)


def draw_inputs(recorder: Recorder) -> tuple[Tensor, Tensor, Tensor]:
    """Return patches of several images, a class token and positions."""
    batch, patches, width = recorder.integer(2, 3), recorder.integer(4, 6), recorder.integer(3, 5)
    shapes = ((batch, patches, width), (1, 1, width), (1, patches + 1, width))
    one, two, three = (recorder.normal(*shape) for shape in shapes)
    return one, two, three


def observe(recorder: Recorder) -> None:
    recorder.call("with_tokens", *draw_inputs(recorder))
    recorder.call("with_tokens", *(recorder.normal(*shape) for shape in ((1, 2, 6), (1, 1, 6), (1, 3, 6))))


@law()
def patches_kept(recorder: Recorder) -> Pair:
    """With positions of zeros, the patches come out unchanged, after the class token."""
    patches, cls_token, pos_embed = draw_inputs(recorder)
    return recorder.call("with_tokens", patches, cls_token, torch.zeros_like(pos_embed))[:, 1:], patches


@law()
def class_token_first(recorder: Recorder) -> Pair:
    """With positions of zeros, the first token of every image is the class token."""
    patches, cls_token, pos_embed = draw_inputs(recorder)
    tokens = recorder.call("with_tokens", patches, cls_token, torch.zeros_like(pos_embed))
    return tokens[:, :1], cls_token.expand(len(patches), -1, -1)


@law()
def positions_alone(recorder: Recorder) -> Pair:
    """With tokens of zeros, the result is the positions, one row for each place."""
    patches, cls_token, pos_embed = draw_inputs(recorder)
    tokens = recorder.call("with_tokens", torch.zeros_like(patches), torch.zeros_like(cls_token), pos_embed)
    return tokens, pos_embed.expand(len(patches), -1, -1)


@law()
def each_by_itself(recorder: Recorder) -> Pair:
    """The tokens of each image are the same as if it were alone in the batch."""
    patches, cls_token, pos_embed = draw_inputs(recorder)
    together = recorder.call("with_tokens", patches, cls_token, pos_embed)
    return together[1:], recorder.call("with_tokens", patches[1:], cls_token, pos_embed)


@law()
def added_once(recorder: Recorder) -> Pair:
    """Positions twice as large add each token's position once more."""
    patches, cls_token, pos_embed = draw_inputs(recorder)
    once, twice = (recorder.call("with_tokens", patches, cls_token, factor * pos_embed) for factor in (1, 2))
    return twice - once, pos_embed.expand(len(patches), -1, -1)


@law()
def moved_together(recorder: Recorder) -> Pair:
    """If patches and positions are in another order, so are the tokens."""
    patches, cls_token, pos_embed = draw_inputs(recorder)
    order = recorder.permutation(patches.shape[1])
    all_places = torch.cat([torch.zeros(1, dtype=torch.long), order + 1])
    tokens = recorder.call("with_tokens", patches, cls_token, pos_embed)
    moved = recorder.call("with_tokens", patches[:, order], cls_token, pos_embed[:, all_places])
    return moved, tokens[:, all_places]


def insert(model: Any, answer: Any) -> nn.Module:
    model.position = TokensWith(answer.with_tokens)
    return model


tokens = Station(
    number=3,
    title="A class token, and a position for each token",
    minutes=10,
    difficulty=1,
    prediction=RightPrediction(
        "a", "36 patches and the class token need 37 rows, one each; every image gets the same rows."
    ),
    hints=(
        "There are two steps: one more token for every image, and one row of positions for every token. The order of "
        "the steps decides how many rows are needed.",
        "The class token has a batch of one, and cat needs batches of equal size: expand it to len(patches) first. "
        "There are n + 1 positions, so add them once there are n + 1 tokens.",
        "torch.cat([cls_token.expand(...), patches], dim=...) joins along the axis of the tokens; then + pos_embed "
        "adds the same rows to every image.",
    ),
    observe=observe,
    insert=insert,
)
