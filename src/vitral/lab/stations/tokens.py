"""Station 3: `with_tokens`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station


class TokensBy:
    """In a model's place of `position`: it takes the class token off again, and another function puts it on."""

    def __init__(self, with_tokens: Callable[[Tensor, Tensor, Tensor], Tensor]):
        self.with_tokens = with_tokens

    def __call__(self, tokens: Tensor, table: Tensor) -> Tensor:
        return self.with_tokens(tokens[:, 1:], tokens[:1, :1], table)


def drawn(inspection: Inspection) -> tuple[Tensor, Tensor, Tensor]:
    """Patches of several images, a class token and positions."""
    batch, patches, width = inspection.integer(2, 3), inspection.integer(4, 6), inspection.integer(3, 5)
    shapes = ((batch, patches, width), (1, 1, width), (1, patches + 1, width))
    one, two, three = (inspection.normal(*shape) for shape in shapes)
    return one, two, three


def observe(inspection: Inspection) -> None:
    inspection.ask("with_tokens", *drawn(inspection))
    inspection.ask("with_tokens", *(inspection.normal(*shape) for shape in ((1, 2, 6), (1, 1, 6), (1, 3, 6))))


def patches_kept(inspection: Inspection) -> Pair:
    patches, cls_token, pos_embed = drawn(inspection)
    return inspection.ask("with_tokens", patches, cls_token, torch.zeros_like(pos_embed))[:, 1:], patches


def class_token_first(inspection: Inspection) -> Pair:
    patches, cls_token, pos_embed = drawn(inspection)
    tokens = inspection.ask("with_tokens", patches, cls_token, torch.zeros_like(pos_embed))
    return tokens[:, :1], cls_token.expand(len(patches), -1, -1)


def positions_alone(inspection: Inspection) -> Pair:
    patches, cls_token, pos_embed = drawn(inspection)
    tokens = inspection.ask("with_tokens", torch.zeros_like(patches), torch.zeros_like(cls_token), pos_embed)
    return tokens, pos_embed.expand(len(patches), -1, -1)


def added_once(inspection: Inspection) -> Pair:
    patches, cls_token, pos_embed = drawn(inspection)
    once, twice = (inspection.ask("with_tokens", patches, cls_token, factor * pos_embed) for factor in (1, 2))
    return twice - once, pos_embed.expand(len(patches), -1, -1)


def each_by_itself(inspection: Inspection) -> Pair:
    patches, cls_token, pos_embed = drawn(inspection)
    together = inspection.ask("with_tokens", patches, cls_token, pos_embed)
    return together[1:], inspection.ask("with_tokens", patches[1:], cls_token, pos_embed)


def moved_together(inspection: Inspection) -> Pair:
    patches, cls_token, pos_embed = drawn(inspection)
    order = inspection.order(patches.shape[1])
    all_places = torch.cat([torch.zeros(1, dtype=torch.long), order + 1])
    tokens = inspection.ask("with_tokens", patches, cls_token, pos_embed)
    moved = inspection.ask("with_tokens", patches[:, order], cls_token, pos_embed[:, all_places])
    return moved, tokens[:, all_places]


def graft(model: Any, answer: Any) -> nn.Module:
    model.position = TokensBy(answer.with_tokens)
    return model


tokens = Station(
    name="tokens",
    number=3,
    title="A class token, and where each token stood",
    minutes=10,
    difficulty=1,
    prediction=Prediction(
        "a",
        "36 patches and the class token have 37 places, each with a row of its own; every image gets the same rows.",
    ),
    hints=(
        "Two things in a row: one more token for every image, then one row of positions for every token. Which is "
        "done first decides how many rows are needed.",
        "The class token has a batch of one, and cat wants batches of the same size: expand it to len(patches) first. "
        "There are n + 1 positions, so they are added when there are n + 1 tokens.",
        "torch.cat([cls_token.expand(...), patches], dim=...) makes the sequence along the axis of tokens; "
        "+ pos_embed follows, and adds the same rows to every image.",
    ),
    observe=observe,
    laws=(
        Law("With positions of zeros, the patches come out as they were, behind the first place.", patches_kept),
        Law("With positions of zeros, the first token of every image is the class token.", class_token_first),
        Law("Where all tokens are zeros, the positions alone come out, one row for each place.", positions_alone),
        Law("Each image of a batch gets its tokens as if it were alone.", each_by_itself),
        Law("Positions twice as large move every token by its own position once more.", added_once),
        Law("Patches that change places along with their positions come out in their new places.", moved_together),
    ),
    graft=graft,
)
