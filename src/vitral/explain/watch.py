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

Axes:  b batch   h heads   n m query, key tokens   r wanted rows
"""

import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.base.errors import UsageError, WatchError
from vitral.explain.calls import (
    PRODUCT,
    SOFTMAX,
    Call,
    from_multi_head_attention,
    from_product,
    from_sdpa,
    from_softmax,
    relative,
)

Rows = Literal["prefix", "all"] | Sequence[int]

# How far rows · v may be from what the kernel returned, as a fraction of its largest value. The kernels sum in another
# order; bfloat16 and float16 also round the weights.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
MOST_PREFIX_TOKENS = 16
RECENT = 4  # softmax results that may still be multiplied by values


@dataclass
class Layer:
    """One call of attention. `residual` is |rows · v - output| / max |output| over the rows that were checked."""

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
        """What each token is: `cls`, `prefix 1`, ..., then `patch 0`, `patch 1`, ... in reading order."""
        prefix = ["cls", *(f"prefix {index}" for index in range(1, self.num_prefix_tokens))]
        patches = [f"patch {index}" for index in range(self.num_tokens - self.num_prefix_tokens)]
        return (*prefix[: self.num_prefix_tokens], *patches)


@dataclass
class Seen:
    """What a watched model did: its attention layers in the order they ran."""

    layers: list[Layer] = field(default_factory=list)

    @property
    def residual(self) -> float:
        """The largest residual of any layer; not a number as long as none was seen."""
        return max((layer.residual for layer in self.layers), default=float("nan"))


class Eager:
    """While anyone watches, compiled modules run as the eager modules inside them: a compiled graph cannot be seen.

    PyTorch has one such switch for all threads, so the first watcher turns it and the last one turns it back.
    """

    def __init__(self) -> None:
        self.lock, self.watchers = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.watchers:
                self.stance = torch.compiler.set_stance("force_eager")
            self.watchers += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.watchers -= 1
            if not self.watchers:
                self.stance.__exit__(*error)


EAGER = Eager()


def eager_name(name: str) -> str:
    """A module's name without the wrappers of `torch.compile`."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


class watch(TorchFunctionMode):
    """See the attention of `model` while it runs inside the block; the block's value is `Seen`.

    `rows`: `"prefix"` computes the rows of CLS and the other tokens before the patches as they pass; a list of token
    indices computes those; `"all"` keeps q and k (2·layers·B·N·D values), so that rows can be chosen afterwards.
    `num_prefix_tokens` is the model's own, or what is left over when the tokens are one square grid, unless given.

    Raises `WatchError` if nothing was seen, or if what was seen does not give the model's own output.
    """

    def __init__(self, model: nn.Module, rows: Rows = "prefix", num_prefix_tokens: int | None = None):
        super().__init__()
        if rows not in ("prefix", "all") if isinstance(rows, str) else isinstance(rows, int) or not len(rows):
            raise UsageError(f'rows={rows!r} is not known: it takes "prefix", "all" or a list of token indices.')
        self.model, self.wanted = model, rows
        own = getattr(model, "num_prefix_tokens", None)
        self.num_prefix_tokens = own if num_prefix_tokens is None else num_prefix_tokens
        self.names = {id(module): eager_name(name) or type(module).__name__ for name, module in model.named_modules()}
        self.seen = Seen()
        self.softmaxes: deque[Tensor] = deque(maxlen=RECENT)
        self.called: set[str] = set()

    def __enter__(self) -> Seen:
        if any(isinstance(mode, watch) for mode in torch.overrides._get_current_function_mode_stack()):
            raise UsageError(
                "A model is being watched already in this thread. Leave that block first, or use what it sees."
            )
        super().__enter__()
        EAGER.__enter__()
        return self.seen

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        EAGER.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self.softmaxes.clear()
        if kind is None and not self.seen.layers:
            raise WatchError(
                "No attention was seen. Looked for scaled_dot_product_attention, nn.MultiheadAttention and a softmax "
                f"whose result multiplies values; {type(self.model).__name__} called: "
                f"{', '.join(sorted(self.called)) or 'nothing'}."
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        call = None
        if func is F.scaled_dot_product_attention:
            call = from_sdpa(result, *args, **kwargs)
        elif func is F.multi_head_attention_forward:
            call = from_multi_head_attention(result[0], args, kwargs)
        elif func in SOFTMAX:
            if (weights := from_softmax(result, args, kwargs)) is not None:
                self.softmaxes.append(weights)
        elif func in PRODUCT:
            call = from_product(result, args, self.softmaxes)
        if call is not None:
            self.note(call, result[0] if isinstance(result, tuple) else result)
        elif name := getattr(func, "__name__", ""):
            self.called.add(name)
        return result

    def note(self, call: Call, out: Tensor) -> None:
        """Compute the wanted rows of a call, check them against its output, and keep them."""
        name, n = self.name_of_caller(), call.num_tokens
        wanted = self.queries(n)
        rows = call.rows(wanted)
        residual = relative(*call.outputs(rows, wanted))
        if not residual <= TOLERANCE[out.dtype]:
            dropping = "The model is in training mode, where attention may be dropped at random: call model.eval(). "
            raise WatchError(
                f"The attention of {name} could not be verified: rows · v differs from what the model computed by "
                f"{residual:.1e} of its largest value (at most {TOLERANCE[out.dtype]:.0e} in "
                f"{str(out.dtype).removeprefix('torch.')}). {dropping if self.model.training else ''}"
                "No map is given rather than a wrong one."
            )
        later = call.rows if self.wanted == "all" else None
        self.seen.layers.append(Layer(name, n, self.prefix(n), residual, wanted, rows, later))

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
        """How many tokens come before the patches: said by the model or the caller, else left over from a square."""
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
