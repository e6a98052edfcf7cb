"""`remedies`: what helps a ViT that has few images.

Each remedy alone, against the plain ViT that has seen as many samples: those that train a teacher, or learn from pixels
first, pay for it from the same budget. As far as a remedy has parameters of its own, the rest of the model is smaller
by as much. Shifted patches are normed ones, so norming alone is an arm of its own.
"""

from dataclasses import replace

from vitral.nn.family.shifted import NormedPatches, ShiftedPatches
from vitral.nn.family.stem import ConvStem
from vitral.studies.arms import BAG, RESNET, SAMPLES, SHUFFLED, VIT, named
from vitral.studies.claims.data_hunger import MOVED, SOME, images
from vitral.studies.drawing import contrasted
from vitral.studies.rules import Beyond
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Outcomes, Regime, Study

DISTILLED = replace(
    VIT,
    name="vit, distilled",
    loop="studies.loops.distilled:distilled",
    unmatched="a ResNet is trained for a quarter of its samples and asked for the others",
)
MASKED = replace(VIT, name="vit, masked first", loop="studies.loops.masked:masked")
STEM = named(VIT, "vit, convolutional stem", patch_embed=ConvStem, mlp_ratio=98 / 64)
SHIFTED_PATCHES = named(VIT, "vit, shifted patches", patch_embed=ShiftedPatches, embed_dim=56, mlp_ratio=85.5 / 56)
NORMED_PATCHES = named(VIT, "vit, normed patches", patch_embed=NormedPatches)
REMEDIES = (MOVED, STEM, SHIFTED_PATCHES, NORMED_PATCHES, DISTILLED, MASKED)


def gain(arm: str) -> str:
    return f'accuracy["{arm}"] - accuracy["vit"]'


remedies = Study(
    name="remedies",
    number=12,
    title="Small-data remedies",
    claim="With a convolutional stem, augmentation, distillation, shifted patches or masked pre-training, a ViT "
    "learns from few images.",
    question=f"Which of them exceeds the plain ViT on {SOME} images, at an equal budget of samples?",
    arms=(VIT, *REMEDIES, RESNET, BAG, SHUFFLED),
    conditions=(Condition(SOME, images(1_024)),),
    hypotheses=(
        Hypothesis("Shifting the images helps.", gain(MOVED.name), Beyond(0.02)),
        Hypothesis("A convolutional stem helps.", gain(STEM.name), Beyond(0.02)),
        Hypothesis("Shifted patches help.", gain(SHIFTED_PATCHES.name), Beyond(0.02)),
        Hypothesis(
            "Shifted patches help by more than the norm that comes with them.",
            f'accuracy["{SHIFTED_PATCHES.name}"] - accuracy["{NORMED_PATCHES.name}"]',
            Beyond(0.02),
        ),
        Hypothesis("Distillation from a ResNet on the same images helps.", gain(DISTILLED.name), Beyond(0.02)),
        Hypothesis("Painting hidden patches of the same images first helps.", gain(MASKED.name), Beyond(0.02)),
    ),
    outcomes=Outcomes(
        supported="Of augmentation it is true: shifted images help the ViT by more than two points, and take no more "
        "samples. The other remedies are not one thing with it: each has a verdict of its own.",
        refuted="Not found: even shifted images do not help this ViT by two points; each of the other remedies has its "
        "own verdict below.",
    ),
    would_change="Images whose objects do not move, where shifting gives nothing new; a teacher that is asked about "
    "augmented images, or pixels to learn from of more than these; longer training.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=200, without=("resnet", "bag of patches", SHUFFLED.name)),
        "quick": Budget(SAMPLES, 4, (0.5, 1.0, 2.0)),
        "full": Budget(4 * SAMPLES, 5, (0.25, 0.5, 1.0, 2.0)),
    },
    regime=Regime("vit", SOME, 0.4),
    figures=(
        contrasted(
            {"new images": "accuracy", "training images": "train_accuracy"},
            SOME,
            "accuracy",
            f"Every model after as many samples, all of the same {SOME} images.",
        ),
    ),
    published=(
        Fact(
            "Stacked convolutions in place of the patch projection give 1-2 % on ImageNet, and make the choice of "
            "optimiser and learning rate easier.",
            "Xiao et al. 2021, arXiv 2106.14881",
        ),
        Fact(
            "Shifted patches and locality self-attention together give 2.96 % on average on Tiny-ImageNet.",
            "Lee et al. 2021, arXiv 2112.13492",
        ),
        Fact(
            "Distilled from a CNN, DeiT-Ti, -S and -B reach 74.5, 81.2 and 83.4 % on ImageNet, where they have 72.2, "
            "79.9 and 81.8 % without.",
            "Touvron et al. 2021, facebookresearch/deit, README",
        ),
        Fact(
            "Learning to paint what is hidden of the same data first lets plain Transformers match state-space models "
            "on long sequences.",
            "Amos et al. 2024, arXiv 2310.02980",
        ),
    ),
    own_data=True,
)
