"""`shape_or_texture`: CNNs classify by texture, ViTs by shape.

In training, either cue determines the class. Then the two are set against each other (cue conflict), and each is
removed (cue suppression): two ways to measure which of them a model uses, which need not agree.

Axes:  b images   c channels   y x pixels   p q pixels of a tile   gy gx rows, columns of tiles
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.data.augmentation.blur import gaussian_blur
from vitral.data.dataset import Split
from vitral.studies.arms import DWCONV3, RESNET, SAMPLES, VIT, variant
from vitral.studies.decision_rules import Beyond
from vitral.studies.effects import Effect, Measure, mean
from vitral.studies.figures import dots, measures_side_by_side
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, Study
from vitral.studies.training import Trained, first_images, seeded_dataset

DATA = "textures:n=30000"
TONES = {"strong texture": 0.2, "middling texture": 0.12, "faint texture": 0.07}
STRONG, _, FAINT = TONES
TILE = 8  # pixels: the side of the tiles that are shuffled to remove an outline
BLUR = 2.0  # pixels: the standard deviation of the blur that removes a texture
PLAIN = (VIT, DWCONV3, RESNET)
BLURRED = tuple(variant(arm, f"{arm.name}, blurred", dict(augment="blur")) for arm in PLAIN)


@torch.inference_mode()
def predict(trained: Trained, images: Float[Tensor, "b c y x"]) -> np.ndarray:
    return np.concatenate([trained.model(some).argmax(dim=1).numpy() for some in images.split(250)])


def images_with_cue(trained: Trained, cue: str) -> Split:
    """Test images from the same seed and with the same pairing of shapes and textures, but with another cue."""
    split = seeded_dataset(f"{trained.training.data},cue={cue}", "", trained.training.seed).test
    return first_images(split, trained.training.eval_images)


def shuffle_tiles(pixels: UInt8[np.ndarray, "b y x c"], seed: int) -> UInt8[np.ndarray, "b y x c"]:
    """Shuffle the tiles of each image separately: textures survive except at the seams, outlines do not."""
    tiles = rearrange(pixels, "b (gy p) (gx q) c -> b (gy gx) p q c", p=TILE, q=TILE)
    order = np.random.default_rng(seed).random(tiles.shape[:2]).argsort(axis=1)
    shuffled = tiles[np.arange(len(tiles))[:, None], order]
    return rearrange(shuffled, "b (gy gx) p q c -> b (gy p) (gx q) c", gy=pixels.shape[1] // TILE)


def cue_use(trained: Trained) -> Measures:
    """Shares of predictions where the cues conflict, and accuracies where one of them is removed or alone."""
    conflict, plain = images_with_cue(trained, "conflict"), images_with_cue(trained, "both")
    predicted = predict(trained, trained.normalised(conflict.pixels))
    shape = float((predicted == conflict.labels).mean())
    texture = float((predicted == conflict.factors["texture"]).mean())
    images = trained.normalised(plain.pixels)
    suppressed = {
        "outline": trained.normalised(shuffle_tiles(plain.pixels, trained.training.seed)),
        "texture": gaussian_blur(images, torch.full((len(images),), BLUR)),
        "colour": images.mean(dim=1, keepdim=True).expand_as(images),
    }
    without = {
        f"without_{cue}": float((predict(trained, some) == plain.labels).mean()) for cue, some in suppressed.items()
    }
    alone = {
        f"{cue}_alone": float((predict(trained, trained.normalised(split.pixels)) == split.labels).mean())
        for cue, split in ((cue, images_with_cue(trained, cue)) for cue in ("shape", "texture"))
    }
    return {
        **without,
        **alone,
        "shape_bias": shape / max(shape + texture, 1e-9),
        "decided": shape + texture,
        "suppression": without["without_texture"] / (without["without_texture"] + without["without_outline"]),
    }


shape_bias, suppression = Measure("shape_bias", is_share=True), Measure("suppression")


def mean_bias(arms: Sequence[str], conditions: Sequence[str] = (STRONG,)) -> Effect:
    """The shape bias, averaged over arms and conditions."""
    return mean(*(shape_bias[arm, condition] for arm in arms for condition in conditions))


NAMES, BLURRED_NAMES = tuple(arm.name for arm in PLAIN), tuple(arm.name for arm in BLURRED)
ARCHITECTURE = mean_bias(["vit"], [*TONES]) - mean_bias(["resnet"], [*TONES])

shape_or_texture = Study(
    name="shape_or_texture",
    number=11,
    title="Shape or texture",
    claim="CNNs classify by texture, ViTs by shape.",
    question="When shape and texture indicate different classes, which does each model follow, and what decides that?",
    arms=(*PLAIN, *BLURRED),
    conditions=tuple(
        Condition(name, f"{DATA},tone={tone}", arms=NAMES if name != STRONG else ()) for name, tone in TONES.items()
    ),
    hypotheses=(
        Hypothesis(
            "All else equal, the ViT follows the shape more often than the convolution: attention is the reason.",
            mean_bias(["vit"], [*TONES]) - mean_bias(["dwconv3"], [*TONES]),
            Beyond(0.0),
        ),
        Hypothesis(
            "When cues conflict, the ViT follows the shape over 10 points more often than the ResNet, on average.",
            ARCHITECTURE,
            Beyond(0.1),
        ),
        Hypothesis(
            "The strength of the texture (strong to faint, averaged over models) matters more than ViT or ResNet.",
            mean_bias(NAMES, [FAINT]) - mean_bias(NAMES) - abs(ARCHITECTURE),
            Beyond(0.0),
        ),
        Hypothesis(
            "So does training on blurred images, if textures are strong.",
            mean_bias(BLURRED_NAMES) - mean_bias(NAMES) - abs(shape_bias["vit", STRONG] - shape_bias["resnet", STRONG]),
            Beyond(0.0),
        ),
        Hypothesis(
            "Blurring makes the ResNet work without texture, over 10 points more than it makes it follow the shape.",
            suppression["resnet, blurred", STRONG]
            - suppression["resnet", STRONG]
            - (shape_bias["resnet, blurred", STRONG] - shape_bias["resnet", STRONG]),
            Beyond(0.1),
        ),
    ),
    outcomes=Outcomes(
        supported="When the cues conflict, the ViT follows the shape more often than a convolution in the same "
        "architecture. How a ResNet of half the size compares, and whether textures and training matter more, are "
        "separate hypotheses.",
        refuted="When the cues conflict, the ViT follows the shape no more often than a convolution in the same "
        "architecture, so attention is not a reason to follow shapes. A ResNet of half the size is context: what it "
        "does need not come from being a CNN. What textures and training change is tested by separate hypotheses.",
        inconclusive="These runs do not decide whether the ViT follows the shape more often than a convolution in the "
        "same architecture.",
    ),
    would_change="Photographs, whose textures and outlines are not as easy to learn as these; patches that are small "
    "compared with the texture's period; long training of large models.",
    budgets={
        "smoke": Budget(256, 2, images=512, eval_images=200, only=(STRONG,)),
        "quick": Budget(SAMPLES // 2, 6),
        "full": Budget(2 * SAMPLES, 8),
    },
    reference=Reference("vit", STRONG, 0.9),
    measure=cue_use,
    figures=(
        dots(
            "shape_bias",
            "follows the shape",
            "Cue conflict: of all predictions of the shape's or the texture's class, the share of the shape's.",
            NAMES,
        ),
        measures_side_by_side(
            {
                "cue conflict:\nfollows the shape": "shape_bias",
                "cue suppression:\nworks without texture": "suppression",
                "accuracy by shape alone": "shape_alone",
                "accuracy by texture alone": "texture_alone",
            },
            STRONG,
            "share",
            "With strong textures. Cue conflict: as above. Cue suppression: accuracy without texture (blurred) over "
            "the sum of accuracies without texture and without outline (tiles shuffled). Right: test images that have "
            "only one of the cues.",
        ),
    ),
    exact=Fact.proved(
        "shape_or_texture",
        "Data sets with the same seed pair shapes and textures in the same way and have the same outlines, "
        "whatever their cue; in a conflict no texture is the shape's own.",
    ),
    published=(
        Fact(
            "A ResNet-50 trained on ImageNet follows the shape in 21.4 % of decisions; on stylised images, in 81.4 %.",
            "Geirhos et al. 2019, rgeirhos/texture-vs-shape, README",
        ),
        Fact(
            "The effect of augmentation is much larger than that of architecture.",
            'Hermann et al. 2020, "The Origins and Prevalence of Texture Bias in Convolutional Neural Networks"',
        ),
        Fact(
            "Cue conflict is confounded; with cues suppressed one by one, CNNs rely on local shape, not texture.",
            "Burgert et al. 2025, arXiv 2509.20234",
        ),
    ),
)
