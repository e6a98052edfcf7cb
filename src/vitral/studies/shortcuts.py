"""Whether a data set can be solved by shortcuts: from colours alone, or without combining patches.

If it can, an attention map shows nothing about recognising shapes. So these are measured: linear probes on the mean
colour and on colour histograms; a bag of patches (the same ViT with mean pooling but without attention, at its own
best learning rate) against that ViT; and the ViT trained on shuffled labels.

Axes:  n images   f features   k classes
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import nn

from vitral.base.answers.one_class import one_class
from vitral.base.intervals import interval
from vitral.base.numerics import Numerics
from vitral.base.record import ModelRecord, attach_record
from vitral.data.augment import find_augment
from vitral.data.batches import batches, steps_in
from vitral.data.dataset import Dataset, Split
from vitral.nn.family.mixer import NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.zoo import create
from vitral.store.classifier import Classifier
from vitral.training import optim
from vitral.training.metrics import classify_split
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps

REFERENCE = "the reference"  # the rule of the model that the bag of patches is compared with; it always holds
MARGIN = 0.10  # by which the ViT must exceed a bag of patches
RATES = (0.5, 1.0, 2.0)  # the bag's learning rates, as multiples of the recipe's
BINS = 8  # of a histogram, per colour channel
SHUFFLED = 0.25  # share of the recipe's steps for the training on shuffled labels


@dataclass(frozen=True)
class ShortcutCheck:
    """An accuracy on the test split with its interval, the rule for it, and whether the rule holds."""

    name: str
    accuracy: float
    low: float
    high: float
    n: int
    rule: str
    holds: bool


# Opens a display of one training, given its name and its steps; the display is then called with each step.
ShowTraining = Callable[[str, int], AbstractContextManager[Callable[[Step], None]]]


def check_shortcuts(data: Dataset, recipe: Recipe, numerics: Numerics, show: ShowTraining) -> Iterator[ShortcutCheck]:
    """Yield every check, the cheapest first."""
    chance = float(np.bincount(data.train.labels).max() / len(data.train))
    n = len(data.test)

    def checked(name: str, accuracy: float, rule: str, holds: bool) -> ShortcutCheck:
        return ShortcutCheck(name, accuracy, *interval(accuracy, n), n, rule, holds)

    def at_chance(name: str, accuracy: float) -> ShortcutCheck:
        return checked(name, accuracy, f"at chance ({chance:.1%})", interval(accuracy, n)[0] <= chance)

    for name, features in (("mean colour, linear", mean_colour), ("colour histogram, linear", histogram)):
        accuracy = linear_probe(features(data.train), data.train.labels, features(data.test), data.test.labels)
        yield at_chance(name, accuracy)

    def trained(name: str, recipe: Recipe, shuffle: bool = False, **arm: type[nn.Module]) -> Classifier:
        return train(name, data, recipe, numerics, show, shuffle, **arm)

    vit = accuracy_of(trained("ViT, mean pool", recipe, pool=MeanPool), data.test)
    bags = [
        trained(f"bag of patches, lr x {rate:g}", replace(recipe, lr=recipe.lr * rate), pool=MeanPool, mixer=NoMixing)
        for rate in RATES
    ]
    best = max(bags, key=lambda bag: accuracy_of(bag, data.val))
    bag = accuracy_of(best, data.test)
    yield checked("ViT, mean pool", vit, REFERENCE, True)
    yield checked("bag of patches", bag, f"at least {MARGIN * 100:.0f} points below the ViT", bag <= vit - MARGIN)

    short = replace(recipe, epochs=recipe.epochs * SHUFFLED)
    shuffled = trained("ViT, shuffled labels", short, shuffle=True)
    yield at_chance("ViT, shuffled labels", accuracy_of(shuffled, data.test))


def train(
    name: str,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    show: ShowTraining,
    shuffle: bool,
    **arm: type[nn.Module],
) -> Classifier:
    """The recipe's model with some parts replaced, after all its steps; `shuffle` permutes the training labels."""
    torch.manual_seed(recipe.seed)
    bare = create(recipe.model, num_classes=len(data.classes), img_size=data.preprocessing.size, **arm)
    model = attach_record(bare, ModelRecord(data.classes, data.preprocessing)).to(numerics.device)
    split = data.train
    if shuffle:
        split = replace(split, labels=np.random.default_rng(recipe.seed).permutation(split.labels))
    total = steps_in(split, recipe.batch_size, recipe.epochs)
    augment = find_augment(recipe.augment)
    feed = islice(
        batches(split, data.preprocessing, recipe.batch_size, recipe.seed, augment, device=numerics.device), total
    )
    lr_at = partial(optim.schedule, total=total, warmup=recipe.warmup)
    optimizers = optim.optimizers(model, recipe)
    loss_of = one_class.loss(recipe.label_smoothing)
    with show(name, total) as on_step:
        for step in steps(model, feed, optimizers, lr_at, numerics.autocast, recipe.clip, one_class, loss_of):
            on_step(step)
    return model


def accuracy_of(model: Classifier, split: Split) -> float:
    return classify_split(model, split).accuracy


def mean_colour(split: Split) -> Float[np.ndarray, "n 3"]:
    return split.pixels.mean(axis=(1, 2), dtype=np.float32)


def histogram(split: Split) -> Float[np.ndarray, "n f"]:
    """The share of pixels in each of `BINS` ranges, per colour channel."""
    binned = split.pixels // (256 // BINS)
    shares = [(binned == value).mean(axis=(1, 2), dtype=np.float32) for value in range(BINS)]
    return np.concatenate(shares, axis=1)


def linear_probe(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m f"],
    test_labels: Int[np.ndarray, " m"],
) -> float:
    """Test accuracy of multinomial logistic regression on standardised features."""
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    x, y = torch.from_numpy((features - mean) / std).float(), torch.from_numpy(labels)
    linear = nn.Linear(x.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(linear.weight)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(linear(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.inference_mode():
        predicted = linear(torch.from_numpy((test_features - mean) / std).float()).argmax(dim=1).numpy()
    return float((predicted == test_labels).mean())
