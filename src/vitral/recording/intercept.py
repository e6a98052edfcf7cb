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

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.base.errors import UsageError, WatchError
from vitral.recording.calls import (
    PRODUCT,
    RESHAPED,
    SOFTMAX,
    Call,
    Queries,
    apart,
    from_multi_head_attention,
    from_product,
    from_sdpa,
    from_softmax,
    relative,
)
from vitral.recording.edits import Edit, check_edit
from vitral.recording.indices import is_whole
from vitral.recording.layers import Layer, Seen, chunked
from vitral.recording.roles import MOST_PREFIX_TOKENS, Grid, Tokens, tokens_of
from vitral.recording.stream import Stream
from vitral.recording.windows import Trail, Windows

Rows = Literal["prefix", "all"] | Sequence[int]

# How far rows · v may be from what the kernel returned, as a fraction of its largest value. The kernels sum in another
# order; bfloat16 and float16 also round the weights.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
RECENT = 4  # softmax results that may still be multiplied by values


class Eager:
    """While anyone watches, compiled modules run as the eager modules inside them: a compiled graph cannot be seen.

    PyTorch has one such switch for all threads, so the first watcher turns it and the last one turns it back. Where its
    compiler was never loaded nothing is compiled, and loading it for the switch would take 70 MB.
    """

    def __init__(self) -> None:
        self.lock, self.watchers = threading.Lock(), 0
        self.stance: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if self.stance is None and "torch._dynamo" in sys.modules:
                self.stance = torch.compiler.set_stance("force_eager")
            self.watchers += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.watchers -= 1
            if not self.watchers and self.stance is not None:
                self.stance.__exit__(*error)
                self.stance = None


EAGER = Eager()


def groups(name: str, count: int, batch: int) -> Tokens:
    """Raises `UsageError`: nothing tells where in the image the tokens of these calls stand."""
    raise UsageError(
        f"{name} attends over {count} sequences for a batch of {batch} images, and they are no windows that were cut "
        "from a map in front of it. What its tokens are is not known, so it has no map."
    )


def channels(name: str, n: int, tokens: int) -> Tokens:
    """Raises `UsageError`: the layer attends over channels (Ding et al. 2022, "DaViT", §3.2), which stand nowhere."""
    raise UsageError(
        f"{name} attends over the {n} channels of each head, not over its {tokens} tokens, so it has no map. "
        "Choose other layers: layers=[...]."
    )


def eager_name(name: str) -> str:
    """A module's name without the wrappers of `torch.compile`."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def whole_numbers(values: object) -> bool:
    """Whether these are some whole numbers."""
    return isinstance(values, Sequence) and bool(values) and all(map(is_whole, values))


class NothingSeen(WatchError):
    """No attention was seen."""


class watch(TorchFunctionMode):
    """See the attention of `model` while it runs inside the block; the block's value is `Seen`.

    `rows`: `"prefix"` computes the rows of CLS and the other tokens before the patches as they pass; a list of token
    indices computes those; `"all"` keeps q and k (2·layers·B·N·D values), so that rows can be chosen afterwards.
    `num_prefix_tokens` is the model's own, or deduced (see `recording.roles`), unless given. `stream=True` also keeps
    what enters each block and what leaves the last; `"blocks"` finds the blocks and keeps nothing. `edit` changes the
    weights before they meet the values (see `recording.edits`); the rows seen are then the changed ones.

    Where gradients are recorded, each layer keeps what the gradient methods need, and with it the graph.

    Raises `NothingSeen`, a `WatchError`, if nothing was seen, or `WatchError` if what was seen does not give the
    model's own output.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: Rows = "prefix",
        num_prefix_tokens: int | None = None,
        *,
        stream: bool | Literal["blocks"] = False,
        edit: Edit | None = None,
    ):
        super().__init__()
        if not (rows in ("prefix", "all") if isinstance(rows, str) else whole_numbers(rows)):
            raise UsageError(f'rows={rows!r} is not known: it takes "prefix", "all" or a list of token indices.')
        if not isinstance(model, nn.Module):
            raise UsageError(f"watch takes a torch.nn.Module, not a {type(model).__name__}.")
        if num_prefix_tokens is not None and num_prefix_tokens < 0:
            raise UsageError(f"num_prefix_tokens={num_prefix_tokens} must be at least 0.")
        self.model, self.wanted, self.edit, self.num_prefix_tokens = model, rows, edit, num_prefix_tokens
        self.names = {id(module): eager_name(name) or type(module).__name__ for name, module in model.named_modules()}
        self.seen = Seen()
        self.keeps_stream = stream
        self.stream: Stream | None = None
        self.projected: Grid | None = None
        self.image: Grid | None = None
        self.batch = 0
        self.trail = Trail()
        self.softmaxes: deque[Tensor] = deque(maxlen=RECENT)
        self.called: set[str] = set()

    def __enter__(self) -> Seen:
        if any(isinstance(mode, watch) for mode in torch.overrides._get_current_function_mode_stack()):
            raise UsageError(
                "A model is being watched already in this thread. Leave that block first, or use what it sees."
            )
        if self.seen.layers:
            raise UsageError("This watch has seen a model already. Make a new one: with vitral.watch(model) as seen.")
        super().__enter__()
        EAGER.__enter__()
        if self.keeps_stream:
            self.stream = Stream(self.model, keeps=self.keeps_stream != "blocks")
        return self.seen

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.stream is not None:
            self.stream.remove()
            self.seen.stream, self.seen.before = (
                (self.stream.tokens, self.stream.before) if self.stream.keeps else ([], [])
            )
        EAGER.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self.softmaxes.clear()
        self.trail.clear()
        if kind is None and self.edit is not None and self.seen.layers:
            check_edit(self.edit, len(self.seen.layers))
        if kind is None and not self.seen.layers:
            raise NothingSeen(
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
                self.seen.missed += 1
        elif func in PRODUCT:
            call = from_product(result, args, self.softmaxes)
            self.seen.missed -= call is not None
        elif func in RESHAPED and any(args[0] is weights for weights in self.softmaxes):
            self.softmaxes.append(result)
        elif func is F.conv2d or func is torch.conv2d:
            self.projection(args[0], result, args[1] if len(args) > 1 else kwargs["weight"])
        if call is not None:
            return self.note(call, result)
        given = args[0] if args else None
        if not self.batch and isinstance(result, Tensor) and isinstance(given, Tensor) and given.ndim == 4:
            self.batch, self.image = len(given), (given.shape[-2], given.shape[-1])
        if self.batch:
            self.trail.note(func, args, kwargs, result, self.batch)
        if name := getattr(func, "__name__", ""):
            self.called.add(name)
        return result

    def projection(self, images: Tensor, result: Tensor, weight: Tensor) -> None:
        """A convolution that cuts its input into patches: the last one before any attention tells the grid."""
        height, width = weight.shape[-2:]
        patches = (images.shape[-2] // height, images.shape[-1] // width)
        if not self.seen.layers and height > 1 and tuple(result.shape[-2:]) == patches:
            self.projected, self.batch, self.image = patches, len(images), (images.shape[-2], images.shape[-1])

    def note(self, call: Call, result: Any) -> Any:
        """Compute the wanted rows of a call, check them against its output, and keep them; gives what it returns."""
        name, number, graph = self.name_of_caller(), len(self.seen.layers), torch.is_grad_enabled()
        call = self.with_its_heads(call)
        if self.stream is not None:
            self.stream.attended(number, call.num_queries == call.num_keys)
        windows = self.windows_of(call)
        told = self.teller(windows, call, name)
        wanted = self.queries(call, told)
        rows = call.rows(wanted)
        residual = relative(call.product(rows), call.made(wanted))
        if not residual <= TOLERANCE[call.out.dtype]:
            raise WatchError(self.unverified(name, residual, call.out.dtype))
        compute = None
        if self.wanted == "all":
            compute = call.rows if graph and call.out.requires_grad else call.rows.alone()
        if self.edit is not None:
            result, rows, compute = self.edited(call, result, number, rows, wanted, compute)
        kept = call if graph and call.out.requires_grad and self.edit is None else None
        rows = rows if graph and rows.requires_grad else apart(rows)
        self.seen.layers.append(
            Layer(name, call.num_queries, call.num_keys, residual, wanted, rows, told, compute, kept, windows)
        )
        self.trail.clear()
        return result

    def with_its_heads(self, call: Call) -> Call:
        """A call whose heads stand in the batch, as three-dimensional ones of all tokens have them, with both apart."""
        n = self.projected[0] * self.projected[1] if self.projected else 0
        whole = n <= call.num_keys <= n + MOST_PREFIX_TOKENS and call.num_queries == call.num_keys
        count = self.count(call)
        folded = call.flat and self.batch and count != self.batch and count % self.batch == 0
        return call.unfolded(self.batch) if folded and whole else call

    def count(self, call: Call) -> int:
        """The items of the call's batch."""
        seen = call.view(call.out)
        return seen.shape[1] if call.axis == 0 else len(seen)

    def teller(self, windows: Windows | None, call: Call, name: str) -> Callable[[], Tokens]:
        """Tells what each token is. It is kept with the layer, so it holds no tensor, and not what holds the layer."""
        count, read = self.count(call), self.trail.read
        if windows is None and self.batch and count != self.batch:
            return partial(groups, name, count, self.batch)
        if call.axis != 0 and call.num_queries == call.num_keys != read == call.view(call.out).shape[-1]:
            return partial(channels, name, call.num_keys, int(read))
        if windows is not None:
            rows, columns = windows.grid
            cut = Tokens((), rows * columns, windows.grid, "the windows that were cut from a map of tokens")
            return lambda: cut
        return partial(tokens_of, self.model, call.num_keys, self.projected, self.image, self.num_prefix_tokens)

    def unverified(self, name: str, residual: float, dtype: torch.dtype) -> str:
        dropping = "The model is in training mode, where attention may be dropped at random: call model.eval(). "
        return (
            f"The attention of {name} could not be verified: rows · v differs from what the model computed by "
            f"{residual:.1e} of its largest value (at most {TOLERANCE[dtype]:.0e} in "
            f"{str(dtype).removeprefix('torch.')}). {dropping if self.model.training else ''}"
            "No map is given rather than a wrong one."
        )

    def edited(self, call: Call, result: Any, number: int, rows: Tensor, wanted: Sequence[int], compute: Any) -> Any:
        """The result of the call with its weights changed, the changed rows, and how to compute more of them."""
        edit = self.edit
        assert edit is not None

        def changed(source: Any, queries: Queries) -> Tensor:
            indices = range(call.num_queries)[queries] if isinstance(queries, slice) else queries
            return edit(number, source(queries), indices)

        each = rows.shape[0] * rows.shape[1] * call.num_keys
        parts = [changed(call.rows, queries) for queries in chunked(call.num_queries, each)]
        out = call.joined([call.product(part) for part in parts])
        if isinstance(result, tuple):  # of nn.MultiheadAttention: what it returned, and perhaps the weights
            given = result[1]
            if given is not None:
                whole = torch.cat(parts, dim=2).to(given.dtype)
                given = (whole if given.ndim == 4 else whole.mean(dim=1)).reshape(given.shape)
            result = (out, given)
        else:
            result = out
        later = None if compute is None else lambda queries: changed(compute, queries)
        return result, edit(number, rows, wanted), later

    def windows_of(self, call: Call) -> Windows | None:
        """Where the tokens stand, if the call attends within windows: its batch is a multiple of the model's."""
        count = self.count(call)
        if not self.batch or count % self.batch or call.num_queries != call.num_keys:
            return None
        return self.trail.windows(self.batch, count, call.num_keys)

    def queries(self, call: Call, told: Any) -> tuple[int, ...]:
        """The token indices whose rows are computed as they pass."""
        n = call.num_queries
        if self.wanted == "all":
            return tuple(sorted({0, n // 2, n - 1}))
        if self.wanted == "prefix":
            if n == 1 != call.num_keys:
                return (0,)  # one learned query that pools the tokens
            tokens = told()
            if not tokens.prefix:
                raise UsageError(
                    f"The model has no CLS token (its {n} tokens are all patches: {tokens.how}), so there is no row of "
                    'CLS. Say which tokens: rows=[...], or rows="all".'
                )
            return tuple(range(len(tokens.prefix)))
        if wrong := [query for query in self.wanted if not 0 <= query < n]:
            raise UsageError(f"rows={wrong} do not exist: the model has {n} tokens, 0 to {n - 1}.")
        return tuple(int(query) for query in self.wanted)

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
