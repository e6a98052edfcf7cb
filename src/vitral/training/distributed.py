"""Several processes that train one model: each computes on its part of every batch, and all take the same step.

Every process has the whole model, and the gradient of its own part's share in the loss of the whole batch. To that end
the logits of all parts are put together before the loss is taken, so that a loss that is no mean over images (with
class weights, with Dice) is right, too, and parts may differ in size. The gradients are then summed. PyTorch's
`DistributedDataParallel` takes means of gradients over processes of equal parts, and fails for a model with a parameter
that a step does not use; Li et al. 2020, "PyTorch Distributed", §3.2, describe both.

Axes:  b images of a batch   p images of this process's part
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _set_pg_timeout as set_group_timeout  # PyTorch has no public one

from vitral.base.errors import DataError, TrainingError, UsageError
from vitral.base.launch import VARIABLE, Launch
from vitral.training.batch_statistics import share_batch_norms
from vitral.training.processes import Batch, LostProcess, Processes, Value, part_of

TRAININGS = count()  # of this process
LONG = timedelta(days=30)  # to wait while the first process evaluates or decodes; one that ends is noticed at once


class SeveralProcesses(Processes):
    """This process among others; `join` gives it. Each method is called by all of them, in the same order."""

    def __init__(self, launch: Launch):
        self.launch, self.rank, self.size = launch, launch.rank, launch.size
        self.stopped = self.released = False
        # A group of its own, since the other one's timeout is that of a step. Its timeout is raised only when all have
        # met: one that died meanwhile would be waited for as long.
        self.waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=launch.timeout))
        set_group_timeout(LONG, self.waiting)

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([int(flag)])
        with self.together():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def stopping(self, flag: bool) -> bool:
        self.stopped = self.any(flag)
        return self.stopped

    def agreed(self, value: Value) -> Value:
        values: list[Any] = [value]
        with self.together():
            dist.broadcast_object_list(values, src=0, group=self.waiting)
        return values[0]

    def whole(self, part: Shaped[Tensor, "p *rest"], count: int) -> Shaped[Tensor, "b *rest"]:
        parts = [part_of(count, rank, self.size) for rank in range(self.size)]
        counts = [own.stop - own.start for own in parts]
        part = part.float()  # as the loss takes it; not every backend sends bfloat16
        # All processes send equally many rows, as the collective demands.
        padded = part.new_zeros(max(counts), *part.shape[1:])
        padded[: len(part)] = part.detach()
        found = [torch.empty_like(padded) for _ in parts]
        with self.together():
            dist.all_gather(found, padded)
        rows = [part if rank == self.rank else found[rank][:own] for rank, own in enumerate(counts)]
        return torch.cat(rows)

    def sum_gradients(self, model: nn.Module) -> None:
        kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = defaultdict(list)
        for parameter in model.parameters():
            if parameter.requires_grad:
                kinds[parameter.dtype, parameter.device].append(parameter)
        for parameters in kinds.values():
            # In one message, with a number at the end for each parameter: how many processes have used it. A parameter
            # that none has used keeps no gradient, so that the optimizer leaves it alone as it does in one process.
            used = parameters[0].new_tensor([float(one.grad is not None) for one in parameters])
            grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
            message = torch.cat([*(grad.reshape(-1) for grad in grads), used])
            with self.together():
                dist.all_reduce(message)
            *sums, used = message.split([*(one.numel() for one in parameters), len(parameters)])
            for one, total, is_used in zip(parameters, sums, used.tolist()):
                one.grad = total.view_as(one) if is_used else None

    def seeded(self, batches: Iterator[Batch], seed: int, done: int) -> Iterator[Batch]:
        # Dropout would else draw the same masks in every process; by the number of the step, so that a resumed run
        # draws what the unbroken one would have, and no checkpoint needs the state of each process.
        for number, batch in enumerate(batches, done):
            torch.manual_seed(int(np.random.SeedSequence([seed, number, self.rank]).generate_state(1)[0]))
            yield batch

    def share_statistics(self, model: nn.Module) -> None:
        share_batch_norms(model)

    def start_equal(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], data: str, optimizers_too: bool
    ) -> None:
        if self.any(self.agreed(data) != data):
            raise DataError(
                "The processes have read different images. All of them, on each machine, need the same data."
            )
        with self.together():
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)
        if not optimizers_too:
            return
        states = self.agreed([optimizer.state_dict() for optimizer in optimizers] if self.is_first else None)
        if not self.is_first:
            for optimizer, state in zip(optimizers, states or [], strict=True):
                optimizer.load_state_dict(state)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn the failure of a collective, which says nothing to a user, into one that does."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0].partition(". ")[0].partition("cc:")[2].partition("] ")[2]
            raise LostProcess(
                f"Process {self.rank} of {self.size} has lost another one, which has ended or has not answered for "
                f"{self.launch.timeout:g} s{f' (PyTorch: {reason})' if reason else ''}. If it failed, its own message "
                "above or in its log says why."
            ) from error


@cache
def meeting_place(launch: Launch) -> dist.Store:
    """The store at the address of a launch, opened once: another one there would not know who waits at the first."""
    store: dist.Store = next(dist.rendezvous("env://", timeout=timedelta(seconds=launch.timeout)))[0]
    return store


@contextmanager
def join(launch: Launch) -> Iterator[SeveralProcesses]:
    """Meet the other processes, and leave them at the end.

    Raises `TrainingError` if they do not come within `launch.timeout`, and `UsageError` if there are fewer GPUs on this
    machine than processes, or if the caller has a process group of its own.
    """
    if dist.is_initialized():
        raise UsageError("vitral.train starts the process group itself: call it before init_process_group.")
    backend = "gloo"
    if torch.cuda.is_available():
        if launch.local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"LOCAL_RANK={launch.local_rank}, but this machine has {torch.cuda.device_count()} GPU(s), and each "
                "process needs one: start as many processes as GPUs, or hide them to train on the CPU: "
                "CUDA_VISIBLE_DEVICES=."
            )
        torch.cuda.set_device(launch.local_rank)
        backend = "cpu:gloo,cuda:nccl"
    try:
        timeout = timedelta(seconds=launch.timeout)
        # torchrun keeps its store when it starts processes again, and with it the addresses of those that are gone; so
        # does a process that trains twice.
        store = dist.PrefixStore(f"restart {launch.restarts}, training {next(TRAININGS)}", meeting_place(launch))
        dist.init_process_group(backend, timeout=timeout, store=store, rank=launch.rank, world_size=launch.size)
        processes = SeveralProcesses(launch)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"Process {launch.rank} of {launch.size} could not connect to all others at {launch.address}; it waits for "
            f"up to {launch.timeout:g} s ({VARIABLE} sets that). Start all of them, for example with torchrun; unset "
            "WORLD_SIZE and RANK to train in one process."
        ) from error
    try:
        yield processes
    finally:
        dist.destroy_process_group()
