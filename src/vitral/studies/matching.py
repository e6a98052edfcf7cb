"""Are the arms alike in everything but what is asked? Parameters and multiply-adds are counted, not claimed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitral.base.errors import ConfigError
from vitral.base.modes import evaluating
from vitral.store.code import is_code
from vitral.studies.training import model_of

PARAMETERS, MACS = 0.01, 0.15  # how far apart arms may be, of the reference's


@dataclass(frozen=True)
class Size:
    """What a model holds and what one image costs it."""

    parameters: int
    macs: int


def size_of(model: str, settings: dict[str, Any], classes: int, image: tuple[int, int]) -> Size:
    """Parameters, and multiply-adds of all matrix products and convolutions for one image of (height, width)."""
    return counted(model, json.dumps(settings, sort_keys=True), classes, image)


@lru_cache(maxsize=256)
def counted(name: str, settings: str, classes: int, image: tuple[int, int]) -> Size:
    device = "cpu" if is_code(name) else "meta"  # a reader's own model may make tensors of its own
    with torch.device(device):
        model = model_of(name, json.loads(settings), classes, image).to(device).requires_grad_(False)
        with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, *image, device=device))
    return Size(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


def check_matched(reference: tuple[str, Size], others: Sequence[tuple[str, Size]]) -> None:
    """Raise `ConfigError` for an arm that is larger or smaller than the reference by more than is allowed."""
    name, own = reference
    for other, found in others:
        for what, most in (("parameters", PARAMETERS), ("macs", MACS)):
            ours, theirs = getattr(own, what), getattr(found, what)
            if abs(theirs / ours - 1) > most:
                words = {"parameters": "parameters", "macs": "multiply-adds"}[what]
                raise ConfigError(
                    f"The arm {other!r} has {theirs:,} {words} and {name!r} has {ours:,}: {abs(theirs / ours - 1):.1%} "
                    f"apart, where at most {most:.0%} is a comparison of like with like. Change its width or its MLP, "
                    "or say in `unmatched` why it cannot be matched."
                )
