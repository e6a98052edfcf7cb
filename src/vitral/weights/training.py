"""The weights among what a training script saved: its optimiser, its counts, and perhaps a running mean of the weights.

Of several sets of weights none is chosen: which is meant is said, as `weights=state_dict_ema`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vitral.base.errors import StoreError, UnknownName
from vitral.base.lookup import nearest

DISTILLED = ("student", "teacher")
INSIDE = ("state_dict", "model", "model_state_dict", "module", *DISTILLED, "state_dict_ema", "model_ema")
MEANS = ("state_dict_ema", "model_ema", "teacher")  # running means of the others
DEEPEST = 16  # names on the way to the weights: a file may hold itself
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
    chosen, seen = "", list[str]()
    assumed: list[str] = []
    while (sets := sets_in(content)) and len(seen) < DEEPEST:
        seen += sets
        if len(sets) > 1 and weights not in sets:
            break
        chosen = weights if weights in sets else sets[0]
        assumed += [f"the weights called {chosen}, and not {key}" for key in sets if key != chosen]
        content = content[chosen]
    if weights is not None and weights not in seen:
        raise UnknownName(
            f"{file} holds no weights={weights}.{nearest(weights, seen)} It has: {', '.join(seen) or 'one set only'}."
        )
    if sets:
        mean = next((f", {key} being a running mean" for key in sets if key in MEANS), "")
        raise StoreError(
            f"{file} holds weights as {' and as '.join(sets)}{mean}. Say which: {file.name},weights={sets[0]} on the "
            f"command line, weights={sets[0]!r} in Python."
        )
    tensors = tensors_in(content, file)
    cut = BACKBONE if chosen in DISTILLED and any(name.startswith(BACKBONE) for name in tensors) else ""
    dropped = {name: "it is used while pre-training only" for name in tensors if not name.startswith(cut)}
    dropped |= {COUNT: "a count of training's"} if COUNT in tensors else {}
    kept = {name.removeprefix(cut): tensor for name, tensor in tensors.items() if name not in dropped}
    return Found(kept, dropped, tuple(assumed))


def sets_in(content: Any) -> list[str]:
    """What sets of weights are called, one level down."""
    if not isinstance(content, Mapping):
        return []
    return [key for key in INSIDE if isinstance(content.get(key), Mapping)]


def tensors_in(content: Any, file: Path) -> dict[str, Tensor]:
    """By their names in the model, whatever wrapped it while it was trained."""
    if not isinstance(content, Mapping):
        raise StoreError(f"{file} holds a {type(content).__name__}, not tensors by name.")
    tensors = {
        name.removeprefix("module.").removeprefix("_orig_mod."): value.detach()
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise StoreError(
            f"{file} holds no tensors by name; it has {', '.join(map(str, list(content)[:5])) or 'nothing'}."
        )
    return tensors
