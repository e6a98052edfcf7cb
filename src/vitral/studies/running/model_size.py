"""The size of each arm: parameters and multiply-adds are counted, so that arms can be checked to match."""

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
from vitral.studies.training import build_model

PARAMETERS, MACS = 0.01, 0.15  # the largest relative difference from the reference that still counts as matched


@dataclass(frozen=True)
class Size:
    """A model's parameters, and its multiply-adds for one image."""

    parameters: int
    macs: int


def count_size(model: str, settings: dict[str, Any], classes: int, image: tuple[int, int]) -> Size:
    """Parameters, and multiply-adds of all matrix products and convolutions for one image of (height, width)."""
    return cached_size(model, json.dumps(settings, sort_keys=True), classes, image)


@lru_cache(maxsize=256)
def cached_size(name: str, settings: str, classes: int, image: tuple[int, int]) -> Size:
    """`count_size` with settings as text, which can be a key of the cache."""
    # The meta device counts without computing. A reader's own model may create tensors on a fixed device, so it runs.
    device = "cpu" if is_code(name) else "meta"
    with torch.device(device):
        model = build_model(name, json.loads(settings), classes, image).to(device).requires_grad_(False)
        with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, *image, device=device))
    # PyTorch counts a multiplication and an addition as two operations.
    return Size(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


def check_sizes_match(reference: tuple[str, Size], others: Sequence[tuple[str, Size]]) -> None:
    """Raise `ConfigError` for an arm whose size differs from the reference's by more than is allowed."""
    name, size = reference
    for other, found in others:
        for quantity, most, expected, counted in (
            ("parameters", PARAMETERS, size.parameters, found.parameters),
            ("multiply-adds", MACS, size.macs, found.macs),
        ):
            difference = abs(counted / expected - 1)
            if difference > most:
                raise ConfigError(
                    f"The arm {other!r} has {counted:,} {quantity} and {name!r} has {expected:,}, a difference of "
                    f"{difference:.1%}; a fair comparison allows at most {most:.0%}. Change its width or its MLP, or "
                    "give the reason in `unmatched`."
                )
