"""What a config says that tensors say too: of the kind it should be, and in our words, to be held against them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitral.base.errors import StoreError
from vitral.nn.patch import pair

# Their words for what tensors say too, and ours.
OURS = {
    "hidden_size": "embed_dim",
    "embed_dim": "embed_dim",
    "num_hidden_layers": "depth",
    "depth": "depth",
    "depths": "depths",
    "num_heads": "num_heads",
    "num_channels": "in_channels",
    "in_chans": "in_channels",
    "patch_size": "patch_size",
    "window_size": "window_size",
    "intermediate_size": "hidden_dim",
    "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias",
}
COUNTS = ("hidden_size", "embed_dim", "num_hidden_layers", "depth", "num_channels", "in_chans", "num_attention_heads")
SIDES = ("image_size", "img_size", "patch_size")


def checked(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says, as it is. Raises `StoreError` for a size of another kind than its word is of."""
    for words, able, kind in (
        (COUNTS, is_count, "a whole number above zero"),
        (SIDES, lambda value: is_count(value) or (are_counts(value) and len(value) == 2), "one whole number, or two"),
        (("depths",), are_counts, "a list of whole numbers above zero"),
        (("num_heads",), lambda value: is_count(value) or are_counts(value), "whole numbers above zero"),
    ):
        for word in words:
            if said.get(word) is not None and not able(said[word]):
                raise StoreError(f"config.json says {word}={said[word]!r}, which should be {kind}.")
    return said


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


def claimed(said: Mapping[str, Any], *but: str) -> dict[str, Any]:
    """In our words what tensors say as well, for all of their words `but` these."""
    found = {OURS[word]: said[word] for word in OURS if word not in but and said.get(word) is not None}
    found |= {"patch_size": pair(found["patch_size"])} if "patch_size" in found else {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def seen(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the tensors are of besides the `settings` that were found from them; nothing of an MLP that is gated."""
    found = dict(settings, qkv_bias=any(name.endswith("attn.qkv.bias") for name in tensors))
    mlp = next((name.removesuffix("fc2.weight") for name in tensors if name.endswith("mlp.fc2.weight")), None)
    if mlp is None:
        return found
    rows, hidden = len(tensors[f"{mlp}fc1.weight"]), tensors[f"{mlp}fc2.weight"].shape[1]
    return found | {"hidden_dim": hidden, "mlp_ratio": hidden / settings["embed_dim"] if rows == hidden else None}


def check_claims(claims: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `StoreError` where a config says something else than the tensors are of, with both."""
    for name, value in claims.items():
        same = (
            int(value * found["embed_dim"]) == found["hidden_dim"] if name == "mlp_ratio" else value == found.get(name)
        )
        if found.get(name) is not None and not same:
            raise StoreError(f"config.json says {name}={value}, but the tensors are of {name}={found[name]}.")
