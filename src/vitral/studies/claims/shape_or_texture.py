"""`shape_or_texture`: CNNs look at texture, ViTs at shape.

In training either cue tells the class. Then they are set against each other (cue conflict), and each is taken away (cue
suppression): two ways to ask which of them a model goes by, which need not agree.

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
from vitral.data.preprocess import normalise
from vitral.studies.arms import DWCONV3, RESNET, SAMPLES, VIT, named
from vitral.studies.drawing import contrasted, dots
from vitral.studies.rules import Beyond
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained, data_of

DATA = "textures:n=30000"
TONES = {"strong texture": 0.2, "middling texture": 0.12, "faint texture": 0.07}
STRONG, _, FAINT = TONES
TILE = 8  # pixels: the side of what changes places when an outline is taken away
WIDTH = 2.0  # pixels: the deviation of the blur that takes a texture away
PLAIN = (VIT, DWCONV3, RESNET)
BLURRED = tuple(named(arm, f"{arm.name}, blurred", dict(augment="blur")) for arm in PLAIN)


@torch.inference_mode()
def answers(trained: Trained, images: Float[Tensor, "b c y x"]) -> np.ndarray:
    return np.concatenate([trained.model(some).argmax(dim=1).numpy() for some in images.split(250)])


def ready(trained: Trained, pixels: UInt8[np.ndarray, "b y x c"]) -> Tensor:
    return normalise(torch.from_numpy(np.ascontiguousarray(pixels)), trained.data.preprocessing)


def asked(trained: Trained, cue: str) -> Split:
    """Test images of the same seed and pairs with another cue, as many as the model is judged by."""
    split = data_of(f"{trained.training.data},cue={cue}", "", trained.training.seed).test
    return split.only(np.arange(min(trained.training.judged, len(split))))


def tiles_shuffled(pixels: UInt8[np.ndarray, "b y x c"], seed: int) -> UInt8[np.ndarray, "b y x c"]:
    """The tiles of each image in an order of its own: textures stay but for the seams, outlines do not."""
    tiles = rearrange(pixels, "b (gy p) (gx q) c -> b (gy gx) p q c", p=TILE, q=TILE)
    order = np.random.default_rng(seed).random(tiles.shape[:2]).argsort(axis=1)
    mixed = tiles[np.arange(len(tiles))[:, None], order]
    return rearrange(mixed, "b (gy gx) p q c -> b (gy p) (gx q) c", gy=pixels.shape[1] // TILE)


def cues(trained: Trained) -> Measures:
    """Shares of decisions where the cues conflict, and accuracies where one of them is gone or alone."""
    conflict, plain = asked(trained, "conflict"), asked(trained, "both")
    said = answers(trained, ready(trained, conflict.pixels))
    shape, texture = float((said == conflict.labels).mean()), float((said == conflict.factors["texture"]).mean())
    images = ready(trained, plain.pixels)
    without = {
        "outline": ready(trained, tiles_shuffled(plain.pixels, trained.training.seed)),
        "texture": gaussian_blur(images, torch.full((len(images),), WIDTH)),
        "colour": images.mean(dim=1, keepdim=True).expand_as(images),
    }
    kept = {f"without_{cue}": float((answers(trained, given) == plain.labels).mean()) for cue, given in without.items()}
    alone = {
        f"{cue}_alone": float((answers(trained, ready(trained, split.pixels)) == split.labels).mean())
        for cue, split in ((cue, asked(trained, cue)) for cue in ("shape", "texture"))
    }
    return (
        kept
        | alone
        | {
            "shape_bias": shape / max(shape + texture, 1e-9),
            "decided": shape + texture,
            "suppression": kept["without_texture"] / (kept["without_texture"] + kept["without_outline"]),
        }
    )


def bias(arm: str, condition: str = STRONG, measure: str = "shape_bias") -> str:
    """A formula."""
    return f'{measure}["{arm}", "{condition}"]'


def mean(arms: Sequence[str], conditions: Sequence[str] = (STRONG,)) -> str:
    """A formula."""
    return f"mean({', '.join(bias(arm, condition) for arm in arms for condition in conditions)})"


NAMES, BLURRED_NAMES = tuple(arm.name for arm in PLAIN), tuple(arm.name for arm in BLURRED)
ARCHITECTURE = f"{mean(['vit'], [*TONES])} - {mean(['resnet'], [*TONES])}"

shape_or_texture = Study(
    name="shape_or_texture",
    number=11,
    title="Shape or texture",
    claim="CNNs go by texture, ViTs by shape.",
    question="Where shape and texture tell different classes, which does each model follow, and what decides that?",
    arms=(*PLAIN, *BLURRED),
    conditions=tuple(
        Condition(name, f"{DATA},tone={tone}", arms=NAMES if name != STRONG else ()) for name, tone in TONES.items()
    ),
    hypotheses=(
        Hypothesis(
            "Where cues conflict the ViT follows the shape more often than the ResNet: over 10 points, averaged over "
            "textures.",
            ARCHITECTURE,
            Beyond(0.1),
        ),
        Hypothesis(
            "It is attention that does it: all else equal, the ViT follows the shape more often than the convolution.",
            f"{mean(['vit'], [*TONES])} - {mean(['dwconv3'], [*TONES])}",
            Beyond(0.0),
        ),
        Hypothesis(
            "How strong the texture is changes it more than the ViT and the ResNet differ: from strong to faint, over "
            "models.",
            f"{mean(NAMES, [FAINT])} - {mean(NAMES)} - abs({ARCHITECTURE})",
            Beyond(0.0),
        ),
        Hypothesis(
            "So does training on blurred images, where textures are strong.",
            f"{mean(BLURRED_NAMES)} - {mean(NAMES)} - abs({bias('vit')} - {bias('resnet')})",
            Beyond(0.0),
        ),
        Hypothesis(
            "Trained on blurred images the ResNet learns to do without texture, over 10 points more than to follow "
            "the shape.",
            f"{bias('resnet, blurred', measure='suppression')} - {bias('resnet', measure='suppression')}"
            f" - ({bias('resnet, blurred')} - {bias('resnet')})",
            Beyond(0.1),
        ),
    ),
    outcomes=Outcomes(
        supported="Found, of these two models: where the cues conflict the ViT follows the shape more often than the "
        "ResNet. Whether attention does it, and whether textures and training change it more than architecture, is "
        "asked separately.",
        refuted="Not found: the ViT follows the shape by less than ten points more often than the ResNet, or less "
        "often. What else changes it is asked separately.",
    ),
    would_change="Photographs, whose textures and outlines are not as cheap to learn as these; patches that are small "
    "beside the texture's period; long training of large models.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=200, only=(STRONG,)),
        "quick": Budget(SAMPLES // 2, 6),
        "full": Budget(2 * SAMPLES, 8),
    },
    regime=Regime("vit", STRONG, 0.9),
    measure=cues,
    figures=(
        dots(
            "shape_bias",
            "follows the shape",
            "Cue conflict: of the answers that are one of the two classes, those that are the shape's, by how strong "
            "the texture is.",
            NAMES,
        ),
        contrasted(
            {
                "cue conflict:\nfollows the shape": "shape_bias",
                "cue suppression:\ndoes without texture": "suppression",
                "right by shape alone": "shape_alone",
                "right by texture alone": "texture_alone",
            },
            STRONG,
            "share",
            "Where textures are strong. Cue conflict: as above. Cue suppression: accuracy without texture over the "
            "sum of accuracies without texture (blurred) and without outline (tiles shuffled). Right: test images "
            "that have but one of the cues.",
        ),
    ),
    exact=(
        Fact(
            "Sets of one seed pair shapes and textures alike and draw the same outlines whatever their cue; in a "
            "conflict no texture is the shape's own.",
            "tests/laws/test_study_shape_or_texture.py",
        ),
    ),
    published=(
        Fact(
            "A ResNet-50 trained on ImageNet follows the shape in 21.4 % of its decisions, trained on stylised images "
            "in 81.4 %.",
            "Geirhos et al. 2019, rgeirhos/texture-vs-shape, README",
        ),
        Fact(
            "The effect of augmentation is much larger than that of architecture.",
            'Hermann et al. 2020, "The Origins and Prevalence of Texture Bias in Convolutional Neural Networks"',
        ),
        Fact(
            "Cue conflict is confounded; when cues are suppressed one by one, CNNs rely on local shape, not on "
            "texture.",
            "Burgert et al. 2025, arXiv 2509.20234",
        ),
    ),
)
