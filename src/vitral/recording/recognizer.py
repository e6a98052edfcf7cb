"""Recognise calls of attention among the operators that a model runs.

    with Operators(see):
        model(images)               # see(operator, args, kwargs, result) is called for each operator

Axes:  b batch   h heads   n m query, key tokens
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jaxtyping
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from vitral.base.errors import WatchError
from vitral.recording.calls import Call, call_of_kernel
from vitral.recording.dataflow import INPUT, Dataflow
from vitral.recording.following import Follower
from vitral.recording.further_uses import FurtherUses
from vitral.recording.hidden_operators import is_hidden, may_attend, written_by
from vitral.recording.made import Made, Product
from vitral.recording.operators import (
    FLEX,
    FUSED,
    PRODUCTS,
    PROJECTIONS,
    REDUCTIONS,
    arguments_of,
    has_memory,
    is_composite,
    keeps_axes,
    name_of,
    storage_of,
    tensors_in,
)
from vitral.recording.windowed_calls import over_whole_image, stated_windows

HIDDEN = "an operator that is not PyTorch's and mixes tokens, perhaps by attention"
LIBRARIES = tuple(str(Path(str(one)).parent) for one in (torch.__file__, jaxtyping.__file__, __file__))


FACTOR = "it is one of two factors, of which one multiplies the other's result, as in linear attention"


@dataclass(frozen=True)
class Seen:
    """A call of attention, the module that made it, the bits of what it depends on, and its own bit.

    `made` are the weights, where the model formed them. `is_projected` is whether torch's own multi-head attention made
    it, whose projections no function shows; `is_cross`, whether its queries were made of other tokens than its keys;
    `value_marks` are the marks of its values (see `recording.dataflow`); `continues`, whether its queries follow those
    of the call before it, as the model states; `part`, which part of its weights it is (see `following.Product`).
    """

    call: Call
    name: str
    depends: int
    bit: int
    values_depend: int
    is_projected: bool = False
    made: tuple[Made, ...] = ()
    is_cross: bool = False
    value_marks: int = 0
    continues: bool = False
    part: tuple[int, int] | None = None


class Recognizer:
    """Recognises the calls of attention of one run of a model, and follows what depends on them."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.names = {id(module): eager_name(name) or type(module).__name__ for name, module in model.named_modules()}
        self.follower = Follower()
        self.dataflow = Dataflow(model)
        self.further_uses = FurtherUses()
        self.results: dict[int, tuple[int, tuple[Made, ...]]] = {}  # by memory: the call that it is the result of
        self.added: list[int] = []  # the bits of calls whose results were added up, as they are
        self.factors = 0  # the bits of calls whose result is multiplied by the weights of another
        weights = [*model.parameters(), *model.buffers()]
        self.lasting = {storage_of(one): one.untyped_storage() for one in weights if has_memory(one)}
        self.known: dict[int, StorageWeakRef] = {}  # the other pieces of memory that were seen

    def recognize(self, operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Seen | None:
        """The call of attention that an operator was, if it was one."""
        name, inputs = name_of(operator), list(tensors_in((args, kwargs)))
        self.remember(inputs, result)
        before, depends = self.follower.weights_in(inputs), self.dataflow.of_calls(*inputs)
        if name == FLEX:  # it forms its weights inside, by code of the model's own
            shape = (*args[0].shape[:3], args[1].shape[-2])
            fate = "flex_attention hides its weights; use scaled_dot_product_attention with a mask or a bias"
            self.follower.made.append(Made(shape, 3, self.line(), fate))
        if is_hidden(operator):
            if may_attend(operator, args, kwargs, result, self.is_constant):
                self.follower.hidden.append(f"{operator.name()}, {HIDDEN}, in {self.line()}")
            self.dataflow.note(inputs, written_by(operator, args, kwargs))
        if name.startswith(FUSED):
            call: Call | None = call_of_kernel(result[0], arguments_of(operator, args, kwargs))
        else:
            call = self.follower.follow(operator, name, args, kwargs, inputs, result, self.is_constant, self.line)
        product: Product | None = None
        if call is not None and not name.startswith(FUSED):
            product = self.follower.last_product
        made = () if product is None else product.made
        if call is not None and name.startswith(FUSED):
            made = (self.made_inside(call),)
            self.follower.made += made  # listed if its weights multiply other values, too
        values_depend = 0 if call is None else self.dataflow.of_calls(call.given)
        value_marks = 0 if call is None else self.dataflow.of(call.given) & self.dataflow.path_marks
        weight_marks = self.dataflow.of(*inputs) & self.dataflow.path_marks & ~value_marks
        if call is not None and (factor := self.factor_before(call, inputs)) is not None:
            self.note_factors(factor, made)
            call = product = None
        self.further_uses.note(name, inputs, result, before, self.follower.weights, product, self.line)
        self.follow_results(operator, name, inputs, result)
        is_crossing = self.is_crossing(name, inputs)
        in_model = bool(inputs) or self.running_module() is not None
        self.dataflow.follow(operator, args, inputs, result, in_model)
        if call is None:
            if is_crossing:
                self.dataflow.crossing |= self.dataflow.add_bit(tensors_in(result))
            if depends == INPUT and name in PROJECTIONS:
                self.dataflow.add_projection(tensors_in(result))
            return None
        given = self.multihead_frame()
        if given is not None and call.heads_in_batch:  # it puts the heads into the batch
            call = call.split_heads(given["bsz"])
        windows, continues = find_frame(stated_windows), False
        if windows is not None:
            in_windows, call = call, over_whole_image(call, *windows)
            continues = call is not in_windows and windows[0].num_prefix_tokens > 0
        is_cross = depends != values_depend or bool(weight_marks & self.dataflow.crossing)
        if name.startswith(FUSED):
            is_cross = is_cross or is_crossing
        # How queries and keys came about says nothing of the tokens that leave.
        self.dataflow.forget([call.out], weight_marks)
        bit = self.dataflow.add_call([call.out])
        self.results[storage_of(call.out)] = bit, made
        name = self.running_module() or type(self.model).__name__
        part = None if product is None else product.part
        is_projected = given is not None
        return Seen(call, name, depends, bit, values_depend, is_projected, made, is_cross, value_marks, continues, part)

    def remember(self, *values: Any) -> None:
        """Keep the numbers of these tensors' memory from being given to other memory, once theirs is freed.

        Else a tensor that no operator made, as `torch.tensor([0, 4])` and an index by a list do, may be taken for one
        that is gone. What is gone is forgotten at once: a number that is kept is a hole in the heap.
        """
        self.forget_gone()
        for tensor in filter(has_memory, tensors_in(values)):
            if (number := storage_of(tensor)) not in self.known and number not in self.lasting:
                self.known[number] = StorageWeakRef(tensor.untyped_storage())

    def forget_gone(self) -> None:
        """Forget what was known of memory that is freed, before its number is given away."""
        tables: tuple[dict[int, Any], ...] = (
            *(self.known, self.results, self.dataflow.bits, self.dataflow.blank),
            *(self.follower.weights, self.further_uses.carried),
            *(self.follower.products.reached, self.follower.products.weighted, self.follower.products.axes.spans),
        )
        for number in [number for number, memory in self.known.items() if memory.expired()]:
            for table in tables:
                table.pop(number, None)
            self.follower.of_weights.discard(number)

    def is_crossing(self, name: str, inputs: Sequence[Tensor]) -> bool:
        """Whether an operator multiplies queries with keys that depend on other calls of attention."""
        if name.startswith(FUSED):
            operands = inputs[:2]
        elif name in PRODUCTS and len(inputs) > 1:
            operands = inputs[-2:]
        else:
            return False
        depends = {self.dataflow.of_calls(one) for one in operands}
        return len(depends) > 1 and not any(map(self.is_constant, operands))

    def exchange(self, out: Tensor, other: Tensor) -> None:
        """The model goes on with another result of a call, of which the same is known."""
        self.dataflow.note([out], other)
        if (before := self.results.get(storage_of(out))) is not None:
            self.results[storage_of(other)] = before
        self.further_uses.carry(other, self.further_uses.of(storage_of(out)))

    def follow_results(self, operator: Any, name: str, inputs: Sequence[Tensor], result: Any) -> None:
        """Follow the results of calls through copies, for as long as nothing else is added and nothing projected.

        Where the results of several calls are added up, their weights are, too: such calls are no heads side by side.
        """
        storages = {storage_of(one) for one in inputs if not self.is_constant(one)}
        known = {self.results[storage][0]: self.results[storage] for storage in storages if storage in self.results}
        bits, made = sum(known), tuple(one for _, weights in known.values() for one in weights)
        whole = bool(known) and all(storage in self.results for storage in storages)
        joins = name in ("cat", "stack") or len(known) == 1
        if known and ((not joins and keeps_axes(operator, name)) or (name in REDUCTIONS and bits & (bits - 1))):
            self.added.append(bits)
        if whole and joins and (keeps_axes(operator, name) or name == "stack"):
            self.results |= {storage_of(output): (bits, made) for output in tensors_in(result)}

    def factor_before(self, call: Call, inputs: Sequence[Tensor]) -> tuple[int, tuple[Made, ...]] | None:
        """The call whose result are the values of this one, if the weights of this one do not depend on it."""
        before, values = self.results.get(storage_of(call.given)), storage_of(call.given)
        others = self.dataflow.of(*(one for one in inputs if storage_of(one) != values))
        is_factor = before is not None and len(inputs) > 1 and not others & before[0]
        # Queries and keys in the same memory as the values are made of the result, too.
        shared = sum(storage_of(one) == values for one in inputs) > 1
        return before if is_factor and not shared else None

    def note_factors(self, before: tuple[int, tuple[Made, ...]], made: tuple[Made, ...]) -> None:
        """The weights of one call multiply the result of another: only together do they say which token attends to
        which, as in linear attention, so neither is shown."""
        self.factors |= before[0]
        for one in (*before[1], *made):
            one.shown, one.fate = False, FACTOR
            if one not in self.follower.made:
                self.follower.made.append(one)

    def made_inside(self, call: Call) -> Made:
        """The weights that a fused kernel did not form."""
        return Made((*call.values.shape[:2], call.num_queries, call.num_keys), 3, self.line(), shown=True)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on no input of the model."""
        return not self.dataflow.of(tensor) & INPUT

    def multihead_frame(self) -> dict[str, Any] | None:
        """The variables of torch's own multi-head attention, if that is running.

        Raises `WatchError` if it attends to keys that are not tokens.
        """
        code = F.multi_head_attention_forward.__code__
        given: dict[str, Any] | None = find_frame(lambda frame: dict(frame.f_locals) if frame.f_code is code else None)
        if given is not None and (given["bias_k"] is not None or given["add_zero_attn"]):
            raise WatchError(
                "nn.MultiheadAttention with add_bias_kv or add_zero_attn attends to tokens that are not in the image, "
                "so it cannot be watched. Create it without these two options."
            )
        return given

    def running_module(self) -> str | None:
        """The name of the innermost module of the model that is running now, found on the stack; None outside of it."""
        # The stack, and not hooks: it is right under exceptions and threads, and leaves nothing on the model.
        return find_frame(self.module_of)

    def module_of(self, frame: FrameType) -> str | None:
        """The name of the module whose method a frame is."""
        first = frame.f_code.co_varnames[: min(1, frame.f_code.co_argcount)]  # `self`
        owner = frame.f_locals.get(first[0]) if first else None
        return self.names.get(id(owner)) if isinstance(owner, nn.Module) else None

    def line(self) -> str:
        """The line of the model's code that is running now, and its module."""
        place = find_frame(
            lambda frame: (
                None
                if is_library(frame.f_code.co_filename)
                else f", line {frame.f_lineno} of {Path(frame.f_code.co_filename).name}"
            )
        )
        return f"{self.running_module() or type(self.model).__name__}{place or ''}"


class Operators(TorchDispatchMode):
    """Shows each operator that runs, and what it returned, to a function, and returns what that returns."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else the first operator loads the compiler, 70 MB, to be told to leave this method alone. It never meets it:
        # while a model is watched, nothing runs compiled.
        return False

    def __init__(self, see: Callable[[Any, Sequence[Any], dict[str, Any], Any], Any]):
        super().__init__()
        self.see, self.is_paused = see, False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside it no operator is shown."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and is_composite(func):
            with self:  # in inference mode only, functions that others are made of arrive whole
                return func.decompose(*args, **kwargs)
        # First the model's own kernel, untouched: what it returns is what is checked.
        result = func(*args, **kwargs)
        return result if self.is_paused else self.see(func, args, kwargs, result)


def find_frame(wanted: Callable[[FrameType], Any]) -> Any:
    """The first of what a function gives for the frames of the stack, innermost first; None if it gives nothing."""
    # A loop and no generator: one that is left early holds the frame that holds it, until Python looks for cycles.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if found := wanted(frame):
            return found
        frame = frame.f_back
    return None


def is_library(filename: str) -> bool:
    """Whether a file is PyTorch's, the type checker's, Vitral's recording or no file, and not the model's own code."""
    return filename.startswith(LIBRARIES) or filename.startswith("<")


def eager_name(name: str) -> str:
    """A module's name without the wrappers of `torch.compile`."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")
