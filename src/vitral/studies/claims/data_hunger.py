"""`data_hunger`: ViTs need much more data than CNNs.

Accuracy as a function of the number of training images, with the same number of steps for few images as for many:
only the number of different images changes, not the length of training.
"""

from vitral.studies.arms import BAG, DWCONV3, RESNET, SHUFFLED, SMALL_SHAPES, VIT, swept_budgets, variant
from vitral.studies.decision_rules import Beyond, Within
from vitral.studies.effects import Effect, accuracy, train_accuracy
from vitral.studies.figures import curves_over_conditions
from vitral.studies.study import Condition, Fact, Hypothesis, Outcomes, Reference, Study

SIZES = (256, 1_024, 4_096, 16_384)
SIZE_OF = {f"{n:,}": float(n) for n in SIZES}
FEW, MANY = f"{SIZES[1]:,}", f"{SIZES[-1]:,}"
MOVED = variant(VIT, "vit, images shifted", recipe=dict(augment="shift"))
CONV_MOVED = variant(DWCONV3, "dwconv3, images shifted", recipe=dict(augment="shift"))
CURVES = tuple(arm.name for arm in (VIT, DWCONV3, RESNET, MOVED))
ARMS_OF = {FEW: (), MANY: (*CURVES, BAG.name)}  # the arms on each number of images; the others have those with a curve


def images(n: int) -> str:
    """The spec of the data set with `n` images."""
    return SMALL_SHAPES.replace("n=40000", f"n={n}")


def fewer(name: str) -> str:
    """The change by which a reader's images are as many as a condition has."""
    return f"{name} training images"


def gap(other: str, size: str) -> Effect:
    """How far the ViT's accuracy is below another arm's."""
    return accuracy[other, size] - accuracy["vit", size]


data_hunger = Study(
    name="data_hunger",
    number=4,
    title="Hunger for data",
    claim="ViTs need much more data than CNNs.",
    question="How does accuracy grow with the number of different images if all models take the same number of steps?",
    arms=(VIT, DWCONV3, RESNET, MOVED, CONV_MOVED, BAG, SHUFFLED),
    conditions=tuple(Condition(name, images(int(n)), arms=ARMS_OF.get(name, CURVES)) for name, n in SIZE_OF.items()),
    hypotheses=(
        Hypothesis(f"With {FEW} images the ViT is behind the convolution.", gap("dwconv3", FEW), Beyond(0.02)),
        Hypothesis(
            "The gap is smaller with many images: more data helps the ViT more.",
            gap("dwconv3", FEW) - gap("dwconv3", MANY),
            Beyond(0.02),
        ),
        Hypothesis(
            f"With {MANY} images the ViT is ahead of the convolution: the curves cross.",
            -gap("dwconv3", MANY),
            Beyond(0.01),
        ),
        Hypothesis(f"With {FEW} images the ViT is also behind the ResNet.", gap("resnet", FEW), Beyond(0.02)),
        Hypothesis(
            "Training both on shifted images makes the gap smaller.",
            gap("dwconv3", FEW) - (accuracy["dwconv3, images shifted", FEW] - accuracy["vit, images shifted", FEW]),
            Beyond(0.02),
        ),
        Hypothesis(
            f"For the ViT, {FEW} images with random shifts are worth {MANY} images without.",
            accuracy["vit, images shifted", FEW] - accuracy["vit", MANY],
            Within(0.03),
        ),
        Hypothesis(
            f"With {FEW} images the ViT fits them as well as the convolution does; it generalises less well.",
            train_accuracy["dwconv3", FEW] - train_accuracy["vit", FEW],
            Within(0.05),
        ),
    ),
    outcomes=Outcomes(
        supported="Without augmentation, with few images, the ViT is behind a convolution in the same architecture, "
        "after the same number of steps. Whether shifted images suffice is a separate hypothesis.",
        refuted="Not found: with few images the ViT is not two points behind a convolution in the same architecture. "
        "How an ordinary CNN compares is a separate hypothesis.",
    ),
    would_change="Data that do not fit the convolution's assumptions: on permuted images the CNN is behind. More "
    "images and larger models, for which published curves close or cross.",
    budgets=swept_budgets(only=(FEW, MANY), without=("resnet", CONV_MOVED.name, BAG.name, SHUFFLED.name)),
    reference=Reference("vit", MANY, 0.8),
    sweep=FEW,
    own_data=True,
    on_own_images=dict(
        conditions=tuple(Condition(name, "", fewer(name), arms=ARMS_OF.get(name, CURVES)) for name in SIZE_OF)
    ),
    figures=(
        curves_over_conditions(
            {"new images": "accuracy", "training images": "train_accuracy"},
            "accuracy",
            "different training images",
            SIZE_OF,
            "Accuracy on new and on training images. The number of steps is the same for all numbers of images.",
        ),
    ),
    published=(
        Fact(
            "Augmentation and regularisation can be worth about ten times as many images to a ViT.",
            "Steiner et al. 2021, arXiv 2106.10270",
        ),
        Fact(
            "ConvNets pre-trained on JFT-4B match ViTs at equal compute: 90.4 % on ImageNet.",
            "Smith et al. 2023, arXiv 2310.16764",
        ),
        Fact(
            "A ViT-S trained on ImageNet alone, 1.3 million images, reaches 76.5 % in 90 epochs with a plain recipe.",
            "Beyer et al. 2022, arXiv 2205.01580",
        ),
    ),
)
