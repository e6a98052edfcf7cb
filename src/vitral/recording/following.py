"""Follow attention weights from where they are made to the values that they multiply.

A tensor whose rows sum to one is made by a softmax, or by hand as e / e.sum(). On its way to the values it may be
viewed, copied, scaled, dropped, padded, or mixed over heads. All that must be known of it is where its keys are: a view
lies in the same memory, so its keys are the axis with the same stride; of other operators it is known which axis of the
result is which of the input. What multiplies the values in the end is the call's weights, as they are at that moment.

Axes:  b batch   h heads   n m query, key tokens   e width of one head
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import ReferenceType, ref

from torch import Tensor

from vitral.recording.calls import Call, call_of_product, call_of_sum
from vitral.recording.made import Made, Product, Weights
from vitral.recording.open_products import OpenProducts
from vitral.recording.operators import (
    ADDING,
    LOG_SOFTMAX,
    NORMALISING,
    NOT_LINEAR,
    OTHER_SOFTMAX,
    PRODUCTS,
    REDUCTIONS,
    SOFTMAX,
    SUMS,
    arguments_of,
    keeps_axes,
    storage_of,
    tensors_in,
)

SPARSE = "its weights are a sparse tensor, whose product with values is not followed"
CUT = "only a part of its keys multiplies values, as when one key is a sink"
SUM_TOLERANCE = 1e-2  # of 1: rows may have been made in half precision
Constant = Callable[[Tensor], bool]  # whether a tensor depends on no image
BY_VECTOR = "it is multiplied row by row, one query of one head at a time: multiply all queries at once"


class Follower:
    """Finds the products of weights and values among all operators that a model runs, in order."""

    def __init__(self) -> None:
        self.made: list[Made] = []
        self.weights: dict[int, Weights] = {}
        self.products = OpenProducts()  # scores, if a softmax follows
        self.sparse: dict[int, ReferenceType[Tensor]] = {}  # weights that are sparse tensors
        self.last_product = Product((), 0, 0)  # of weights and values
        self.of_weights: set[int] = set()  # memory that was made of weights only
        self.hidden: list[str] = []  # operators that may attend, and do not show how

    def missed(self, batch: int) -> list[str]:
        """Every tensor whose rows sum to one that was not seen to multiply values, and why.

        A single row for each of `batch` images is left out: the probabilities of classes. Then every product of two
        tensors that depend on the image and is no attention, which mixes tokens in another way. Operators of other
        libraries that may attend come first.
        """
        made = [str(made) for made in self.made if not made.shown and made.shape[:-1] != (batch,)]
        return list(dict.fromkeys((*self.hidden, *self.products.mixing(), *made)))

    def follow(
        self,
        operator: Any,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        inputs: Sequence[Tensor],
        result: Any,
        constant: Constant,
        where: Callable[[], str],
    ) -> Call | None:
        """Take note of one operator; the call of attention if it multiplies weights with values.

        `where` gives the line of the model that is running.
        """
        storages, outputs = {storage_of(tensor) for tensor in inputs}, list(tensors_in(result))
        known = next((self.weights[storage] for storage in storages if storage in self.weights), None)
        self.note_origin(inputs, outputs, constant)
        begins = name in SOFTMAX or name in LOG_SOFTMAX
        operands = factors(args, kwargs) if name in PRODUCTS else []
        is_known = known is not None or any(map(self.is_sparse, operands)) or self.are_of_weights(operands)
        line = None if is_known else where
        self.products.follow(operator, name, args, kwargs, inputs, operands, outputs, constant, line)
        if outputs and name in OTHER_SOFTMAX and not all(map(constant, inputs)):
            self.start_sparse(outputs[0], arguments_of(operator, args, kwargs)["dim"], where())
        if not outputs or not (known or begins or name in NORMALISING):
            return None
        output, arguments = outputs[0], arguments_of(operator, args, kwargs)
        if begins:
            # A few numbers that are the same for all images mix layers or branches, not tokens.
            if output.ndim and (output.numel() > output.shape[arguments["dim"]] or not all(map(constant, inputs))):
                self.start(output, arguments["dim"], where(), name in LOG_SOFTMAX)
        elif known is None:
            if not all(map(constant, inputs)):
                self.note_normalised(output, where)
        elif name in PRODUCTS:
            return self.product(name, arguments, output, constant)
        elif name in REDUCTIONS:
            return self.reduction(arguments, output, constant)
        elif known.is_logarithm and name in ("exp", "exp_"):
            self.start(output, known.keys - len(known.sizes), where())
        elif name == "stack":
            new = arguments.get("dim", 0) % output.ndim
            self.pass_on(name, inputs, output, constant, [axis for axis in range(output.ndim) if axis != new])
        elif self.are_several(name, inputs, constant):
            for tensor in inputs:
                self.weights[storage_of(tensor)].fail("it is multiplied by other weights, value by value")
            self.weights.pop(storage_of(output), None)
        elif keeps_axes(operator, name):
            self.pass_on(name, inputs, output, constant)
            if name in NORMALISING:
                self.note_normalised_again(output, where)
        return None

    def weights_in(self, tensors: Sequence[Tensor]) -> dict[int, tuple[Made, ...]]:
        """What those of these tensors were made of that are weights, by memory."""
        if not self.weights:
            return {}
        known = {storage: self.weights[storage] for storage in map(storage_of, tensors) if storage in self.weights}
        return {storage: weights.made for storage, weights in known.items() if not weights.is_logarithm}

    def note_origin(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], constant: Constant) -> None:
        """Remember what was made of weights only, such as the inverse of a matrix of them."""
        made_of = [storage_of(tensor) for tensor in inputs if not constant(tensor)]
        is_of_weights = bool(made_of) and all(map(self.is_of_weights, made_of))
        change = self.of_weights.add if is_of_weights else self.of_weights.discard
        for output in outputs:
            change(storage_of(output))

    def is_of_weights(self, storage: int) -> bool:
        """Whether what lies in some memory was made of weights only, and is no product with values."""
        known = self.weights.get(storage)
        return storage in self.of_weights or (known is not None and known.factors is None)

    def are_of_weights(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these were all made of weights only."""
        return bool(tensors) and all(storage_of(one) in self.of_weights for one in tensors)

    def start(self, tensor: Tensor, axis: int, where: str, is_logarithm: bool = False) -> None:
        """A tensor whose rows sum to one was made."""
        if not tensor.ndim or tensor.shape[axis] < 2:
            return  # a single weight is always 1
        made = Made(tuple(tensor.shape), axis % tensor.ndim, where)
        self.products.close(tensor)
        if not is_logarithm:
            self.made.append(made)
        shape, strides = tuple(tensor.shape), tensor.stride()
        self.weights[storage_of(tensor)] = Weights((made,), shape, strides, made.axis, is_logarithm)

    def start_sparse(self, weights: Tensor, axis: int, where: str) -> None:
        """Weights were made that are a sparse tensor, as of the edges of a graph."""
        self.made.append(Made(tuple(weights.shape), axis % weights.ndim, where, SPARSE))
        self.products.close(weights)
        self.sparse[id(weights)] = ref(weights)

    def is_sparse(self, tensor: Tensor) -> bool:
        """Whether a tensor is sparse weights."""
        known = self.sparse.get(id(tensor))
        return known is not None and known() is tensor

    def note_normalised(self, tensor: Tensor, where: Callable[[], str]) -> None:
        """See whether values made by hand sum to one along an axis."""
        if tensor.ndim < 2 or not tensor.is_floating_point() or not tensor.numel():
            return
        for axis in reversed(range(tensor.ndim)):
            if tensor.shape[axis] < 2:
                continue
            # One row first: it refutes nearly every tensor at the cost of a few values.
            row = tensor[tuple(slice(None) if other == axis else 0 for other in range(tensor.ndim))]
            if sums_to_one(row, 0) and sums_to_one(tensor, axis):
                self.start(tensor, axis, where())
                return

    def note_normalised_again(self, tensor: Tensor, where: Callable[[], str]) -> None:
        """See whether weights now sum to one along another axis, as rows do after columns (Sinkhorn)."""
        before = self.weights.get(storage_of(tensor))
        if before is None or before.is_logarithm or before.factors is not None:
            return
        count = len(self.made)
        self.note_normalised(tensor, where)
        if len(self.made) > count:
            after = self.weights[storage_of(tensor)]
            if after.made[0].axis == before.keys and len(before.sizes) == tensor.ndim:  # the same as before
                self.made.pop()
                self.weights[storage_of(tensor)] = before
            else:
                self.weights[storage_of(tensor)] = replace(after, made=(*after.made, *before.made))

    def product(self, name: str, arguments: dict[str, Any], output: Tensor, constant: Constant) -> Call | None:
        """The call of attention that a matrix product is; None for another product, which may mix weights."""
        left, right = factors((), arguments)
        if min(left.ndim, right.ndim) < 2:
            for weights, values in ((left, right), (right, left)):
                if (known := self.weights.get(storage_of(weights))) is not None and not constant(values):
                    known.fail(BY_VECTOR)
            return None
        for weights, values, is_left in ((left, right, True), (right, left, False)):
            known = self.weights.get(storage_of(weights))
            mixes = constant(weights) and storage_of(values) in self.weights  # learned numbers that mix heads
            if known is None or known.is_logarithm or mixes:
                continue
            turned = weights if is_left else weights.mT  # v @ Aᵀ is the same product, transposed
            axes = known.axes_of(turned)
            if self.is_of_weights(storage_of(values)) and not constant(values):
                known.fail("it multiplies other weights, as in an approximation of attention by several matrices")
            elif known.keys not in axes[-1] and not constant(values):
                # Not heads that learned weights mix, but values over another axis than the one that sums to 1.
                is_cut = turned.stride(-1) == known.strides[known.keys] and turned.shape[-1] < known.sizes[known.keys]
                known.fail(CUT if is_cut else "it is multiplied over an axis other than the one that sums to 1")
            elif known.keys not in axes[-1]:  # over another axis, such as heads that are mixed, or a part of the keys
                rows = list(range(turned.ndim - 1))
                places = [*rows, None] if is_left else [*rows[:-1], None, rows[-1]]
                moved = known.moved(axes, output, places)
                learned = self.weights.get(storage_of(values))  # numbers that sum to one, too, and mix the heads
                if moved is not None and learned is not None:
                    moved = replace(moved, made=(*moved.made, *learned.made))
                self.keep(output, known, moved)
            elif len(axes[-1]) > 1:
                known.fail("it is multiplied over more than its keys")
            elif constant(values):
                known.fail("it multiplies values that depend on no image")
            elif name in ADDING and (name == "addbmm" or arguments.get("beta", 1) != 0):
                known.fail(f"it multiplies values within {name}, which adds something to the product")
            elif known.is_one_query(turned, axes):
                known.fail(BY_VECTOR)
            else:
                self.show(known, weights, values, known.part(turned, axes))
                return call_of_product(output, turned, values if is_left else values.mT, axes, known, not is_left)
        return None

    def reduction(self, arguments: dict[str, Any], output: Tensor, constant: Constant) -> Call | None:
        """The call that a sum of products is, (a[..., None] * v[:, :, None]).sum(-2); None for another reduction."""
        tensor = next(tensors_in(arguments))
        known = self.weights[storage_of(tensor)]
        axes = known.axes_of(tensor)
        over = arguments.get("dim")
        axes_summed = {over} if isinstance(over, int) else set(over or range(tensor.ndim))
        axes_summed = {axis % tensor.ndim for axis in axes_summed}
        at = next((axis for axis in range(tensor.ndim) if known.keys in axes[axis]), None)
        if at is None or at in axes_summed:
            if at is None or known.factors is None or axes_summed != {at} or constant(known.factors[1]):
                known.fail("it is summed over its keys")
                return None
            self.show(known, *known.factors)
            weights, values = (factor.broadcast_to(tensor.shape) for factor in known.factors)
            return call_of_sum(output, weights, values, at)
        kept = [None if axis in axes_summed else axis for axis in range(tensor.ndim)]
        places = kept if output.ndim == tensor.ndim else [axis for axis in kept if axis is not None]
        self.keep(output, known, known.moved(axes, output, places))
        return None

    def show(self, known: Weights, weights: Tensor, values: Tensor, part: tuple[int, int] | None = None) -> None:
        """These weights multiply values."""
        self.last_product = Product(known.made, storage_of(weights), storage_of(values), part)
        for made in known.made:
            made.shown = True

    def are_several(self, name: str, inputs: Sequence[Tensor], constant: Constant) -> bool:
        """Whether an operator multiplies weights that were made apart, value by value: either may be a gate of the
        other, such as a share of each head, and which of them is attention is not known."""
        known = [self.weights.get(storage_of(tensor)) for tensor in inputs if not constant(tensor)]
        if name not in ("mul", "mul_") or len(known) < 2:
            return False
        whole = [one for one in known if one is not None and one.factors is None and not one.is_logarithm]
        return len(whole) == len(known) and not set(whole[0].made) & set(whole[1].made)

    def pass_on(
        self,
        name: str,
        inputs: Sequence[Tensor],
        output: Tensor,
        constant: Constant,
        shared: Sequence[int] | None = None,
    ) -> None:
        """The result of an operator that keeps the axes of weights is weights.

        `shared` are the axes of the result that are those of its inputs, in order; by default the last ones.
        """
        # What is written into a tensor comes before what it held, weights before values that weights scale, and weights
        # before learned numbers that sum to one and mix them.
        known_of = {storage_of(tensor): self.weights.get(storage_of(tensor)) for tensor in inputs}
        scaled = {storage for storage, known in known_of.items() if known is not None and known.factors is not None}
        order = [storage_of(output), *scaled]
        candidates = [tensor for tensor in inputs if known_of[storage_of(tensor)] is not None]
        candidates.sort(key=lambda tensor: (storage_of(tensor) in order, constant(tensor)))
        for tensor in candidates:
            known = known_of[storage_of(tensor)]
            assert known is not None
            if known.factors is not None and self.ends_product(name, tensor, inputs, constant):
                known.fail(f"its product with values goes into {name} before it is summed")
                self.weights.pop(storage_of(output), None)
                return
            own = shared if shared is not None else range(output.ndim - tensor.ndim, output.ndim)
            places = [own.index(axis) if axis in own else None for axis in range(output.ndim)]
            # An axis that the result does not share, as one over which weights are repeated, is another one.
            places = [
                place if place is not None and tensor.shape[place] in (1, output.shape[axis]) else None
                for axis, place in enumerate(places)
            ]
            # Weights times values that stand beside them: a product that is summed up later.
            others = [other for other in inputs if other is not tensor and not constant(other)]
            grown = output.numel() > tensor.numel() and len(others) == 1
            factors = (tensor, others[0]) if grown else known.factors if name == "clone" else None
            moved = known.moved(known.axes_of(tensor), output, places, is_logarithm=known.is_logarithm, factors=factors)
            if moved is None and constant(tensor) and tensor is not candidates[-1]:
                continue  # one learned share of several, as g[0] of a softmax g: a factor
            self.keep(output, known, moved)
            if moved is not None:  # a sum or difference of weights is made of all of them
                whole = self.weights[storage_of(output)]
                added = [self.weights[storage_of(one)] for one in inputs if storage_of(one) in self.weights]
                made = dict.fromkeys(one for weights in [whole, *added] for one in weights.made)
                self.weights[storage_of(output)] = replace(whole, made=tuple(made))
            return

    def ends_product(self, name: str, product: Tensor, inputs: Sequence[Tensor], constant: Constant) -> bool:
        """Whether weights times values, value by value, are no longer that after an operator, as where they are added
        to the tokens: a factor for each token, and no sum over keys."""
        others = [one for one in inputs if one is not product and storage_of(one) not in self.weights]
        return name in NOT_LINEAR or (name in SUMS and not all(map(constant, others)))

    def keep(self, output: Tensor, known: Weights, moved: Weights | None) -> None:
        """Remember what a tensor is of weights, if its keys are still known."""
        if moved is None:
            known.fail("its keys cannot be followed")
            return
        before = self.weights.get(storage_of(output))  # part of a tensor that other weights were written into, too
        if before is not None:
            made = (*moved.made, *(one for one in before.made if one not in moved.made))
            moved = replace(moved, made=made)
        self.weights[storage_of(output)] = moved


def sums_to_one(values: Tensor, axis: int) -> bool:
    """Whether values are at least 0 and sum to 1 along an axis."""
    sums = values.detach().float().sum(dim=axis)
    return bool((sums - 1).abs().max() <= SUM_TOLERANCE) and bool(values.min() >= 0)


def factors(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The two factors of an operator that is a product, from its arguments."""
    return list(tensors_in((args, {name: value for name, value in kwargs.items() if name != "out"})))[-2:]
