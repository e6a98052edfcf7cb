"""What a process does that trains with others and is not the first: what the first one tells it to, see `orders`."""

from collections.abc import Callable
from pathlib import Path

import torch

from vitral.base.errors import TrainingError, VitralError
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.tasks.orders import End, Measure, Order, Prepare
from vitral.tasks.prepare import prepare
from vitral.tasks.progress import Progress
from vitral.training.adapt import adapt
from vitral.training.compiling import compile_model
from vitral.training.distributed import SeveralProcesses
from vitral.training.fit import fit
from vitral.training.out_of_memory import OutOfMemory
from vitral.training.processes import FirstFailed, LostProcess
from vitral.training.run import Run
from vitral.training.speed import time_steps


def follow(processes: SeveralProcesses, stop: Callable[[], bool], cache: str) -> Path:
    """Carry out the orders of the first process, until its run ends; the run's folder.

    Raises what goes wrong in this process, and `FirstFailed` for what goes wrong in the first one or in all.
    """
    model: Classifier | None = None
    data: Dataset | None = None
    while True:
        order: Order | None = processes.agreed(None)
        if isinstance(order, Prepare):
            model, data = read_in_turn(processes, order, cache)
            continue
        if isinstance(order, End):
            if order.exit_code:
                raise FirstFailed(order.exit_code)
            return order.run or Path()
        assert order is not None and model is not None and data is not None
        if isinstance(order, Measure):
            take_part(model, data, order, processes)
            continue
        try:
            run = Run(order.run)
            for _ in fit(model, data, order.recipe, order.numerics, run, order.resuming, stop, processes=processes):
                pass
        except (LostProcess, OutOfMemory):
            raise
        except TrainingError as error:  # a loss that is not a number is so in all processes
            raise FirstFailed(error.exit_code) from error
        return order.run


def take_part(model: Classifier, data: Dataset, order: Measure, processes: SeveralProcesses) -> None:
    """Take the steps whose time is measured; without them if the model cannot be compiled in some process."""
    compiled = None
    if order.compiled:
        compiled = compile_model(model, data, order.recipe, order.numerics, processes).model
        if compiled is None:
            return
    time_steps(model, data, order.recipe, order.numerics, processes, compiled)


def read_in_turn(processes: SeveralProcesses, order: Prepare, cache: str) -> tuple[Classifier, Dataset]:
    """The model and the data, adapted as in the first process, which has read both already.

    A folder is decoded by one process of each machine, and the others then map what it has written into memory: all at
    once, each would find no decoded images, and decode all of them.
    """
    found = None
    for turn in (True, False):
        if turn == (processes.launch.local_rank == 0):
            found = read(processes, order, cache)
        processes.agreed(None)
    assert found is not None
    return found


def read(processes: SeveralProcesses, order: Prepare, cache: str) -> tuple[Classifier, Dataset]:
    try:
        torch.manual_seed(order.recipe.seed)
        model, data = prepare(order.recipe, Progress(), order.resumed, cache)
    except VitralError as error:
        raise type(error)(f"process {processes.rank} of {processes.size}, unlike process 0: {error}") from error
    model.to(order.device)
    adapt(model, order.recipe)
    processes.share_statistics(model)
    return model, data
