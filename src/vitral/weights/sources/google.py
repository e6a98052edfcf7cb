"""Google's `.npz`, of all three ages: before flax's linen, linen, and big_vision.

Dosovitskiy et al. 2021; Beyer et al. 2022.

The layers are numbered by when they were made, so their names tell a file's age. Kernels are (in, out), those of
queries, keys and values (in, heads, width of a head). GELU is its tanh approximation. big_vision adds positions to the
patches before CLS is there; scanned checkpoints stack their layers along a first axis.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitral.nn.family.mlp import TanhMLP
from vitral.weights.architecture import HALVES, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import CONV, DENSE, HEAD_BIASES, INTO_HEADS, OUT_OF_HEADS, Rule, rule
from vitral.weights.source import Source, Tensors

ROOTS = ("params/img/", "params/", "img/", "opt/target/", "")


@dataclass(frozen=True)
class Age:
    """The numbers that a file's age gives to its layers."""

    attention: str
    mlp: str
    norm2: str


LINEN = Age("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1")
BEFORE = Age("MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2")


def root_of(tensors: Tensors) -> str | None:
    return next((root for root in ROOTS if f"{root}embedding/kernel" in tensors), None)


def recognises(contents: Contents) -> bool:
    return root_of(contents.tensors) is not None


def age_of(tensors: Tensors) -> Age:
    return BEFORE if any("MlpBlock_3/" in name for name in tensors) else LINEN


def rules(tensors: Tensors) -> list[Rule]:
    root = root_of(tensors) or ""
    age = BEFORE if root_of(tensors) is None else age_of(tensors)
    layer, attention, pool = f"{root}Transformer/encoderblock_{{i}}/", age.attention, f"{root}MAPHead_0/"
    parts = ("query", "key", "value")
    found = [
        rule("cls_token", f"{root}cls"),
        rule("pos_embed", f"{root}Transformer/posembed_input/pos_embedding"),
        rule("pos_embed", f"{root}pos_embedding"),
        rule("patch_embed.proj.weight", f"{root}embedding/kernel", layout=CONV),
        rule("patch_embed.proj.bias", f"{root}embedding/bias"),
        *norm("blocks.{i}.norm1", f"{layer}LayerNorm_0"),
        *norm("blocks.{i}.norm2", f"{layer}{age.norm2}"),
        rule("blocks.{i}.attn.qkv.weight", *(f"{layer}{attention}/{part}/kernel" for part in parts), layout=INTO_HEADS),
        rule("blocks.{i}.attn.qkv.bias", *(f"{layer}{attention}/{part}/bias" for part in parts), layout=HEAD_BIASES),
        rule("blocks.{i}.attn.proj.weight", f"{layer}{attention}/out/kernel", layout=OUT_OF_HEADS),
        rule("blocks.{i}.attn.proj.bias", f"{layer}{attention}/out/bias"),
        *dense("blocks.{i}.mlp.fc1", f"{layer}{age.mlp}/Dense_0"),
        *dense("blocks.{i}.mlp.fc2", f"{layer}{age.mlp}/Dense_1"),
        *norm("norm", f"{root}Transformer/encoder_norm"),
        rule("pool.latent", f"{pool}probe"),
    ]
    inner = f"{pool}MultiHeadDotProductAttention_0"
    asks = {f"{pool}probe", "pool.latent"} & set(tensors)
    found += (
        []
        if not asks
        else [
            rule("pool.q.weight", f"{inner}/query/kernel", layout=INTO_HEADS),
            rule("pool.q.bias", f"{inner}/query/bias", layout=HEAD_BIASES),
            rule("pool.kv.weight", f"{inner}/key/kernel", f"{inner}/value/kernel", layout=INTO_HEADS),
            rule("pool.kv.bias", f"{inner}/key/bias", f"{inner}/value/bias", layout=HEAD_BIASES),
            rule("pool.proj.weight", f"{inner}/out/kernel", layout=OUT_OF_HEADS),
            rule("pool.proj.bias", f"{inner}/out/bias"),
            *norm("pool.norm", f"{pool}LayerNorm_0"),
            *dense("pool.mlp.fc1", f"{pool}MlpBlock_0/Dense_0"),
            *dense("pool.mlp.fc2", f"{pool}MlpBlock_0/Dense_1"),
        ]
    )
    if f"{root}pre_logits/kernel" in tensors or "head.2.weight" in tensors:
        return [*found, *dense("head.0", f"{root}pre_logits"), *dense("head.2", f"{root}head")]
    return [*found, *dense("head", f"{root}head")]


def dense(ours: str, theirs: str) -> list[Rule]:
    return [rule(f"{ours}.weight", f"{theirs}/kernel", layout=DENSE), rule(f"{ours}.bias", f"{theirs}/bias")]


def norm(ours: str, theirs: str) -> list[Rule]:
    return [rule(f"{ours}.weight", f"{theirs}/scale"), rule(f"{ours}.bias", f"{theirs}/bias")]


def prepare(theirs: Tensors) -> Tensors:
    """Layers that were scanned, apart."""
    root = root_of(theirs) or ""
    stacked = f"{root}Transformer/encoderblock/"
    found: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if name.startswith(stacked):
            rest = name.removeprefix(stacked)
            found |= {f"{root}Transformer/encoderblock_{i}/{rest}": each for i, each in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


def known(contents: Contents) -> Known:
    return Known(
        settings=dict(mlp=TanhMLP, num_heads=heads_of(contents.tensors)),
        preprocessing=HALVES,
        assumed=("GELU by tanh, as JAX computes it", "pixels of mean and deviation 0.5, as Google's code"),
        resampling="google",
    )


def heads_of(tensors: Tensors) -> int:
    """The heads are an axis of every kernel of queries."""
    shape = next(
        (tensor.shape for name, tensor in tensors.items() if name.endswith("/query/kernel")), torch.Size((0,) * 3)
    )
    return shape[-2]


google = Source(
    "google",
    recognises,
    rules,
    known,
    dropped={"{m}opt/state/step": "a count of training's"},
    prepare=prepare,
    always=lambda ours: ("pos_embed",),
)
