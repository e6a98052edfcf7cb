"""How long a run takes on this machine, measured in a few steps that leave the model as it was."""

import time
from dataclasses import dataclass
from itertools import islice
from statistics import median

from torch import nn

from vitral.base.errors import ConfigError
from vitral.base.numerics import Numerics
from vitral.base.plural import one_or_many
from vitral.data.batches import steps_in
from vitral.data.dataset import Dataset
from vitral.recording.undisturbed import undisturbed
from vitral.store.classifier import Classifier
from vitral.training import optim
from vitral.training.evaluations import evaluations_in
from vitral.training.feature_statistics import HELD_OUT, TRAINING, draw
from vitral.training.loop import training_steps
from vitral.training.metrics import evaluate_split
from vitral.training.out_of_memory import memory_named
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe

WARM_UP, STEPS, SECONDS = 2, 10, 5.0  # steps that are not counted; at most so many others, within so many seconds
EVALUATED = 250  # validation images on which an evaluation is timed
MARGIN = 0.95  # of the time that was given: a machine is not equally fast all the time
REPORT = 10.0  # seconds for the figures and pages at the end


@dataclass(frozen=True)
class Speed:
    """Seconds of a training step, and of one image that is evaluated; and the images of each use."""

    step: float
    evaluated: float
    per_epoch: int  # steps
    validated: int  # images
    at_the_end: int  # images that are tested, and from which statistics are taken

    def seconds(self, total: int) -> float:
        """Of a run of `total` steps."""
        looks = evaluations_in(total, self.per_epoch)
        images = looks * self.validated + self.at_the_end
        return total * self.step + images * self.evaluated + REPORT

    def epochs_within(self, seconds: float, spent: float = 0.0) -> float:
        """As many as fit, after some seconds have been spent. Raises `ConfigError` if not even one step does."""
        low, high = 0, max(1, int((seconds - spent) / self.step))
        while low < high:  # the time grows with the steps
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.seconds(middle) <= MARGIN * (seconds - spent) else (low, middle - 1)
        if not low:
            raise ConfigError(
                f"--minutes {seconds / 60:g} is too short: one step and its evaluation take about "
                f"{(spent + self.seconds(1)) / 60:.1f} minutes on this machine. Give it more time, or fewer or smaller "
                "images."
            )
        return low / self.per_epoch


def measure_speed(
    model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, processes: Processes = ALONE
) -> Speed:
    """Take a few steps of size zero, by all `processes`, and evaluate some validation images.

    Raises `OutOfMemory` if a step does not fit into memory.
    """
    taken = time_steps(model, data, recipe, numerics, processes)
    with undisturbed(model):
        some = draw(data.val, EVALUATED)
        start = time.perf_counter()
        evaluate_split(model, some)
        evaluated = (time.perf_counter() - start) / len(some)
    tested = len(data.test) if "test" in data.splits else 0
    statistics = min(TRAINING, len(data.train)) + min(HELD_OUT, len(data.val))
    per_epoch = steps_in(data.train, recipe.batch_size, 1)
    return Speed(median(taken), evaluated, per_epoch, len(data.val), tested + statistics)


def time_steps(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    processes: Processes = ALONE,
    compiled: nn.Module | None = None,
) -> list[float]:
    """The seconds of each of a few steps of size zero, but for the first ones; by all `processes`.

    A model that is to be compiled is measured without, unless it is given `compiled`: that takes up to a minute. Raises
    `OutOfMemory` if a step does not fit into memory.
    """
    taken: list[float] = []
    # At a learning rate of 0 a step computes all that another does, and changes nothing.
    with undisturbed(model), memory_named(model, data, recipe, numerics, processes):
        optimizers = optim.optimizers(model, recipe)
        loop = training_steps(model, data, recipe, numerics, optimizers, lambda step: 0.0, 0, compiled, processes)
        start = time.perf_counter()
        for step in islice(loop, WARM_UP + STEPS):
            taken.append(step.seconds)
            # All stop after the same step, though their clocks differ.
            if processes.any(time.perf_counter() - start > SECONDS) and len(taken) > WARM_UP:
                break
    for parameter in model.parameters():
        parameter.grad = None
    return taken[WARM_UP:] or taken


def minutes(seconds: float) -> str:
    """A length of time for people.

    >>> minutes(40), minutes(70), minutes(90), minutes(8 * 3600)
    ('less than a minute', '1 minute', '2 minutes', '8.0 hours')
    """
    if seconds < 60:
        return "less than a minute"
    return one_or_many(round(seconds / 60), "minute") if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"
