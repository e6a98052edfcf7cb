"""Which axes of a tensor are features, and which are tokens: so a product over tokens is told from one over features.

A linear layer or a convolution makes features. From there they are followed like the keys of attention weights: a view
lies in the same memory, where features have certain strides, and most operators keep the axes of their arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from vitral.recording.operators import FUSED, PRODUCTS, has_memory, storage_of

Flags = list[bool]  # of each axis, whether it is features
GATHERING = {"index", "_unsafe_index"}


class FeatureAxes:
    """Follows the axes of features through all operators, in order."""

    def __init__(self) -> None:
        self.spans: dict[int, tuple[tuple[int, int], ...]] = {}  # by memory: the step of each in bytes, and its length

    def of(self, tensor: Tensor) -> Flags | None:
        """Whether each axis of a tensor is features; None if it is not known."""
        if not has_memory(tensor) or (spans := self.spans.get(storage_of(tensor))) is None:
            return None
        size = tensor.element_size()
        return [
            length > 1 and any(first <= step * size < first * count for first, count in spans)
            for length, step in zip(tensor.shape, tensor.stride())
        ]

    def note(
        self,
        name: str,
        arguments: Callable[[], dict[str, Any]],
        values: Sequence[Tensor],
        operands: Sequence[Tensor],
        output: Tensor,
    ) -> None:
        """Take note of one operator. `values` are those of its arguments that depend on the image; `operands` the two
        factors of a product."""
        if not has_memory(output) or not (output.is_floating_point() or output.is_complex()):
            return
        storage, was_there = storage_of(output), any(storage_of(one) == storage_of(output) for one in values)
        if was_there and storage in self.spans and name != "copy_":
            return  # a view, or changed in place
        flags = self.result_of(name, arguments, values, operands, output)
        if flags is None:
            if not was_there:
                self.spans.pop(storage, None)
            return
        size = output.element_size()
        sides = zip(flags, output.shape, output.stride())
        found = tuple((step * size, length) for is_one, length, step in sides if is_one and length > 1 and step)
        before = self.spans.get(storage, ()) if was_there else ()
        self.spans[storage] = (*before, *(one for one in found if one not in before))

    def result_of(
        self,
        name: str,
        arguments: Callable[[], dict[str, Any]],
        values: Sequence[Tensor],
        operands: Sequence[Tensor],
        output: Tensor,
    ) -> Flags | None:
        """Whether each axis of an operator's result is features."""
        known = [(one, flags) for one in values if (flags := self.of(one)) is not None]
        if name in PRODUCTS:
            return self.of_product(values, operands, output)
        if name == "convolution":
            flags = known[0][1] if known else [False, True, *(False for _ in output.shape[2:])]
            return flags if len(flags) == output.ndim else None
        if name.startswith(FUSED):
            flags = self.of(values[-1])  # of the tokens' values
            return None if flags is None or len(flags) != output.ndim else [*flags[:-2], False, flags[-1]]
        if name == "native_layer_norm" and not known:
            return [*(False for _ in output.shape[1:]), True]
        if not known:
            return None
        given, flags = known[0]
        if name == "stack":
            new = arguments().get("dim", 0) % output.ndim
            return [*flags[:new], False, *flags[new:]]
        if name in GATHERING and output.ndim != given.ndim:
            return [*(False for _ in output.shape[1:]), flags[-1]] if output.shape[-1:] == given.shape[-1:] else None
        if output.ndim < given.ndim:
            over = arguments().get("dim")
            axes = {axis % given.ndim for axis in ([over] if isinstance(over, int) else over or range(given.ndim))}
            kept = [is_one for axis, is_one in enumerate(flags) if axis not in axes]
            return kept if len(kept) == output.ndim else None
        places = range(-output.ndim, 0)
        return [any(-place <= len(each) and each[place] for _, each in known) for place in places]

    def of_product(self, values: Sequence[Tensor], operands: Sequence[Tensor], output: Tensor) -> Flags | None:
        """The same for a product: a projection of features gives features, one of tokens, as in an MLP-Mixer, none."""
        left, right = operands
        at = -2 if right.ndim > 1 else -1
        flags: list[Flags | None] = []
        for one, axis, other, over in ((left, -2, right, at), (right, -1, left, -1)):
            if one.ndim < 2:
                continue
            if any(one is value for value in values):
                own = self.of(one)
                flags.append(None if own is None else [own[axis]])
            else:  # learned
                own = self.of(other)
                flags.append([own is None or own[over] or other.shape[over] < 2])
        both = all(any(one is value for value in values) for one in operands)
        if both and None in flags:
            return None
        sides = [is_one for each in flags for is_one in (each or [False])]
        batches = [own[: -min(2, one.ndim)] for one in operands if (own := self.of(one)) is not None]
        batch = [any(each) for each in zip(*batches)]
        return [*batch, *(False for _ in range(output.ndim - len(sides) - len(batch))), *sides]

    def mixes_tokens(self, left: Tensor, right: Tensor) -> bool:
        """Whether a product sums over tokens, and its result has several tokens: not over features, as scores are, and
        not what a whole image is pooled to."""
        of_left, of_right = self.of(left), self.of(right)
        if left.ndim < 2 or left.shape[-1] < 2 or (of_left is None and of_right is None):
            return False
        over = [of_left[-1] if of_left else True, of_right[-2 if right.ndim > 1 else -1] if of_right else True]
        rows = left.shape[-2] > 1 and not (of_left and of_left[-2])
        columns = right.ndim > 1 and right.shape[-1] > 1 and not (of_right and of_right[-1])
        return not all(over) and (rows or columns)
