"""`remedies`: what helps a ViT that has few images.

Each remedy is tested alone, against the plain ViT after the same number of samples: remedies that train a teacher or
pre-train on pixels pay for it from the same budget. If a remedy has parameters of its own, the rest of the model is
smaller by as many. Shifted patches are normalised, so normalisation alone is a separate arm.
"""

from dataclasses import replace

from vitral.nn.family.shifted import NormedPatches, ShiftedPatches
from vitral.nn.family.stem import ConvStem
from vitral.studies.arms import BAG, RESNET, SHUFFLED, VIT, swept_budgets, variant
from vitral.studies.claims.data_hunger import FEW, MOVED, fewer, images
from vitral.studies.decision_rules import Beyond
from vitral.studies.effects import Effect, accuracy
from vitral.studies.figures import measures_side_by_side
from vitral.studies.study import Condition, Fact, Hypothesis, Outcomes, Reference, Study

DISTILLED = replace(
    VIT,
    name="vit, distilled",
    loop="studies.loops.distilled:distilled",
    unmatched="a ResNet is trained on a quarter of its samples and gives targets for the others",
)
MASKED = replace(VIT, name="vit, masked first", loop="studies.loops.masked:masked")
STEM = variant(VIT, "vit, convolutional stem", patch_embed=ConvStem, mlp_ratio=98 / 64)
SHIFTED_PATCHES = variant(VIT, "vit, shifted patches", patch_embed=ShiftedPatches, embed_dim=56, mlp_ratio=85.5 / 56)
NORMED_PATCHES = variant(VIT, "vit, normed patches", patch_embed=NormedPatches)
REMEDIES = (MOVED, STEM, SHIFTED_PATCHES, NORMED_PATCHES, DISTILLED, MASKED)


def gain(arm: str) -> Effect:
    """How far an arm's accuracy is above the plain ViT's."""
    return accuracy[arm] - accuracy["vit"]


remedies = Study(
    name="remedies",
    number=12,
    title="Small-data remedies",
    claim="With a convolutional stem, augmentation, distillation, shifted patches or masked pre-training, a ViT learns "
    "from few images.",
    question=f"Which of them exceeds the plain ViT on {FEW} images, with the same budget of samples?",
    arms=(VIT, *REMEDIES, RESNET, BAG, SHUFFLED),
    conditions=(Condition(FEW, images(1_024)),),
    hypotheses=(
        Hypothesis("Shifting the images helps.", gain(MOVED.name), Beyond(0.02)),
        Hypothesis("A convolutional stem helps.", gain(STEM.name), Beyond(0.02)),
        Hypothesis("Shifted patches help.", gain(SHIFTED_PATCHES.name), Beyond(0.02)),
        Hypothesis(
            "Shifted patches help more than the normalisation that they include.",
            accuracy[SHIFTED_PATCHES.name] - accuracy[NORMED_PATCHES.name],
            Beyond(0.02),
        ),
        Hypothesis("Distillation from a ResNet on the same images helps.", gain(DISTILLED.name), Beyond(0.02)),
        Hypothesis("Pre-training on hidden patches of the same images helps.", gain(MASKED.name), Beyond(0.02)),
    ),
    outcomes=Outcomes(
        supported="Augmentation helps: shifted images improve the ViT by more than two points, without more samples. "
        "The other remedies are separate hypotheses, each with its own verdict.",
        refuted="Not found: even shifted images do not improve this ViT by two points. Other remedies: see below.",
    ),
    would_change="Images whose objects are always in the same place, where shifting adds nothing; a teacher that also "
    "labels augmented images, or pre-training on further images; longer training.",
    budgets=swept_budgets(without=("resnet", "bag of patches", SHUFFLED.name)),
    reference=Reference("vit", FEW, 0.4),
    figures=(
        measures_side_by_side(
            {"new images": "accuracy", "training images": "train_accuracy"},
            FEW,
            "accuracy",
            f"Accuracy of every model after the same number of samples, all from the same {FEW} images.",
        ),
    ),
    published=(
        Fact(
            "Stacked convolutions instead of the patch projection add 1-2 % on ImageNet, and make training less "
            "sensitive to the optimizer and the learning rate.",
            "Xiao et al. 2021, arXiv 2106.14881",
        ),
        Fact(
            "Shifted patches and locality self-attention together add 2.96 % on average on Tiny-ImageNet.",
            "Lee et al. 2021, arXiv 2112.13492",
        ),
        Fact(
            "Distilled from a CNN, DeiT-Ti, -S and -B reach 74.5, 81.2 and 83.4 % on ImageNet; else 72.2, 79.9, 81.8.",
            "Touvron et al. 2021, facebookresearch/deit, README",
        ),
        Fact(
            "Masked pre-training on the same data lets Transformers match state-space models on long sequences.",
            "Amos et al. 2024, arXiv 2310.02980",
        ),
    ),
    own_data=True,
    on_own_images=dict(conditions=(Condition(FEW, "", fewer(FEW)),)),
)
