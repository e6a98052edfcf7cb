"""`equivariance`: convolutions are translation-equivariant, ViTs are not.

Two questions of trained models. Of images twice as wide, with every object in the left half: is it known in the right
half? And does an answer stay when the image moves by so many pixels: around the edges, or with the edge repeated and
the object still whole?

Axes:  n images   y x pixels
"""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from vitral.data.dataset import Split
from vitral.nn.family.position import NoPosition
from vitral.studies.arms import (
    BAG,
    CIRCULAR,
    DWCONV3,
    EASY,
    NO_POSITIONS,
    RESNET,
    SAMPLES,
    SHUFFLED,
    SMALL_SHAPES,
    VIT,
    named,
)
from vitral.studies.drawing import contrasted, curves
from vitral.studies.rules import Beyond, Exactly, Within
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained
from vitral.training.metrics import predict_split

PATCH = 8  # pixels: also the ResNet's strides together
AROUND, WHOLE = tuple(range(2 * PATCH + 1)), tuple(range(PATCH + 1))
IMAGES = 400
ARMS = (
    VIT,
    NO_POSITIONS,
    named(DWCONV3, "dwconv3, no positions", position=NoPosition),
    named(CIRCULAR, "circular3, no positions", position=NoPosition),
    RESNET,
    BAG,
    named(VIT, "vit, images shifted", recipe=dict(augment="shift")),
)
EVERY = tuple(arm.name for arm in ARMS)


def shifted(pixels: UInt8[np.ndarray, "n y x 3"], by: int, axis: int, around: bool) -> UInt8[np.ndarray, "n y x 3"]:
    """All images moved down (axis 1) or right (axis 2); what leaves comes back, or else the edge is repeated."""
    side = pixels.shape[axis]
    source = np.arange(side) - by
    return pixels.take(source % side if around else source.clip(0), axis=axis)


def with_room(split: Split, most: int, axis: int) -> Split:
    """The images whose object stays whole when they move by `most`."""
    assert split.masks is not None
    occupied: np.ndarray = np.any(split.masks, axis=3 - axis)
    last = occupied.shape[1] - 1 - occupied[:, ::-1].argmax(axis=1)
    return split.only(np.flatnonzero(last + most < occupied.shape[1]))


def measure(trained: Trained) -> Measures:
    """The share of answers that stay, for each shift: `around` the edges, or with objects that stay `whole`.

    `between` is the mean of the latter over shifts of less than a patch.
    """
    if not trained.condition:
        return {}
    found: dict[str, list[list[float]]] = {"around": [], "whole": []}
    test = trained.data.test.only(np.arange(min(trained.training.judged, len(trained.data.test))))
    for axis in (1, 2):
        for name, shifts in (("around", AROUND), ("whole", WHOLE)):
            split = test if name == "around" else with_room(test, shifts[-1], axis)
            split = split.only(np.arange(min(IMAGES, len(split))))
            answers = [
                predict_split(trained.model, replace(split, pixels=shifted(split.pixels, by, axis, name == "around")))
                for by in shifts
            ]
            stays = [float((one.answers == answers[0].answers).mean()) for one in answers]
            found[name].append(stays)
    shares = {name: np.mean(values, axis=0) for name, values in found.items()}
    between = float(shares["whole"][1:PATCH].mean())
    return {name: values.tolist() for name, values in shares.items()} | {"between": between}


def lost(arm: str) -> str:
    """What is lost on the other side, as a formula."""
    return f'(val_accuracy["{arm}", "one side"] - accuracy["{arm}", "one side"])'


equivariance = Study(
    name="equivariance",
    number=1,
    title="Translation",
    claim="Convolutions are translation-equivariant, and ViTs are not.",
    question="Is what was learned in one place known in another, and does an answer stay when the image moves?",
    arms=(*ARMS, SHUFFLED),
    conditions=(
        Condition("plain", SMALL_SHAPES, settings=dict(shifts=True)),
        Condition("one side", f"shapes:size=24,{EASY}", "one side", arms=EVERY),
    ),
    hypotheses=(
        Hypothesis(
            "What a convolution of patches, with zeros beyond its edges, learned on one side, it knows on the other.",
            lost("dwconv3, no positions"),
            Within(0.05),
        ),
        Hypothesis("What the ViT learned on one side, it does not know on the other.", lost("vit"), Beyond(0.05)),
        Hypothesis(
            "A ViT without positions loses next to nothing on the other side.", lost("vit, no positions"), Within(0.05)
        ),
        Hypothesis(
            "A convolution that wraps around loses next to nothing there.",
            lost("circular3, no positions"),
            Within(0.05),
        ),
        Hypothesis(
            "The ResNet, also with zeros beyond its edges, loses less than the convolution of patches.",
            f"{lost('dwconv3, no positions')} - {lost('resnet')}",
            Beyond(0.05),
        ),
        Hypothesis("But it loses, too.", lost("resnet"), Beyond(0.02)),
        Hypothesis(
            "Moved by half a patch, even the convolution that wraps around changes answers.",
            f'1 - around["circular3, no positions", "plain"][{PATCH // 2}]',
            Beyond(0.0),
        ),
        Hypothesis(
            "A ViT that was trained on shifted images keeps more answers, shifts of 1 to 7 pixels, than a convolution "
            "that was not.",
            'between["vit, images shifted", "plain"] - between["dwconv3, no positions", "plain"]',
            Beyond(0.0),
        ),
        Hypothesis(
            "Moved around by a whole patch, the convolution that wraps around changes no answer.",
            f'1 - around["circular3, no positions", "plain"][{PATCH}]',
            Exactly(1e-3),
        ),
        Hypothesis(
            "Nor does a ViT without positions.", f'1 - around["vit, no positions", "plain"][{PATCH}]', Exactly(1e-3)
        ),
    ),
    outcomes=Outcomes(
        supported="True of this convolution: even with zeros beyond its edges it knows on one side what it learned on "
        "the other. What the ViT loses, with positions and without, is asked separately.",
        refuted="Wrong as stated: what this convolution of patches, with zeros beyond its edges, learned on one side "
        "is lost on the other. That one which wraps around, and a ViT without positions, are equivariant to whole "
        "patches and to nothing less is proved; what they lose here, and what an ordinary ResNet loses, is asked "
        "separately.",
        inconclusive="These runs cannot tell whether the convolution loses what it learned; see which models lose "
        "nothing.",
    ),
    would_change="Larger images, where fewer patches are near an edge; positions that tell only distances; a ViT "
    "trained on images that are shifted further.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=100, without=(*EVERY[4:], SHUFFLED.name)),
        "quick": Budget(SAMPLES, 4, (0.5, 1.0, 2.0)),
        "full": Budget(4 * SAMPLES, 5, (0.25, 0.5, 1.0, 2.0)),
    },
    regime=Regime("vit", "plain", 0.8),
    measure=measure,
    figures=(
        contrasted(
            {"left, where it learned": "val_accuracy", "right, where it never saw an object": "accuracy"},
            "one side",
            "accuracy",
            "Trained with every object in the left half of the image. The same shapes on the left, new images; and on "
            "the right.",
        ),
        curves(
            {"around the edges": ("around", AROUND), "edge repeated, object whole": ("whole", WHOLE)},
            "plain",
            "answers that stay",
            "shift in pixels",
            "The share of answers that stay when the image moves down or right. Dashed: multiples of the patch, which "
            "is also the ResNet's stride. Around the edges, the larger shifts cut objects in two; and a model that is "
            "always right would keep all answers, equivariant or not.",
            marked=(0, PATCH, 2 * PATCH),
        ),
    ),
    exact=(
        Fact(
            "Convolutions that wrap around are equivariant to every shift by a multiple of their strides, and to no "
            "other; with zeros beyond the edges, only where no edge is within reach.",
            "tests/laws/test_study_equivariance.py",
        ),
        Fact(
            "A ViT without positions gives the same logits when the image moves around by whole patches, and others "
            "when it moves by a pixel; so does its patch embedding.",
            "tests/laws/test_study_equivariance.py",
        ),
    ),
    published=(
        Fact(
            "CNNs exploit absolute location, by filters that respond to the image's boundary, even far from it.",
            "Kayhan & van Gemert 2020, arXiv 2003.07064",
        ),
        Fact(
            "Trained ViTs can be more equivariant than CNNs; larger and more accurate models tend to be, whatever "
            "their architecture.",
            "Gruver et al. 2023, arXiv 2210.02984",
        ),
        Fact(
            "ImageNet classifiers keep their answer for two shifts of an image in 78.2 % (AlexNet) to 90.9 % "
            "(ResNet-152) of cases, before anti-aliasing.",
            "Zhang 2019, adobe/antialiased-cnns, README",
        ),
    ),
)
