"""What a tensor is called and how it is laid out in two formats, as rules that work in both directions.

    Rule("blocks.{i}.attn.qkv.{p}", ("layer.{i}.query.{p}", "layer.{i}.key.{p}", "layer.{i}.value.{p}"), STACKED)

A rule names ours, then theirs; `{i}`, `{j}` and `{s}` stand for a number, `{p}` for weight or bias, `{m}` for modules.
Several of theirs are one of ours, in the order given; how, is its layout.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from einops import rearrange
from torch import Tensor

from vitral.base.errors import StoreError

PLACES = {"i": r"\d+", "j": r"\d+", "s": r"\d+", "p": "weight|bias", "m": r"(?:\w+\.)*"}
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How tensors of theirs become one of ours, and back: `apart(ours, heads, how many)`."""

    together: Callable[[Sequence[Tensor]], Tensor]
    apart: Callable[[Tensor, int, int], Sequence[Tensor]]


SAME = Layout(lambda theirs: theirs[0], lambda ours, heads, n: [ours])
STACKED = Layout(lambda theirs: torch.cat(list(theirs)), lambda ours, heads, n: ours.chunk(n))
# A dense kernel of flax is (in, out); a convolution's is (y, x, in, out).
DENSE = Layout(lambda theirs: theirs[0].T, lambda ours, heads, n: [ours.T])
CONV = Layout(
    lambda theirs: rearrange(theirs[0], "y x c d -> d c y x"),
    lambda ours, h, n: [rearrange(ours, "d c y x -> y x c d")],
)
# Into heads (in, h, e), with biases (h, e); out of heads (h, e, out).
INTO_HEADS = Layout(
    lambda theirs: torch.cat([rearrange(each, "d h e -> (h e) d") for each in theirs]),
    lambda ours, heads, n: [rearrange(each, "(h e) d -> d h e", h=heads) for each in ours.chunk(n)],
)
HEAD_BIASES = Layout(
    lambda theirs: torch.cat([each.flatten() for each in theirs]),
    lambda ours, heads, n: [rearrange(each, "(h e) -> h e", h=heads) for each in ours.chunk(n)],
)
OUT_OF_HEADS = Layout(
    lambda theirs: rearrange(theirs[0], "h e d -> d (h e)"),
    lambda ours, heads, n: [rearrange(ours, "d (h e) -> h e d", h=heads)],
)


@dataclass(frozen=True)
class Rule:
    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME


def rule(ours: str, *theirs: str, layout: Layout | None = None) -> Rule:
    """Of one name the tensor itself, of several one stacked on the other, unless a layout says otherwise."""
    return Rule(ours, theirs or (ours,), layout or (STACKED if len(theirs) > 1 else SAME))


@cache
def pattern(template: str) -> re.Pattern[str]:
    """What a template's names look like."""
    parts = re.split(r"\{(\w)\}", template)
    found = "".join(f"(?P<{part}>{PLACES[part]})" if odd % 2 else re.escape(part) for odd, part in enumerate(parts))
    return re.compile(found)


def matched(template: str, names: Iterable[str]) -> Iterable[dict[str, str]]:
    """What the places stand for in each name that fits."""
    fits = (pattern(template).fullmatch(name) for name in names)
    return [fit.groupdict() for fit in fits if fit]


def inward(rules: Sequence[Rule], theirs: Tensors) -> tuple[dict[str, Tensor], set[str]]:
    """Our tensors from theirs, and which of theirs were used. Raises `StoreError` where a part of one is missing."""
    ours: dict[str, Tensor] = {}
    used: set[str] = set()
    for one in rules:
        for places in matched(one.theirs[0], theirs):
            wanted = [template.format(**places) for template in one.theirs]
            if missing := [name for name in wanted if name not in theirs]:
                raise StoreError(f"The checkpoint has {wanted[0]} but not {', '.join(missing)}, which belongs to it.")
            try:
                ours[one.ours.format(**places)] = one.layout.together([theirs[name] for name in wanted])
            except (RuntimeError, ValueError) as error:  # of einops and torch, for shapes that do not fit
                raise StoreError(f"{', '.join(wanted)}: {str(error).strip().splitlines()[-1]}") from error
            used.update(wanted)
    return ours, used


def outward(rules: Sequence[Rule], ours: Tensors, heads: int) -> tuple[dict[str, Tensor], set[str]]:
    """Their tensors from ours, and which of ours were used."""
    theirs: dict[str, Tensor] = {}
    used: set[str] = set()
    for one in rules:
        for places in matched(one.ours, ours):
            name = one.ours.format(**places)
            if name not in used:
                names = [template.format(**places) for template in one.theirs]
                theirs.update(zip(names, one.layout.apart(ours[name], heads, len(names))))
                used.add(name)
    return theirs, used
