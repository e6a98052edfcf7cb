"""`distilled`: a quarter of the samples train a ResNet, and all others the model, which learns to answer as it does.

Axes:  b images   k classes
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.nn.zoo import create
from vitral.store.classifier import Classifier
from vitral.studies.loops.minimised import minimised
from vitral.studies.training import Batches, Training
from vitral.training.optim import optimizers, schedule
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps

SHARE = 0.25  # of the samples, that the teacher is trained on
TEACHER, WIDTH, RATE = "resnet_nano_48", 16, 8e-3
TEMPERATURE = 3.0


def distilled(
    model: Classifier,
    feed: Batches,
    movers: list[torch.optim.Optimizer],
    lr_at: Callable[[int], float],
    recipe: Recipe,
    training: Training,
) -> Iterator[Step]:
    """Half of the loss is of the labels, half of the teacher's softened answers (Hinton et al. 2015, §2)."""
    total, feed = training.samples // recipe.batch_size, iter(feed)
    first = round(SHARE * total)
    teacher = create(TEACHER, embed_dim=WIDTH, num_classes=len(model.classes), img_size=model.preprocessing.size)
    taught = optimizers(teacher, replace(recipe, lr=RATE))
    rising = partial(schedule, total=first, warmup=recipe.warmup)
    yield from steps(teacher, islice(feed, first), taught, rising, nullcontext, recipe.clip)
    teacher.eval()

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            answers = teacher(images)
        own = model(images)
        return 0.5 * F.cross_entropy(own, labels) + 0.5 * apart(own, answers)

    yield from minimised(model, feed, loss_of, movers, total - first, recipe, first)


def apart(own: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """The divergence from the teacher's softened answers, times T² so that gradients keep their size."""
    own, teacher = (F.log_softmax(logits / TEMPERATURE, dim=1) for logits in (own, teacher))
    return F.kl_div(own, teacher, reduction="batchmean", log_target=True) * TEMPERATURE**2
