"""Mixing: training images are mixed in pairs, and so are their labels, which become shares of classes.

Axes:  b images   k classes
"""

from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitral.base.errors import UsageError
from vitral.base.lookup import find
from vitral.base.record import Task
from vitral.data.augment import Images

Targets = Float[Tensor, "b k"]


@runtime_checkable
class Mix(Protocol):
    """A way to mix; `data/mixing/NAME.py` defines one, with the name of its file.

    `targets` are shares of classes. Each image is mixed with another one of its batch, or with itself; the share that
    it keeps is from Beta(alpha, alpha). All random numbers come from `generator`. Images and targets are left as they
    are, and mixed copies are returned.
    """

    def __call__(
        self, images: Images, targets: Targets, generator: torch.Generator, alpha: float = ...
    ) -> tuple[Images, Targets]: ...


def find_mix(name: str, alpha: float | None = None) -> Mix | None:
    """The way to mix of a name, by its own `alpha` if none is given; None for "none".

    Raises `UnknownName` for a name that does not exist.
    """
    if name == "none":
        return None
    mix: Mix = find("data.mixing", name, "way to mix")
    return mix if alpha is None else partial(mix, alpha=alpha)


def check_mix(name: str, task: Task, data: str) -> None:
    """Raise `UsageError` unless the labels of a task can be mixed: they must be classes of whole images."""
    if name == "none" or task in ("one class", "several classes"):
        return
    labels = {"numbers": "numbers", "segmentation": "masks"}.get(task, task)
    raise UsageError(f"--mix {name} mixes the classes of images; the labels of {data} are {labels}. Leave out --mix.")


def as_shares(labels: Int[Tensor, " b"] | Bool[Tensor, "b k"], classes: int) -> Targets:
    """Labels as shares of classes: 1 for the class of an image, or for each of its classes.

    >>> as_shares(torch.tensor([0, 2]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return labels.float() if labels.ndim == 2 else F.one_hot(labels.long(), classes).float()


def mixed_targets(targets: Targets, partners: Int[Tensor, " b"], kept: Float[Tensor, " b"]) -> Targets:
    """Of each target its share `kept`, and of its partner's the rest."""
    return torch.lerp(targets[partners], targets, kept[:, None])


def beta(alpha: float, count: int, generator: torch.Generator) -> Float[Tensor, " b"]:
    """Random shares from Beta(alpha, alpha)."""
    # PyTorch's own distribution draws from the global generator only; NumPy's is seeded from ours.
    seed = int(torch.randint(0, 2**31 - 1, (1,), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count).astype(np.float32))
