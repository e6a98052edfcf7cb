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
from torch.utils._python_dispatch import TorchDispatchMode

from vitral.base.errors import WatchError
from vitral.recording.calls import Call, call_of_kernel
from vitral.recording.dataflow import INPUT, Dataflow
from vitral.recording.following import Follower, Made
from vitral.recording.operators import FLEX, FUSED, PROJECTIONS, arguments_of, is_composite, name_of, tensors_in

LIBRARIES = tuple(str(Path(str(one)).parent) for one in (torch.__file__, jaxtyping.__file__, __file__))


@dataclass(frozen=True)
class Seen:
    """A call of attention, the module that made it, the bits of what it depends on, and its own bit.

    `made` are the weights, where the model formed them. `is_projected` is whether torch's own multi-head attention made
    it, whose projections no function shows; `is_cross`, whether its queries were made of other tokens than its keys.
    """

    call: Call
    name: str
    depends: int
    bit: int
    values_depend: int
    is_projected: bool = False
    made: tuple[Made, ...] = ()

    @property
    def is_cross(self) -> bool:
        return self.depends != self.values_depend


class Recognizer:
    """Recognises the calls of attention of one run of a model, and follows what depends on them."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.names = {id(module): eager_name(name) or type(module).__name__ for name, module in model.named_modules()}
        self.follower = Follower()
        self.dataflow = Dataflow(model)

    def recognize(self, operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Seen | None:
        """The call of attention that an operator was, if it was one."""
        name, inputs = name_of(operator), list(tensors_in((args, kwargs)))
        depends = self.dataflow.of(*inputs)
        if name == FLEX:  # it forms its weights inside, by code of the model's own
            shape = (*args[0].shape[:3], args[1].shape[-2])
            fate = "flex_attention hides its weights; use scaled_dot_product_attention with a mask or a bias"
            self.follower.made.append(Made(shape, 3, self.line(), fate))
        if name.startswith(FUSED):
            call: Call | None = call_of_kernel(result[0], arguments_of(operator, args, kwargs))
        else:
            call = self.follower.follow(operator, name, args, kwargs, inputs, result, self.is_constant, self.line)
        made = self.follower.last_made if call is not None and not name.startswith(FUSED) else ()
        values_depend = 0 if call is None else self.dataflow.of(call.given)
        self.dataflow.note(inputs, result, in_model=bool(inputs) or self.running_module() is not None)
        if call is None:
            if depends == INPUT and name in PROJECTIONS:
                self.dataflow.add_bit(tensors_in(result))
            return None
        given = self.multihead_frame()
        if given is not None and call.heads_in_batch:  # it puts the heads into the batch
            call = call.split_heads(given["bsz"])
        name = self.running_module() or type(self.model).__name__
        return Seen(call, name, depends, self.dataflow.add_call([call.out]), values_depend, given is not None, made)

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
