"""Whether the keys of a layer are sampled at places of the feature map that depend on what the image shows, as in
deformable attention (Xia et al. 2022, "Vision Transformer with Deformable Attention", §3.2).

Such keys may stand in the order of a grid, while each is somewhere else in every image. They are found by exchange: an
operator that takes values from given places (`grid_sample`, an index) takes them from the places that it had for
another image. Where the places do not depend on the image, nothing changes.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from vitral.recording.apart import Subject, run_together
from vitral.recording.operators import arguments_of, name_of, tensors_in

# The arguments of operators that say from which places another argument, the first, is taken.
TAKING = {"gather": "index", "index": "indices", "index_select": "index", "deform_conv2d": "offset"} | dict.fromkeys(
    ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler"), "grid"
)
CHANGED = 1e-3  # of the largest value: keys that change less are the same
MOST_VALUES = 10**7  # of one operator's argument that is compared


def sampled_calls(subject: Subject, a: Tensor, b: Tensor) -> list[bool]:
    """Of each call of attention, whether its values change where places are taken from another image."""
    first = Pass.of(subject, a)
    second = Pass.of(subject, b)
    moving = [at for at, (one, other) in enumerate(zip(first.taken, second.taken)) if one.differs_from(other)]
    if not moving:
        return [False] * len(second.values)
    exchanged = Pass.of(subject, b, {at: first.taken[at].places for at in moving})
    return [
        one.shape != other.shape or bool((one - other).abs().max() > CHANGED * one.abs().max())
        for one, other in zip(second.values, exchanged.values)
    ]


@dataclass(frozen=True)
class Taken:
    """From what an operator took values, and from which places."""

    source: Tensor
    places: tuple[Tensor, ...]

    def differs_from(self, other: "Taken") -> bool:
        """Whether the places, of as many values, are others in another image, and so is what was taken.

        A table that is the same for all images, as a codebook, has no places of the image.
        """
        same_sizes = [one.shape for one in self.places] == [one.shape for one in other.places]
        return (
            same_sizes
            and not all(map(torch.equal, self.places, other.places))
            and not (self.source.shape == other.source.shape and torch.equal(self.source, other.source))
        )


@dataclass
class Pass:
    """What a pass of one image took from places, in the order of the operators, and the values of its calls."""

    taken: list[Taken] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, subject: Subject, image: Tensor, exchange: dict[int, tuple[Tensor, ...]] | None = None) -> "Pass":
        """Run the model; the operators of these numbers take values from these places instead of their own."""
        found = cls()

        def see(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
            given = arguments_of(operator, args, kwargs)
            places = tuple(tensors_in(given.get(TAKING.get(name_of(operator), ""))))
            if not places or sum(one.numel() for one in places) > MOST_VALUES or not isinstance(result, Tensor):
                return
            number, source = len(found.taken), next(tensors_in(list(given.values())))
            found.taken.append(Taken(source.detach().clone(), tuple(one.detach().clone() for one in places)))
            others = (exchange or {}).get(number)
            if others is not None and [one.shape for one in others] == [one.shape for one in places]:
                by_id = dict(zip(map(id, places), others))
                result.copy_(operator(*tree_map(lambda one: by_id.get(id(one), one), tuple(args)), **kwargs))

        with suppress(Exception):  # what comes after the last attention does not matter
            images = torch.cat([image] * max(1, subject.fixed_batch))
            run_together(
                subject, images, lambda call: found.values.append(call.values.detach().clone()), None, 1, see=see
            )
        return found
