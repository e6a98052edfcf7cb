"""A step that computes its batch in parts is the step that computes it whole."""

from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from vitral.base.answer import answer_for
from vitral.base.mask_values import IGNORED
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.training.steps import steps

K = 3


def weights_after(model, images, labels, answer, loss_of, parts):
    """Of one step of plain gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    next(steps(model, [(images, labels)], [optimizer], lambda _: 1.0, nullcontext, 1e6, answer, loss_of, 0, parts))
    return model.weight.detach()


def drawn(task, generator):
    """Images and labels of a batch in the order of its classes, as batches are."""
    classes = torch.randint(0, K, (8,), generator=generator).sort().values
    if task == "segmentation":
        masks = torch.randint(0, K, (8, 5, 5), generator=generator, dtype=torch.uint8)
        masks[torch.rand(8, 5, 5, generator=generator) < 0.5] = IGNORED
        masks[0] = IGNORED
        return torch.randn(8, 4, 5, 5, generator=generator), masks
    labels = {
        "one class": classes,
        "shares": torch.softmax(torch.randn(8, K, generator=generator), 1),
        "several classes": torch.rand(8, K, generator=generator) < 0.3,
        "numbers": torch.randn(8, K, generator=generator).double(),
    }
    return torch.randn(8, 4, generator=generator), labels[task]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", ["one class", "shares", "several classes", "numbers", "segmentation"])
def test_a_step_in_parts_is_the_whole_step(task, balanced):
    images, labels = drawn(task, torch.Generator().manual_seed(0))
    answer = answer_for("one class" if task == "shares" else task)
    counted = np.repeat(np.arange(K), [90, 30, 2])  # the classes of the training images, some of them rare
    loss_of = answer.loss(0.0, labels.numpy() if task == "numbers" else counted, balanced, 0.0)
    model = nn.Conv2d(4, K, 1) if task == "segmentation" else nn.Linear(4, K)
    record = ModelRecord(("a", "b", "c"), Preprocessing((5, 5)), task=answer.task)
    whole, *others = (
        weights_after(attach_record(deepcopy(model), record), images, labels, answer, loss_of, parts)
        for parts in (1, 2, 3, 9)
    )
    for other in others:
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-5)


def test_each_part_has_all_classes_of_a_batch_that_is_in_their_order():
    """A batch norm that sees one class at a time takes away what tells it from the others."""
    seen = []

    class Model(nn.Linear):
        def forward(self, x):
            seen.append(x[:, 0].tolist())
            return super().forward(x)

    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    images = labels[:, None].float().repeat(1, 4)
    answer = answer_for("one class")
    weights_after(Model(4, 2), images, labels, answer, answer.loss(), 4)
    assert seen == [[0.0, 1.0]] * 4
