"""Station 11: `fast_attention` and `cls_row`.

How fast is not asked of a clock, which other work on the machine would move, but of what is formed on the way.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitral.lab.graft import AttentionBy, drawn_model
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station

TOKENS, WIDTH = 512, 16  # of one head, when it is noted what is formed


class Calls(TorchFunctionMode):
    """Notes how many axes the queries have that PyTorch's kernel is given."""

    def __init__(self) -> None:
        super().__init__()
        self.axes: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.axes.append((args[0] if args else kwargs["query"]).ndim)
        return func(*args, **kwargs)


class Noting(TorchDispatchMode):
    """Notes of each operation how many numbers the largest tensor has that it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.sizes.append(max((own.numel() for own in tree_leaves(result) if isinstance(own, Tensor)), default=0))
        return result


def drawn(inspection: Inspection, n: int) -> list[Tensor]:
    """Queries, keys and values of two images, three heads and n tokens."""
    return [inspection.normal(2, 3, n, 4) * 2 for _ in range(3)]


def formed(inspection: Inspection) -> dict[str, tuple[list[int], list[int]]]:
    """The sizes of what each function forms on its way, and the axes of what it gives the kernel; many tokens."""
    q, k, v = (inspection.normal(1, 1, TOKENS, WIDTH) for _ in range(3))
    found = {}
    for name, given in (("fast_attention", (q, k, v)), ("cls_row", (q, k))):
        with Noting() as noting, Calls() as calls:
            inspection.ask(name, *given, flows=False)
        found[name] = (noting.sizes, calls.axes)
    return found


def observe(inspection: Inspection) -> None:
    q, k, v = drawn(inspection, 7)
    inspection.ask("fast_attention", q, k, v)
    inspection.ask("cls_row", q, k)
    inspection.ask("cls_row", 1000 * q, k)
    for name, (sizes, axes) in formed(inspection).items():
        what = f"what {name} forms for {TOKENS} tokens"
        inspection.note(what, (max(sizes) >= TOKENS**2, len(sizes) >= TOKENS, 3 in axes))


def whole_row(inspection: Inspection) -> Pair:
    q, k, _ = drawn(inspection, 6)
    found = inspection.ask("cls_row", q, k).sum(dim=-1)
    return found, torch.ones_like(found)


def heads_by_themselves(inspection: Inspection) -> Pair:
    tokens = drawn(inspection, 6)
    alone = inspection.ask("fast_attention", *(own[:, 1:2] for own in tokens))
    return inspection.ask("fast_attention", *tokens)[:, 1:2], alone


def any_order(inspection: Inspection) -> Pair:
    (q, k, v), order = drawn(inspection, 6), inspection.order(6)
    moved = inspection.ask("fast_attention", q, k[:, :, order], v[:, :, order])
    return inspection.ask("fast_attention", q, k, v), moved


def two_tokens(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection, 2)
    logits = (q[:, :, :, None] * k[:, :, None]).sum(dim=-1) / q.shape[-1] ** 0.5
    share = (logits[..., :1] - logits[..., 1:]).sigmoid()
    return inspection.ask("fast_attention", q, k, v), share * v[:, :, :1] + (1 - share) * v[:, :, 1:]


def row_times_values(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection, 6)
    row = inspection.ask("cls_row", q, k)
    return (row[..., None] * v).sum(dim=2), inspection.ask("fast_attention", q, k, v)[:, :, 0]


def no_matrix(inspection: Inspection) -> Pair:
    large = [sum(size >= TOKENS**2 for size in sizes) for sizes, _ in formed(inspection).values()]
    return torch.tensor(large), torch.zeros(2, dtype=torch.long)


def no_loop(inspection: Inspection) -> Pair:
    called = [max(TOKENS, len(sizes)) for sizes, _ in formed(inspection).values()]
    return torch.tensor(called), torch.full((2,), TOKENS)


def graft(model: Any, answer: Any) -> nn.Module:
    for block in model.blocks:
        block.attn = AttentionBy(answer.fast_attention, block.attn)
    return model


@torch.no_grad()
def applied(answer: Any) -> dict[str, Pair]:
    from vitral.recording.intercept import watch

    model, images = drawn_model()
    attention: Any = model.blocks[-1].attn
    noted: list[Tensor] = []
    hook = attention.qkv.register_forward_hook(lambda module, given, result: noted.append(result))
    with watch(model) as seen:
        model(images)
    hook.remove()
    q, k, _ = rearrange(noted[0], "b n (three h e) -> three b h n e", three=3, h=attention.num_heads)
    return {
        "the class token's row in the last block, beside vitral.watch": (
            answer.cls_row(q, k),
            seen.layers[-1].rows([0])[:, :, 0],
        )
    }


fast = Station(
    name="fast",
    number=11,
    title="The same numbers, fast",
    minutes=20,
    difficulty=2,
    prediction=Prediction(
        "a",
        "4,096 x 4,096 weights are 16.8 million numbers of 4 bytes: 64 MiB, for each head of each image. Queries, keys "
        "and values of one head with e = 64 are 3 MiB.",
    ),
    hints=(
        "Are q, k and v given to you in the shape that the second line of the figure takes? How many rows of q does "
        "the third line need?",
        "F.scaled_dot_product_attention takes (b, heads, n, e) as it is and divides by √e itself. For the row take the "
        "first query before anything is multiplied: `q[:, :, :1]` keeps its axis.",
        "The kernel needs no argument beside its three. For the row cut q before the product, keep the axis while you "
        "multiply, and take it away last.",
    ),
    observe=observe,
    laws=(
        Law("The class token's row is one in sum, in every head.", whole_row),
        Law("Each head attends as if it were the only one.", heads_by_themselves),
        Law(
            "Between two tokens the shares are the softmax of their two products, each divided by √e.",
            two_tokens,
        ),
        Law("Keys and values in another order, the same for both, change nothing.", any_order),
        Law("The class token's row times the values is the class token's output.", row_times_values),
        Law(
            f"For {TOKENS} tokens no tensor is formed that has as many numbers as the matrix of weights "
            "(counted: those of fast_attention, those of cls_row).",
            no_matrix,
        ),
        Law(
            f"For {TOKENS} tokens fewer than {TOKENS} operations are called: the kernel goes over the tokens, not a "
            "loop in Python.",
            no_loop,
        ),
    ),
    graft=graft,
    applied=applied,
)
