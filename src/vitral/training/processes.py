"""The processes that train one model together, as the training loop sees them: here one, which asks nobody.

`vitral.training.distributed` has several. All of them take each step together; the first one also does all that is
done once: it evaluates, writes, and reports.

Axes:  b images of a batch   p images of this process's part
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from vitral.base.errors import TrainingError

Value = TypeVar("Value")
Batch = TypeVar("Batch")


class LostProcess(TrainingError):
    """Another process has ended, or does not answer."""


class FirstFailed(TrainingError):
    """The first process has failed, and has said why."""

    def __init__(self, exit_code: int):
        super().__init__("Process 0 has failed; its message says why.")
        self.exit_code = exit_code


class Processes:
    """One process that trains alone.

    `rank` is the number of this process, from 0, of `size`; `stopped` is whether they have stopped because one of them
    was asked to; `released` is whether the others wait for no further order (see `vitral.tasks.orders`).
    """

    rank: int = 0
    size: int = 1
    stopped: bool = False
    released: bool = False

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        return flag

    def stopping(self, flag: bool) -> bool:
        """The same for a request to stop after this step."""
        return flag

    def agreed(self, value: Value) -> Value:
        """The first process's value, for which the others wait as long as it takes."""
        return value

    def whole(self, part: Shaped[Tensor, "p *rest"], count: int) -> Shaped[Tensor, "b *rest"]:
        """A batch of `count` rows from the parts of all processes; gradients flow into this process's part."""
        return part

    def sum_gradients(self, model: nn.Module) -> None:
        """Make each parameter's gradient the sum of those in all processes."""

    def seeded(self, batches: Iterator[Batch], seed: int, done: int) -> Iterator[Batch]:
        """The batches, before each of which the global generator is seeded, so that processes draw different numbers.

        One process draws on from where its generator is.
        """
        return batches

    def share_statistics(self, model: nn.Module) -> None:
        """Let each batch norm of the model take its statistics over the whole batch."""

    def start_equal(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], data: str, optimizers_too: bool
    ) -> None:
        """Give all processes the first one's weights, and the state of its optimizers.

        `data` is the fingerprint of the images. Raises `DataError` if a process has other ones than the first.
        """


ALONE = Processes()


def part_of(count: int, rank: int, size: int) -> slice:
    """Which of `count` rows process `rank` of `size` takes; parts differ by at most one row.

    >>> [part_of(5, rank, 2) for rank in range(2)]
    [slice(0, 3, None), slice(3, 5, None)]
    """
    each, more = divmod(count, size)
    start = rank * each + min(rank, more)
    return slice(start, start + each + (rank < more))
