"""`data_hunger`: ViTs need much more data.

Learning curves over the number of training images, with as many updates for few images as for many: what differs is
how many different images there are, not how long a model learns.
"""

from vitral.studies.arms import BAG, DWCONV3, RESNET, SAMPLES, SHUFFLED, SMALL_SHAPES, VIT, named
from vitral.studies.drawing import growth
from vitral.studies.rules import Beyond, Within
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Outcomes, Regime, Study

SIZES = (256, 1_024, 4_096, 16_384)
PLACES = {f"{n:,}": float(n) for n in SIZES}
SOME, MANY = f"{SIZES[1]:,}", f"{SIZES[-1]:,}"
MOVED = named(VIT, "vit, images shifted", recipe=dict(augment="shift"))
BOTH_MOVED = named(DWCONV3, "dwconv3, images shifted", recipe=dict(augment="shift"))
CURVES = tuple(arm.name for arm in (VIT, DWCONV3, RESNET, MOVED))
SHOWN = {SOME: (), MANY: (*CURVES, BAG.name)}  # which arms a number of images has: all, or those with a curve


def images(n: int) -> str:
    return SMALL_SHAPES.replace("n=40000", f"n={n}")


def gap(other: str, n: str) -> str:
    """How far the ViT is behind, as a formula."""
    return f'(accuracy["{other}", "{n}"] - accuracy["vit", "{n}"])'


data_hunger = Study(
    name="data_hunger",
    number=4,
    title="Hunger for data",
    claim="ViTs need much more data than CNNs.",
    question="How does accuracy grow with the number of different images, when all models take as many steps?",
    arms=(VIT, DWCONV3, RESNET, MOVED, BOTH_MOVED, BAG, SHUFFLED),
    conditions=tuple(Condition(name, images(int(n)), arms=SHOWN.get(name, CURVES)) for name, n in PLACES.items()),
    hypotheses=(
        Hypothesis(f"With {SOME} images the ViT is behind the convolution.", gap("dwconv3", SOME), Beyond(0.02)),
        Hypothesis(
            "The gap is smaller with many images: more data helps the ViT more.",
            f"{gap('dwconv3', SOME)} - {gap('dwconv3', MANY)}",
            Beyond(0.02),
        ),
        Hypothesis(
            f"With {MANY} images the ViT is ahead of the convolution: the curves cross.",
            f"-{gap('dwconv3', MANY)}",
            Beyond(0.01),
        ),
        Hypothesis(f"With {SOME} images it is behind the ResNet, too.", gap("resnet", SOME), Beyond(0.02)),
        Hypothesis(
            "Shifted images for both make the gap smaller.",
            f"{gap('dwconv3', SOME)} - "
            f'(accuracy["dwconv3, images shifted", "{SOME}"] - accuracy["vit, images shifted", "{SOME}"])',
            Beyond(0.02),
        ),
        Hypothesis(
            f"To the ViT, {SOME} shifted images are worth {MANY} images.",
            f'accuracy["vit, images shifted", "{SOME}"] - accuracy["vit", "{MANY}"]',
            Within(0.03),
        ),
        Hypothesis(
            f"With {SOME} images the ViT fits them: it is behind in what it makes of new images.",
            f'train_accuracy["dwconv3", "{SOME}"] - train_accuracy["vit", "{SOME}"]',
            Within(0.05),
        ),
    ),
    outcomes=Outcomes(
        supported="True of images as they are: with few of them the ViT is behind a convolution in the same frame, at "
        "as many updates. Whether it lacks images, or only to be shown that places do not matter, is asked separately.",
        refuted="Not found: with few images the ViT is not behind a convolution in the same frame by two points. How "
        "an ordinary CNN compares is asked separately.",
    ),
    would_change="A prior that does not fit the data: on permuted images it is the CNN that is behind; more images and "
    "larger models, where published curves close or cross.",
    budgets={
        "smoke": Budget(
            256,
            2,
            images=512,
            judged=200,
            only=(SOME, MANY),
            without=("resnet", BOTH_MOVED.name, BAG.name, SHUFFLED.name),
        ),
        "quick": Budget(SAMPLES, 4, (0.5, 1.0, 2.0)),
        "full": Budget(4 * SAMPLES, 5, (0.25, 0.5, 1.0, 2.0)),
    },
    regime=Regime("vit", MANY, 0.8),
    sweep=SOME,
    figures=(
        growth(
            {"new images": "accuracy", "training images": "train_accuracy"},
            "accuracy",
            "different training images",
            PLACES,
            "Accuracy on new images and on those that were learned from, by how many there are; every model takes as "
            "many steps with few as with many.",
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
            "A ViT-S trained on ImageNet alone, 1.3 million images, reaches 76.5 % in 90 epochs by a plain recipe.",
            "Beyer et al. 2022, arXiv 2205.01580",
        ),
    ),
)
