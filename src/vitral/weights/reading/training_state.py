"""Find the weights among what a training script saved: its optimizer, its counts, perhaps a moving average of weights.

A set of weights is any mapping that holds tensors by name, whatever it is called, or the part of one whose names begin
alike, as `student.` and `teacher.` do. None of several sets is chosen: the caller specifies one, as
`weights=state_dict_ema`.
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

MEANS = {"ema", "teacher", "swa", "averaged", "momentum", "target"}  # words in the names of moving averages
BARE = "bare"  # the name of a set that stands at the top, beside sets that have names
DEEPEST = 16  # names on the way to the weights
NESTED = 3  # mappings of arguments within one another
OPTIMIZER = {"state", "param_groups"}  # what an optimizer holds, besides tensors by number
# What stands before the names of a model that is trained in several processes; and, anywhere in a name, before those of
# a part that is compiled, sharded or computed twice.
WRAPPER = "module."
INNER = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
COUNTS = ("n_averaged", "initted", "step")  # beside a mean that `torch.optim.swa_utils` or ema-pytorch keeps
# First words of what a script keeps beside its model, in a module of its own around it.
SCRIPTS_OWN = re.compile(
    r"(criterion|(\w+_)?(loss|optimizer|metrics?|accuracy|acc|auroc|scheduler)(_(fn|fct|func|function))?|mixup\w*)\."
)
NORMALISES = "it normalises pixels, which the preprocessing does"
# First words of what self-supervised training puts behind a model.
PROJECTION = re.compile(r"(dino_head|ibot_head|projection_head|projector|predictor|prototypes)\.")
# Keys under which scripts save the arguments of a training.
ARGUMENTS: tuple[str, ...] = (
    "args",
    "hyper_parameters",
    "hparams",
    "config",
    "cfg",
    "opt",
    "options",
    "training_args",
    "train_args",
)
ARGUMENTS += ("pretrained_cfg", "default_cfg", "data_config", "preprocessing", "preprocess", "transform", "meta")


@dataclass(frozen=True)
class WeightSet:
    """Tensors by name; which were dropped, with the reason; and in words, which of several sets this is.

    `arguments` maps where a script saved the arguments of the training to what they are.
    """

    tensors: dict[str, Tensor]
    dropped: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)


def extract_weights(content: Any, file: Path, weights: str | None = None) -> WeightSet:
    """The weights in a file's content; `weights` names the set where there are several.

    Raises `StoreError` if there are none, or several and `weights` is not given; `UnknownName` if there is no such set.
    """
    found = list(find_weight_sets(content, (), set()))
    sets = {name: part for name, part, _ in found}
    # A moving average comes first: it is what a training is evaluated by, where it keeps one.
    sets = dict(sorted(sets.items(), key=lambda named: not is_running_mean(named[0])))
    matching = [name for name in sets if weights is None or weights in name.split(".")]
    matching = [weights] if weights is not None and weights in sets else matching
    if weights is not None and not matching:
        named = [name for name in sets if name != BARE]
        has = f"It has: {', '.join(sets)}." if named else "It contains one set of weights, which has no name."
        raise UnknownName(f"{file} does not contain weights={weights}.{nearest(weights, named)} {has}")
    if len(matching) > 1:
        listed = (f"{name} (a moving average)" if is_running_mean(name) else name for name in matching)
        raise StoreError(
            f"{file} contains several sets of weights: {', '.join(listed)}. Specify one: "
            f"{file.name},weights={matching[0]} on the command line, weights={matching[0]!r} in Python."
        )
    chosen = matching[0] if matching else BARE
    tensors = tensors_in(sets.get(chosen, content), file)
    dropped = {name: "a counter of the training script" for name in COUNTS if name in tensors}
    dropped |= {name: "it belongs to the training script" for name in tensors if SCRIPTS_OWN.match(name)}
    layers = normalising_layers(tensors)
    dropped |= {name: NORMALISES for layer in layers for name in layer_names(layer)}
    dropped |= {name: "used in pre-training only" for name in tensors if PROJECTION.match(name)}
    beside = {name: f"it is stored beside {chosen}" for own, _, others in found if own == chosen for name in others}
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    assumed = tuple(f"the weights called {chosen}, not {name}" for name in sets if name != chosen)
    own = {f"the file's {layer}mean and {layer}std": values for layer, values in layers.items()}
    arguments = own | dict(find_arguments(content))
    return WeightSet(kept, dropped | beside, assumed, arguments)


def normalising_layers(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """What a model's own layer for pixels subtracts and divides by, by the beginning of both names."""
    means = [
        name.removesuffix("mean") for name in tensors if re.fullmatch(r"(.*\.)?((pixel|image|img|input)_)?mean", name)
    ]
    pairs = {layer: [tensors[name].flatten() for name in layer_names(layer) if name in tensors] for layer in means}
    return {
        layer: dict(mean=pair[0].tolist(), std=pair[1].tolist())
        for layer, pair in pairs.items()
        if len(pair) == 2 and all(each.numel() in (1, 3) for each in pair)
    }


def layer_names(layer: str) -> tuple[str, str]:
    return f"{layer}mean", f"{layer}std"


def find_arguments(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mapping of a training's arguments, with the words for where it is; the file's own level comes last."""
    if not isinstance(content, Mapping):
        return
    for key in ARGUMENTS:
        yield from enter_arguments(f"the checkpoint's {key}", content.get(key), NESTED)
    own = {key: value for key, value in content.items() if isinstance(key, str) and not isinstance(value, Tensor)}
    yield "the checkpoint", {key: value for key, value in own.items() if not isinstance(value, Mapping)}


def enter_arguments(origin: str, value: Any, levels: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mapping or namespace itself, then those inside it."""
    content = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
    if not isinstance(content, Mapping) or isinstance(value, Tensor | type) or not levels:
        return
    yield origin, {key: each for key, each in content.items() if isinstance(key, str)}
    for key, each in content.items():
        yield from enter_arguments(f"{origin}.{key}", each, levels - 1)


def is_running_mean(name: str) -> bool:
    return not MEANS.isdisjoint(re.split(r"[._]", name))


def find_weight_sets(
    content: Any, path: tuple[str, ...], visited: set[int]
) -> Iterator[tuple[str, Mapping[Any, Any], list[str]]]:
    """Each set of weights with its dotted name, and the names of tensors beside it that are of no set.

    The tensors of an optimizer are not a set.

    Mappings in `visited` are not entered again, since a file may contain itself.
    """
    if not isinstance(content, Mapping) or content.keys() >= OPTIMIZER or len(path) > DEEPEST:
        return
    if any(isinstance(name, str) and is_weight(value) for name, value in content.items()):
        owners = split_by_owner(content)
        beside = [name for name, value in content.items() if isinstance(value, Tensor) and owner_of(name) not in owners]
        yield from ((".".join((*path, owner)), part, beside) for owner, part in owners.items())
        if not owners:
            yield ".".join(path) or BARE, content, []
    if id(content) not in visited:
        visited.add(id(content))
        for name, value in content.items():
            if isinstance(name, str):
                yield from find_weight_sets(value, (*path, name), visited)


def split_by_owner(content: Mapping[Any, Any]) -> dict[str, dict[str, Tensor]]:
    """The sets of weights side by side in one mapping, as `student.norm.bias` and `teacher.norm.bias`; else nothing.

    A set has a kernel that embeds patches, and shares most of its names with another: two towers for images and words,
    or an encoder and its decoder, are one model.
    """
    owners: dict[str, dict[str, Tensor]] = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            rest = unwrapped(name).partition(".")[2]
            owners.setdefault(owner_of(name), {})[unwrapped(rest)] = value
    sets = {
        owner: part
        for owner, part in owners.items()
        if len(part) > 1 and any(tensor.ndim > 3 for tensor in part.values())  # a kernel of rows and columns
    }
    return {
        owner: part
        for owner, part in sets.items()
        if any(
            other is not part and 2 * len(part.keys() & other) > max(len(part), len(other)) for other in sets.values()
        )
    }


def owner_of(name: str) -> str:
    """The first word of a name."""
    return unwrapped(name).partition(".")[0]


def is_weight(value: Any) -> bool:
    """Whether it may be one: a single number is a count, and bytes are the state of a random generator."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.dtype != torch.uint8


def unwrapped(name: str) -> str:
    """A name without what training puts around the model or its parts."""
    for inner in INNER:
        name = name.replace(inner, "")
    while name.startswith(WRAPPER):
        name = name.removeprefix(WRAPPER)
    return name


def tensors_in(content: Any, file: Path) -> dict[str, Tensor]:
    """Tensors by their names in the model, without the prefixes of what wrapped it while it was trained."""
    if not isinstance(content, Mapping):
        raise StoreError(f"{file} contains a {type(content).__name__}, not tensors by name.")
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            own = unwrapped(name)
            if own in tensors:
                raise StoreError(
                    f"{file} contains {own} twice, with and without {WRAPPER} or {INNER[0]} before it. Save one."
                )
            tensors[own] = value.detach()
    if not tensors:
        found = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise StoreError(f"{file} does not contain tensors by name; it contains {found}.")
    return tensors
