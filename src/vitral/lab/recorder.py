"""Call what an answer defines on random inputs, and record everything that can be observed from outside."""

import inspect
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Tolerances for rounding in double precision: a larger difference is a mistake, not rounding.
RELATIVE, ABSOLUTE = 1e-9, 1e-11


@dataclass
class CallRecord:
    """What one call returned and did; messages refer to it by its `label`."""

    label: str
    result: Any = None
    changed_arguments: list[str] = field(default_factory=list)  # modified in place
    gradients: dict[str, Tensor | None] = field(default_factory=dict)  # by argument or parameter; None: none arrives
    repeatable: bool = True  # a second call with the same arguments returned the same
    unregistered: dict[str, str] = field(default_factory=dict)  # attributes of a module that no optimizer finds
    error: Exception | None = None


class AnswerFailed(Exception):
    """The answer raised an error, so that this round of calls cannot go on."""


class Recorder:
    """One round of calls to an answer, on inputs that depend on the seed alone: every answer gets the same inputs.

    Inputs and weights are in double precision, so that a small mistake stands out from rounding. Without `gradients`
    none are computed: a law compares results alone.
    """

    def __init__(self, answer: Any, seed: int, gradients: bool = True):
        self.answer, self.seed, self.gradients = answer, seed, gradients
        self.generator = torch.Generator().manual_seed(seed)
        self.records: list[CallRecord] = []
        self.labels: dict[int, str] = {}  # of the modules built so far, by id

    def normal(self, *shape: int) -> Tensor:
        """Return random numbers of a standard normal distribution."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def integer(self, low: int, high: int) -> int:
        """Return a random integer from low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def permutation(self, n: int) -> Tensor:
        """Return 0 to n - 1 in random order, never in the original one."""
        order = torch.arange(n)
        while n > 1 and bool(order.equal(torch.arange(n))):
            order = torch.randperm(n, generator=self.generator)
        return order

    def build(self, name: str, *sizes: Any) -> nn.Module:
        """Build a module of the answer and give it random weights.

        The weights depend on the seed and on each parameter's name and shape alone, so that two answers that define
        the same parameters in another order get the same weights.
        """
        label = f"{name}({', '.join(map(format_argument, sizes))})"
        try:
            module = getattr(self.answer, name)(*sizes)
        except Exception as error:  # whatever the reader's constructor raises
            self.records.append(CallRecord(label, error=error))
            raise AnswerFailed from error
        if not isinstance(module, nn.Module):
            self.record(label, module)
            raise AnswerFailed
        module = module.double().eval()
        self.labels[id(module)] = label
        parameters = dict(module.named_parameters())
        self.record(f"The parameters of {label}", {own_name: tuple(own.shape) for own_name, own in parameters.items()})
        self.records[-1].unregistered = find_unregistered(module)
        with torch.no_grad():
            for own_name, own in parameters.items():
                generator = torch.Generator().manual_seed(self.seed + zlib.crc32(own_name.encode()))
                weights = torch.randn(own.shape, generator=generator, dtype=torch.float64)
                # Divided by the root of the number of inputs, so that outputs have the size of inputs.
                own.copy_(weights / (own.numel() // len(own) if own.ndim > 1 else 1) ** 0.5)
        return module

    def record(self, label: str, result: Any) -> None:
        """Record something that is observed without a call."""
        self.records.append(CallRecord(label, result))

    def call(self, target: str | nn.Module, *arguments: Any, gradients: bool = True, label: str = "") -> Any:
        """Call a function of the answer by its name, or a module that it built; return the result.

        With `gradients`, record the gradient with respect to every tensor in the arguments and every parameter.
        Raises `AnswerFailed` if the call fails.
        """
        name = target if isinstance(target, str) else self.labels.get(id(target), type(target).__name__)
        record = CallRecord(label or f"{name}({', '.join(map(format_argument, arguments))})")
        self.records.append(record)
        try:
            function = getattr(self.answer, target) if isinstance(target, str) else target
            given = copy_tensors(arguments)  # the originals show afterwards what was changed in place
            record.result = function(*given)
            names = find_argument_names(function, len(given))
            record.changed_arguments = [
                own for own, after, before in zip(names, given, arguments) if not is_unchanged(after, before)
            ]
            with discard_output():  # the first call has printed it already
                record.repeatable = agree(record.result, function(*copy_tensors(arguments)))
                if gradients and self.gradients and any(map(is_float, flatten(record.result))):
                    record.gradients = compute_gradients(function, arguments)
        except Exception as error:  # whatever the reader's code raises
            record.error = error
            raise AnswerFailed from error
        return record.result


def record_calls(observe: Callable[[Recorder], None], answer: Any, seed: int) -> list[CallRecord]:
    """Run a station's calls on an answer; return the records, up to the first error."""
    recorder = Recorder(answer, seed)
    torch.manual_seed(seed)
    try:
        observe(recorder)
    except AnswerFailed:
        pass
    except Exception as error:  # the station's own code could not use what the answer returned
        recorder.records.append(CallRecord("What the file defines", error=error))
    return recorder.records


@contextmanager
def discard_output() -> Iterator[None]:
    """Discard what Python prints inside the block."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def is_unchanged(own: Any, before: Any) -> bool:
    """Whether each tensor in an argument is equal to the original, bit for bit."""
    return all(one.equal(other) for one, other in zip(flatten(own), flatten(before)) if isinstance(other, Tensor))


def find_argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's first arguments."""
    try:
        names = list(inspect.signature(getattr(function, "forward", function)).parameters)
    except (TypeError, ValueError):  # a callable without a signature
        names = []
    return [names[i] if i < len(names) else f"argument {i + 1}" for i in range(count)]


def find_unregistered(module: nn.Module) -> dict[str, str]:
    """Return the attributes of a module that no optimizer finds, each with the remedy."""
    found = {}
    for name, own in vars(module).items():
        if isinstance(own, Tensor) and not isinstance(own, nn.Parameter):
            found[name] = "is a plain tensor, which is not trained: make it an nn.Parameter"
        if isinstance(own, list | tuple) and own and all(isinstance(one, nn.Module) for one in own):
            found[name] = "is a plain list, which hides its modules: make it an nn.ModuleList"
    buffers = [name for name, _ in module.named_buffers(recurse=False)]
    return found | dict.fromkeys(buffers, "is a buffer, which is not trained: make it an nn.Parameter")


def copy_tensors(value: Any, copy: Callable[[Tensor], Tensor] = Tensor.clone) -> Any:
    """Return the value with a copy of every tensor in it."""
    if isinstance(value, Tensor):
        return copy(value)
    return type(value)(copy_tensors(own, copy) for own in value) if isinstance(value, list | tuple) else value


def compute_gradients(function: Callable[..., Any], arguments: Sequence[Any]) -> dict[str, Tensor | None]:
    """Return the gradient with respect to each tensor and parameter, by name; None where none arrives.

    The outputs are summed with unequal weights: the plain sum of a softmax is 1, and its gradient 0.
    """
    leaves = copy_tensors(arguments, lambda own: own.clone().requires_grad_() if is_float(own) else own)
    named = zip(find_argument_names(function, len(leaves)), leaves)
    inputs = {name: own for argument, given in named for name, own in name_tensors(argument, given)}
    inputs |= dict(function.named_parameters()) if isinstance(function, nn.Module) else {}
    results = [own for own in flatten(function(*copy_tensors(leaves))) if is_float(own) and own.requires_grad]
    if not results:
        return dict.fromkeys(inputs)
    total = sum((own * torch.linspace(1, 2, own.numel(), dtype=own.dtype).view(own.shape)).sum() for own in results)
    return dict(zip(inputs, torch.autograd.grad(total, list(inputs.values()), allow_unused=True)))


def name_tensors(name: str, argument: Any) -> list[tuple[str, Tensor]]:
    """Return the floating-point tensors in an argument, each with its name."""
    if isinstance(argument, list | tuple):
        return [pair for i, own in enumerate(argument) for pair in name_tensors(f"{name}[{i}]", own)]
    return [(name, argument)] if is_float(argument) else []


def is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def flatten(result: Any) -> list[Any]:
    """Return the parts of nested tuples and lists."""
    return [part for own in result for part in flatten(own)] if isinstance(result, tuple | list) else [result]


def agree(one: Any, other: Any, relative: float = RELATIVE) -> bool:
    """Whether two results are equal to rounding and have the same types and shapes."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return torch.allclose(one.detach().double(), other.detach().double(), relative, ABSOLUTE, equal_nan=True)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(agree, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) <= ABSOLUTE + relative * abs(other)
    return type(one) is type(other) and not isinstance(one, Tensor) and bool(np.all(one == other))


def format_argument(value: Any) -> str:
    """Return an argument as a message shows it: a tensor by its shape, a module by its type."""
    if isinstance(value, Tensor):
        return "x".join(map(str, value.shape)) or "one number"
    if isinstance(value, nn.Module) or inspect.isfunction(value):
        return type(value).__name__
    if isinstance(value, tuple | list) and any(isinstance(own, Tensor) for own in value):
        return f"[{', '.join(map(format_argument, value))}]"
    return str(value)
