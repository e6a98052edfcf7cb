"""The sections of a training report that show attention maps: of the surest test images, and of the worst mistakes.

Axes:  n images   m chosen images
"""

import numpy as np
import torch
from jaxtyping import Int

from vitral import explain
from vitral.base.errors import UsageError, WatchError
from vitral.data.dataset import Dataset
from vitral.data.preprocess import normalise
from vitral.explain.maps import Maps
from vitral.report.maps import attention_figure, mistakes_figure
from vitral.report.page import Picture, Section
from vitral.report.style import png
from vitral.store.classifier import Classifier
from vitral.training.metrics import Predictions

WORST = 7  # mistakes that are shown
SHOWN = 2  # images predicted correctly, and as many mistakes, whose every head is shown
MASS = {
    "CLS": "Below each panel: the share of attention that CLS keeps for itself. ",
    "": "",  # no token before the patches
}


def attention_sections(model: Classifier, data: Dataset, test: Predictions) -> list[Section]:
    """Attention in every block and head for a few test images, and the mistakes with the highest probability."""
    right, wrong = examples(test)
    chosen = np.array([*right[:SHOWN], *wrong], dtype=int)
    try:
        images = normalise(torch.from_numpy(data.test.pixels[chosen]), model.preprocessing)
        maps = explain.attention(model, images)
    except (WatchError, UsageError) as error:
        return [Section("Attention", f"No attention maps: {error}"), mistakes_section(data, test, wrong, None)]
    shown = range(min(len(chosen), len(right[:SHOWN]) + SHOWN))
    last = maps.values[len(right[:SHOWN]) :, -1].mean(axis=1)
    text = (
        "One row per block, one column per head; one scale for all panels of an image: 1× is uniform attention. "
        f"{MASS.get(maps.prefix, 'Below each panel: the share of attention on CLS and the other prefix tokens. ')}"
        f"{maps.caption}"
    )
    return [
        Section(
            f"What {maps.reader} attends to, block by block and head by head",
            text,
            [attention_picture(maps, place, int(chosen[place]), data, test) for place in shown],
        ),
        mistakes_section(data, test, wrong, last),
    ]


def attention_picture(maps: Maps, place: int, index: int, data: Dataset, test: Predictions) -> Picture:
    """All blocks and heads of one image: `place` among the maps, `index` among the test images."""
    truth, answer = data.classes[test.labels[index]], data.classes[test.answers[index]]
    verdict = f"right: {truth}" if truth == answer else f"wrong: {answer} instead of {truth}"
    figure = attention_figure(
        maps.pixels[place],
        maps.values[place],
        maps.prefix_mass[place],
        maps.layers,
        maps.heads,
        f"{verdict}, with probability {test.probabilities[index].max():.0%}",
        maps.prefix,
    )
    return Picture(png(figure, 110), f"attention of {maps.reader} in every block and head, {verdict}")


def mistakes_section(
    data: Dataset, test: Predictions, wrong: Int[np.ndarray, " m"], maps: np.ndarray | None
) -> Section:
    """The wrong predictions with the highest probability."""
    count = int((test.answers != test.labels).sum())
    if not count:
        return Section("The worst mistakes", f"None: all {len(test.labels):,} test images were predicted correctly.")
    titles = [
        f"{data.classes[test.labels[i]]} → {data.classes[test.answers[i]]}\n{test.probabilities[i].max():.0%} sure"
        for i in wrong
    ]
    text = (
        f"{count:,} of {len(test.labels):,} predictions were wrong. "
        "These have the highest probability: true class → predicted class."
    )
    figure = mistakes_figure(data.test.pixels[wrong], titles, maps)
    return Section("The worst mistakes", text, [Picture(png(figure), f"{len(wrong)} images predicted wrongly")])


def examples(test: Predictions) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The correct test image with the highest probability in each class, and the mistakes, surest first."""
    sure = np.argsort(-test.probabilities.max(axis=1), kind="stable")
    correct = test.answers == test.labels
    right = sure[correct[sure]]
    different = [int(right[test.labels[right] == label][0]) for label in dict.fromkeys(test.labels[right].tolist())]
    return np.array(different, dtype=int), sure[~correct[sure]][:WORST]
