"""Watch the attention of any PyTorch model, exactly, while its fused kernels run.

    with vitral.watch(model) as seen:
        model(images)
    seen.layers[0].rows([0])        # what CLS attends to: (B, heads, 1, N)

A fused kernel never forms softmax(q kᵀ / √e + mask), so it has none to show. But its q, k and v pass through one
function, and the few rows one wants can be computed from them right there: O(N·d) for a row, where the whole matrix is
O(N²). Each such row is then held against what the kernel returned: rows · v must be its output.

Three calls are known: `scaled_dot_product_attention`, `nn.MultiheadAttention`'s function, and a softmax whose result is
multiplied by values, for models that write the product out. They are seen by a `TorchFunctionMode`: in this thread,
until the block ends; nothing is hooked, patched or left behind.

Axes:  b batch   h heads   n m query, key tokens   r wanted rows   e width of one head
"""

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import FrameType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.base.errors import UsageError, WatchError

Rows = Literal["prefix", "all"] | Sequence[int]

# How far rows · v may be from what the kernel returned, as a fraction of its largest value. The kernels sum in another
# order; bfloat16 and float16 also round the weights.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
MOST_PREFIX_TOKENS = 16

SOFTMAX = (F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax)
PRODUCT = (torch.matmul, torch.bmm, torch.einsum, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)


@dataclass
class Layer:
    """One call of attention. `residual` is |rows · v - output| / max |output|; `roles` says what each token is."""

    name: str
    num_tokens: int
    num_prefix_tokens: int
    residual: float
    wanted: tuple[int, ...]
    seen: Float[Tensor, "b h r m"]
    compute: Callable[[Sequence[int]], Float[Tensor, "b h r m"]] | None = None

    def rows(self, queries: Sequence[int]) -> Float[Tensor, "b h r m"]:
        """What these tokens attend to: one weight for each token, summing to 1.

        Raises `UsageError` for tokens that do not exist or were not asked for when the model ran.
        """
        if wrong := [query for query in queries if not 0 <= query < self.num_tokens]:
            raise UsageError(
                f"Tokens {wrong} do not exist in {self.name}: it has {self.num_tokens}, 0 to {self.num_tokens - 1}."
            )
        if self.compute is not None:
            return self.compute(queries)
        if missing := [query for query in queries if query not in self.wanted]:
            raise UsageError(
                f"The rows of tokens {missing} were not kept; kept are {list(self.wanted)}. "
                'Watch with rows=[...], or rows="all" to choose later.'
            )
        return self.seen[:, :, [self.wanted.index(query) for query in queries]]

    def weights(self) -> Float[Tensor, "b h n m"]:
        """The whole attention matrix; needs `rows="all"`."""
        return self.rows(range(self.num_tokens))

    @property
    def roles(self) -> tuple[str, ...]:
        """`cls`, then further prefix tokens, then `patch 0`, `patch 1`, ... in reading order."""
        extra = [f"prefix {i}" for i in range(1, self.num_prefix_tokens)]
        patches = [f"patch {i}" for i in range(self.num_tokens - self.num_prefix_tokens)]
        return (*(["cls"] * (self.num_prefix_tokens > 0)), *extra, *patches)


@dataclass
class Seen:
    """What a watched model did: its attention layers in the order they ran."""

    layers: list[Layer] = field(default_factory=list)

    @property
    def residual(self) -> float:
        """The largest residual of any layer."""
        return max(layer.residual for layer in self.layers)


@dataclass(frozen=True)
class Call:
    """The tensors of one attention call, heads apart; `out` is what the kernel made of them."""

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h m e"]
    v: Float[Tensor, "b h m e"]
    bias: Tensor | None
    scale: float
    out: Callable[[Float[Tensor, "b h r e"], Sequence[int]], tuple[Tensor, Tensor]]

    def rows(self, queries: Sequence[int]) -> Float[Tensor, "b h r m"]:
        """softmax(q kᵀ · scale + bias) for some queries, in at least single precision."""
        exact = torch.promote_types(self.q.dtype, torch.float32)
        logits = self.q[..., list(queries), :].to(exact) @ self.k.to(exact).mT * self.scale
        if self.bias is not None:
            bias = self.bias.expand(*self.bias.shape[:-2], self.q.shape[-2], self.k.shape[-2])[..., list(queries), :]
            logits = logits.masked_fill(~bias, -math.inf) if bias.dtype == torch.bool else logits + bias
        return logits.softmax(dim=-1)


class watch(TorchFunctionMode):
    """See the attention of `model` while it runs inside the block; the block's value is `Seen`.

    `rows`: `"prefix"` computes the rows of CLS and the other tokens before the patches as they pass; a list of token
    indices computes those; `"all"` keeps q and k (2·layers·B·N·D values), so that rows can be chosen afterwards.
    `num_prefix_tokens` is the model's own, or what is left over when the tokens are one square grid, unless given.

    Raises `WatchError` if nothing was seen, or if what was seen does not give the model's own output.
    """

    def __init__(self, model: nn.Module, rows: Rows = "prefix", num_prefix_tokens: int | None = None):
        super().__init__()
        if isinstance(rows, str) and rows not in ("prefix", "all"):
            raise UsageError(f'rows={rows!r} is not known: it takes "prefix", "all" or a list of token indices.')
        self.model, self.wanted = model, rows
        self.num_prefix_tokens = (
            num_prefix_tokens if num_prefix_tokens is not None else getattr(model, "num_prefix_tokens", None)
        )
        self.names = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
        self.seen = Seen()
        self.pending: list[tuple[Tensor, str]] = []
        self.called: set[str] = set()

    def __enter__(self) -> Seen:
        if any(isinstance(mode, watch) for mode in torch.overrides._get_current_function_mode_stack()):
            raise UsageError(
                "A model is being watched already in this thread. Leave that block first, or use what it sees."
            )
        super().__enter__()
        # A compiled graph cannot be seen; the module inside it can.
        self.stance = torch.compiler.set_stance("force_eager")
        self.stance.__enter__()
        return self.seen

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.stance.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self.pending.clear()
        if kind is None and not self.seen.layers:
            raise WatchError(
                "No attention was seen. Looked for scaled_dot_product_attention, nn.MultiheadAttention and a softmax "
                f"whose result multiplies values; {type(self.model).__name__} called: "
                f"{', '.join(sorted(self.called)) or 'nothing'}."
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.note(from_sdpa(result, *args, **kwargs))
        elif func is F.multi_head_attention_forward:
            self.note(from_multi_head_attention(result[0], inspect.signature(func).bind(*args, **kwargs).arguments))
        elif func in SOFTMAX and result.ndim in (3, 4) and result.shape[-1] > 1:
            self.pending.append((result, self.name_of_caller()))
        elif func in PRODUCT:
            self.note_product(result, args)
        elif name := getattr(func, "__name__", ""):
            self.called.add(name)
        return result

    def note(self, call: Call | None) -> None:
        if call is None:
            return
        n = call.q.shape[-2]
        wanted = self.queries(n)
        rows = call.rows(wanted)
        residual = self.verify(rows, call, wanted)
        later = call.rows if self.wanted == "all" else None
        self.seen.layers.append(Layer(self.name_of_caller(), n, self.prefix(n), residual, wanted, rows, later))

    def note_product(self, out: Tensor, args: Sequence[Any]) -> None:
        """A product that takes an earlier softmax as it is: softmax(...) · v, written out by the model."""
        weights, v = next(
            ((x, y) for x, y in pairwise(args) if isinstance(x, Tensor) and isinstance(y, Tensor)), (None, None)
        )
        for pending, name in self.pending:
            if (
                pending is weights
                and v is not None
                and out.ndim == weights.ndim
                and v.shape[:-1] == (*weights.shape[:-2], weights.shape[-1])
            ):
                self.pending = [item for item in self.pending if item[0] is not weights]
                four = weights if weights.ndim == 4 else weights[:, None]
                n = four.shape[-2]
                wanted = self.queries(n)
                rows = four[..., list(wanted), :]
                again = rows @ (v if v.ndim == 4 else v[:, None])
                residual = relative(again, (out if out.ndim == 4 else out[:, None])[..., list(wanted), :])
                self.check(residual, out.dtype, name)
                later = (lambda queries, kept=four: kept[..., list(queries), :]) if self.wanted == "all" else None
                self.seen.layers.append(Layer(name, n, self.prefix(n), residual, wanted, rows, later))
                return

    def verify(self, rows: Tensor, call: Call, wanted: Sequence[int]) -> float:
        """|rows · v - output| / max |output| on the wanted rows."""
        again, out = call.out(rows @ call.v.to(rows.dtype), wanted)
        residual = relative(again, out)
        self.check(residual, out.dtype, self.name_of_caller())
        return residual

    def check(self, residual: float, dtype: torch.dtype, name: str) -> None:
        if not residual <= TOLERANCE[dtype]:
            why = (
                "The model is in training mode, where attention may be dropped at random: call model.eval(). "
                if self.model.training
                else ""
            )
            raise WatchError(
                f"The attention of {name} could not be verified: rows · v differs from what the model computed by "
                f"{residual:.1e} of its largest value "
                f"(at most {TOLERANCE[dtype]:.0e} in {str(dtype).removeprefix('torch.')}). "
                f"{why}No map is given rather than a wrong one."
            )

    def queries(self, n: int) -> tuple[int, ...]:
        """The token indices whose rows are computed as they pass."""
        if self.wanted == "prefix":
            if not self.prefix(n):
                raise UsageError(
                    f"The model has no CLS token (its {n} tokens are all patches), so there is no row of CLS. "
                    "Say which tokens: rows=[...]."
                )
            return tuple(range(self.prefix(n)))
        if self.wanted == "all":
            return tuple(sorted({0, n // 2, n - 1}))
        if wrong := [query for query in self.wanted if not 0 <= query < n]:
            raise UsageError(f"rows={wrong} do not exist: the model has {n} tokens, 0 to {n - 1}.")
        return tuple(self.wanted)

    def prefix(self, n: int) -> int:
        if self.num_prefix_tokens is not None:
            return self.num_prefix_tokens
        left_over = n - math.isqrt(n) ** 2
        if left_over > MOST_PREFIX_TOKENS:
            raise UsageError(
                f"{n} tokens are no square grid with a few more before it. Say how many: num_prefix_tokens=..."
            )
        return left_over

    def name_of_caller(self) -> str:
        """The innermost module of the model that is running now, found on the stack."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            first = frame.f_code.co_varnames[:1]
            owner = frame.f_locals.get(first[0]) if first else None
            if isinstance(owner, nn.Module) and id(owner) in self.names:
                return self.names[id(owner)]
            frame = frame.f_back
        return type(self.model).__name__


def relative(again: Tensor, out: Tensor) -> float:
    exact = torch.promote_types(out.dtype, torch.float32)
    difference = (again.to(exact) - out.to(exact)).abs().max()
    return float(difference / out.to(exact).abs().max().clamp_min(1e-12))


def from_sdpa(
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Call | None:
    """The arguments of `torch.nn.functional.scaled_dot_product_attention`, as a `Call`."""
    q, k, v, made = (x if x.ndim == 4 else x[:, None] for x in (query, key, value, out))
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    bias = attn_mask if attn_mask is None or attn_mask.ndim != 3 or query.ndim == 4 else attn_mask[:, None]
    if is_causal:
        bias = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()

    def compare(mine: Tensor, queries: Sequence[int]) -> tuple[Tensor, Tensor]:
        return mine, made[..., list(queries), :]

    return Call(q, k, v, bias, q.shape[-1] ** -0.5 if scale is None else scale, compare)


def from_multi_head_attention(out: Float[Tensor, "n b d"], given: dict[str, Any]) -> Call:
    """The arguments of `torch.nn.functional.multi_head_attention_forward`, as a `Call`.

    Project as it does, compare after its projection.
    """
    query, key, value, heads = given["query"], given["key"], given["value"], given["num_heads"]
    batched = query.ndim == 3
    query, key, value, out = (x if batched else x[:, None] for x in (query, key, value, out))
    if given.get("bias_k") is not None or given.get("add_zero_attn"):
        raise WatchError(
            "nn.MultiheadAttention with bias_kv or add_zero_attn attends to tokens that are not there; "
            "it is not watched."
        )
    biases = given["in_proj_bias"].chunk(3) if given["in_proj_bias"] is not None else (None,) * 3
    if given.get("use_separate_proj_weight"):
        maps = given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"]
    else:
        maps = given["in_proj_weight"].chunk(3)
    q, k, v = (
        rearrange(F.linear(x, weight, bias), "n b (h e) -> b h n e", h=heads)
        for x, weight, bias in zip((query, key, value), maps, biases)
    )
    bias = given.get("attn_mask")
    if bias is not None and bias.ndim == 3:
        bias = rearrange(bias, "(b h) n m -> b h n m", h=heads)
    if bias is not None and bias.dtype == torch.bool:
        bias = ~bias  # this function's True means "may not", SDPA's "may"
    if (padding := given.get("key_padding_mask")) is not None:
        padding = (
            torch.zeros_like(padding, dtype=q.dtype).masked_fill(padding, -math.inf)
            if padding.dtype == torch.bool
            else padding
        )
        bias = (
            padding[:, None, None]
            if bias is None
            else padding[:, None, None]
            + (
                torch.zeros_like(bias, dtype=q.dtype).masked_fill(~bias, -math.inf)
                if bias.dtype == torch.bool
                else bias
            )
        )

    def compare(mine: Tensor, queries: Sequence[int]) -> tuple[Tensor, Tensor]:
        joined = rearrange(mine, "b h r e -> r b (h e)").to(out.dtype)
        return F.linear(joined, given["out_proj_weight"], given["out_proj_bias"]), out[list(queries)]

    return Call(q, k, v, bias, q.shape[-1] ** -0.5, compare)
