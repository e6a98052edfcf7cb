"""Google's `.npz`, of all three generations: before flax's linen, linen, and big_vision.

Dosovitskiy et al. 2021; Beyer et al. 2022.

Layers are numbered in the order they were created, so their names identify a file's generation. Kernels are (in, out),
those of queries, keys and values (in, heads, width of a head). GELU is its tanh approximation. big_vision adds
positions to the patches before the class token is prepended; scanned checkpoints stack their layers along a first axis.
"""

from torch import Tensor

from vitral.nn.family.mlp import TanhMLP
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import CONV, DENSE, INTO_HEADS, OUT_OF_HEADS, Layout, Rule, rule
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
    found = [
        rule("cls_token", f"{root}cls"),
        rule("pos_embed", f"{root}Transformer/posembed_input/pos_embedding"),
        rule("pos_embed", f"{root}pos_embedding"),
        *dense("patch_embed.proj", f"{root}embedding", layout=CONV),
        *norm("blocks.{i}.norm1", f"{layer}LayerNorm_0"),
        *norm("blocks.{i}.norm2", f"{layer}{norm2}"),
        *into_heads("blocks.{i}.attn.qkv", f"{layer}{attention}", "query", "key", "value"),
        *dense("blocks.{i}.attn.proj", f"{layer}{attention}/out", layout=OUT_OF_HEADS),
        *dense("blocks.{i}.mlp.fc1", f"{layer}{mlp}/Dense_0"),
        *dense("blocks.{i}.mlp.fc2", f"{layer}{mlp}/Dense_1"),
        *norm("norm", f"{root}Transformer/encoder_norm"),
        rule("pool.latent", f"{pool}probe"),
    ]
    if {f"{pool}probe", "pool.latent"} & set(tensors):
        found += [
            *into_heads("pool.q", f"{pool}MultiHeadDotProductAttention_0", "query"),
            *into_heads("pool.kv", f"{pool}MultiHeadDotProductAttention_0", "key", "value"),
            *dense("pool.proj", f"{pool}MultiHeadDotProductAttention_0/out", layout=OUT_OF_HEADS),
            *norm("pool.norm", f"{pool}LayerNorm_0"),
            *dense("pool.mlp.fc1", f"{pool}MlpBlock_0/Dense_0"),
            *dense("pool.mlp.fc2", f"{pool}MlpBlock_0/Dense_1"),
        ]
    if f"{root}pre_logits/kernel" in tensors or "head.2.weight" in tensors:
        return [*found, *dense("head.0", f"{root}pre_logits"), *dense("head.2", f"{root}head")]
    return [*found, *dense("head", f"{root}head")]


def dense(ours: str, theirs: str, layout: Layout = DENSE) -> list[Rule]:
    return [rule(f"{ours}.weight", f"{theirs}/kernel", layout=layout), rule(f"{ours}.bias", f"{theirs}/bias")]


def into_heads(ours: str, theirs: str, *parts: str) -> list[Rule]:
    """One linear layer of ours from those of queries, keys or values, whose outputs flax splits into heads."""
    return [
        rule(f"{ours}.{own}", *(f"{theirs}/{part}/{kind}" for part in parts), layout=INTO_HEADS)
        for own, kind in (("weight", "kernel"), ("bias", "bias"))
    ]


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
        preprocessing_words="as in Google's code",
        assumed=("GELU in its tanh approximation, as in JAX",),
        resampling="google",
    )


def count_heads(tensors: Tensors) -> int:
    """The number of heads, which is an axis of every query kernel."""
    kernels = [tensor for name, tensor in tensors.items() if name.endswith("/query/kernel")]
    return kernels[0].shape[-2] if kernels else 0


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
