"""`global_attention`: a ViT's attention is global from the first layer.

What it may reach, what it attends to, and what its features then depend on are three things. The first is proved; the
others are measured in units of what an even share of the whole image would give, so that 1 is global and 0 is nothing
but the patch itself.

Axes:  b images   l blocks   h heads   y x pixels   gy gx rows, columns of a map
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.data.preprocess import normalise
from vitral.explain.diagnostics.distance import distance
from vitral.explain.untrained_twin import untrained_twin
from vitral.studies.arms import DWCONV3, RESNET, SAMPLES, SHAPES, VIT, untrained
from vitral.studies.drawing import curves
from vitral.studies.rules import Beyond, Exactly
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained, first

IMAGES = 100  # test images that are looked at
BLOCKS = (1, 2, 3, 4)
UNTRAINED = tuple(untrained(arm) for arm in (VIT, DWCONV3))


def sensitivity(model: nn.Module, images: Tensor, block: int) -> Float[np.ndarray, "y x"]:
    """How much the middle of a map depends on each pixel, the mean over images: Luo et al. 2016, with random signs."""
    model.eval()
    given = images.detach().clone().requires_grad_()
    features = model.features(given, [block])[0]  # type: ignore[operator]
    middle = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
    signs = torch.randint(0, 2, middle.shape, generator=torch.Generator().manual_seed(block)) * 2.0 - 1
    slope = torch.autograd.grad((middle * signs).sum(), given)[0]
    return slope.abs().sum(dim=1).mean(dim=0).double().numpy()


def reach(mass: Float[np.ndarray, "y x"], grid: tuple[int, int]) -> float:
    """Mean distance of the mass from the middle of a map, over that of mass spread evenly."""
    rows, columns = np.indices(mass.shape) + 0.5
    y, x = ((side // 2 + 0.5) * pixels / side for side, pixels in zip(grid, mass.shape))
    apart = np.hypot(rows - y, columns - x)
    return float((mass * apart).sum() / mass.sum() / apart.mean())


def looked(trained: Trained) -> Measures:
    """Attention's distance and the features' reach, block by block, as shares of what is spread evenly."""
    model: nn.Module = trained.model
    if not trained.training.samples:  # its blocks start as the identity, so weights are drawn that are not
        model = untrained_twin(model, trained.training.seed)
    some = first(trained.data.test, min(IMAGES, trained.training.judged))
    images = normalise(torch.from_numpy(some.pixels), trained.data.preprocessing)
    depth = len(getattr(model, "blocks", getattr(model, "stages", ())))
    grids = [tuple(one.shape[2:]) for one in model.features(images[:1], range(depth))]  # type: ignore[operator]
    masses = [sensitivity(model, images, block) for block in range(depth)]
    found: dict[str, float | list[float] | list[list[float]]] = {
        "reach": [reach(mass, grid) for mass, grid in zip(masses, grids)],
        "first_reach": reach(masses[0], grids[0]),
        "last_reach": reach(masses[-1], grids[-1]),
        "unseen": float((masses[0] == 0).mean()),
    }
    if trained.training.settings.get("mixer", "").endswith("Mixing") or not hasattr(model, "blocks"):
        return found
    apart = distance(model, images).mean(axis=0)
    return found | {
        "heads": apart.tolist(),
        "distance": apart.mean(axis=1).tolist(),
        "first_distance": float(apart[0].mean()),
        "last_distance": float(apart[-1].mean()),
        "nearest_head": float(apart[0].min()),
        "spread": float(np.ptp(apart[0])),
    }


global_attention = Study(
    name="global_attention",
    number=3,
    title="Global attention",
    claim="Attention is global from the first layer.",
    question="How far does the first block attend, and how far does what comes out of it depend on the image?",
    arms=(VIT, DWCONV3, RESNET, *UNTRAINED),
    conditions=(Condition("shapes", SHAPES),),
    hypotheses=(
        Hypothesis(
            "The trained first block attends, on average over its heads, more than 0.7 times as far as an even share.",
            'first_distance["vit"]',
            Beyond(0.7),
        ),
        Hypothesis(
            "That is not learned: untrained it attends further still, by more than 0.05.",
            'first_distance["vit, untrained"] - first_distance["vit"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "Its heads differ: the furthest attends further than the nearest by more than 0.3.",
            'spread["vit"]',
            Beyond(0.3),
        ),
        Hypothesis(
            "The last block attends further than the first, by more than 0.05.",
            'last_distance["vit"] - first_distance["vit"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "There is no pixel that the ViT's first block does not depend on.",
            'unseen["vit"]',
            Exactly(0),
        ),
        Hypothesis(
            "What the trained first block gives is as global as its attention: its reach is no more than 0.1 less.",
            'first_reach["vit"] - first_distance["vit"]',
            Beyond(-0.1),
        ),
        Hypothesis(
            "After the first block the ViT's features reach further than the convolution's, by more than 0.1.",
            'first_reach["vit"] - first_reach["dwconv3"]',
            Beyond(0.1),
        ),
        Hypothesis(
            "After the last block they still do, by more than 0.1.",
            'last_reach["vit"] - last_reach["dwconv3"]',
            Beyond(0.1),
        ),
    ),
    outcomes=Outcomes(
        supported="Found, of this small ViT: its first block attends over most of the image. Whether it did so before "
        "it had learned anything, and whether what comes out of the block depends on as much, is asked separately.",
        refuted="Not as stated: the first block may attend to everything, and every weight is positive, but once "
        "trained it attends nearer than that: to less than 0.7 of an even share's distance.",
    ),
    would_change="More patches, of which a neighbourhood is a smaller part; long training on photographs, after which "
    "some heads of the first layers of large ViTs attend nearby; augmentation such as CutMix, which makes heads local.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=200, without=("resnet",)),
        "quick": Budget(SAMPLES, 5),
        "full": Budget(4 * SAMPLES, 8),
    },
    regime=Regime("vit", "shapes", 0.85),
    measure=looked,
    figures=(
        curves(
            {"attention's distance": ("distance", BLOCKS), "reach of the features": ("reach", BLOCKS)},
            "shapes",
            "share of an even spread's",
            "block, or stage",
            "Left: how far each block's attention reaches, the mean over heads. Right: how far from the middle the "
            "pixels are on which the middle of a block's output depends. Both as a share of what attending, or "
            "depending, evenly over the whole image gives.",
        ),
    ),
    exact=(
        Fact(
            "Softmax gives every token a positive weight, so a ViT's first block depends on every pixel; a 3 x 3 "
            "convolution of patches depends on nine patches and on nothing else.",
            "tests/laws/test_study_global_attention.py",
        ),
    ),
    published=(
        Fact(
            "The lower layers of large ViTs attend both nearby and globally; with too little data they do not learn "
            "to attend nearby.",
            "Raghu et al. 2021, arXiv 2108.08810",
        ),
        Fact(
            "How a model is trained alone changes it: on CIFAR-100 the nearest head's distance falls from 0.316 to "
            "0.008 with CutMix.",
            "arXiv 2605.16390",
        ),
    ),
)
