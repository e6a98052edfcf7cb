"""A LoRA adapter of peft, merged into its base checkpoint: W + (alpha / r) B A (Hu et al. 2022, §4.1).

An adapter's folder holds `adapter_config.json` and the matrices A and B, under the names that the layers have in
memory; the checkpoint that it changes is somewhere else.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vitral.base.errors import StoreError
from vitral.weights.reading.checkpoint_file import Checkpoint, read_checkpoint, read_tensors
from vitral.weights.reading.checkpoint_folder import ADAPTER, ADAPTER_WEIGHTS, read_json
from vitral.weights.rules import Rule, match_names

Rules = Callable[[Mapping[str, Tensor]], list[Rule]]
PREFIX = "base_model.model."  # peft's, before the names of the model
SAVED_WHOLE = re.compile(r"\.(modules_to_save|original_module)(\.default)?(?=\.)|\.default(?=\.)|\.base_layer(?=\.)")
# What peft can compute otherwise: key of its config -> the value with which it is plain LoRA.
PLAIN = dict(use_dora=False, fan_in_fan_out=False, use_qalora=False, lora_bias=False, alora_invocation_tokens=None)
MERGE = (
    "Merge it where peft is installed: AutoPeftModelForImageClassification or PeftModel.from_pretrained(base, adapter)"
    ".merge_and_unload().save_pretrained('merged'), and load that."
)


def read_adapter(path: Path, base: str | None, fetch: Callable[[str], Path], rules: Rules) -> Checkpoint:
    """The base checkpoint with the adapter merged into it; `base` names it, else the adapter's config.

    `fetch` gets a checkpoint `hf:OWNER/NAME`. `rules` are those in which a layer has the names of both transformers 4
    and 5. Raises `StoreError` if the base is not found, or for an adapter of another kind than LoRA.
    """
    folder = path.parent if path.name in ADAPTER_WEIGHTS else path
    config = read_json(folder / ADAPTER)
    if (kind := config.get("peft_type")) != "LORA":
        raise StoreError(f"{folder} holds an adapter of type {kind}; supported: LORA. {MERGE}")
    if changed := [key for key, plain in PLAIN.items() if config.get(key, plain) != plain]:
        raise StoreError(f"{folder / ADAPTER} has {changed[0]}={config[changed[0]]!r}, which is not supported. {MERGE}")
    file = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise StoreError(f"{folder} has an {ADAPTER}, but no weights: looked for {', '.join(ADAPTER_WEIGHTS)}.")
    location = find_base(folder, config, base)
    origin = read_checkpoint(fetch(location) if location.startswith("hf:") else Path(location))
    adapter = {
        SAVED_WHOLE.sub("", name.removeprefix(PREFIX)): tensor for name, tensor in read_tensors(file).tensors.items()
    }
    tensors, changed = merge(origin.tensors, adapter, config, rules(origin.tensors))
    if stray := [name for name in changed if name not in tensors]:
        raise StoreError(f"{file} changes {stray[0]}, which {location} does not have: it is for another model. {MERGE}")
    words = f"the adapter in {folder.name} merged into {Path(location).name}: {len(changed)} tensors changed"
    return replace(origin, tensors=tensors, assumed=(*origin.assumed, words))


def find_base(folder: Path, config: Mapping[str, Any], base: str | None) -> str:
    """Where the checkpoint is that an adapter changes. Raises `StoreError` if nobody says so."""
    stated = config.get("base_model_name_or_path")
    places = [base] if base else [str(place) for place in (stated, folder / str(stated)) if stated]
    for place in places:
        if place.startswith("hf:") or Path(place).exists():
            return place
    named = f", {base or stated}, is not a file or folder here" if base or stated else " is not named in it"
    example = f"base=hf:{stated}" if stated and re.fullmatch(r"[\w.-]+/[\w.-]+", str(stated)) else "base=hf:OWNER/NAME"
    raise StoreError(
        f"{folder} holds a LoRA adapter, which only changes another checkpoint; its base{named}. Specify it: "
        f"{folder},base=FOLDER or {folder},{example} on the command line, base=... in Python. Or: {MERGE}"
    )


def merge(
    base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], config: Mapping[str, Any], rules: Sequence[Rule]
) -> tuple[dict[str, Tensor], list[str]]:
    """The base's tensors with the adapter's in them, and the names of those that it changes.

    Raises `StoreError` for a matrix without its other half, or of other sizes than the layer's.
    """
    tensors, changed = dict(base), []
    for name, tensor in adapter.items():
        layer, _, part = name.partition(".lora_")
        if part.startswith("A."):
            down, up = tensor, adapter.get(f"{layer}.lora_B.{part.removeprefix('A.')}")
            own = spelled(f"{layer}.weight", base, rules)
            changed.append(own)
            if own in base:
                tensors[own] = base[own] + product(layer, base[own], down, up, scale_of(layer, len(down), config))
        elif not part:  # a layer or bias that was trained whole, such as the new classifier
            own = spelled(name, base, rules)
            tensors[own] = tensor
            changed.append(own)
        elif not part.startswith("B."):
            raise StoreError(f"The adapter has {name}, which is not a LoRA matrix of a linear layer. {MERGE}")
    return tensors, changed


def product(layer: str, weight: Tensor, down: Tensor, up: Tensor | None, scale: float) -> Tensor:
    """scale · B A, in the shape of the weight."""
    if up is None or up.flatten(1).shape[1] != len(down) or up.shape[0] * down[0].numel() != weight.numel():
        raise StoreError(f"The adapter's matrices of {layer} do not fit a layer of shape {tuple(weight.shape)}.")
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)


def scale_of(layer: str, rank: int, config: Mapping[str, Any]) -> float:
    """What a layer's product is multiplied by: alpha / r, or alpha / √r with `use_rslora`."""
    patterns = (config.get("alpha_pattern") or {}).items()
    found = [value for pattern, value in patterns if re.fullmatch(rf"(.*\.)?({pattern})", layer)]
    alpha = float([*found, config.get("lora_alpha", 8)][0])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def spelled(name: str, base: Mapping[str, Tensor], rules: Sequence[Rule]) -> str:
    """A name as the base has it: transformers spells a layer otherwise in memory, and a bare model has no prefix."""
    shorter = name.partition(".")[2]
    for own in (name, shorter):
        for other in (own, *other_spellings(own, rules)):
            if other in base:
                return other
    return name


def other_spellings(name: str, rules: Sequence[Rule]) -> Iterator[str]:
    """The names of the same tensor in other rules for our tensor."""
    for one in rules:
        for position, template in enumerate(one.theirs):
            for values in match_names(template, [name]):
                for other in rules:
                    if other is not one and len(other.theirs) == len(one.theirs):
                        found = match_names(other.ours, [one.ours.format(**values)])
                        yield from (other.theirs[position].format(**own) for own in found)
