"""Google's `.npz`, of all three generations: before flax's linen, linen, and big_vision.

Dosovitskiy et al. 2021; Beyer et al. 2022.

Layers are numbered in the order they were created, so their names identify a file's generation. Kernels are (in, out),
those of queries, keys and values (in, heads, width of a head). GELU is its tanh approximation. big_vision adds
positions to the patches before the class token is prepended; scanned checkpoints stack their layers along a first axis.
"""

import torch
from torch import Tensor

from vitral.nn.family.mlp import TanhMLP
from vitral.weights.checkpoint_file import Checkpoint
from vitral.weights.rules import CONV, DENSE, HEAD_BIASES, INTO_HEADS, OUT_OF_HEADS, Rule, rule
from vitral.weights.source import HALVES, CheckpointMetadata, Source, Tensors

ROOTS = ("params/img/", "params/", "img/", "opt/target/", "")


# Names of attention, MLP and second norm in each generation.
LINEN = ("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1")
BEFORE_LINEN = ("MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2")


def root_of(tensors: Tensors) -> str | None:
    return next((root for root in ROOTS if f"{root}embedding/kernel" in tensors), None)


def recognises(checkpoint: Checkpoint) -> bool:
    return root_of(checkpoint.tensors) is not None


def rules(tensors: Tensors) -> list[Rule]:
    root = root_of(tensors) or ""
    is_writing = root_of(tensors) is None  # in the generation of the published checkpoints
    is_old = is_writing or any("MlpBlock_3/" in name for name in tensors)
    attention, mlp, norm2 = BEFORE_LINEN if is_old else LINEN
    layer, pool = f"{root}Transformer/encoderblock_{{i}}/", f"{root}MAPHead_0/"
    parts = ("query", "key", "value")
    found = [
        rule("cls_token", f"{root}cls"),
        rule("pos_embed", f"{root}Transformer/posembed_input/pos_embedding"),
        rule("pos_embed", f"{root}pos_embedding"),
        rule("patch_embed.proj.weight", f"{root}embedding/kernel", layout=CONV),
        rule("patch_embed.proj.bias", f"{root}embedding/bias"),
        *norm("blocks.{i}.norm1", f"{layer}LayerNorm_0"),
        *norm("blocks.{i}.norm2", f"{layer}{norm2}"),
        rule("blocks.{i}.attn.qkv.weight", *(f"{layer}{attention}/{part}/kernel" for part in parts), layout=INTO_HEADS),
        rule("blocks.{i}.attn.qkv.bias", *(f"{layer}{attention}/{part}/bias" for part in parts), layout=HEAD_BIASES),
        rule("blocks.{i}.attn.proj.weight", f"{layer}{attention}/out/kernel", layout=OUT_OF_HEADS),
        rule("blocks.{i}.attn.proj.bias", f"{layer}{attention}/out/bias"),
        *dense("blocks.{i}.mlp.fc1", f"{layer}{mlp}/Dense_0"),
        *dense("blocks.{i}.mlp.fc2", f"{layer}{mlp}/Dense_1"),
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
    """Layers that flax's scan stacked, unstacked."""
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


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    return CheckpointMetadata(
        settings=dict(mlp=TanhMLP, num_heads=count_heads(checkpoint.tensors)),
        preprocessing=HALVES,
        assumed=("GELU in its tanh approximation, as in JAX", "preprocessing: mean and std 0.5, as in Google's code"),
        resampling="google",
    )


def count_heads(tensors: Tensors) -> int:
    """The number of heads, which is an axis of every query kernel."""
    shape = next(
        (tensor.shape for name, tensor in tensors.items() if name.endswith("/query/kernel")), torch.Size((0,) * 3)
    )
    return shape[-2]


google = Source(
    "google",
    ("embedding/kernel",),
    recognises,
    rules,
    metadata,
    dropped={"{m}opt/state/step": "a counter of the training script"},
    prepare=prepare,
    required=lambda ours: ("pos_embed",),
)
