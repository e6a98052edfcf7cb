"""Find the weights among what a training script saved: its optimizer, its counts, perhaps a running mean of weights.

A set of weights is any mapping that holds tensors by name, whatever it is called. None of several sets is chosen: the
caller specifies one, as `weights=state_dict_ema`.
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
MEANS = {"ema", "teacher"}  # words in the names of running means
BARE = "bare"  # the name of a set that stands at the top, beside sets that have names
DEEPEST = 16  # names on the way to the weights
OPTIMIZER = {"state", "param_groups"}  # what an optimizer holds, besides tensors by number
WRAPPERS = ("module.", "_orig_mod.")  # prefixes of a model that is trained in several processes, or compiled
BACKBONE = "backbone."  # prefix of the ViT in a model that DINO trains
COUNT = "n_averaged"  # beside a mean that `torch.optim.swa_utils` keeps


@dataclass(frozen=True)
class WeightSet:
    """Tensors by name; which were dropped, with the reason; and in words, which of several sets this is."""

    tensors: dict[str, Tensor]
    dropped: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def extract_weights(content: Any, file: Path, weights: str | None = None) -> WeightSet:
    """The weights in a file's content; `weights` names the set where there are several.

    Raises `StoreError` if there are none, or several and `weights` is not given; `UnknownName` if there is no such set.
    """
    sets = dict(find_weight_sets(content, (), set()))
    matching = [name for name in sets if weights is None or weights in name.split(".")]
    matching = [weights] if weights is not None and weights in sets else matching
    if weights is not None and not matching:
        named = [name for name in sets if name != BARE]
        has = f"It has: {', '.join(sets)}." if named else "It contains one set of weights, which has no name."
        raise UnknownName(f"{file} does not contain weights={weights}.{nearest(weights, named)} {has}")
    if len(matching) > 1:
        mean = next((f" ({name} is a moving average)" for name in matching if is_running_mean(name)), "")
        raise StoreError(
            f"{file} contains several sets of weights: {', '.join(matching)}{mean}. Specify one: "
            f"{file.name},weights={matching[0]} on the command line, weights={matching[0]!r} in Python."
        )
    chosen = matching[0] if matching else BARE
    tensors = tensors_in(sets.get(chosen, content), file)
    # DINO's student and teacher are a backbone and a projection head; the head has no use after pre-training.
    is_distilled = any(word in chosen.split(".") for word in DISTILLED)
    prefix = BACKBONE if is_distilled and any(name.startswith(BACKBONE) for name in tensors) else ""
    dropped = {name: "used in pre-training only" for name in tensors if not name.startswith(prefix)}
    dropped |= {COUNT: "a counter of the training script"} if COUNT in tensors else {}
    kept = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name not in dropped}
    assumed = tuple(f"the weights called {chosen}, not {name}" for name in sets if name != chosen)
    return WeightSet(kept, dropped, assumed)


def is_running_mean(name: str) -> bool:
    return not MEANS.isdisjoint(re.split(r"[._]", name))


def find_weight_sets(content: Any, path: tuple[str, ...], visited: set[int]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Each set of weights with its dotted name; the tensors of an optimizer are none.

    Mappings in `visited` are not entered again, since a file may contain itself.
    """
    if not isinstance(content, Mapping) or content.keys() >= OPTIMIZER or len(path) > DEEPEST:
        return
    if any(isinstance(name, str) and is_weight(value) for name, value in content.items()):
        yield ".".join(path) or BARE, content
    if id(content) not in visited:
        visited.add(id(content))
        for name, value in content.items():
            if isinstance(name, str):
                yield from find_weight_sets(value, (*path, name), visited)


def is_weight(value: Any) -> bool:
    """Whether it may be one: a single number is a count, and bytes are the state of a random generator."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.dtype != torch.uint8


def tensors_in(content: Any, file: Path) -> dict[str, Tensor]:
    """Tensors by their names in the model, without the prefixes of what wrapped it while it was trained."""
    if not isinstance(content, Mapping):
        raise StoreError(f"{file} contains a {type(content).__name__}, not tensors by name.")
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            own = name
            while wrapper := next((word for word in WRAPPERS if own.startswith(word)), ""):
                own = own.removeprefix(wrapper)
            if own in tensors:
                raise StoreError(f"{file} contains {own} twice, with and without {' or '.join(WRAPPERS)} before it.")
            tensors[own] = value.detach()
    if not tensors:
        found = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise StoreError(f"{file} does not contain tensors by name; it contains {found}.")
    return tensors
