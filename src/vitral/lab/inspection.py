"""Ask an answer: call what it defines on drawn inputs, and note all that can be seen from outside."""

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

# Rounding in double precision: what is further apart is no rounding.
RELATIVE, ABSOLUTE = 1e-9, 1e-11


@dataclass
class Seen:
    """What came of one question; `what` is how a message calls it."""

    what: str
    result: Any = None
    changed: list[str] = field(default_factory=list)  # arguments that are not as they were
    slopes: dict[str, Tensor | None] = field(default_factory=dict)  # of the sum of results, by arguments and parameters
    steady: bool = True  # asked again, the same
    unlearned: dict[str, str] = field(default_factory=dict)  # of a module, what no optimizer finds
    error: Exception | None = None


class Ended(Exception):
    """The answer raised an error: nothing more can be asked of it."""


class Inspection:
    """One round of questions. All that is drawn hangs on the seed, so that two answers are asked the same.

    Numbers are of double precision, so that what is a mistake and what is rounding can be told apart.
    """

    def __init__(self, answer: Any, seed: int):
        self.answer, self.seed = answer, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.seen: list[Seen] = []
        self.built: dict[int, str] = {}  # how each module was called for

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def order(self, n: int) -> Tensor:
        """0 to n - 1 in another order."""
        while n > 1 and bool((found := torch.randperm(n, generator=self.generator)).equal(torch.arange(n))):
            pass
        return found if n > 1 else torch.arange(n)

    def build(self, name: str, *sizes: Any) -> nn.Module:
        """The answer's module of these sizes with drawn weights, the same for equal names and shapes."""
        what = f"{name}({', '.join(map(shown, sizes))})"
        try:
            module = getattr(self.answer, name)(*sizes)
        except Exception as error:  # whatever a reader's file raises is told with its line
            self.seen.append(Seen(what, error=error))
            raise Ended from error
        if not isinstance(module, nn.Module):
            self.seen.append(Seen(what, result=module))
            raise Ended
        module = module.double().eval()
        self.built[id(module)] = what
        named = dict(module.named_parameters())
        self.note(f"The parameters of {what}", {name: tuple(own.shape) for name, own in named.items()})
        self.seen[-1].unlearned = unlearned(module)
        with torch.no_grad():
            for own_name, own in named.items():
                drawn = torch.Generator().manual_seed(self.seed + zlib.crc32(own_name.encode()))
                own.copy_(torch.randn(own.shape, generator=drawn, dtype=torch.float64) / fan_in(own) ** 0.5)
        return module

    def note(self, what: str, result: Any) -> None:
        """Something that is seen of the answer without a call."""
        self.seen.append(Seen(what, result))

    def ask(self, asked: str | nn.Module, *arguments: Any, flows: bool = True, what: str = "") -> Any:
        """Call what the answer defines by that name, or a module that it built.

        `flows` says that gradients must reach every tensor that it is given, and all its parameters; `what` is how a
        message calls it.
        """
        name = asked if isinstance(asked, str) else self.built.get(id(asked), type(asked).__name__)
        seen = Seen(what or f"{name}({', '.join(map(shown, arguments))})")
        self.seen.append(seen)
        try:
            function = getattr(self.answer, asked) if isinstance(asked, str) else asked
            given = copied(arguments)
            seen.result = function(*given)
            named = names_of(function, len(given))
            seen.changed = [own for own, now, before in zip(named, given, arguments) if not unchanged(now, before)]
            with silence():  # what is printed again says nothing new
                seen.steady = same(seen.result, function(*copied(arguments)))
                seen.slopes = slopes(function, arguments) if flows and any(map(is_float, flat(seen.result))) else {}
        except Exception as error:  # whatever a reader's file raises is told with its line
            seen.error = error
            raise Ended from error
        return seen.result


@contextmanager
def silence() -> Iterator[None]:
    """What Python prints from here on is not shown."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def unchanged(own: Any, before: Any) -> bool:
    """Whether each tensor in an argument is bit for bit as it was."""
    return all(one.equal(other) for one, other in zip(flat(own), flat(before)) if isinstance(other, Tensor))


def fan_in(weight: Tensor) -> int:
    """Inputs of each output: what is drawn is smaller by its root."""
    return weight.numel() // len(weight) if weight.ndim > 1 else 1


def names_of(function: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its first arguments."""
    try:
        found = list(inspect.signature(getattr(function, "forward", function)).parameters)
    except (TypeError, ValueError):  # of something that tells no signature
        found = []
    return [found[i] if i < len(found) else f"argument {i + 1}" for i in range(count)]


def unlearned(module: nn.Module) -> dict[str, str]:
    """What a module keeps where no optimizer finds it, and what would be right, by name."""
    found = {}
    for name, own in vars(module).items():
        if isinstance(own, Tensor) and not isinstance(own, nn.Parameter):
            found[name] = "is a plain tensor: make it an nn.Parameter, so that it is learned"
        if isinstance(own, list | tuple) and own and all(isinstance(one, nn.Module) for one in own):
            found[name] = "is a plain list, which hides its modules: make it an nn.ModuleList"
    buffers = [name for name, _ in module.named_buffers(recurse=False)]
    return found | dict.fromkeys(buffers, "is a buffer, which is not learned: make it an nn.Parameter")


def copied(value: Any, change: Callable[[Tensor], Tensor] = Tensor.clone) -> Any:
    """The same with every tensor in it copied, or changed otherwise."""
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(copied(own, change) for own in value) if isinstance(value, list | tuple) else value


def slopes(function: Callable[..., Any], arguments: Sequence[Any]) -> dict[str, Tensor | None]:
    """The gradient of the results' sum, weighted unevenly, by each tensor and parameter; None where none arrives."""
    leaves = copied(arguments, lambda own: own.clone().requires_grad_() if is_float(own) else own)
    named = zip(names_of(function, len(leaves)), leaves)
    wanted = {name: own for argument, given in named for name, own in tensors_in(argument, given)}
    wanted |= dict(function.named_parameters()) if isinstance(function, nn.Module) else {}
    results = [own for own in flat(function(*copied(leaves))) if is_float(own) and own.requires_grad]
    if not results:
        return dict.fromkeys(wanted)
    total = sum((own * torch.linspace(1, 2, own.numel(), dtype=own.dtype).view(own.shape)).sum() for own in results)
    return dict(zip(wanted, torch.autograd.grad(total, list(wanted.values()), allow_unused=True)))


def tensors_in(name: str, given: Any) -> list[tuple[str, Tensor]]:
    """The tensors of real numbers in an argument, each with a name."""
    if isinstance(given, list | tuple):
        return [pair for i, own in enumerate(given) for pair in tensors_in(f"{name}[{i}]", own)]
    return [(name, given)] if is_float(given) else []


def is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def flat(result: Any) -> list[Any]:
    return [part for own in result for part in flat(own)] if isinstance(result, tuple | list) else [result]


def same(one: Any, other: Any, relative: float = RELATIVE) -> bool:
    """Equal to rounding: tensors of one shape and type, numbers, names, or several of them."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return torch.allclose(one.detach().double(), other.detach().double(), relative, ABSOLUTE, equal_nan=True)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) <= ABSOLUTE + relative * abs(other)
    return type(one) is type(other) and not isinstance(one, Tensor) and bool(np.all(one == other))


def shown(value: Any) -> str:
    """An argument in a message: a tensor by its shape."""
    if isinstance(value, Tensor):
        return "x".join(map(str, value.shape)) or "one number"
    if isinstance(value, nn.Module) or inspect.isfunction(value):
        return type(value).__name__
    if isinstance(value, tuple | list) and any(isinstance(own, Tensor) for own in value):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def observed(observe: Callable[["Inspection"], None], answer: Any, seed: int) -> list[Seen]:
    """All that a station asks, up to an error."""
    inspection = Inspection(answer, seed)
    torch.manual_seed(seed)
    try:
        observe(inspection)
    except Ended:
        pass
    except Exception as error:  # of a module that was asked something by the way
        inspection.seen.append(Seen("What the file defines", error=error))
    return inspection.seen
