"""`dense_prediction`: hierarchical attention is needed for dense prediction at high resolution.

Every pixel of a scene is given a class by four models of equal size: a Swin, whose maps shrink from stage to stage, a
plain ViT, the same ViT with attention in windows in all blocks but the last, and a convolutional network. Each has the
decoder that suits it. How well they do it is measured at 128 pixels; what a training step costs, up to 1,024 pixels.

Axes:  b images   c channels   y x pixels
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitral.nn.family.decoders.detail import DetailDecoder
from vitral.nn.family.decoders.pyramid import PyramidDecoder
from vitral.studies.costs import one_thread, saved_bytes, training_time
from vitral.studies.decision_rules import Beyond
from vitral.studies.effects import Effect, Measure, mean_iou
from vitral.studies.figures import dots, scaling
from vitral.studies.study import Arm, Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, Study
from vitral.studies.training import Trained, build_model

SIZES = (128, 256, 512, 1_024)  # pixels of a side
REPEATS = {128: 5, 256: 3}  # of a timing; one for larger images, which take seconds
SCENES, COSTS = "scenes at 128 px", "training step"
LEAD = 0.05  # of mean IoU: what counts as better

PYRAMID, DETAIL = PyramidDecoder, partial(DetailDecoder, width=48)
# Swin's decoder and the ViT's MLP are as wide as makes them as large as the convolutional network.
RECIPE = dict(batch_size=16, weight_decay=0.05)
SWIN = Arm(
    "swin", "swin_nano_patch4_window8_128", dict(embed_dim=24, decoder=partial(PyramidDecoder, width=60)), RECIPE
)
PLAIN: dict[str, Any] = dict(embed_dim=96, mlp_ratio=2.5, decoder=DETAIL)
GLOBAL = Arm("vit, global", "vit_nano_patch8_128", PLAIN, RECIPE)
WINDOWS = Arm("vit, windows", "vit_nano_patch8_128", PLAIN | dict(window_size=8), RECIPE)
CONVOLUTIONS = Arm("resnet", "resnet_nano_128", dict(decoder=PYRAMID), RECIPE)


def costs(trained: Trained) -> Measures:
    """What one image costs in training, for each of `SIZES`: multiply-adds, seconds of one thread, bytes kept."""
    if trained.training.samples:
        return {}
    found: dict[str, list[float]] = {"multiply_adds": [], "seconds": [], "saved": []}
    torch.manual_seed(trained.training.seed)
    for size in SIZES:
        model = model_at(trained, size).train()
        image = torch.randn(1, 3, size, size)
        found["multiply_adds"].append(float(count_macs(trained, size)))
        with one_thread():
            found["seconds"].append(training_time(model, image, REPEATS.get(size, 1)))
        found["saved"].append(float(saved_bytes(model, image.clone())))
    times, pixels = found["seconds"], [size**2 for size in SIZES]
    growth = torch.tensor([times[-1] / times[-2], pixels[-1] / pixels[-2]]).log()
    return found | {"exponent": float(growth[0] / growth[1])}


def model_at(trained: Trained, size: int) -> nn.Module:
    """The run's model, untrained, for images of `size` x `size` pixels."""
    training = trained.training
    return build_model(training.model, training.settings, len(trained.data.classes), (size, size))


def count_macs(trained: Trained, size: int) -> int:
    """Multiply-adds of a forward and a backward pass for one image, as PyTorch counts them on the meta device."""
    with torch.device("meta"):
        model, image = model_at(trained, size), torch.zeros(1, 3, size, size)  # not counted: it measures its own maps
    with FlopCounterMode(display=False) as counter:
        model(image).sum().backward()
    return counter.get_total_flops() // 2


def lead(one: Arm, other: Arm) -> Effect:
    """How far one arm's mean IoU is above another's."""
    return mean_iou[one.name, SCENES] - mean_iou[other.name, SCENES]


def exponent(arm: Arm) -> Effect:
    return Measure("exponent")[arm.name, COSTS]


def largest(measure: str, arm: Arm) -> Effect:
    """A measure at the largest size."""
    return Measure(measure)[arm.name, COSTS][len(SIZES) - 1]


dense_prediction = Study(
    name="dense_prediction",
    number=13,
    title="Dense prediction",
    claim="Hierarchical attention (Swin) is needed for dense prediction at high resolution.",
    question="With equally many parameters, does a hierarchy find objects' pixels better than a plain ViT, and which "
    "models can pay for 1,024 pixels?",
    arms=(CONVOLUTIONS, SWIN, WINDOWS, GLOBAL),
    conditions=(
        Condition(SCENES, "scenes:n=10000,held_out=300"),
        Condition(COSTS, "scenes:n=8,held_out=8", samples=0.0, alone=True),
    ),
    hypotheses=(
        Hypothesis(
            "Swin's mean IoU is more than five points above that of the plain ViT with windows.",
            lead(SWIN, WINDOWS),
            Beyond(LEAD),
        ),
        Hypothesis(
            "Swin's mean IoU is more than five points above that of the convolutional network.",
            lead(SWIN, CONVOLUTIONS),
            Beyond(LEAD),
        ),
        Hypothesis(
            "Global attention in all blocks is more than five points better than windows in all blocks but the last.",
            lead(GLOBAL, WINDOWS),
            Beyond(LEAD),
        ),
        Hypothesis(
            "From 512 to 1,024 pixels the time of the ViT with global attention grows with more than the 1.5th power "
            "of the number of pixels.",
            exponent(GLOBAL),
            Beyond(1.5),
        ),
        Hypothesis(
            "Swin's grows with less than the 1.25th power.",
            1.25 - exponent(SWIN),
            Beyond(0),
        ),
        Hypothesis(
            "At 1,024 pixels global attention in all blocks takes more than twice the time of windows in all blocks "
            "but the last.",
            largest("seconds", GLOBAL) / largest("seconds", WINDOWS),
            Beyond(2),
        ),
        Hypothesis(
            "At 1,024 pixels the plain ViT with windows takes more than twice Swin's time.",
            largest("seconds", WINDOWS) / largest("seconds", SWIN),
            Beyond(2),
        ),
    ),
    outcomes=Outcomes(
        supported="Swin finds the objects' pixels better than a plain ViT with windows, by more than five points of "
        "mean IoU. Whether it is attention or the hierarchy that helps, the convolutional network tells.",
        refuted="Swin is not five points better than a plain ViT with windows, which is not a hierarchy. What the "
        "models cost at 1,024 pixels is a separate hypothesis.",
        inconclusive="These runs do not decide whether Swin is better than a plain ViT with windows.",
    ),
    would_change="Encoders that were trained on many images before, as the plain ones of the literature are; longer "
    "training, after which the speed of learning matters less; larger models; objects of very different sizes.",
    budgets={
        "smoke": Budget(64, 2, images=64, eval_images=16, only=(SCENES,), without=(GLOBAL.name,)),
        "quick": Budget(24_000, 3, eval_images=300),
        "full": Budget(96_000, 5, (0.5, 1.0, 2.0), eval_images=300),
    },
    reference=Reference(CONVOLUTIONS.name, SCENES, 0.4),
    measure=costs,
    figures=(
        dots("mIoU", "mean IoU", "Mean IoU without background on test scenes of 128 pixels.", conditions=(SCENES,)),
        scaling(
            SIZES,
            {
                "seconds": ("time per image", "s"),
                "saved": ("memory for the backward pass", "B"),
                "multiply_adds": ("multiply-adds", ""),
            },
            "pixels of a side",
            "Forward and backward pass of one image on one thread, by the image's side.",
        ),
    ),
    exact=Fact.proved(
        "dense_prediction",
        "With windows, the multiply-adds of a block's attention grow with the number of pixels, and without them with "
        "its square.",
    ),
    published=(
        Fact(
            "A plain ViT with windows and four blocks of global attention, pre-trained by masked autoencoding, detects "
            "objects on COCO as well as hierarchical backbones of its size.",
            "Li et al. 2022, arXiv 2203.16527, §4",
        ),
    ),
    sweep=SCENES,
    matched=("parameters",),
)
