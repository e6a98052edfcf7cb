"""Check a config against itself and against the tensors: the same sizes, of the right types."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vitral.base.errors import StoreError
from vitral.nn.patch import pair

# Keys of timm's and transformers' configs for what the tensors show as well -> our words for it.
OUR_WORDS = dict(hidden_size="embed_dim", num_hidden_layers="depth", num_channels="in_channels", in_chans="in_channels")
OUR_WORDS |= {"intermediate_size": "hidden_dim"}
SAME_WORDS = ("embed_dim", "depth", "depths", "num_heads", "patch_size", "window_size", "mlp_ratio", "qkv_bias")
OUR_WORDS |= {word: word for word in SAME_WORDS}
COUNTS = ("hidden_size", "embed_dim", "num_hidden_layers", "depth", "num_channels", "in_chans", "num_attention_heads")
SIDES = ("image_size", "img_size", "patch_size")


def check_types(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config as it is. Raises `StoreError` for a size of the wrong type."""
    for keys, is_valid, expected in (
        (COUNTS, is_count, "a whole number above zero"),
        (SIDES, lambda value: is_count(value) or (are_counts(value) and len(value) == 2), "one whole number, or two"),
        (("depths",), are_counts, "a list of whole numbers above zero"),
        (("num_heads",), lambda value: is_count(value) or are_counts(value), "whole numbers above zero"),
    ):
        for key in keys:
            if config.get(key) is not None and not is_valid(config[key]):
                raise StoreError(f"config.json has {key}={config[key]!r}; {key} must be {expected}.")
    return config


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


def read_size(value: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, from JSON's one number or list of two."""
    return pair(value if isinstance(value, int) else (value[0], value[1]))


def write_size(size: tuple[int, int]) -> int | list[int]:
    """One number where both sides are the same, as JSON's configs have it; else a list of two."""
    return size[0] if size[0] == size[1] else list(size)


def stated_settings(config: Mapping[str, Any], *ignored: str) -> dict[str, Any]:
    """Our settings that a config states and tensors show as well, from all of its keys but the ignored."""
    found = {OUR_WORDS[key]: config[key] for key in OUR_WORDS if key not in ignored and config.get(key) is not None}
    found |= {"patch_size": read_size(found["patch_size"])} if "patch_size" in found else {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def settings_in_tensors(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `settings` read from the tensors, with biases and the MLP's width; no ratio for an MLP that is gated."""
    found = dict(settings, qkv_bias=any(name.endswith("attn.qkv.bias") for name in tensors))
    mlp = next((name.removesuffix("fc2.weight") for name in tensors if name.endswith("mlp.fc2.weight")), None)
    if mlp is None:
        return found
    rows, hidden = len(tensors[f"{mlp}fc1.weight"]), tensors[f"{mlp}fc2.weight"].shape[1]
    return found | {"hidden_dim": hidden, "mlp_ratio": hidden / settings["embed_dim"] if rows == hidden else None}


def check_against_tensors(stated: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `StoreError` where a config and the tensors disagree, with both values."""
    for name, value in stated.items():
        if name == "mlp_ratio":  # a ratio is right if it gives the same whole width
            agrees = int(value * found["embed_dim"]) == found["hidden_dim"]
        else:
            agrees = value == found.get(name)
        if found.get(name) is not None and not agrees:
            raise StoreError(f"config.json has {name}={value}, but the tensors have {name}={found[name]}.")
