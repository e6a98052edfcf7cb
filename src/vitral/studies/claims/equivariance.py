"""`equivariance`: convolutions are translation-equivariant, ViTs are not.

Two things that the claim mixes are measured apart. The operator's equivariance: does the output of an untrained layer
move with the image, exactly, when it moves by a patch and wraps around? And the trained network's invariance: in images
twice as wide, with every object in the left half during training, are objects recognised in the right half? And does a
prediction stay the same when the image moves by some pixels, either wrapping around the edges, or with the edge
repeated and the object still whole?

Axes:  n images   b images   c channels   y x pixels   d width   gy gx rows, columns of a feature map
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.data.dataset import Split
from vitral.explain.untrained_twin import untrained_twin
from vitral.nn.family.cnn import ResNet
from vitral.nn.family.position import NoPosition
from vitral.nn.vit import VisionTransformer
from vitral.studies.arms import (
    BAG,
    CIRCULAR,
    DWCONV3,
    NO_POSITIONS,
    RESNET,
    SHUFFLED,
    SMALL_SHAPES,
    VIT,
    swept_budgets,
    untrained,
    variant,
)
from vitral.studies.decision_rules import Beyond, Exactly, Within
from vitral.studies.effects import Effect, Measure, accuracy, val_accuracy
from vitral.studies.figures import list_curves, measures_side_by_side
from vitral.studies.study import Condition, Fact, Hypothesis, Measures, Outcomes, Reference, Study
from vitral.studies.training import Trained, first_images
from vitral.training.metrics import classify_split

PATCH = 8  # pixels: also the product of the ResNet's strides
AROUND, WHOLE = tuple(range(2 * PATCH + 1)), tuple(range(PATCH + 1))  # shifts in pixels
IMAGES = 400
ARMS = (
    VIT,
    NO_POSITIONS,
    variant(DWCONV3, "dwconv3, no positions", position=NoPosition),
    variant(CIRCULAR, "circular3, no positions", position=NoPosition),
    RESNET,
    BAG,
    variant(VIT, "vit, images shifted", recipe=dict(augment="shift")),
)
EVERY = tuple(arm.name for arm in ARMS)
LAYERS = tuple(untrained(arm) for arm in ARMS[:5])  # of which one layer is measured, with random weights
LAYER_IMAGES = 32
EXACT = 1e-9  # of features with a deviation of one, in double precision


def shift_images(
    pixels: UInt8[np.ndarray, "n y x 3"], by: int, axis: int, around: bool
) -> UInt8[np.ndarray, "n y x 3"]:
    """Move all images down (axis 1) or right (axis 2), wrapping around or else repeating the edge."""
    side = pixels.shape[axis]
    source = np.arange(side) - by
    return pixels.take(source % side if around else source.clip(0), axis=axis)


def images_with_room(split: Split, most: int, axis: int) -> Split:
    """The images whose object stays whole when they move by up to `most` pixels."""
    assert split.masks is not None
    occupied: np.ndarray = np.any(split.masks, axis=3 - axis)
    last = occupied.shape[1] - 1 - occupied[:, ::-1].argmax(axis=1)
    return split.only(np.flatnonzero(last + most < occupied.shape[1]))


@torch.no_grad()
def layer_equivariance(model: nn.Module, images: Float[Tensor, "b c y x"]) -> dict[str, float]:
    """How far one layer's features are from moving with the image, when it moves down by a patch and wraps around.

    The root mean square of the difference over the features' deviation: 0 is equivariant. `layer_change` is over the
    whole feature map; `layer_change_inside`, for layers of whole patches, only where no edge is among the neighbours.
    Raises `ConfigError` for a model without feature maps.
    """
    if not isinstance(model, VisionTransformer | ResNet):
        raise ConfigError(
            f"A {type(model).__name__} has no feature map per layer: use a VisionTransformer or a ResNet."
        )
    before, after = (model.features(some, [0])[0] for some in (images, images.roll(PATCH, 2)))
    step = PATCH * before.shape[2] // images.shape[2]  # the shift in cells of the feature map
    change = (after - before.roll(step, 2)) / before.std()
    found = {"layer_change": float(change.square().mean().sqrt())}
    if step == 1:
        # A cell and its neighbours must be away from the edges both before and after the move.
        found["layer_change_inside"] = float(change[:, :, 2:-1, 1:-1].square().mean().sqrt())
    return found


def equivariance_and_stability(trained: Trained) -> Measures:
    """Of an untrained arm, the equivariance of one layer with random weights; of a trained one, its `stability`."""
    if trained.training.samples:
        return stability(trained)
    # An untrained model's blocks start as the identity: random weights stand in for them.
    twin = untrained_twin(trained.model, trained.training.seed).double().eval()
    return layer_equivariance(twin, trained.normalised(trained.test_images(LAYER_IMAGES).pixels).double())


def stability(trained: Trained) -> Measures:
    """The share of predictions that do not change, for each shift: `around` the edges, or with `whole` objects.

    `between` is the mean of the latter over shifts of less than a patch. Only for conditions with settings.
    """
    if not trained.condition:
        return {}
    found: dict[str, list[list[float]]] = {"around": [], "whole": []}
    test = trained.test_images()
    for axis in (1, 2):
        for name, shifts in (("around", AROUND), ("whole", WHOLE)):
            split = first_images(test if name == "around" else images_with_room(test, shifts[-1], axis), IMAGES)
            moved = [shift_images(split.pixels, by, axis, name == "around") for by in shifts]
            predicted = [classify_split(trained.model, replace(split, pixels=pixels)).answers for pixels in moved]
            found[name].append([float((one == predicted[0]).mean()) for one in predicted])
    shares = {name: np.mean(values, axis=0) for name, values in found.items()}
    between = float(shares["whole"][1:PATCH].mean())
    return {name: values.tolist() for name, values in shares.items()} | {"between": between}


around, between = Measure("around", is_share=True), Measure("between", is_share=True)
layer_change, layer_change_inside = Measure("layer_change"), Measure("layer_change_inside")


def loss(arm: str) -> Effect:
    """The accuracy that an arm loses on the other side."""
    return val_accuracy[arm, "one side"] - accuracy[arm, "one side"]


equivariance = Study(
    name="equivariance",
    number=1,
    title="Translation",
    claim="Convolutions are translation-equivariant, and ViTs are not.",
    question="Does one layer's output move with the image? And once trained, is what was learned in one place "
    "recognised in another, and are predictions stable when images move?",
    arms=(*ARMS, *LAYERS, SHUFFLED),
    conditions=(
        Condition("plain", SMALL_SHAPES, settings=dict(shifts=True)),
        Condition("one side", SMALL_SHAPES.replace("size=32", "size=24"), "one side", arms=EVERY),
    ),
    hypotheses=(
        Hypothesis(
            "Trained network: a convolution with zero padding recognises on one side what it learned on the other.",
            loss("dwconv3, no positions"),
            Within(0.05),
        ),
        Hypothesis(
            "Trained network: the ViT does not recognise on one side what it learned on the other.",
            loss("vit"),
            Beyond(0.05),
        ),
        Hypothesis(
            "Trained network: a ViT without positions loses almost nothing on the other side.",
            loss("vit, no positions"),
            Within(0.05),
        ),
        Hypothesis(
            "Trained network: a convolution with circular padding loses almost nothing there.",
            loss("circular3, no positions"),
            Within(0.05),
        ),
        Hypothesis(
            "Trained network: the ResNet, which also has zero padding, loses less than the convolution of patches.",
            loss("dwconv3, no positions") - loss("resnet"),
            Beyond(0.05),
        ),
        Hypothesis("Trained network: but it loses accuracy, too.", loss("resnet"), Beyond(0.02)),
        Hypothesis(
            "Trained network: moving images by half a patch changes predictions even with circular padding.",
            1 - around["circular3, no positions", "plain"][PATCH // 2],
            Beyond(0.0),
        ),
        Hypothesis(
            "Trained network: over 1 to 7 pixels, a ViT trained on shifted images is stabler than the convolution.",
            between["vit, images shifted", "plain"] - between["dwconv3, no positions", "plain"],
            Beyond(0.0),
        ),
        Hypothesis(
            "Trained network: moving images by a whole patch, wrapping around, changes no prediction there.",
            1 - around["circular3, no positions", "plain"][PATCH],
            Exactly(1e-3),
        ),
        Hypothesis(
            "Trained network: nor of a ViT without positions.",
            1 - around["vit, no positions", "plain"][PATCH],
            Exactly(1e-3),
        ),
        Hypothesis(
            "Operator: an untrained layer of the convolution with circular padding moves its output with the image.",
            layer_change["circular3, no positions, untrained"],
            Exactly(EXACT),
        ),
        Hypothesis(
            "Operator: so does an untrained layer of attention without positions.",
            layer_change["vit, no positions, untrained"],
            Exactly(EXACT),
        ),
        Hypothesis(
            "Operator: with zero padding the convolution's does so where no edge is among the neighbours.",
            layer_change_inside["dwconv3, no positions, untrained"],
            Exactly(EXACT),
        ),
        Hypothesis(
            "Operator: over the whole image, with its edges, it does not.",
            layer_change["dwconv3, no positions, untrained"],
            Beyond(0.01),
        ),
        Hypothesis("Operator: nor does attention with positions.", layer_change["vit, untrained"], Beyond(0.01)),
    ),
    outcomes=Outcomes(
        supported="Trained with zero padding, this convolution recognises on one side what it learned on the other. "
        "What the ViT loses, with and without positions, and what the operators do untrained, are separate hypotheses.",
        refuted="Trained with zero padding, this convolution does not recognise on one side what it learned on the "
        "other, although the operator is equivariant wherever no edge is near. Operator and trained network are two "
        "questions. Untrained, a layer with circular padding and one of attention without positions move their output "
        "exactly with the image, by whole patches; zero padding breaks that at the edges, positions everywhere. What "
        "each network loses once trained is a separate hypothesis.",
        inconclusive="These runs do not decide whether the trained convolution loses accuracy on the other side. What "
        "the operators do untrained are separate hypotheses.",
    ),
    would_change="Larger images, where fewer patches are near an edge; relative positions; training on larger shifts.",
    budgets=swept_budgets(eval_images=100, without=(*EVERY[4:], LAYERS[4].name, SHUFFLED.name)),
    reference=Reference("vit", "plain", 0.8),
    measure=equivariance_and_stability,
    figures=(
        measures_side_by_side(
            {"whole image": "layer_change", "no edge near": "layer_change_inside"},
            "plain",
            "change, in deviations",
            "The operator, apart from training: how far the output of one layer with random weights is from moving "
            "with the image, when it moves by a patch and wraps around. Zero is equivariant.",
            percent=False,
        ),
        measures_side_by_side(
            {"left, as in training": "val_accuracy", "right, where no object was": "accuracy"},
            "one side",
            "accuracy",
            "The trained network. Every object was in the left half in training. Accuracy on new images, with it on "
            "the left and right.",
        ),
        list_curves(
            {"wrapping around": ("around", AROUND), "edge repeated, object whole": ("whole", WHOLE)},
            "plain",
            "unchanged predictions",
            "shift in pixels",
            "The share of predictions that do not change when the image moves down or right. Dashed: multiples of the "
            "patch, also the ResNet's stride. Wrapping around cuts objects in two at larger shifts. A model that is "
            "always right keeps all predictions, equivariant or not.",
            marked=(0, PATCH, 2 * PATCH),
        ),
    ),
    exact=Fact.proved(
        "equivariance",
        "Convolutions with circular padding are equivariant to every shift by a multiple of their strides, and to "
        "no other; with zero padding, only where no edge is within reach.",
        "The logits of a ViT without positions stay the same when the image moves by whole patches, wrapping "
        "around, and change when it moves by a pixel; so does its patch embedding.",
    ),
    published=(
        Fact(
            "CNNs use absolute location, through filters that respond to the image boundary even far from it.",
            "Kayhan & van Gemert 2020, arXiv 2003.07064",
        ),
        Fact(
            "Trained ViTs can be more equivariant than CNNs; larger and more accurate models of any kind tend to be.",
            "Gruver et al. 2023, arXiv 2210.02984",
        ),
        Fact(
            "The predictions of ImageNet classifiers for two shifts of an image agree in 78.2 % (AlexNet) to 90.9 % "
            "(ResNet-152) of cases, before anti-aliasing.",
            "Zhang 2019, adobe/antialiased-cnns, README",
        ),
    ),
)
