"""Where a model uses attention weights besides their one product with values, and whether its answer depends on that.

    out = A v,   and elsewhere f(A): relative positions A r, the coordinates A xy, the row of CLS as features

∂y/∂A through A v is all of ∂y/∂A only if the answer y depends on A in no other way. So each operator that takes weights
of a layer, and gives neither weights nor that product, is noted as a further use, and what its result reaches is
followed. Weights that are returned or stored beside the answer reach nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vitral.recording.made import Made, Product, UsedParts, Weights
from vitral.recording.operators import OF_SHAPE, storage_of, tensors_in

ANSWER = "the answer itself"


@dataclass(frozen=True)
class FurtherUse:
    """An operator that takes weights of a layer besides their product with values; `made` are those weights.

    `is_choice` is whether its values reach the answer only as whole numbers or conditions, as where tokens are chosen:
    no gradient passes.
    """

    made: tuple[Made, ...]
    operator: str
    where: str
    is_choice: bool = False

    def __str__(self) -> str:
        return f"{self.operator} ({self.where})" if self.where else self.operator


@dataclass(frozen=True)
class Carried:
    """What a tensor carries of further uses, as bits: of `values`, through which gradients pass, and of `choices`."""

    values: int = 0
    choices: int = 0

    def __or__(self, other: "Carried") -> "Carried":
        return Carried(self.values | other.values, self.choices | other.choices)

    def without(self, bits: int) -> "Carried":
        return Carried(self.values & ~bits, self.choices & ~bits)


class FurtherUses:
    """Follows the further uses of attention weights through all operators, in order."""

    def __init__(self) -> None:
        self.uses: list[FurtherUse] = []
        self.carried: dict[int, Carried] = {}  # by memory
        self.multiplied = UsedParts()
        self.reached: Carried | None = None  # by the answer; None if that is not known

    def note(
        self,
        name: str,
        inputs: Sequence[Tensor],
        result: Any,
        before: Mapping[int, tuple[Made, ...]],
        weights: Mapping[int, Weights],
        product: Product | None,
        where: Callable[[], str],
    ) -> None:
        """Take note of one operator. `before` are the weights that its inputs are of, by memory; `weights` those that
        all tensors are of after it; `product` is the product of weights and values that it is, if it is one."""
        if not before and not self.carried:
            return
        outputs, storages = list(tensors_in(result)), {storage_of(one) for one in inputs}
        again: tuple[Made, ...] = ()
        if product is not None:
            # What depends on the weights by these weights alone is in the gradient of the product.
            carried = self.of(product.values) | self.of(product.weights).without(self.bits_of_only(product.made))
            again = tuple(one for one in product.made if not self.multiplied.are_new(one, product.part))
            again += before.get(product.values, ())
            self.multiplied.add(product.made, product.part)
        else:
            carried = Carried() if name in OF_SHAPE else self.of(*storages)
        for output in outputs:
            storage, made = storage_of(output), again
            if product is None and name not in OF_SHAPE:
                still = weights[storage].made if storage in weights else ()
                used = dict.fromkeys(one for made_of in before.values() for one in made_of)
                made = tuple(one for one in used if one not in still)
            found = carried | (self.of(storage) if storage in storages else Carried())
            if made:
                found |= Carried(self.add(FurtherUse(made, name, where())))
            self.carry(output, found)

    def note_answer(self, answer: Sequence[Tensor], weights: Mapping[int, Weights]) -> None:
        """Take note of the model's answer, which may be weights itself."""
        for tensor in answer:
            storage = storage_of(tensor)
            if storage in weights:
                self.carry(tensor, self.of(storage) | Carried(self.add(FurtherUse(weights[storage].made, ANSWER, ""))))
            self.reached = (self.reached or Carried()) | self.of(storage)

    def of_answer(self) -> list[FurtherUse]:
        """The uses that the answer depends on; all, if the answer is not known."""
        reached = self.reached or Carried((1 << len(self.uses)) - 1)
        return [
            replace(use, is_choice=not reached.values >> number & 1)
            for number, use in enumerate(self.uses)
            if (reached.values | reached.choices) >> number & 1
        ]

    def of(self, *storages: int) -> Carried:
        """What these pieces of memory carry."""
        found = Carried()
        for storage in storages:
            found |= self.carried.get(storage, Carried())
        return found

    def carry(self, tensor: Tensor, found: Carried) -> None:
        """Remember what a tensor carries; whole numbers and conditions pass no gradient on."""
        if not (tensor.is_floating_point() or tensor.is_complex()):
            found = Carried(0, found.values | found.choices)
        if found == Carried():
            self.carried.pop(storage_of(tensor), None)
        else:
            self.carried[storage_of(tensor)] = found

    def add(self, use: FurtherUse) -> int:
        """One more use; its bit. A use that is repeated, as for each output of an operator, is one."""
        if use not in self.uses:
            self.uses.append(use)
        return 1 << self.uses.index(use)

    def bits_of_only(self, made: Sequence[Made]) -> int:
        """The bits of the uses of these weights and no others."""
        return sum(1 << number for number, use in enumerate(self.uses) if set(use.made) <= set(made))
