"""`parts`: does a data set ask for more than its parts?

If colours alone, or patches each on its own, already gave the class away, a map of what CLS attends to would say
nothing about seeing shapes. So: linear probes on mean colour and on colour histograms, a bag of patches (the same ViT
with a mean pool but without attention, at its own best learning rate) against that ViT, and the ViT on shuffled labels.

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

from vitral.base.lookup import find
from vitral.base.numerics import Numerics
from vitral.base.record import ModelRecord, attach_record
from vitral.data.batches import batches, steps_in
from vitral.data.dataset import Dataset, Split
from vitral.nn.family.mixer import NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.zoo import create
from vitral.store.classifier import Classifier
from vitral.training.metrics import interval, predict_split
from vitral.training.optim import optimizers, schedule
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps

MARGIN = 0.10  # how far a bag of patches must stay below the ViT
RATES = (0.5, 1.0, 2.0)  # the bag's learning rate, as multiples of the recipe's
BINS = 8  # of a histogram, per colour channel
SHUFFLED = 0.25  # of the recipe's steps, on shuffled labels


@dataclass(frozen=True)
class Finding:
    """One measurement on the test split, and whether it is as it must be for the set to be worth seeing into."""

    name: str
    accuracy: float
    low: float
    high: float
    n: int
    rule: str
    holds: bool


Shown = Callable[[str, int], AbstractContextManager[Callable[[Step], None]]]


def parts(data: Dataset, recipe: Recipe, numerics: Numerics, shown: Shown) -> Iterator[Finding]:
    """Measure, cheapest first. `shown(name, steps)` opens a display of a training, which is then told each step."""
    chance = float(np.bincount(data.train.labels).max() / len(data.train))
    n = len(data.test)

    def finding(name: str, accuracy: float, rule: str, holds: bool) -> Finding:
        return Finding(name, accuracy, *interval(accuracy, n), n, rule, holds)

    for name, features in (("mean colour, linear", mean_colour), ("colour histogram, linear", histogram)):
        accuracy = linear_probe(features(data.train), data.train.labels, features(data.test), data.test.labels)
        low, _ = interval(accuracy, n)
        yield finding(name, accuracy, f"at chance ({chance:.1%})", low <= chance)

    def trained(name: str, recipe: Recipe, shuffle: bool = False, **arm: type[nn.Module]) -> Classifier:
        return train(name, data, recipe, numerics, shown, shuffle, **arm)

    vit = accuracy_of(trained("ViT, mean pool", recipe, pool=MeanPool), data.test, numerics)
    bags = [
        trained(f"bag of patches, lr x {rate:g}", replace(recipe, lr=recipe.lr * rate), pool=MeanPool, mixer=NoMixing)
        for rate in RATES
    ]
    best = max(bags, key=lambda bag: accuracy_of(bag, data.val, numerics))
    bag = accuracy_of(best, data.test, numerics)
    yield finding("ViT, mean pool", vit, "the reference", True)
    yield finding("bag of patches", bag, f"at least {MARGIN:.0%} below the ViT", bag <= vit - MARGIN)

    short = replace(recipe, epochs=recipe.epochs * SHUFFLED)
    shuffled = accuracy_of(trained("ViT, shuffled labels", short, shuffle=True), data.test, numerics)
    low, _ = interval(shuffled, n)
    yield finding("ViT, shuffled labels", shuffled, f"at chance ({chance:.1%})", low <= chance)


def train(
    name: str,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    shown: Shown,
    shuffle: bool,
    **arm: type[nn.Module],
) -> Classifier:
    """The recipe's model with some parts replaced, after all its steps."""
    torch.manual_seed(recipe.seed)
    bare = create(recipe.model, num_classes=len(data.classes), img_size=data.preprocessing.size, **arm)
    model = attach_record(bare, ModelRecord(data.classes, data.preprocessing)).to(numerics.device)
    split = data.train
    if shuffle:
        split = replace(split, labels=np.random.default_rng(recipe.seed).permutation(split.labels))
    total = steps_in(split, recipe.batch_size, recipe.epochs)
    augment = find("data.augmentation", recipe.augment, "augmentation")
    feed = islice(
        batches(split, data.preprocessing, recipe.batch_size, recipe.seed, augment, device=numerics.device), total
    )
    lr_at = partial(schedule, total=total, warmup=recipe.warmup)
    movers = optimizers(model, recipe)
    loop = steps(model, feed, movers, lr_at, numerics.autocast, recipe.clip, recipe.label_smoothing)
    with shown(name, total) as stepped:
        for step in loop:
            stepped(step)
    return model


def accuracy_of(model: Classifier, split: Split, numerics: Numerics) -> float:
    return predict_split(model, split, numerics.device).accuracy


def mean_colour(split: Split) -> Float[np.ndarray, "n 3"]:
    return split.pixels.mean(axis=(1, 2), dtype=np.float32)


def histogram(split: Split) -> Float[np.ndarray, "n f"]:
    """The share of pixels in each of `BINS` ranges of red, of green and of blue."""
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
        answers = linear(torch.from_numpy((test_features - mean) / std).float()).argmax(dim=1).numpy()
    return float((answers == test_labels).mean())
