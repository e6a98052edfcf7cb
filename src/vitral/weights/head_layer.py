"""A classification head that was replaced by one linear layer, under whatever name: `heads.weight`, `head.1.weight`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vitral.base.errors import StoreError
from vitral.weights.rules import Rule

# First words of names that a classification head has.
HEAD_WORDS = {"head", "heads", "classifier", "fc", "cls_head", "linear", "last_linear", "classification_head"}
HEAD_WORDS |= {"mlp_head", "linear_head", "fc_head", "head_fc", "head_layer", "output", "out", "final", "score"}
HEAD_WORDS |= {"class_head", "cls", "linear_classifier", "classify", "logits", "fc_out", "output_layer"}
ENDS = {"weight", "bias"}


def find_linear(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the one linear layer that these tensors are, such as `head.1`; None if they are anything else."""
    layers = {name.rpartition(".")[0] for name in tensors}
    if len(layers) != 1 or {name.rpartition(".")[2] for name in tensors} - ENDS:
        return None
    (layer,) = layers
    weight, bias = (tensors.get(f"{layer}.{end}") for end in ("weight", "bias"))
    is_linear = weight is not None and weight.ndim == 2 and (bias is None or bias.shape == weight.shape[:1])
    return layer if is_linear else None


def describe_head(layer: str) -> str:
    """In words, which layer is read as the head."""
    last = layer.rpartition(".")[2]
    if last.isdigit() and int(last):
        return f"{layer} is the head (before it is only dropout, which has no tensors and no effect at inference)"
    return f"{layer} is the head"


def rename_head(
    tensors: Mapping[str, Tensor], rules: Sequence[Rule], left: Sequence[str], is_replaced: bool
) -> tuple[dict[str, Tensor], list[str], dict[str, str]]:
    """Tensors with the head under the name that the `rules` have; what was assumed, and what was dropped and why.

    `left` are the names without a place; `is_replaced` says that the caller wants another head, so that the file's does
    not matter. Raises `StoreError` for a head of several layers.
    """
    heads = {name: tensors[name] for name in left if name.partition(".")[0] in HEAD_WORDS}
    usual = next(
        (rule.theirs[0].removesuffix(".{p}") for rule in rules if rule.ours in ("head.{p}", "head.2.{p}")), None
    )
    if usual is not None and f"{usual}.weight" in tensors and f"{usual}.bias" not in tensors and not heads:
        bias = torch.zeros_like(tensors[f"{usual}.weight"][:, 0])
        return {**tensors, f"{usual}.bias": bias}, [f"{usual} has no bias"], {}
    if not heads or usual is None:
        return dict(tensors), [], {}
    others = {name: tensor for name, tensor in tensors.items() if name not in heads}
    if is_replaced:
        return others, [], dict.fromkeys(heads, "the head that another one replaces")
    layer = find_linear(heads)
    if layer is None or f"{usual}.weight" in others:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(heads.items())[:4])
        raise StoreError(
            f"The checkpoint's classification head has tensors that do not show what it computes: {shapes}. Supported: "
            "one linear layer, with or without dropout. Load the model without it, num_classes=0, or build it in a "
            "file.py:Name."
        )
    weight = heads[f"{layer}.weight"]
    renamed = {f"{usual}.weight": weight, f"{usual}.bias": heads.get(f"{layer}.bias", torch.zeros_like(weight[:, 0]))}
    return others | renamed, [describe_head(layer)], {}
