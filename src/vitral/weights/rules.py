"""Names and layouts of tensors in two formats, as rules that work in both directions.

    rule("blocks.{i}.attn.qkv.{p}", "layer.{i}.query.{p}", "layer.{i}.key.{p}", "layer.{i}.value.{p}")

A rule gives our name, then theirs. `{i}` and `{s}` stand for a number, `{j}` for 1 or 2, `{p}` for weight or bias,
`{m}` for a path of modules. Several of their tensors make one of ours, in the given order; how, is the rule's layout.

Axes:  d outputs   c inputs   y x kernel   h heads   e width of a head
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from einops import rearrange
from torch import Tensor

from vitral.base.errors import StoreError

PLACEHOLDERS = {"i": r"\d+", "j": "[12]", "s": r"\d+", "p": "weight|bias", "m": r"(?:\w+\.)*"}
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How their tensors `join` to one of ours, and how ours is `split`: `split(ours, num_heads, how many)`."""

    join: Callable[[Sequence[Tensor]], Tensor]
    split: Callable[[Tensor, int, int], Sequence[Tensor]]


SAME = Layout(lambda theirs: theirs[0], lambda ours, heads, n: [ours])
WITHOUT_BATCH = Layout(lambda theirs: theirs[0][None], lambda ours, heads, n: [ours[0]])
STACKED = Layout(lambda theirs: torch.cat(list(theirs)), lambda ours, heads, n: ours.chunk(n))
# A dense kernel of flax is (in, out); a convolution's is (y, x, in, out).
DENSE = Layout(lambda theirs: theirs[0].T, lambda ours, heads, n: [ours.T])
CONV = Layout(
    lambda theirs: rearrange(theirs[0], "y x c d -> d c y x"),
    lambda ours, heads, n: [rearrange(ours, "d c y x -> y x c d")],
)
# flax keeps heads as an axis: into heads (in, h, e), with biases (h, e); out of heads (h, e, out).
INTO_HEADS = Layout(
    lambda theirs: torch.cat([rearrange(each, "... h e -> (h e) ...") for each in theirs]),
    lambda ours, heads, n: [rearrange(each, "(h e) ... -> ... h e", h=heads) for each in ours.chunk(n)],
)
OUT_OF_HEADS = Layout(
    lambda theirs: rearrange(theirs[0], "h e d -> d (h e)"),
    lambda ours, heads, n: [rearrange(ours, "d (h e) -> h e d", h=heads)],
)


@dataclass(frozen=True)
class Rule:
    """Our name, theirs, and the layout, as templates."""

    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME


def rule(ours: str, *theirs: str, layout: Layout | None = None) -> Rule:
    """A rule whose layout, unless given, is the tensor itself for one name, and stacking for several.

    >>> rule("norm.{p}").theirs
    ('norm.{p}',)
    """
    return Rule(ours, theirs or (ours,), layout or (STACKED if len(theirs) > 1 else SAME))


@cache
def compile_template(template: str) -> re.Pattern[str]:
    """The pattern of a template's names, with a group per placeholder."""
    parts = re.split(r"\{(\w)\}", template)
    pattern = "".join(
        f"(?P<{part}>{PLACEHOLDERS[part]})" if odd % 2 else re.escape(part) for odd, part in enumerate(parts)
    )
    return re.compile(pattern)


def match_names(template: str, names: Iterable[str]) -> Iterable[dict[str, str]]:
    """The values of the placeholders in each name that matches."""
    matches = (compile_template(template).fullmatch(name) for name in names)
    return [match.groupdict() for match in matches if match]


def rename_to_ours(rules: Sequence[Rule], theirs: Tensors) -> tuple[dict[str, Tensor], set[str]]:
    """Our tensors from theirs, and which of theirs were used. Raises `StoreError` where a part of one is missing."""
    ours: dict[str, Tensor] = {}
    used: set[str] = set()
    for one in rules:
        for values in match_names(one.theirs[0], theirs):
            wanted = [template.format(**values) for template in one.theirs]
            if missing := [name for name in wanted if name not in theirs]:
                raise StoreError(f"The checkpoint has {wanted[0]} but not {', '.join(missing)}, which belongs to it.")
            try:
                ours[one.ours.format(**values)] = one.layout.join([theirs[name] for name in wanted])
            except (RuntimeError, ValueError) as error:  # of einops and torch, for shapes that do not fit
                raise StoreError(f"{', '.join(wanted)}: {str(error).strip().splitlines()[-1]}") from error
            used.update(wanted)
    return ours, used


def rename_to_theirs(rules: Sequence[Rule], ours: Tensors, num_heads: int) -> tuple[dict[str, Tensor], set[str]]:
    """Their tensors from ours, and which of ours were used."""
    theirs: dict[str, Tensor] = {}
    used: set[str] = set()
    for one in rules:
        for values in match_names(one.ours, ours):
            name = one.ours.format(**values)
            if name not in used:  # several spellings may be read; the first is written
                names = [template.format(**values) for template in one.theirs]
                theirs.update(zip(names, one.layout.split(ours[name], num_heads, len(names))))
                used.add(name)
    return theirs, used
