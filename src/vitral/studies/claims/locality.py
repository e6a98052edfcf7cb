"""`locality`: CNNs have locality built in, ViTs do not assume it.

Three permutations: of the patches, of the pixels within each patch, and of all pixels; the same for every image, in
training and in testing. A model that does not assume that neighbours belong together loses nothing.
"""

from vitral.studies.arms import BAG, DWCONV3, RESNET, SHUFFLED, SMALL_SHAPES, VIT, swept_budgets
from vitral.studies.decision_rules import Beyond, Within
from vitral.studies.effects import Effect, accuracy
from vitral.studies.figures import dots
from vitral.studies.study import Condition, Fact, Hypothesis, Outcomes, Reference, Study

ARMS = (VIT, DWCONV3, BAG, RESNET)
EVERY = tuple(arm.name for arm in ARMS)


def loss(arm: str, condition: str) -> Effect:
    """The accuracy that an arm loses when the images are permuted."""
    return accuracy[arm, "plain"] - accuracy[arm, condition]


locality = Study(
    name="locality",
    number=2,
    title="Locality",
    claim="Convolutions have locality built in; a ViT does not assume which patches are neighbours.",
    question="How much accuracy does each model lose when neighbours are no longer adjacent?",
    arms=(*ARMS, SHUFFLED),
    conditions=(
        Condition("plain", SMALL_SHAPES),
        Condition("patches permuted", SMALL_SHAPES, "patches permuted", arms=EVERY),
        Condition("permuted within patches", SMALL_SHAPES, "permuted within patches", arms=EVERY),
        Condition("pixels permuted", SMALL_SHAPES, "pixels permuted", arms=EVERY),
    ),
    hypotheses=(
        Hypothesis(
            "A convolution loses more accuracy than the ViT when patches are permuted.",
            loss("dwconv3", "patches permuted") - loss("vit", "patches permuted"),
            Beyond(0.05),
        ),
        Hypothesis(
            "The ViT loses almost nothing when patches are permuted.", loss("vit", "patches permuted"), Within(0.02)
        ),
        Hypothesis(
            "The ViT loses accuracy when all pixels are permuted: its patches assume that near pixels belong together.",
            loss("vit", "pixels permuted"),
            Beyond(0.05),
        ),
        Hypothesis(
            "The ResNet loses accuracy when pixels are permuted within patches.",
            loss("resnet", "permuted within patches"),
            Beyond(0.02),
        ),
    ),
    outcomes=Outcomes(
        supported="When patches are permuted, the convolution loses more than the ViT, for which all orders are "
        "provably equivalent. Whether patches assume locality is a separate hypothesis.",
        refuted="Not found: when patches are permuted, the convolution does not lose five points more than the ViT.",
    ),
    would_change="Patches of a single pixel, which assume nothing; data whose classes do not depend on neighbourhoods.",
    budgets=swept_budgets(only=("plain", "patches permuted")),
    reference=Reference("vit", "plain", 0.9),
    figures=(dots("accuracy", "test accuracy", "Test accuracy of each model on permuted images."),),
    exact=Fact.proved(
        "locality",
        "A ViT on permuted patches, with its positions permuted alike, is the same function with the same "
        "gradients; so is one on pixels permuted within patches, with its patch projection permuted alike.",
    ),
    published=(
        Fact(
            "Transformers on single pixels, which assume no locality at all, learn as well or better, at a high cost.",
            "Nguyen et al. 2024, arXiv 2406.09415",
        ),
    ),
    own_data=True,
)
