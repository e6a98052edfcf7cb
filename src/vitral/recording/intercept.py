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

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from vitral.base.errors import UsageError, WatchError
from vitral.base.output import find_output
from vitral.recording.apart import Subject
from vitral.recording.calls import Call, Queries, Unchanged, detached_copy, relative_difference
from vitral.recording.eager import EAGER, can_have_hooks
from vitral.recording.edited_results import changed_result, projected
from vitral.recording.edits import Edit, Weights
from vitral.recording.indices import is_index_list
from vitral.recording.joining import Layers
from vitral.recording.known_places import places_of
from vitral.recording.layers import Layer, Recording, query_chunks
from vitral.recording.operators import name_of, tensors_in
from vitral.recording.probes import is_known
from vitral.recording.recognizer import Operators, Recognizer, Seen
from vitral.recording.roles import RoleFinder
from vitral.recording.stream import Stream
from vitral.recording.stream_places import StreamPlace, stream_places
from vitral.recording.tensor_classes import check_made_outside
from vitral.recording.token_roles import TokenRoles

Rows = Literal["prefix", "all"] | Sequence[int]

# The largest accepted |rows · v - kernel output|, as a fraction of the output's largest value. Kernels sum in another
# order; bfloat16 and float16 also round the weights.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
TOLERANCE |= {torch.complex128: TOLERANCE[torch.float64], torch.complex64: TOLERANCE[torch.float32]}


class NothingSeen(WatchError):
    """No attention was seen."""


class watch(TorchFunctionMode):
    """Watch the attention of `model` while it runs inside the block; the block's value is a `Recording`.

    `rows`: `"prefix"` computes the rows of CLS and the other tokens before the patches as they pass; a list of token
    indices computes those; `"all"` keeps q and k (2·layers·B·N·D values), so that rows can be chosen afterwards.
    `num_prefix_tokens` is the model's own or deduced (see `recording.roles`), unless given. `stream=True` also keeps
    what enters each block and what leaves the last; `"blocks"` only finds the blocks. `edit` changes the weights before
    they multiply the values (see `recording.edits`); the rows kept are then the changed ones.

    A model that is not Vitral's own first runs on a few random images, up to its first attention, once for each image
    size: what its tokens stand for is measured. It is left as if that had not happened (`recording.undisturbed`).

    Where gradients are recorded, each layer keeps what the gradient methods need, and with it the graph.

    Raises `NothingSeen`, a `WatchError`, without attention, or `WatchError` if rows do not reproduce its output.

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
        if not can_have_hooks(model):
            raise UsageError(
                "A torch.jit.script module takes no hooks, so Vitral cannot measure which token is which patch. Watch "
                "the module that was scripted, or trace it instead: torch.jit.trace."
            )
        if num_prefix_tokens is not None and num_prefix_tokens < 0:
            raise UsageError(f"num_prefix_tokens={num_prefix_tokens} must be at least 0.")
        self.model, self.wanted = model, rows
        self.edit = edit if edit is None or isinstance(edit, Edit) else Edit(edit)
        self.recording = Recording()
        self.recognizer = Recognizer(model)
        self.waiting: list[Seen] = []  # calls within the function that is running
        self.subject: Subject | None = None  # the model and its arguments, if its tokens were measured
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
        self.thread = threading.get_ident()
        # What may raise comes first: a mode that is left on would see all that the thread runs afterwards.
        if self.keeps_stream:
            self.stream = Stream(self.model, keep_tensors=self.keeps_stream != "blocks")
        self.layers = Layers(self.recording, self.recognizer, self.stream)
        self.hooks = [
            self.model.register_forward_pre_hook(self.begin, prepend=True, with_kwargs=True),
            self.model.register_forward_hook(self.end, with_kwargs=True),
        ]
        self.operators = Operators(self.see)
        self.operators.__enter__()
        super().__enter__()
        EAGER.__enter__()
        return self.recording

    def begin(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the model runs: measure what its tokens stand for, unless it is one of Vitral's, where that is known.

        Vitral's own models are measured by the tests.
        """
        given = next((tensor for tensor in tensors_in((args, kwargs)) if tensor.ndim == 4), None)
        if given is not None and given.is_meta:
            raise WatchError("The images are on the meta device, which holds no values, so there is nothing to see.")
        if threading.get_ident() != self.thread or self.operators.is_paused or is_known(model):
            return
        if given is None:
            # Sequences (B, N, D), and no list of images, each of its own size.
            given_tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
            in_lists = len(list(tensors_in((args, kwargs)))) > len(given_tensors)
            self.roles.takes_tokens = not in_lists and all(tensor.ndim < 4 for tensor in given_tensors)
        elif given.is_floating_point() and len(given):
            self.subject = Subject(model, given, args, kwargs)
            with self.operators.paused():
                self.roles.start(places_of(self.subject), given)
            self.called.clear()  # what measured the model is none of its own

    def end(self, model: nn.Module, args: tuple, kwargs: dict[str, Any], returned: Any) -> None:
        """After the model ran: note on which calls of attention its answer depends, of all that it returned."""
        if threading.get_ident() != self.thread or self.operators.is_paused:
            return
        given = list(tensors_in((args, kwargs)))
        images = next((tensor for tensor in given if tensor.ndim == 4), given[0] if given else None)
        answer = tuple(tensors_in(returned))
        if len(answer) != 1 and images is not None and images.ndim:
            with self.operators.paused(), suppress(UsageError):  # where it cannot be told, all of it may be the answer
                answer = (find_output(model, returned, len(images)).tensor,)
        self.recording.answer |= self.recognizer.dataflow.of(*answer)
        self.recognizer.further_uses.note_answer(answer, self.recognizer.follower.weights)
        # The answer may depend on a layer by its weights alone.
        self.recording.answer |= self.layers.bits_of(self.recognizer.further_uses.of_answer())
        if self.stream is not None:
            self.stream.answer = self.recording.answer

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        # Hooks and the compiler's switch go first: they must go, whatever the model raised.
        if self.stream is not None:
            self.stream.remove()
        for hook in self.hooks:
            hook.remove()
        EAGER.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self.operators.__exit__(kind, error, trace)
        self.recording.meetings = self.recognizer.dataflow.meetings
        self.recording.projections = self.recognizer.dataflow.projections
        self.layers.finish(self.recognizer.factors, self.recognizer.added)
        self.layers.note_further_uses(self.recognizer.further_uses.of_answer())
        if self.stream is not None and self.stream.keep_tensors:
            self.recording.stream, self.recording.next_layers = self.stream.tokens, self.stream.next_layers
        del self.operators, self.layers  # it holds this watch, so that both would wait for the garbage collector
        self.recording.missed = self.recognizer.follower.missed(self.roles.batch)
        self.recognizer.follower.weights.clear()
        self.roles.windows.forget()
        check_made_outside(self.model, error)
        if kind is None and self.edit is not None and self.recording.layers:
            self.edit.check(len(self.recording.layers))
        for layer in self.recording.layers if kind is None else ():
            self.check_rows(layer.num_queries)
        if kind is None and not self.recording.layers:
            raise NothingSeen(
                "No attention was seen."
                + "".join(f" Nearest to it: {missed}." for missed in self.recording.missed[:3])
                + " Looked for scaled_dot_product_attention, nn.MultiheadAttention and a softmax whose result "
                f"multiplies values; {type(self.model).__name__} called: "
                f"{', '.join(sorted(self.called)) or 'nothing'}. grad_cam and occlusion need no attention."
            )

    def stream_places(self) -> tuple[StreamPlace | None, ...]:
        """Where the patches are in each tensor of the stream, after a watched pass; nothing where that is the model's
        own statement, or cannot be measured."""
        if self.subject is None or self.stream is None:
            return ()
        return stream_places(self.subject, self.roles.places, self.stream)

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
            # What is computed here is not the model's: a checkpoint around it must not count what our graph saves.
            with self.operators.paused(), saved_tensors_hooks(as_it_is, as_it_is):
                outputs = [self.record(one) for one in seen]
                if self.edit is not None:
                    change = partial(projected, args=args, kwargs=kwargs) if multihead else changed_result
                    result = change(result, seen, outputs)
                    self.recognizer.exchange(seen[-1].call.out, result)
        if multihead and self.edit is not None and result[1] is not None:
            result = (result[0], self.changed_weights(result[1]))
        if isinstance(result, Tensor) and result.is_nested:
            raise WatchError(
                f"{type(self.model).__name__} makes nested tensors, whose tokens cannot be watched. Pad the sequences "
                "to one length, with a mask."
            )
        if not calls_before < self.recognizer.dataflow.num_calls:
            self.roles.note(func, args, kwargs, result, before_attention=not self.recording.layers)
        name = getattr(func, "__name__", "_")
        if name.isidentifier() and not name.startswith("_") and name != "untyped_storage":  # that is asked here
            self.called.add(name)
        return result

    def see(self, operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        """Look at one operator that has run. Returns its result, or another where an edit changes it."""
        seen = self.recognizer.recognize(operator, args, kwargs, result)
        if seen is None:
            self.layers.note(name_of(operator), args, kwargs)
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
        if seen.is_projected:
            self.roles.windows.tokens_entering = seen.call.num_keys  # its projections are no functions that were noted
        call, windows, find_roles = self.roles.place(seen.call, seen.name)
        joins = not self.roles.is_alone and self.layers.may_join(seen, self.roles.current)
        if self.stream is not None:
            group = self.layers.parts[-1][0].bit if joins else seen.bit
            self.stream.attended(seen.bit, group, call.num_queries == call.num_keys)
        if not call.out.isfinite().all():
            raise WatchError(self.unverified(seen.name, math.nan, call))
        queries = self.wanted_queries(call, find_roles, self.layers.num_queries_before(joins))
        # The proof: a few rows formed here, times the values, must be what the operator returned for these queries.
        rows = call.rows(queries)
        residual = relative_difference(call.product(rows), call.output_rows(queries))
        if not residual <= TOLERANCE[call.out.dtype]:  # also refuses a residual that is not a number
            raise WatchError(self.unverified(seen.name, residual, call))
        has_graph = torch.is_grad_enabled() and call.out.requires_grad
        out, compute = call.out, None
        if self.wanted == "all":
            # With a graph its tensors live anyway; without one, copies let the model free q and k in their own layout.
            compute = Unchanged.now(call.rows, seen.name) if has_graph else call.rows.detached()
        if self.edit is not None:
            number = len(self.recording.layers) - joins
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
            depends=seen.depends,
            is_cross=seen.is_cross or self.roles.asks_itself is False,
            values_depend=seen.values_depend | seen.value_marks,
        )
        if joins and self.edit is not None and layer.num_queries < layer.num_tokens:
            raise WatchError(
                f"{layer.name} splits its queries over several calls of attention, which cannot be edited. Pass all "
                "queries in one call."
            )
        self.layers.add(layer, seen, joins)
        self.recognizer.exchange(call.out, out)
        self.roles.windows.forget()  # maps from before this layer cannot be the windows of the next
        return out

    def wanted_queries(self, call: Call, find_roles: Callable[[], TokenRoles], before: int) -> tuple[int, ...]:
        """The call's own queries whose rows are computed as they pass.

        Of a call with fewer queries than keys they may be a chunk, after `before` others, or all: both are computed.
        """
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
            tokens: Sequence[int] = roles.other_tokens
        else:
            tokens = [int(query) for query in self.wanted]
            if n >= call.num_keys:
                self.check_rows(n)
        own = {token - start for token in tokens for start in (0, before) if 0 <= token - start < n}
        return tuple(token for token in tokens if token < n) if n >= call.num_keys else tuple(sorted(own))

    def check_rows(self, num_queries: int) -> None:
        """Raise `UsageError` if rows were asked for that a layer with so many queries does not have."""
        wanted = () if isinstance(self.wanted, str) else self.wanted
        if wrong := [query for query in wanted if not 0 <= query < num_queries]:
            raise UsageError(f"rows={wrong} do not exist: the model has {num_queries} tokens, 0 to {num_queries - 1}.")

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

    def unverified(self, name: str, residual: float, call: Call) -> str:
        """Why the attention of a layer is refused."""
        if not call.out.isfinite().all():
            return (
                f"The attention of {name} returned values that are not finite (NaN), so Vitral shows no map. Look for "
                "NaN in the images and in the weights, for a mask that leaves a query no key and, in half precision, "
                "for overflow."
            )
        training = "The model is in training mode, where attention may use dropout: call model.eval(). "
        return (
            f"The attention of {name} could not be verified: rows · v differs from the kernel's output by "
            f"{residual:.1e} of its largest value (at most {TOLERANCE[call.out.dtype]:.0e} is accepted in "
            f"{str(call.out.dtype).removeprefix('torch.')}). {training if self.model.training else ''}"
            "Vitral shows no map, since it would be wrong."
        )


def as_it_is(tensor: Tensor) -> Tensor:
    """The same tensor, to be saved for the backward pass as PyTorch does where nothing else is asked for."""
    return tensor
