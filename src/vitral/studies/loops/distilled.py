"""`distilled`: a quarter of the samples train a ResNet; the others train the model to predict what the ResNet does.

Axes:  b images   k classes
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.base.answers.one_class import one_class
from vitral.nn.zoo import create
from vitral.studies.loops.custom_loss import minimize
from vitral.studies.training import LoopInputs
from vitral.training import optim
from vitral.training.steps import Step, steps

SHARE = 0.25  # of the samples, for training the teacher
TEACHER, WIDTH, RATE = "resnet_nano_48", 16, 8e-3
TEMPERATURE = 3.0


def distilled(inputs: LoopInputs) -> Iterator[Step]:
    """Half of the loss is from the labels, half from the teacher's softened outputs (Hinton et al. 2015, §2)."""
    model, batches, optimizers, _, recipe, total = inputs
    first = round(SHARE * total)
    teacher = create(TEACHER, embed_dim=WIDTH, num_classes=len(model.classes), img_size=model.preprocessing.size)
    teacher_optimizers = optim.optimizers(teacher, replace(recipe, lr=RATE))
    teacher_lr_at = partial(optim.schedule, total=first, warmup=recipe.warmup)
    yield from steps(
        teacher,
        islice(batches, first),
        teacher_optimizers,
        teacher_lr_at,
        nullcontext,
        recipe.clip,
        one_class,
        one_class.loss(),
    )
    teacher.eval()

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            targets = teacher(images)
        logits = model(images)
        return 0.5 * F.cross_entropy(logits, labels) + 0.5 * distillation_loss(logits, targets)

    yield from minimize(model, batches, loss_of, optimizers, total - first, recipe, first)


def distillation_loss(logits: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """The KL divergence from the teacher's softened outputs, times T² so that gradients keep their size."""
    student, target = (F.log_softmax(one / TEMPERATURE, dim=1) for one in (logits, teacher))
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * TEMPERATURE**2
