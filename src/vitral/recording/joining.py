"""Which calls of attention are one layer: heads of a module each, or chunks of the queries of one.

A model may call attention once for each head and join the results, or once for each chunk of its queries. Such calls
follow one another, look alike, and none depends on the other; what the model then does with their results tells the
rest. Calls that nothing depends on together, such as two branches or two runs, are layers of their own.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torch import Tensor

from vitral.recording.further_uses import FurtherUse
from vitral.recording.layers import TWICE, Layer, Recording, chunked, joined
from vitral.recording.made import Made, UsedParts
from vitral.recording.recognizer import Recognizer, Seen
from vitral.recording.same_weights import digest, fingerprint
from vitral.recording.stream import Stream

AGAIN = "a product with further values"


class Layers:
    """Puts the calls of a running model together to the layers of a recording, and takes them apart again."""

    def __init__(self, recording: Recording, recognizer: Recognizer, stream: Stream | None):
        self.recording, self.stream = recording, stream
        self.dataflow, self.axes = recognizer.dataflow, recognizer.follower.products.axes
        self.parts: list[list[Layer]] = []  # of each layer: one for each call
        self.chunks: set[int] = set()  # the bit of the first call of each layer whose calls are chunks of queries
        self.written: dict[int, int] = {}  # where in memory the result of a call was written, by its bit
        self.alike: tuple[Any, ...] = ()  # what the calls of one layer have in common, of the last
        self.made: list[Made] = []  # the weights of all layers
        self.parts_of_weights = UsedParts()
        self.own: dict[int, tuple[Made, ...]] = {}  # the weights of a call that no call before it used, by its bit
        # What calls with the same values and the same weights share, by the bit of the call.
        self.values: dict[int, bytes] = {}
        self.weights: dict[int, bytes | None] = {}
        self.again: list[FurtherUse] = []  # of weights that several calls have
        self.numel: dict[int, int] = {}  # how many values the result of a call has, by its bit

    def may_join(self, seen: Seen, places: Any) -> bool:
        """Whether a call may be another head, or another chunk of queries, of the last layer.

        Its keys stand for the same `places` and were made of the same, it does not depend on that layer, and its
        weights are others, or another part of the same.
        """
        sizes = seen.call.values.shape[:3]
        before, self.alike = self.alike, (seen.call.num_queries, places, seen.depends, seen.values_depend, sizes)
        if seen.continues:
            return True
        if not all(
            self.parts_of_weights.are_new(one, seen.part) for one in seen.made
        ):  # as where a layer uses the weights of the one before it
            for one in seen.made:
                one.shown, one.fate = False, TWICE
            return False
        num_queries, *others = self.alike
        if list(before[1:]) != others:
            return False
        fits = num_queries == before[0] or num_queries < before[0] < seen.call.num_keys  # the last chunk may be shorter
        return fits and not any(seen.depends & part.bit for part in self.parts[-1])

    def num_queries_before(self, joins: bool) -> int:
        """How many queries the other calls of its layer have, of a call that may join them."""
        return sum(part.num_queries for part in self.parts[-1]) if joins else 0

    def add(self, layer: Layer, seen: Seen, joins: bool) -> None:
        """Add a call: to the last layer as further heads, or as a layer of its own."""
        self.separate(seen.depends)
        self.own[seen.bit] = tuple(one for one in seen.made if one not in self.made) or seen.made
        self.made += seen.made
        self.parts_of_weights.add(seen.made, seen.part)
        self.values[layer.bit], self.weights[layer.bit] = digest(seen.call.values), fingerprint(seen.call)
        self.numel[layer.bit] = seen.call.out.numel()
        if joins:
            self.parts[-1].append(layer)
            if seen.continues:
                self.are_chunks()
            else:
                self.recording.layers[-1] = joined(self.parts[-1])
        else:
            self.parts.append([layer])
            self.recording.layers.append(layer)

    def note(self, operator: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Look at an operator that may say what the last calls are to one another."""
        if not self.parts or (len(self.parts[-1]) < 2 and operator != "copy_"):
            return
        if operator == "cat":
            self.note_joined(args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
        elif operator == "copy_":
            self.note_written(args[0], args[1])

    def note_joined(self, results: Sequence[Tensor], axis: int) -> None:
        """See whether the results of the last calls are put behind one another as chunks of queries, not as heads."""
        bits, sizes = self.bits_and_sizes()
        order = [self.dataflow.of(one) & sum(bits) for one in results]
        axis %= results[0].ndim
        along = [one.shape[axis] for one in results] == sizes and axis < results[0].ndim - 1
        # A single query of each head looks the same, but all of them are then not as many as the keys.
        if order == bits and along and (sizes[0] > 1 or sum(sizes) == self.parts[-1][0].num_tokens):
            self.are_parts_of_queries()
        elif (
            {*order} <= {*bits}
            and len({*order}) > 1
            and not self.have_the_same_keys()
            and all(self.is_of_tokens(one, axis) for one in results)
        ):
            self.take_apart(self.parts[-1])  # windows, each with tokens of its own

    def is_of_tokens(self, result: Tensor, axis: int) -> bool:
        """Whether an axis of a call's result, but that of a batch, has several tokens, and no heads or features."""
        flags = self.axes.of(result)
        return axis > 0 and result.shape[axis] > 1 and flags is not None and not flags[axis]

    def note_written(self, whole: Tensor, result: Tensor) -> None:
        """See whether the last calls' results are written into one tensor, each where the queries before it end."""
        bits, sizes = self.bits_and_sizes()
        bit = self.dataflow.of(result) & sum(bits)
        if bit not in bits:
            return
        self.written[bit] = int(whole.storage_offset())
        axes = [axis for axis in range(whole.ndim - 1) if whole.shape[axis] == sizes[-1]]
        starts = list(accumulate(sizes[:-1], initial=0))
        first = self.written.get(bits[0], 0)
        expected = [[first + start * whole.stride(axis) for start in starts] for axis in axes]
        are_all = sum(sizes) == self.parts[-1][0].num_tokens
        if are_all and len(bits) > 1 and [self.written.get(bit) for bit in bits] in expected:
            self.are_parts_of_queries()
        elif len(bits) > 1 and not self.have_the_same_keys() and self.is_beside(whole, result):
            self.take_apart(self.parts[-1])

    def is_beside(self, part: Tensor, result: Tensor) -> bool:
        """Whether a result is written into a part of the tokens of a tensor."""
        base = part._base
        if base is None or not base.ndim == part.ndim == result.ndim:
            return False
        sides = enumerate(zip(part.shape, base.shape))
        return any(own < whole and self.is_of_tokens(result, axis) for axis, (own, whole) in sides)

    def are_parts_of_queries(self) -> None:
        """The calls of the last layer have the queries side by side: chunks of them if all have the same keys, else
        windows."""
        parts = self.parts[-1]
        if parts[0].bit in self.chunks or self.have_the_same_keys():
            self.are_chunks()
        else:
            self.take_apart(parts)

    def have_the_same_keys(self) -> bool:
        """Whether the calls of the last layer multiply the same values."""
        return len({self.values[part.bit] for part in self.parts[-1]}) == 1

    def bits_and_sizes(self) -> tuple[list[int], list[int]]:
        """The bit and the number of queries of each call of the last layer."""
        parts = self.parts[-1]
        return [part.bit for part in parts], [part.num_queries for part in parts]

    def are_chunks(self) -> None:
        """The calls of the last layer each attended from a chunk of the queries."""
        self.recording.layers[-1] = chunked(self.parts[-1])
        self.chunks.add(self.parts[-1][0].bit)

    def separate(self, depends: int) -> None:
        """Take calls apart again that were taken for one layer, if another call depends on some of them only."""
        for parts in list(self.parts):
            reached = [bool(depends & part.bit) for part in parts]
            if any(reached) and not all(reached):
                self.take_apart(parts)

    def finish(self, factors: int, added: Sequence[int]) -> None:
        """Take calls apart that were taken for one layer, if nothing depends on all of them: two runs of a model.

        Or if what depends on all of them first is smaller than the result of one: a sum of answers, and no tokens. Or
        if they may be chunks of the queries, which were joined in a way that was not seen, or if their results were
        `added` up with any sign (Ye et al. 2024, "Differential Transformer", eq. 1). Calls with the bits `factors` are
        no layers.
        """
        for parts in list(self.parts):
            every = sum(part.bit for part in parts)
            meeting = next((numel for bits, numel in self.dataflow.met.items() if bits & every == every), 0)
            apart = meeting < min(self.numel[part.bit] for part in parts)
            numbers = [part.num_queries for part in parts]
            doubtful = min(numbers) < max(numbers) or numbers[0] < parts[0].num_tokens == sum(numbers)
            apart = apart or any(sum(bool(part.bit & bits) for part in parts) > 1 for bits in added)
            if len(parts) > 1 and (apart or (doubtful and parts[0].bit not in self.chunks)):
                self.take_apart(parts)
            elif repeated := self.repeated_in(parts):
                self.take_apart(parts)
                self.note_repeated(repeated)

        for index in reversed(range(len(self.parts))):
            if any(part.bit & factors for part in self.parts[index]):
                for part in self.parts[index]:
                    if self.stream is not None:
                        self.stream.leave_out(part.bit)
                del self.parts[index], self.recording.layers[index]

    def repeated_in(self, parts: Sequence[Layer]) -> list[Layer]:
        """The calls of one layer that have the weights of a call before them."""
        known = [self.weights[part.bit] for part in parts]
        return [part for place, part in enumerate(parts) if known[place] is not None and known[place] in known[:place]]

    def note_repeated(self, repeated: Sequence[Layer]) -> None:
        """These calls multiply further values with the weights of a call before."""
        for layer in repeated:
            same = [bit for bit, known in self.weights.items() if known == self.weights[layer.bit]]
            made = tuple(one for bit in same for one in self.own[bit])
            for one in self.own[layer.bit]:
                one.shown, one.fate = False, TWICE
            self.again.append(FurtherUse(made, AGAIN, self.own[layer.bit][0].where))

    def bits_of(self, uses: Sequence[FurtherUse]) -> int:
        """The bits of the calls whose weights these uses are of."""
        used = {made for use in uses for made in use.made}
        return sum(bit for bit, weights in self.own.items() if used & set(weights))

    def note_further_uses(self, uses: Sequence[FurtherUse]) -> None:
        """Assign further uses of weights to the layers whose weights they use."""
        for layer in self.recording.layers:
            own = {made for bit, weights in self.own.items() if bit & layer.bit for made in weights}
            layer.further_uses = tuple(use for use in (*uses, *self.again) if own & set(use.made))

    def take_apart(self, parts: list[Layer]) -> None:
        """Make each call a layer of its own."""
        index = next(number for number, one in enumerate(self.parts) if one is parts)
        self.parts[index : index + 1] = [[part] for part in parts]
        self.recording.layers[index : index + 1] = parts
        if self.stream is not None:
            for part in parts:
                self.stream.separate(part.bit)
