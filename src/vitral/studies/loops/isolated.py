"""`isolated`: training in which the class token attends only to itself in the first half of the blocks.

A knock-out in a trained model has two costs: what the class token would have collected, and an input that the later
blocks have never seen. A model that is trained under the same cut pays only the first.

Axes:  b images   h heads   r rows   m key tokens
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from vitral.base.answers.one_class import one_class
from vitral.nn.vit import VisionTransformer
from vitral.recording.edits import Edit, Weights, renormalise
from vitral.recording.intercept import watch
from vitral.studies.training import LoopInputs
from vitral.training.steps import Step, steps


def isolate_class_token(layers: Sequence[int]) -> Edit:
    """An edit by which the first token attends only to itself in these layers."""

    def edit(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if current not in layers or 0 not in queries:
            return rows
        kept = torch.ones_like(rows)
        kept[:, :, list(queries).index(0), 1:] = 0
        return renormalise(rows * kept)

    return Edit(edit, tuple(layers))


def isolated(inputs: LoopInputs) -> Iterator[Step]:
    """Supervised training with the cut in every forward pass; gradients pass through the edited weights."""
    model, batches, optimizers, lr_at, recipe, _ = inputs
    assert isinstance(model, VisionTransformer)
    half = range(len(model.blocks) // 2)
    cut = partial(watch, model, rows=[0], edit=isolate_class_token(half))
    loss_of = one_class.loss(recipe.label_smoothing)
    return steps(model, batches, optimizers, lr_at, cut, recipe.clip, one_class, loss_of)
