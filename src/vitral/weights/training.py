"""The weights among what a training script saved: its optimiser, its counts, and perhaps a running mean of the weights.

A set of weights is any mapping that holds tensors by name, whatever it is called. Of several none is chosen: which is
meant is said, as `weights=state_dict_ema`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import StoreError, UnknownName
from vitral.base.lookup import nearest

DISTILLED = ("student", "teacher")
MEANS = {"ema", "teacher"}  # words in the names of running means of others
BARE = "bare"  # what a set is called that stands in no other, beside those that have names
DEEPEST = 16  # names on the way to the weights
OPTIMIZER = {"state", "param_groups"}  # what an optimiser holds, besides tensors by number
WRAPPERS = ("module.", "_orig_mod.")  # before the names of a model that is trained in several processes, or compiled
BACKBONE = "backbone."  # of a model that DINO trains, before the names of its ViT
COUNT = "n_averaged"  # beside a mean that `torch.optim.swa_utils` keeps


@dataclass(frozen=True)
class Found:
    """Tensors by name; what was left out, with the reason; and which of several sets they are, in words."""

    tensors: dict[str, Tensor]
    dropped: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def unwrapped(content: Any, file: Path, weights: str | None = None) -> Found:
    """The weights, by `weights` where there are several.

    Raises `StoreError` if there are none, or several and nothing says which; `UnknownName` if those are not there.
    """
    sets = dict(sets_in(content, (), set()))
    meant = [name for name in sets if weights is None or weights in name.split(".")]
    meant = [weights] if weights is not None and weights in sets else meant
    if weights is not None and not meant:
        named = [name for name in sets if name != BARE]
        has = f"It has: {', '.join(sets)}." if named else "It holds one set of weights, which has no name."
        raise UnknownName(f"{file} holds no weights={weights}.{nearest(weights, named)} {has}")
    if len(meant) > 1:
        mean = next((f", {name} being a running mean" for name in meant if is_mean(name)), "")
        raise StoreError(
            f"{file} holds weights as {' and as '.join(meant)}{mean}. Say which: {file.name},weights={meant[0]} on the "
            f"command line, weights={meant[0]!r} in Python."
        )
    chosen = meant[0] if meant else BARE
    tensors = tensors_in(sets.get(chosen, content), file)
    distilled = any(word in chosen.split(".") for word in DISTILLED)
    cut = BACKBONE if distilled and any(name.startswith(BACKBONE) for name in tensors) else ""
    dropped = {name: "it is used while pre-training only" for name in tensors if not name.startswith(cut)}
    dropped |= {COUNT: "a count of training's"} if COUNT in tensors else {}
    kept = {name.removeprefix(cut): tensor for name, tensor in tensors.items() if name not in dropped}
    assumed = tuple(f"the weights called {chosen}, and not {name}" for name in sets if name != chosen)
    return Found(kept, dropped, assumed)


def is_mean(name: str) -> bool:
    return not MEANS.isdisjoint(re.split(r"[._]", name))


def sets_in(content: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Each set of weights, by the names on the way to it; an optimiser's tensors are none.

    What was `seen` is not looked into again, since a file may hold itself.
    """
    if not isinstance(content, Mapping) or content.keys() >= OPTIMIZER or len(place) > DEEPEST:
        return
    if any(isinstance(name, str) and is_weight(value) for name, value in content.items()):
        yield ".".join(place) or BARE, content
    if id(content) not in seen:
        seen.add(id(content))
        for name, value in content.items():
            if isinstance(name, str):
                yield from sets_in(value, (*place, name), seen)


def is_weight(value: Any) -> bool:
    """Whether it may be one: a single number is a count, and bytes are the state of a random generator."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.dtype != torch.uint8


def tensors_in(content: Any, file: Path) -> dict[str, Tensor]:
    """By their names in the model, whatever wrapped it while it was trained."""
    if not isinstance(content, Mapping):
        raise StoreError(f"{file} holds a {type(content).__name__}, not tensors by name.")
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            own = name
            while wrapper := next((word for word in WRAPPERS if own.startswith(word)), ""):
                own = own.removeprefix(wrapper)
            if own in tensors:
                raise StoreError(f"{file} holds {own} twice, with and without {' or '.join(WRAPPERS)} before it.")
            tensors[own] = value.detach()
    if not tensors:
        raise StoreError(
            f"{file} holds no tensors by name; it has {', '.join(map(str, list(content)[:5])) or 'nothing'}."
        )
    return tensors
