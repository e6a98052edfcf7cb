"""Watch the attention of any PyTorch model, exactly, while its fused kernels run.

    with vitral.watch(model) as seen:
        model(images)
    seen.layers[0].rows([0])        # what CLS attends to: (B, heads, 1, N)

A fused kernel never forms softmax(q kᵀ / √e + mask), so there is nothing to read out. But its q, k and v pass through
one function, and the few rows of interest can be computed from them right there: O(N·d) per row, where the whole matrix
costs O(N²). Each such row is then checked against what the kernel returned: rows · v must equal its output.

Calls are seen by a `TorchFunctionMode`: in this thread, until the block ends; nothing is hooked, patched or left
behind. Which calls are attention is decided in `recording.calls`, what their tokens are in `recording.roles`.

Axes:  b batch   h heads   n m query, key tokens   r wanted rows
"""

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.base.errors import UsageError, WatchError
from vitral.recording.calls import Call, CallRecognizer, Queries, detached_copy, relative_difference
from vitral.recording.eager import EAGER
from vitral.recording.edits import Edit, Weights
from vitral.recording.indices import is_index_list
from vitral.recording.layers import Layer, Recording, query_chunks
from vitral.recording.roles import RoleFinder, TokenRoles
from vitral.recording.stream import Stream

Rows = Literal["prefix", "all"] | Sequence[int]

# The largest accepted |rows · v - kernel output|, as a fraction of the output's largest value. Kernels sum in another
# order; bfloat16 and float16 also round the weights.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class NothingSeen(WatchError):
    """No attention was seen."""


class watch(TorchFunctionMode):
    """Watch the attention of `model` while it runs inside the block; the block's value is a `Recording`.

    `rows`: `"prefix"` computes the rows of CLS and the other tokens before the patches as they pass; a list of token
    indices computes those; `"all"` keeps q and k (2·layers·B·N·D values), so that rows can be chosen afterwards.
    `num_prefix_tokens` is the model's own or deduced (see `recording.roles`), unless given. `stream=True` also keeps
    what enters each block and what leaves the last; `"blocks"` only finds the blocks. `edit` changes the weights before
    they multiply the values (see `recording.edits`); the rows kept are then the changed ones.

    Where gradients are recorded, each layer keeps what the gradient methods need, and with it the graph.

    Raises `NothingSeen`, a `WatchError`, if there was no attention, or `WatchError` if the rows do not reproduce the
    model's own output.

    >>> import torch, vitral
    >>> model = vitral.create("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3).eval()
    >>> with torch.no_grad(), vitral.watch(model) as seen:
    ...     logits = model(torch.randn(1, 3, 32, 32))
    >>> seen.layers[0].rows([0]).shape  # 1 image, 3 heads, CLS, 5 tokens
    torch.Size([1, 3, 1, 5])
    >>> seen.layers[0].roles
    ('cls', 'patch 0 0', 'patch 0 1', 'patch 1 0', 'patch 1 1')
    """

    def __init__(
        self,
        model: nn.Module,
        rows: Rows = "prefix",
        num_prefix_tokens: int | None = None,
        *,
        stream: bool | Literal["blocks"] = False,
        edit: Edit | Callable[[int, Weights, Sequence[int]], Weights] | None = None,
    ):
        super().__init__()
        if not (rows in ("prefix", "all") if isinstance(rows, str) else is_index_list(rows)):
            raise UsageError(f'rows={rows!r} is not supported: give "prefix", "all" or a list of token indices.')
        if not isinstance(model, nn.Module):
            raise UsageError(f"watch takes a torch.nn.Module, not a {type(model).__name__}.")
        if num_prefix_tokens is not None and num_prefix_tokens < 0:
            raise UsageError(f"num_prefix_tokens={num_prefix_tokens} must be at least 0.")
        self.model, self.wanted = model, rows
        self.edit = edit if edit is None or isinstance(edit, Edit) else Edit(edit)
        self.names = {id(module): eager_name(name) or type(module).__name__ for name, module in model.named_modules()}
        self.recording = Recording()
        self.recognizer = CallRecognizer()
        self.roles = RoleFinder(model, num_prefix_tokens)
        self.keeps_stream = stream
        self.stream: Stream | None = None
        self.called: set[str] = set()  # for the message where nothing was seen

    def __enter__(self) -> Recording:
        # Two watches in one thread would each see the calls that the other makes to verify its rows.
        if any(isinstance(mode, watch) for mode in torch.overrides._get_current_function_mode_stack()):
            raise UsageError(
                "A model is already being watched in this thread. Leave that `with` statement first, or use the "
                "recording that it returned."
            )
        if self.recording.layers:
            raise UsageError("This watch was already used. Create a new one: with vitral.watch(model) as seen.")
        super().__enter__()
        EAGER.__enter__()
        if self.keeps_stream:
            self.stream = Stream(self.model, keep_tensors=self.keeps_stream != "blocks")
        return self.recording

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        # Hooks and the compiler's switch go first: they must go, whatever the model raised.
        if self.stream is not None:
            self.stream.remove()
            if self.stream.keep_tensors:
                self.recording.stream, self.recording.next_layers = self.stream.tokens, self.stream.next_layers
        EAGER.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self.recording.unmatched_softmaxes = self.recognizer.unmatched
        self.recognizer.forget()
        self.roles.windows.forget()
        if kind is None and self.edit is not None and self.recording.layers:
            self.edit.check(len(self.recording.layers))
        if kind is None and not self.recording.layers:
            raise NothingSeen(
                "No attention was seen. Looked for scaled_dot_product_attention, nn.MultiheadAttention and a softmax "
                f"whose result multiplies values; {type(self.model).__name__} called: "
                f"{', '.join(sorted(self.called)) or 'nothing'}."
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)  # first the model's own kernel, untouched: what it returns is what is checked
        call = self.recognizer.recognize(func, args, kwargs, result)
        if call is not None:
            return self.record(call, result)
        self.roles.note(func, args, kwargs, result, before_attention=not self.recording.layers)
        if name := getattr(func, "__name__", ""):
            self.called.add(name)
        return result

    def record(self, call: Call, result: Any) -> Any:
        """Compute the wanted rows of a call, check them against its output, keep them; return what the call returns."""
        name, number = self.calling_module(), len(self.recording.layers)
        call = self.roles.split_heads(call)  # before anything counts images or heads
        if self.stream is not None:
            self.stream.attended(number, call.num_queries == call.num_keys)
        windows = self.roles.windows_of(call)
        find_roles = self.roles.roles_of(call, windows, name)
        queries = self.wanted_queries(call, find_roles)
        # The proof: a few rows formed here, times the values, must be what the kernel returned for these queries.
        rows = call.rows(queries)
        residual = relative_difference(call.product(rows), call.output_rows(queries))
        if not residual <= TOLERANCE[call.out.dtype]:  # also refuses a residual that is not a number
            raise WatchError(self.unverified(name, residual, call.out.dtype))
        has_graph = torch.is_grad_enabled() and call.out.requires_grad
        compute = None
        if self.wanted == "all":
            # With a graph its tensors live anyway; without one, copies let the model free q and k in their own layout.
            compute = call.rows if has_graph else call.rows.detached()
        if self.edit is not None:
            result, rows, compute = self.apply_edit(call, result, number, rows, queries, compute)
        kept_rows = rows if torch.is_grad_enabled() and rows.requires_grad else detached_copy(rows)
        kept_call = call if has_graph and self.edit is None else None
        self.recording.layers.append(
            Layer(
                name,
                call.num_queries,
                call.num_keys,
                residual,
                queries,
                kept_rows,
                find_roles,
                compute,
                kept_call,
                windows,
            )
        )
        self.roles.windows.forget()  # maps from before this layer cannot be the windows of the next
        return result

    def wanted_queries(self, call: Call, find_roles: Callable[[], TokenRoles]) -> tuple[int, ...]:
        """The token indices whose rows are computed as they pass."""
        n = call.num_queries
        if self.wanted == "all":
            return tuple(sorted({0, n // 2, n - 1}))  # enough to verify; the others are computed when asked for
        if self.wanted == "prefix":
            if n == 1 != call.num_keys:
                return (0,)  # one learned query that pools the tokens
            roles = find_roles()
            if not roles.prefix:
                raise UsageError(
                    f"The model has no CLS token (its {n} tokens are all patches: {roles.source}), so it has no CLS "
                    'row. Specify the tokens: rows=[...], or rows="all".'
                )
            return tuple(range(len(roles.prefix)))
        if wrong := [query for query in self.wanted if not 0 <= query < n]:
            raise UsageError(f"rows={wrong} do not exist: the model has {n} tokens, 0 to {n - 1}.")
        return tuple(int(query) for query in self.wanted)

    def apply_edit(
        self, call: Call, result: Any, number: int, rows: Tensor, wanted: Sequence[int], compute: Any
    ) -> tuple[Any, Tensor, Any]:
        """The result of the call with its weights changed, the changed rows, and how to compute more of them."""
        edit = self.edit
        assert edit is not None

        def changed(source: Any, queries: Queries) -> Tensor:
            indices = range(call.num_queries)[queries] if isinstance(queries, slice) else queries
            return edit(number, source(queries), indices)

        # All rows are formed, in chunks, since the kernel's own result was made with the weights as they were.
        weights_per_query = rows.shape[0] * rows.shape[1] * call.num_keys
        parts = [changed(call.rows, queries) for queries in query_chunks(call.num_queries, weights_per_query)]
        out: Any = call.concatenate([call.product(part) for part in parts])
        if isinstance(result, tuple):  # nn.MultiheadAttention returns its output, and the weights if requested
            weights = result[1]
            if weights is not None:
                whole = torch.cat(parts, dim=2).to(weights.dtype)
                weights = (whole if weights.ndim == 4 else whole.mean(dim=1)).reshape(weights.shape)
            out = (out, weights)
        later = None if compute is None else lambda queries: changed(compute, queries)
        return out, edit(number, rows, wanted), later

    def unverified(self, name: str, residual: float, dtype: torch.dtype) -> str:
        """Why the attention of a layer is refused."""
        training = "The model is in training mode, where attention may use dropout: call model.eval(). "
        return (
            f"The attention of {name} could not be verified: rows · v differs from the kernel's output by "
            f"{residual:.1e} of its largest value (at most {TOLERANCE[dtype]:.0e} is accepted in "
            f"{str(dtype).removeprefix('torch.')}). {training if self.model.training else ''}"
            "Vitral shows no map, since it would be wrong."
        )

    def calling_module(self) -> str:
        """The name of the innermost module of the model that is running now, found on the stack."""
        # The stack, and not hooks: it is right under exceptions and threads, and leaves nothing on the model.
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            first = frame.f_code.co_varnames[:1]  # `self` in a method
            owner = frame.f_locals.get(first[0]) if first else None
            if isinstance(owner, nn.Module) and id(owner) in self.names:
                return self.names[id(owner)]
            frame = frame.f_back
        return type(self.model).__name__


def eager_name(name: str) -> str:
    """A module's name without the wrappers of `torch.compile`."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")
