"""The training steps of a recipe: its batches, loss, precision and clipping put together."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.numerics import Numerics
from vitral.data.augment import find_augment
from vitral.data.batches import batches
from vitral.data.dataset import Dataset
from vitral.data.mix import find_mix
from vitral.store.classifier import Classifier
from vitral.training.processes import ALONE, Processes, part_of
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps


def training_steps(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    optimizers: Sequence[torch.optim.Optimizer],
    lr_at: Callable[[int], float],
    done: int = 0,
    compiled: nn.Module | None = None,
    processes: Processes = ALONE,
) -> Iterator[Step]:
    """The steps after the first `done`, without end; `lr_at` gives the fraction of the peak learning rate at each.

    `compiled` is run in place of the model, whose parameters it shares. Raises what `steps` raises.
    """
    answer = answer_of(model)
    loss_of = answer.loss(recipe.label_smoothing, data.train.labels, recipe.class_weights == "balanced", recipe.dice)
    feed = batches_of(model, data, recipe, numerics.device, done, processes)
    return steps(
        model if compiled is None else compiled,
        processes.seeded(feed, recipe.seed, done),
        optimizers,
        lr_at,
        numerics.autocast,
        recipe.clip,
        answer,
        loss_of,
        done,
        recipe.accumulate,
        processes,
    )


def batches_of(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    device: torch.device | str,
    done: int = 0,
    processes: Processes = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a recipe after the first `done`, without end.

    A batch depends on (seed, its number) only: a resumed run sees the images that the unbroken one would have seen.
    """
    return batches(
        data.train,
        model.preprocessing,
        recipe.batch_size,
        recipe.seed,
        find_augment(recipe.augment, model.preprocessing.size),
        start=done,
        device=device,
        mix=find_mix(recipe.mix, recipe.mix_alpha),
        classes=len(data.classes),
        sampling=recipe.sampling,
        part=partial(part_of, rank=processes.rank, size=processes.size),
    )
