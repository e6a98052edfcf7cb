"""What each tensor of a running model depends on: the model's input, and which calls of attention.

Each piece of memory has a set of bits: the first for the input, one more for each call, and one for each projection of
the input itself, since two streams of tokens that were embedded apart are two. An operator's results depend on what its
arguments depend on.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from vitral.recording.operators import storage_of, tensors_in

INPUT = 1
MOST_ITEMS = 1000  # of a list in which tensors are looked for: a model may hold a whole data set


class Dataflow:
    """Follows dependence through all operators, in order."""

    def __init__(self, model: nn.Module):
        # A tensor that no operator made is the model's input, or one of its own.
        self.bits = {storage_of(tensor): 0 for tensor in own_tensors(model)}
        self.num_calls = self.num_bits = 0
        self.met: dict[int, int] = {}  # the bits of any tensor that was made, and how many values the first one has

    def of(self, *tensors: Tensor) -> int:
        """What these tensors depend on."""
        found = 0
        for tensor in tensors:
            found |= self.bits.get(storage_of(tensor), INPUT)
        return found

    def note(self, inputs: Sequence[Tensor], results: Any, in_model: bool = True) -> None:
        """The results depend on what the inputs do; what is made from nothing outside of the model may be its input.

        Memory that is used again is forgotten, other than by views.
        """
        bits = self.of(*inputs) if inputs or in_model else INPUT
        own = {storage_of(tensor) for tensor in inputs}
        for result in tensors_in(results):
            storage = storage_of(result)
            self.bits[storage] = bits | (self.bits.get(storage, INPUT) if storage in own else 0)
            self.met.setdefault(self.bits[storage], result.numel())

    def add_call(self, results: Iterable[Tensor]) -> int:
        """One more call of attention, with these results; its bit."""
        self.num_calls += 1
        return self.add_bit(results)

    def add_bit(self, results: Iterable[Tensor]) -> int:
        """A bit of its own for these results, and what depends on them."""
        self.num_bits += 1
        bit = 1 << self.num_bits
        for result in results:
            self.bits[storage_of(result)] = self.of(result) | bit
        return bit


def own_tensors(model: nn.Module) -> Iterator[Tensor]:
    """A model's parameters, buffers and other tensors, also those of modules in plain lists."""
    known: set[int] = set()

    def tensors_of(module: nn.Module) -> Iterator[Tensor]:
        if id(module) in known:
            return
        known.add(id(module))
        yield from (*module.parameters(recurse=False), *module.buffers(recurse=False))
        for value in vars(module).values():
            items = list(value.values()) if type(value) is dict else value
            if isinstance(items, list | tuple) and len(items) <= MOST_ITEMS:
                for one in items:
                    yield from tensors_of(one) if isinstance(one, nn.Module) else ()
                yield from (one for one in items if isinstance(one, Tensor))
            elif isinstance(value, Tensor):
                yield value

    for module in model.modules():
        yield from tensors_of(module)
