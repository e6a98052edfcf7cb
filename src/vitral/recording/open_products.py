"""Products of two tensors of the image that are no attention, and yet say which token goes into which.

    S = q kᵀ        sums over features: scores, of which a softmax may follow
    f(S) v          sums over tokens: it mixes them, by weights that no softmax made
    q (kᵀ v)        two products, of which one multiplies the other's result
    Σ w[..., None] * v      the same, value by value, summed over tokens or over the edges of a graph

Each product is followed through all operators up to the next projection, so that a softmax is known to be that of its
own scores, and not of those of another block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from vitral.recording.feature_axes import FeatureAxes
from vitral.recording.operators import PROJECTIONS, REDUCTIONS, arguments_of, keeps_axes, storage_of

SCATTERING = {
    f"{name}{end}" for name in ("index_add", "scatter_add", "scatter_reduce", "index_put") for end in ("", "_")
}
SUMMING = SCATTERING | REDUCTIONS | {"segment_reduce"}


@dataclass(eq=False)
class OpenProduct:
    """A product of two tensors that depend on the image; `is_mixing` if it mixes tokens, alone or with another one."""

    shape: tuple[int, ...]
    where: str
    is_mixing: bool

    def __str__(self) -> str:
        return (
            f"{' x '.join(map(str, self.shape))}, a product of two tensors that depend on the image, in {self.where}: "
            "no softmax whose rows sum to 1 follows"
        )


class OpenProducts:
    """All such products of a run, but those that a softmax followed."""

    def __init__(self) -> None:
        self.axes = FeatureAxes()
        self.open: list[OpenProduct] = []
        self.reached: dict[int, tuple[OpenProduct, ...]] = {}  # by memory: those of which it was made
        # Products value by value of tokens with weights for each: whether there are weights for each query, too.
        self.weighted: dict[int, bool] = {}

    def mixing(self) -> list[str]:
        """Those that mix tokens."""
        return [str(one) for one in self.open if one.is_mixing]

    def follow(
        self,
        operator: Any,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        inputs: Sequence[Tensor],
        operands: Sequence[Tensor],
        outputs: Sequence[Tensor],
        constant: Callable[[Tensor], bool],
        where: Callable[[], str] | None,
    ) -> None:
        """Take note of one operator. `operands` are the two factors of a product, and `where` gives its line unless it
        is known to be of attention."""
        values = [one for one in inputs if not constant(one)]
        before = dict.fromkeys(one for value in values for one in self.reached.get(storage_of(value), ()))
        found = () if name in PROJECTIONS else tuple(before)
        if where is not None and len(values) > 1 and operands and not any(map(constant, operands)):
            found = (self.add(outputs[0], where, bool(before) or self.axes.mixes_tokens(*operands)),)
            for other in before:
                other.is_mixing = True
        elif where is not None and name in SUMMING and any(map(partial(self.is_sum, name, outputs[0]), values)):
            found = (self.add(outputs[0], where, True),)
        weighted = self.weights_tokens(operator, name, values)
        for output in outputs:
            keep_or_forget(self.reached, output, found)
            keep_or_forget(self.weighted, output, weighted)
        if values and outputs:
            self.axes.note(name, lambda: arguments_of(operator, args, kwargs), values, operands, outputs[0])

    def add(self, output: Tensor, where: Callable[[], str], is_mixing: bool) -> OpenProduct:
        """One more product."""
        self.open.append(OpenProduct(tuple(output.shape), where(), is_mixing))
        return self.open[-1]

    def weights_tokens(self, operator: Any, name: str, values: Sequence[Tensor]) -> bool | None:
        """See `weighted`; None if an operator's result is no such product."""
        if name in ("mul", "mul_") and len(values) == 2:
            for weights, tokens in (values, values[::-1]):
                of_tokens, of_weights = self.axes.of(tokens), self.axes.of(weights)
                if of_tokens is None:
                    continue
                axes = range(-max(weights.ndim, tokens.ndim), 0)
                if any(not is_there(weights, axis) and is_there(tokens, axis) and of_tokens[axis] for axis in axes):
                    queries = [axis for axis in axes if is_there(weights, axis) and not is_there(tokens, axis)]
                    return any(of_weights is None or not of_weights[axis] for axis in queries)
        known = [self.weighted[storage_of(one)] for one in values if storage_of(one) in self.weighted]
        return any(known) if known and keeps_axes(operator, name) else None

    def is_sum(self, name: str, output: Tensor, value: Tensor) -> bool:
        """Whether an operator sums such a product over tokens, and gives several tokens."""
        has_queries = self.weighted.get(storage_of(value))
        if has_queries is None or value.numel() <= output.numel():
            return False
        flags = self.axes.of(value)
        # A sum over the keys keeps the features.
        of_output = [length for length, is_one in zip(value.shape, flags or ()) if is_one and length > 1]
        return name not in REDUCTIONS or (has_queries and all(length in output.shape for length in of_output))

    def close(self, weights: Tensor) -> None:
        """These weights sum to 1: what they were made of were scores."""
        scores = self.reached.pop(storage_of(weights), ())
        self.open = [one for one in self.open if one not in scores]


def is_there(tensor: Tensor, axis: int) -> bool:
    """Whether a tensor has an axis, counted from the last, along which it changes."""
    return -axis <= tensor.ndim and tensor.shape[axis] > 1 and tensor.stride(axis) != 0


def keep_or_forget(table: dict[int, Any], tensor: Tensor, found: Any) -> None:
    """Remember what was found of a tensor's memory, or that nothing was."""
    if found or found is False:
        table[storage_of(tensor)] = found
    else:
        table.pop(storage_of(tensor), None)
