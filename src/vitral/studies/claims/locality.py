"""`locality`: CNNs see locality, ViTs do not assume it.

The permutation factorial: patches in another order, pixels in another order within each patch, all pixels in another
order; the same for every image, for training and test. A model that assumes nothing of what is beside what loses
nothing.
"""

from vitral.studies.arms import BAG, DWCONV3, RESNET, SAMPLES, SHUFFLED, SMALL_SHAPES, VIT
from vitral.studies.drawing import dots
from vitral.studies.rules import Beyond, Within
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Outcomes, Regime, Study

ARMS = (VIT, DWCONV3, BAG, RESNET)
EVERY = tuple(arm.name for arm in ARMS)

locality = Study(
    name="locality",
    number=2,
    title="Locality",
    claim="Convolutions have locality built in, and a ViT assumes nothing of what is beside what.",
    question="What does each model lose when neighbours are no longer beside each other?",
    arms=(*ARMS, SHUFFLED),
    conditions=(
        Condition("plain", SMALL_SHAPES),
        Condition("patches permuted", SMALL_SHAPES, "patches permuted", arms=EVERY),
        Condition("permuted within patches", SMALL_SHAPES, "permuted within patches", arms=EVERY),
        Condition("pixels permuted", SMALL_SHAPES, "pixels permuted", arms=EVERY),
    ),
    hypotheses=(
        Hypothesis(
            "A convolution loses more than the ViT when patches change places.",
            '(accuracy["dwconv3", "plain"] - accuracy["dwconv3", "patches permuted"])'
            ' - (accuracy["vit", "plain"] - accuracy["vit", "patches permuted"])',
            Beyond(0.05),
        ),
        Hypothesis(
            "The ViT loses next to nothing when patches change places.",
            'accuracy["vit", "plain"] - accuracy["vit", "patches permuted"]',
            Within(0.02),
        ),
        Hypothesis(
            "The ViT loses when all pixels change places: cutting patches assumes that near pixels belong together.",
            'accuracy["vit", "plain"] - accuracy["vit", "pixels permuted"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "The ResNet loses when pixels change places within patches.",
            'accuracy["resnet", "plain"] - accuracy["resnet", "permuted within patches"]',
            Beyond(0.02),
        ),
    ),
    outcomes=Outcomes(
        supported="Found, of patches: when they change places the convolution loses more than the ViT, to which all "
        "orders are provably alike. Whether its patches assume that near pixels belong together is asked separately.",
        refuted="Not found: when patches change places the convolution does not lose five points more than the ViT.",
    ),
    would_change="Patches of a single pixel, which assume nothing; data whose classes do not depend on neighbourhood.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=200, only=("plain", "patches permuted")),
        "quick": Budget(SAMPLES, 4, (0.5, 1.0, 2.0)),
        "full": Budget(4 * SAMPLES, 5, (0.25, 0.5, 1.0, 2.0)),
    },
    regime=Regime("vit", "plain", 0.9),
    figures=(dots("accuracy", "test accuracy", "What each model gets right when the images are permuted."),),
    exact=(
        Fact(
            "A ViT on permuted patches, with its positions permuted alike, is the same function and has the same "
            "gradients; so is one on pixels permuted within patches, with its patch projection permuted alike.",
            "tests/laws/test_study_locality.py",
        ),
    ),
    published=(
        Fact(
            "Transformers on single pixels, which assume no locality at all, learn as well or better at high cost.",
            "Nguyen et al. 2024, arXiv 2406.09415",
        ),
    ),
    own_data=True,
)
