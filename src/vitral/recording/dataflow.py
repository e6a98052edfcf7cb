"""What each tensor of a running model depends on: the model's input, and which calls of attention.

Each piece of memory has a set of bits: the first for the input, one more for each call, and one for each projection of
the input itself, since two streams of tokens that were embedded apart are two. An operator's results depend on what its
arguments depend on.

Further bits are *marks* of tokens that are not only the result of the last call: tokens of several depths side by side,
a skip connection, an image that is embedded again. They say what a product of attention matrices would leave out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vitral.recording.operators import OF_SHAPE, keeps_axes, name_of, storage_of, tensors_in

INPUT = 1
PARTIAL = {"where", "index_put", "index_put_", "slice_scatter", "select_scatter", "scatter", "scatter_"}
MOST_ITEMS = 1000  # of a list in which tensors are looked for: a model may hold a whole data set
REPLACING = (PARTIAL - {"where"}) | {"cat", "copy_"}


@dataclass(frozen=True)
class Meeting:
    """Tokens of several depths that became one tensor: what the `older` and the `newer` ones depend on.

    They stand `side_by_side` as different tokens, or were added, as by a skip connection. If the older ones are the
    image itself, it `is_image`: the model embeds it again.
    """

    older: int
    newer: int
    side_by_side: bool = False
    is_image: bool = False


class Dataflow:
    """Follows dependence through all operators, in order."""

    def __init__(self, model: nn.Module):
        # A tensor that no operator made is the model's input, or one of its own.
        self.bits = {storage_of(tensor): 0 for tensor in own_tensors(model)}
        self.num_calls = self.num_bits = 0
        self.met: dict[int, int] = {}  # the bits of any tensor that was made, and how many values the first one has
        self.calls = self.projections = 0  # the bits of all calls, and of all projections of the input
        self.crossing = 0  # the marks of products of two tensors that depend on different calls: of queries and keys
        self.meetings: dict[int, Meeting] = {}  # by their marks
        # Memory that was made in the form of another tensor, and what was written there since.
        self.blank: dict[int, int] = {}

    def of(self, *tensors: Tensor) -> int:
        """What these tensors depend on."""
        found = 0
        for tensor in tensors:
            found |= self.bits.get(storage_of(tensor), INPUT)
        return found

    @property
    def marks(self) -> int:
        """All bits that are neither the input, nor a call, nor a projection."""
        return ~(INPUT | self.calls | self.projections)

    @property
    def path_marks(self) -> int:
        """The marks of how tokens came about: what weights have of them is not passed on to the values' product."""
        return self.crossing | sum(self.meetings)

    def of_calls(self, *tensors: Tensor) -> int:
        """What these tensors depend on, of the input, its projections and the calls."""
        return self.of(*tensors) & ~self.marks

    def note(self, inputs: Sequence[Tensor], results: Any, in_model: bool = True) -> None:
        """The results depend on what the inputs do; what is made from nothing outside of the model may be its input."""
        bits = self.of(*inputs) if inputs or in_model else INPUT
        own = {storage_of(tensor) for tensor in inputs}
        for result in tensors_in(results):
            storage = storage_of(result)
            self.bits[storage] = bits | (self.bits.get(storage, INPUT) if storage in own else 0)
            self.met.setdefault(self.bits[storage], result.numel())

    def follow(
        self, operator: Any, args: Sequence[Any], inputs: Sequence[Tensor], results: Any, in_model: bool = True
    ) -> None:
        """Take note of one operator, and of tokens of several depths that meet in it."""
        found = self.meetings_in(operator, args, inputs, list(tensors_in(results)))
        self.note(inputs, results, in_model)
        for meeting in found:
            known = next((mark for mark, one in self.meetings.items() if one == meeting), 0)
            if known:
                for result in tensors_in(results):
                    self.bits[storage_of(result)] |= known
            else:
                self.meetings[self.add_bit(tensors_in(results))] = meeting

    def meetings_in(
        self, operator: Any, args: Sequence[Any], inputs: Sequence[Tensor], results: Sequence[Tensor]
    ) -> list[Meeting]:
        """The meetings of tokens of several depths in one operator, before it is noted."""
        name = name_of(operator)
        if name in OF_SHAPE:
            self.blank.update((storage_of(result), 0) for result in results)
            return []
        if len(results) != 1 or not results[0].is_floating_point():
            return []
        output, storage = results[0], storage_of(results[0])
        values = [one for one in inputs if one.is_floating_point()]
        is_written = any(storage_of(one) == storage for one in inputs)
        if len(values) < 2:
            return []
        is_partial = name in PARTIAL or (is_written and output.numel() < size_of_memory(output))
        depends = [self.blank.get(storage_of(one), self.of_calls(one)) for one in values]
        if is_written and storage in self.blank:
            self.blank[storage] |= self.of_calls(*values[1:])
        if name == "copy_" and (not is_partial or is_entry(output)):
            return []  # nothing of what was there remains
        pairs = [
            (old, new) for old in set(depends) for new in set(depends) if old & ~new == 0 and new & ~old & self.calls
        ]
        if not pairs:
            return []
        images = [
            one for one, bits in zip(values, depends) if bits == INPUT and is_image_like(one, output, name == "cat")
        ]
        found = [Meeting(old, new, is_image=True) for old, new in pairs if old == INPUT and images]
        if is_partial or keeps_axes(operator, name) or name == "stack":
            beside = is_partial or (name == "cat" and joins_tokens(output, args))
            # Learned tokens may replace others. What depends on the input without a projection, as a mask, does not.
            replaces = beside and name in REPLACING and 0 in (depends if name == "cat" else depends[1:])
            found += [
                Meeting(old, new, beside) for old, new in pairs if old & self.projections or (not old and replaces)
            ]
        return found

    def add_call(self, results: Iterable[Tensor]) -> int:
        """One more call of attention, with these results; its bit."""
        self.num_calls += 1
        bit = self.add_bit(results)
        self.calls |= bit
        return bit

    def add_projection(self, results: Iterable[Tensor]) -> None:
        """One more projection of the input itself."""
        self.projections |= self.add_bit(results)

    def forget(self, results: Iterable[Tensor], marks: int) -> None:
        """These results do not have these marks."""
        for result in results:
            self.bits[storage_of(result)] = self.of(result) & ~marks

    def add_bit(self, results: Iterable[Tensor]) -> int:
        """A bit of its own for these results, and what depends on them."""
        self.num_bits += 1
        bit = 1 << self.num_bits
        for result in results:
            self.bits[storage_of(result)] = self.of(result) | bit
        return bit


def size_of_memory(tensor: Tensor) -> int:
    """How many values the memory holds that a tensor lies in."""
    return int(tensor.untyped_storage().nbytes()) // tensor.element_size() if not tensor.is_sparse else 0


def is_entry(view: Tensor) -> bool:
    """Whether a tensor is one entry of a list of such tensors in one memory, as `cache[3]` is."""
    base = view._base
    return base is not None and view.ndim < base.ndim and view.shape == base.shape[base.ndim - view.ndim :]


def is_image_like(tensor: Tensor, other: Tensor, is_joined: bool) -> bool:
    """Whether both are maps (B, C, H, W) of as many channels, or one `is_joined` to others as further channels."""
    if not tensor.ndim == other.ndim == 4 or min(tensor.shape[2:]) == 1:
        return False
    return tensor.shape[1] == other.shape[1] or (is_joined and tensor.shape[2:] == other.shape[2:])


def joins_tokens(output: Tensor, args: Sequence[Any]) -> bool:
    """Whether tensors are concatenated along their tokens, not along features, heads, or the channels of a map."""
    axis = (args[1] if len(args) > 1 else 0) % output.ndim
    return axis != output.ndim - 1 and (output.ndim, axis) != (4, 1)


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
