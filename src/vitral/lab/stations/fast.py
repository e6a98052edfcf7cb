"""The tests of station 11: `fast_attention` and `cls_row`.

Speed is not timed, since other work on the machine would change the result. Instead the tensors and operations on the
way are counted.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import AttentionWith, build_random_model
from vitral.lab.station import Pair, RightPrediction, Station, law

TOKENS, WIDTH = 512, 16  # of the one head for which tensors and operations are counted


class KernelCalls(TorchFunctionMode):
    """Record the number of axes of the queries in every call of PyTorch's kernel.

    A function mode sees the call itself; a dispatch mode sees only the operations that the kernel is made of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.axes: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.axes.append((args[0] if args else kwargs["query"]).ndim)
        return func(*args, **kwargs)


class TensorSizes(TorchDispatchMode):
    """Record the size of the largest tensor that each operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.sizes.append(max((own.numel() for own in tree_leaves(result) if isinstance(own, Tensor)), default=0))
        return result


def draw_inputs(recorder: Recorder, n: int) -> list[Tensor]:
    """Return queries, keys and values of two images, three heads and n tokens."""
    return [recorder.normal(2, 3, n, 4) * 2 for _ in range(3)]


def measure(recorder: Recorder) -> dict[str, tuple[list[int], list[int]]]:
    """Return for each function the tensor sizes on the way, and the axes of the queries that the kernel gets."""
    q, k, v = (recorder.normal(1, 1, TOKENS, WIDTH) for _ in range(3))
    results = {}
    for name, given in (("fast_attention", (q, k, v)), ("cls_row", (q, k))):
        with TensorSizes() as tensors, KernelCalls() as calls:
            recorder.call(name, *given, gradients=False)
        results[name] = (tensors.sizes, calls.axes)
    return results


def observe(recorder: Recorder) -> None:
    q, k, v = draw_inputs(recorder, 7)
    recorder.call("fast_attention", q, k, v)
    recorder.call("cls_row", q, k)
    recorder.call("cls_row", 1000 * q, k)
    for name, (sizes, axes) in measure(recorder).items():
        label = f"What {name} computes on the way for {TOKENS} tokens"
        recorder.record(label, (max(sizes) >= TOKENS**2, len(sizes) >= TOKENS, 3 in axes))


@law()
def whole_row(recorder: Recorder) -> Pair:
    """The class token's row adds up to 1 in every head."""
    q, k, _ = draw_inputs(recorder, 6)
    results = recorder.call("cls_row", q, k).sum(dim=-1)
    return results, torch.ones_like(results)


@law()
def heads_by_themselves(recorder: Recorder) -> Pair:
    """Each head attends as if it were the only one."""
    tokens = draw_inputs(recorder, 6)
    alone = recorder.call("fast_attention", *(own[:, 1:2] for own in tokens))
    return recorder.call("fast_attention", *tokens)[:, 1:2], alone


@law()
def two_tokens(recorder: Recorder) -> Pair:
    """With two tokens the weights are the softmax of the two products, each divided by √e."""
    q, k, v = draw_inputs(recorder, 2)
    logits = (q[:, :, :, None] * k[:, :, None]).sum(dim=-1) / q.shape[-1] ** 0.5
    share = (logits[..., :1] - logits[..., 1:]).sigmoid()
    return recorder.call("fast_attention", q, k, v), share * v[:, :, :1] + (1 - share) * v[:, :, 1:]


@law()
def any_order(recorder: Recorder) -> Pair:
    """Keys and values in another order, the same for both, do not change the output."""
    (q, k, v), order = draw_inputs(recorder, 6), recorder.permutation(6)
    moved = recorder.call("fast_attention", q, k[:, :, order], v[:, :, order])
    return recorder.call("fast_attention", q, k, v), moved


@law()
def row_times_values(recorder: Recorder) -> Pair:
    """The class token's row times the values is the output of the class token."""
    q, k, v = draw_inputs(recorder, 6)
    row = recorder.call("cls_row", q, k)
    return (row[..., None] * v).sum(dim=2), recorder.call("fast_attention", q, k, v)[:, :, 0]


@law()
def no_matrix(recorder: Recorder) -> Pair:
    """For 512 tokens, no tensor has as many numbers as the matrix of weights (how many have: in fast_attention, in
    cls_row).
    """
    large = [sum(size >= TOKENS**2 for size in sizes) for sizes, _ in measure(recorder).values()]
    return torch.tensor(large), torch.zeros(2, dtype=torch.long)


@law()
def no_loop(recorder: Recorder) -> Pair:
    """For 512 tokens, fewer than 512 operations are called: the kernel runs over the tokens, not a loop in Python."""
    called = [max(TOKENS, len(sizes)) for sizes, _ in measure(recorder).values()]
    return torch.tensor(called), torch.full((2,), TOKENS)


def insert(model: Any, answer: Any) -> nn.Module:
    for block in model.blocks:
        block.attn = AttentionWith(answer.fast_attention, block.attn)
    return model


@torch.no_grad()
def compare_in_use(answer: Any) -> dict[str, Pair]:
    from vitral.recording.intercept import watch

    model, images = build_random_model()
    attention: Any = model.blocks[-1].attn
    outputs: list[Tensor] = []
    hook = attention.qkv.register_forward_hook(lambda module, given, result: outputs.append(result))
    with watch(model) as seen:
        model(images)
    hook.remove()
    q, k, _ = rearrange(outputs[0], "b n (three h e) -> three b h n e", three=3, h=attention.num_heads)
    return {
        "the class token's row in the last block, compared with vitral.watch": (
            answer.cls_row(q, k),
            seen.layers[-1].rows([0])[:, :, 0],
        )
    }


fast = Station(
    number=11,
    title="Fused attention: the same numbers, faster",
    minutes=20,
    difficulty=2,
    prediction=RightPrediction(
        "a",
        "4,096 x 4,096 weights are 16.8 million numbers of 4 bytes: 64 MiB, for each head of each image. Queries, keys "
        "and values of one head with e = 64 are 3 MiB.",
    ),
    hints=(
        "Do q, k and v have the shape that the function in the second line of the figure takes? How many rows of q "
        "does the third line need?",
        "F.scaled_dot_product_attention takes (b, heads, n, e) and divides by √e itself. For the row, take the first "
        "query before you multiply: `q[:, :, :1]` keeps its axis.",
        "The kernel needs only its three arguments. For the row, slice q before the product, keep the axis while you "
        "multiply, and remove it at the end.",
    ),
    observe=observe,
    insert=insert,
    compare_in_use=compare_in_use,
)
