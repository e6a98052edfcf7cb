"""`global_attention`: a ViT's attention is global from the first layer.

What a block can reach, what it attends to, and what its features depend on are three different things. The first is
proved. The other two are measured relative to a uniform distribution over the image, so that 1 is global and 0 is only
the patch itself.

Axes:  b images   l blocks   h heads   y x pixels   gy gx rows, columns of a feature map
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.explain.diagnostics.distance import distance
from vitral.explain.untrained_twin import untrained_twin
from vitral.nn.family.cnn import ResNet
from vitral.nn.vit import VisionTransformer
from vitral.studies.arms import DWCONV3, RESNET, SAMPLES, SHAPES, VIT, untrained
from vitral.studies.decision_rules import Beyond, Exactly
from vitral.studies.effects import Measure
from vitral.studies.figures import list_curves
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, Study
from vitral.studies.training import Trained

IMAGES = 100  # test images
BLOCKS = (1, 2, 3, 4)
UNTRAINED = tuple(untrained(arm) for arm in (VIT, DWCONV3))
Model = VisionTransformer | ResNet


def sensitivity(model: Model, images: Tensor, block: int) -> Float[np.ndarray, "y x"]:
    """How much the centre of a block's feature map depends on each pixel, averaged over images.

    Gradients with random signs, after Luo et al. 2016.
    """
    model.eval()
    pixels = images.detach().clone().requires_grad_()
    features = model.features(pixels, [block])[0]
    centre = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
    signs = torch.randint(0, 2, centre.shape, generator=torch.Generator().manual_seed(block)) * 2.0 - 1
    gradient = torch.autograd.grad((centre * signs).sum(), pixels)[0]
    return gradient.abs().sum(dim=1).mean(dim=0).double().numpy()


def reach(mass: Float[np.ndarray, "y x"], grid: tuple[int, ...]) -> float:
    """The mean distance of the mass from the centre of a feature map, relative to that of uniform mass."""
    rows, columns = np.indices(mass.shape) + 0.5
    y, x = ((side // 2 + 0.5) * pixels / side for side, pixels in zip(grid, mass.shape))
    away = np.hypot(rows - y, columns - x)
    return float((mass * away).sum() / mass.sum() / away.mean())


def reach_and_distance(trained: Trained) -> Measures:
    """The attention distance and the features' reach for each block, relative to uniform attention and dependence."""
    model: nn.Module = trained.model
    if not trained.training.samples:
        # An untrained model's blocks start as the identity, which reaches nothing: random weights stand in for them.
        model = untrained_twin(model, trained.training.seed)
    if not isinstance(model, VisionTransformer | ResNet):
        raise ConfigError(
            f"A {type(model).__name__} has no feature map per block: use a VisionTransformer or a ResNet."
        )
    images = trained.normalised(trained.test_images(IMAGES).pixels)
    depth = len(model.blocks if isinstance(model, VisionTransformer) else model.stages)
    grids = [tuple(one.shape[2:]) for one in model.features(images[:1], range(depth))]
    masses = [sensitivity(model, images, block) for block in range(depth)]
    found: dict[str, float | list[float] | list[list[float]]] = {
        "reach": [reach(mass, grid) for mass, grid in zip(masses, grids)],
        "first_reach": reach(masses[0], grids[0]),
        "last_reach": reach(masses[-1], grids[-1]),
        "unseen": float((masses[0] == 0).mean()),
    }
    if trained.training.settings.get("mixer", "").endswith("Mixing") or isinstance(model, ResNet):
        return found  # it has no attention
    by_head = distance(model, images).mean(axis=0)
    return found | {
        "heads": by_head.tolist(),
        "distance": by_head.mean(axis=1).tolist(),
        "first_distance": float(by_head[0].mean()),
        "last_distance": float(by_head[-1].mean()),
        "nearest_head": float(by_head[0].min()),
        "spread": float(np.ptp(by_head[0])),
    }


first_distance, last_distance = Measure("first_distance"), Measure("last_distance")
first_reach, last_reach = Measure("first_reach"), Measure("last_reach")

global_attention = Study(
    name="global_attention",
    number=3,
    title="Global attention",
    claim="Attention is global from the first layer.",
    question="How far does the first block attend, and how far away are the pixels that its output depends on?",
    arms=(VIT, DWCONV3, RESNET, *UNTRAINED),
    conditions=(Condition("shapes", SHAPES),),
    hypotheses=(
        Hypothesis(
            "The trained first block, averaged over heads, attends more than 0.7 times as far as uniform attention.",
            first_distance["vit"],
            Beyond(0.7),
        ),
        Hypothesis(
            "This is not learned: the untrained first block attends further, by more than 0.05.",
            first_distance["vit, untrained"] - first_distance["vit"],
            Beyond(0.05),
        ),
        Hypothesis(
            "Its heads differ: the furthest attends further than the nearest by more than 0.3.",
            Measure("spread")["vit"],
            Beyond(0.3),
        ),
        Hypothesis(
            "The last block attends further than the first, by more than 0.05.",
            last_distance["vit"] - first_distance["vit"],
            Beyond(0.05),
        ),
        Hypothesis("The ViT's first block depends on every pixel.", Measure("unseen")["vit"], Exactly(0)),
        Hypothesis(
            "The trained first block's output is as global as its attention: its reach is at most 0.1 less.",
            first_reach["vit"] - first_distance["vit"],
            Beyond(-0.1),
        ),
        Hypothesis(
            "After the first block the ViT's features reach further than the convolution's, by more than 0.1.",
            first_reach["vit"] - first_reach["dwconv3"],
            Beyond(0.1),
        ),
        Hypothesis(
            "After the last block they still do, by more than 0.1.",
            last_reach["vit"] - last_reach["dwconv3"],
            Beyond(0.1),
        ),
    ),
    outcomes=Outcomes(
        supported="The first block of this small ViT attends over most of the image. Whether it did so before "
        "training, and whether the block's output depends on as much, are separate hypotheses.",
        refuted="Not as stated: the first block can attend to everything, and every weight is positive, but once "
        "trained it attends nearer: to less than 0.7 of the distance of uniform attention.",
    ),
    would_change="More patches, of which a neighbourhood is a smaller part; long training on photographs, after which "
    "some heads in the first layers of large ViTs attend nearby; augmentation such as CutMix, which makes heads local.",
    budgets={
        "smoke": Budget(256, 2, images=512, eval_images=200, without=("resnet",)),
        "quick": Budget(SAMPLES, 5),
        "full": Budget(4 * SAMPLES, 8),
    },
    reference=Reference("vit", "shapes", 0.85),
    measure=reach_and_distance,
    figures=(
        list_curves(
            {"attention distance": ("distance", BLOCKS), "reach of the features": ("reach", BLOCKS)},
            "shapes",
            "relative to uniform",
            "block or stage",
            "Left: how far each block attends, averaged over heads. Right: how far away the pixels are that the centre "
            "of a block's output depends on. Both are relative to the whole image, uniformly.",
        ),
    ),
    exact=Fact.proved(
        "global_attention",
        "Softmax gives every token a positive weight, so a ViT's first block depends on every pixel; a 3 x 3 "
        "convolution of patches depends on nine patches and on nothing else.",
    ),
    published=(
        Fact(
            "Lower layers of large ViTs attend both nearby and globally; with too little data not nearby.",
            "Raghu et al. 2021, arXiv 2108.08810",
        ),
        Fact(
            "Training alone changes it: on CIFAR-100, CutMix lowers the nearest head's distance from 0.316 to 0.008.",
            "arXiv 2605.16390",
        ),
    ),
)
