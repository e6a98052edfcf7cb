"""Watch the attention of any PyTorch model, exactly, while its fused kernels run.

    with vitral.watch(model) as seen:
        model(images)
    seen.layers[0].rows([0])        # what CLS attends to: (B, heads, 1, N)

A fused kernel never forms softmax(q kᵀ / √e + mask), so there is nothing to read out. But its q, k and v pass through
one function, and the few rows of interest can be computed from them right there: O(N·d) per row, where the whole matrix
costs O(N²). Each such row is then checked against what the kernel returned: rows · v must equal its output.

Calls are seen at two levels, by PyTorch's own modes: in this thread, until the block ends; nothing is hooked, patched
or left behind. As *operators* they have one form, whatever function the model called, so attention is recognised there
(`recording.following`). As *functions* they take part in the graph of gradients, so rows are formed and weights changed
there, when the function returns. What the tokens are is found in `recording.roles`.

Axes:  b batch   h heads   n m query, key tokens   r wanted rows
"""

import inspect
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.base.errors import UsageError, WatchError
from vitral.recording.calls import Call, Queries, detached_copy, relative_difference
from vitral.recording.eager import EAGER
from vitral.recording.edits import Edit, Weights
from vitral.recording.indices import is_index_list
from vitral.recording.layers import Layer, Recording, joined, query_chunks
from vitral.recording.operators import storage_of, tensors_in
from vitral.recording.probes import is_known, places_of
from vitral.recording.recognizer import Operators, Recognizer, Seen
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
        self.recording = Recording()
        self.recognizer = Recognizer(model)
        self.parts: list[list[Layer]] = []  # of each layer: one for each call
        self.waiting: list[Seen] = []  # calls within the function that is running
        self.depth = 0  # of functions that are running
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
        self.operators = Operators(self.see)
        self.operators.__enter__()
        super().__enter__()
        EAGER.__enter__()
        self.thread = threading.get_ident()
        self.hook = self.model.register_forward_pre_hook(self.begin, prepend=True, with_kwargs=True)
        if self.keeps_stream:
            self.stream = Stream(self.model, keep_tensors=self.keeps_stream != "blocks")
        return self.recording

    def begin(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the model runs: measure what its tokens stand for, unless it is one of Vitral's, where that is known.

        Vitral's own models are measured by the tests.
        """
        given = next((tensor for tensor in tensors_in((args, kwargs)) if tensor.ndim == 4), None)
        if threading.get_ident() != self.thread or self.operators.is_paused or is_known(model) or given is None:
            return
        if given.is_floating_point() and len(given):
            with self.operators.paused():
                self.roles.start(places_of(model, given), given)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        # Hooks and the compiler's switch go first: they must go, whatever the model raised.
        if self.stream is not None:
            self.stream.remove()
            if self.stream.keep_tensors:
                self.recording.stream, self.recording.next_layers = self.stream.tokens, self.stream.next_layers
        self.hook.remove()
        EAGER.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self.operators.__exit__(kind, error, trace)
        for parts in list(self.parts):
            self.separate_unless_joined(parts)
        del self.operators, self.parts  # it holds this watch, so that both would wait for the garbage collector
        self.recording.missed = self.recognizer.follower.missed(self.roles.batch)
        self.recognizer.follower.weights.clear()
        self.roles.windows.forget()
        if kind is None and self.edit is not None and self.recording.layers:
            self.edit.check(len(self.recording.layers))
        if kind is None and not self.recording.layers:
            raise NothingSeen(
                "No attention was seen. Looked for scaled_dot_product_attention, nn.MultiheadAttention and a softmax "
                f"whose result multiplies values; {type(self.model).__name__} called: "
                f"{', '.join(sorted(self.called)) or 'nothing'}."
                + "".join(f" Nearest to it: {missed}." for missed in self.recording.missed[:3])
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.operators.is_paused:
            return func(*args, **kwargs)
        self.depth, calls_before = self.depth + 1, self.recognizer.dataflow.num_calls
        try:
            result = func(*args, **kwargs)
        finally:
            self.depth -= 1
        multihead = func is F.multi_head_attention_forward
        if self.waiting:
            seen, self.waiting = self.waiting, []
            with self.operators.paused():  # what is computed here is not the model's
                outputs = [self.record(one) for one in seen]
                if self.edit is not None:
                    change = partial(projected, args=args, kwargs=kwargs) if multihead else changed_result
                    result = change(result, seen, outputs)
                    self.recognizer.dataflow.note([seen[-1].call.out], result)
        if multihead and self.edit is not None and result[1] is not None:
            result = (result[0], self.changed_weights(result[1]))
        if not calls_before < self.recognizer.dataflow.num_calls:
            self.roles.note(func, args, kwargs, result, before_attention=not self.recording.layers)
        if name := getattr(func, "__name__", ""):
            self.called.add(name)
        return result

    def see(self, operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        """Look at one operator that has run. Returns its result, or another where an edit changes it."""
        seen = self.recognizer.recognize(operator, args, kwargs, result)
        if seen is None:
            return result
        # Within a function, rows wait until it returns: operators run below the graph of gradients. Where there is no
        # graph, or no function, as in a traced model, they need not.
        graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors_in((args, kwargs)))
        if self.depth and (graph or self.edit is None):
            self.waiting.append(seen)
            return result
        with self.operators.paused():
            out = self.record(seen)
        return (out, *result[1:]) if isinstance(result, tuple) else out

    def record(self, seen: Seen) -> Tensor:
        """Compute the wanted rows of a call, check them against its output, keep them; the output, edited or not."""
        joins = bool(self.parts) and self.may_join(seen)
        number = len(self.parts) - joins
        if seen.is_projected:
            self.roles.windows.tokens_entering = seen.call.num_keys  # its projections are no functions that were noted
        call, windows, find_roles = self.roles.place(seen.call, seen.name)
        if self.stream is not None:
            self.stream.attended(number, call.num_queries == call.num_keys)
        queries = self.wanted_queries(call, find_roles)
        # The proof: a few rows formed here, times the values, must be what the operator returned for these queries.
        rows = call.rows(queries)
        residual = relative_difference(call.product(rows), call.output_rows(queries))
        if not residual <= TOLERANCE[call.out.dtype]:  # also refuses a residual that is not a number
            raise WatchError(self.unverified(seen.name, residual, call.out.dtype))
        has_graph = torch.is_grad_enabled() and call.out.requires_grad
        out, compute = call.out, None
        if self.wanted == "all":
            # With a graph its tensors live anyway; without one, copies let the model free q and k in their own layout.
            compute = call.rows if has_graph else call.rows.detached()
        if self.edit is not None:
            out, rows, compute = self.apply_edit(call, number, rows, queries, compute)
        layer = Layer(
            seen.name,
            call.num_queries,
            call.num_keys,
            residual,
            queries,
            rows if torch.is_grad_enabled() and rows.requires_grad else detached_copy(rows),
            find_roles,
            compute,
            (call,) if has_graph and self.edit is None else (),
            windows,
            seen.bit,
        )
        self.add(layer, seen, joins)
        self.recognizer.dataflow.note([call.out], out)  # if it is another one, it depends on the same
        self.roles.windows.forget()  # maps from before this layer cannot be the windows of the next
        return out

    def may_join(self, seen: Seen) -> bool:
        """Whether a call may be another head of the last layer: of the same sizes, and it does not depend on it."""
        before, call = self.last.call, seen.call
        same = before.num_queries == call.num_queries and before.values.shape[:3] == call.values.shape[:3]
        return same and not any(seen.depends & part.bit for part in self.parts[-1])

    def add(self, layer: Layer, seen: Seen, joins: bool) -> None:
        """Add a call to the layers: to the last one as further heads, or as a layer of its own."""
        self.separate(seen.depends)
        self.last = seen
        if joins:
            self.parts[-1].append(layer)
            self.recording.layers[-1] = joined(self.parts[-1])
        else:
            self.parts.append([layer])
            self.recording.layers.append(layer)

    def separate(self, depends: int) -> None:
        """Take calls apart again that were taken for one layer, if another call depends on some of them only."""
        for parts in list(self.parts):
            reached = [bool(depends & part.bit) for part in parts]
            if any(reached) and not all(reached):
                self.take_apart(parts)

    def separate_unless_joined(self, parts: list[Layer]) -> None:
        """Take calls apart that were taken for one layer, if nothing depends on all of them: two runs of a model."""
        every = sum(part.bit for part in parts)
        if len(parts) > 1 and not any(bits & every == every for bits in self.recognizer.dataflow.met):
            self.take_apart(parts)

    def take_apart(self, parts: list[Layer]) -> None:
        index = self.parts.index(parts)
        self.parts[index : index + 1] = [[part] for part in parts]
        self.recording.layers[index : index + 1] = parts

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
                    f"The model has no class token (its {n} tokens are all patches: {roles.source}), so it has no CLS "
                    'row. Specify the tokens: rows=[...], or rows="all".'
                )
            return tuple(token for token in roles.other_tokens if token < n)
        if wrong := [query for query in self.wanted if not 0 <= query < n]:
            raise UsageError(f"rows={wrong} do not exist: the model has {n} tokens, 0 to {n - 1}.")
        return tuple(int(query) for query in self.wanted)

    def apply_edit(
        self, call: Call, number: int, rows: Tensor, wanted: Sequence[int], compute: Any
    ) -> tuple[Tensor, Tensor, Any]:
        """The output of a call with its weights changed, the changed rows, and how to compute more of them."""
        edit = self.edit
        assert edit is not None

        def changed(source: Any, queries: Queries) -> Tensor:
            indices = range(call.num_queries)[queries] if isinstance(queries, slice) else queries
            return edit(number, source(queries), indices)

        # All rows are formed, in chunks, since the kernel's own result was made with the weights as they were.
        weights_per_query = rows.shape[0] * rows.shape[1] * call.num_keys
        parts = [
            call.product(changed(call.rows, queries)) for queries in query_chunks(call.num_queries, weights_per_query)
        ]
        later = None if compute is None else lambda queries: changed(compute, queries)
        self.last_edited = lambda: changed(call.rows, slice(None))
        return call.output_of(torch.cat(parts, dim=2)), edit(number, rows, wanted), later

    def changed_weights(self, weights: Tensor) -> Tensor:
        """The weights that torch's own multi-head attention returns, as they were changed."""
        whole = self.last_edited().to(weights.dtype)
        return (whole if weights.ndim == 4 else whole.mean(dim=1)).reshape(weights.shape)

    def unverified(self, name: str, residual: float, dtype: torch.dtype) -> str:
        """Why the attention of a layer is refused."""
        training = "The model is in training mode, where attention may use dropout: call model.eval(). "
        return (
            f"The attention of {name} could not be verified: rows · v differs from the kernel's output by "
            f"{residual:.1e} of its largest value (at most {TOLERANCE[dtype]:.0e} is accepted in "
            f"{str(dtype).removeprefix('torch.')}). {training if self.model.training else ''}"
            "Vitral shows no map, since it would be wrong."
        )


def changed_result(result: Any, seen: Sequence[Seen], outputs: Sequence[Tensor]) -> Any:
    """What a function returned, whose call of attention now has another output. Raises `WatchError` if it cannot be."""
    if len(seen) == 1 and isinstance(result, Tensor):
        before, after = seen[0].call.out, outputs[0]
        if storage_of(before) == storage_of(result):  # the function only viewed the output
            return after.as_strided(result.shape, result.stride(), result.storage_offset() - before.storage_offset())
    raise WatchError(f"The attention of {seen[0].name} cannot be changed where gradients are recorded: use no_grad.")


def projected(result: Any, seen: Sequence[Seen], outputs: Sequence[Tensor], args: Any, kwargs: Any) -> Any:
    """What `multi_head_attention_forward` returns for another output of its attention, which it projects."""
    given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs).arguments
    joined_heads = rearrange(seen[0].call.view(outputs[0]), "b h n e -> n b (h e)")
    out = F.linear(joined_heads, given["out_proj_weight"], given["out_proj_bias"])
    return (out.reshape(result[0].shape), result[1])
