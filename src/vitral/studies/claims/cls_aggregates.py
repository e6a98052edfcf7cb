"""`cls_aggregates`: the class token aggregates the image over the layers.

A linear probe after each block measures what the class token holds. Ablation measures where that comes from: in some
blocks the class token attends only to itself, everything else is unchanged, and the model predicts from what is left.
A model that was never trained so may fail because its input is unusual, so another is trained under the same cut: what
it loses is what the class token collects there, and the rest of the knock-out's cost is damage.

Axes:  b images   c channels   y x pixels   d width
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitral.data.dataset import Split
from vitral.explain.diagnostics.attention_mass import attention_mass
from vitral.explain.diagnostics.probe import answers, features, probe
from vitral.recording.intercept import watch
from vitral.report.studies import panels_figure
from vitral.studies.arms import CLS, SAMPLES, SHAPES
from vitral.studies.decision_rules import Beyond, Exactly
from vitral.studies.effects import Effect, Measure
from vitral.studies.figures import points
from vitral.studies.loops.isolated import isolate_class_token
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, RunValues, Study
from vitral.studies.training import Trained, first_images

PROBE_IMAGES, TEST_IMAGES = 1_000, 500  # for training a probe, and for testing the probe and the ablated model
DEPTH = 4
HALF = DEPTH // 2
BOUNDARIES = tuple(range(DEPTH + 1))  # the number of blocks before a place in the stream
# Accuracies of this arm without the cut are of no interest: `cut_before[HALF]` is its accuracy under the cut.
CUT = replace(CLS, name="vit, trained under the cut", loop="studies.loops.isolated:isolated")


@torch.no_grad()
def ablated_accuracy(
    model: nn.Module, images: Float[Tensor, "b c y x"], labels: Tensor, layers: Sequence[int]
) -> float:
    """Accuracy with the class token isolated in some layers."""
    with watch(model, rows=[0], edit=isolate_class_token(layers)):
        logits = model(images)
    return float((logits.argmax(dim=1) == labels).double().mean())


def images_and_labels(split: Split, n: int, trained: Trained) -> tuple[Tensor, Tensor]:
    """The first `n` images and labels, or as many as the model is evaluated on if these are fewer."""
    some = first_images(split, min(n, trained.training.eval_images))
    return trained.normalised(some.pixels), torch.from_numpy(some.labels)


@torch.no_grad()
def patch_means(model: nn.Module, images: Float[Tensor, "b c y x"]) -> list[Float[Tensor, "b d"]]:
    """The mean of the patch tokens after each block."""
    return [one.mean(dim=(2, 3)) for one in model.features(images, range(DEPTH))]  # type: ignore[operator]  # a ViT's


def aggregation(trained: Trained) -> Measures:
    """Accuracy of probes after each block, and of the model with the class token isolated in some blocks."""
    model: nn.Module = trained.model.eval()
    known, known_labels = images_and_labels(trained.data.train, PROBE_IMAGES, trained)
    images, labels = images_and_labels(trained.data.test, TEST_IMAGES, trained)
    token = probe(model, known, known_labels.tolist(), images, labels.tolist()).tolist()
    patches = [
        float((answers(own, known_labels, other) == labels).double().mean())
        for own, other in zip(patch_means(model, known), patch_means(model, images))
    ]
    blocks = range(DEPTH)
    before = [ablated_accuracy(model, images, labels, blocks[:place]) for place in BOUNDARIES]
    onwards = [ablated_accuracy(model, images, labels, blocks[place:]) for place in BOUNDARIES]
    start = features(model, images[:100])[0]
    return {
        "token": token,
        "patches": patches,
        "cut_before": before,
        "cut_onwards": onwards,
        "cut_alone": [ablated_accuracy(model, images, labels, [block]) for block in blocks],
        "reading": attention_mass(model, images[:100])["cls reads patches"].mean(axis=(0, 2)).tolist(),
        "early": before[0] - before[HALF],
        "late": onwards[-1] - onwards[HALF],
        "last": onwards[-1] - onwards[-2],
        # A probe that learns nothing from one end to the other must not divide by zero.
        "rise_by_half": (token[HALF] - token[0]) / max(token[-1] - token[0], 0.01),
        "behind": patches[-2] - token[-2],
        "differs_at_start": float((start - start[0]).abs().max()),
    }


def draw_by_block(results: RunValues) -> tuple[Figure, str]:
    panels = {
        "linear probe": {"class token": ("token", BOUNDARIES), "mean of patches": ("patches", BOUNDARIES[1:])},
        "class token isolated": {
            "in the blocks before": ("cut_before", BOUNDARIES),
            "in the blocks after": ("cut_onwards", BOUNDARIES),
            "in the next block": ("cut_alone", BOUNDARIES[:-1]),
        },
    }
    found = {
        title: {
            name: points(places, values)
            for name, (measure, places) in lines.items()
            if len(values := results.values(measure, CLS.name, "shapes"))
        }
        for title, lines in panels.items()
    }
    return panels_figure(found, "test accuracy", "number of blocks"), (
        "Left: accuracy of linear probes after each number of blocks. Right: accuracy of the model if the class token "
        "attends only to itself in all blocks before this place, in all blocks after it, or in the next block."
    )


def of_model(measure: str) -> Effect:
    return Measure(measure)[CLS.name]


# What accuracy costs if the model is trained without what the class token collects in the first half of the blocks.
LOST_IN_TRAINING = of_model("cut_before")[0] - Measure("cut_before")[CUT.name][HALF]


cls_aggregates = Study(
    name="cls_aggregates",
    number=6,
    title="The class token",
    claim="The class token aggregates the image over the layers.",
    question="In which blocks does the class token collect the information that it classifies by?",
    arms=(CLS, CUT),
    conditions=(Condition("shapes", SHAPES),),
    hypotheses=(
        Hypothesis(
            "It needs what it collects early: trained under the cut in the first half, a ViT loses over 5 points.",
            LOST_IN_TRAINING,
            Beyond(0.05),
        ),
        Hypothesis(
            "Knocked out only after training, isolating it in the first half of the blocks costs more than 5 points.",
            of_model("early"),
            Beyond(0.05),
        ),
        Hypothesis(
            "That knock-out is mostly damage by an unusual input: it costs twice as much as training under the cut.",
            of_model("early") - LOST_IN_TRAINING * 2,
            Beyond(0.0),
        ),
        Hypothesis(
            "Knocked out after training, the second half costs more than the first, by more than 5 points.",
            of_model("late") - of_model("early"),
            Beyond(0.05),
        ),
        Hypothesis(
            "Knocked out after training, the last block alone costs more than 5 points.",
            of_model("last"),
            Beyond(0.05),
        ),
        Hypothesis(
            "After half of the blocks, a probe has made more than half of its gain in accuracy.",
            of_model("rise_by_half"),
            Beyond(0.5),
        ),
        Hypothesis(
            "Before the last block a probe on the mean of the patches is better than on the token, by over 5 points.",
            of_model("behind"),
            Beyond(0.05),
        ),
        Hypothesis(
            "Before the first block the class token is the same for every image.",
            of_model("differs_at_start"),
            Exactly(0),
        ),
    ),
    outcomes=Outcomes(
        supported="The class token needs what it collects early: a ViT trained without attention from it to the "
        "patches in the first half of the blocks is less accurate by more than five points. How much more a knock-out "
        "after training costs, by damage, is a separate hypothesis.",
        refuted="Not needed over the layers: a ViT trained without attention from the class token to the patches in "
        "the first half of the blocks loses at most five points, so the later ones can collect what it needs. What "
        "a knock-out after training costs beyond that is damage by an unusual input, a separate hypothesis.",
        inconclusive="These runs do not decide whether a ViT trained under the cut loses more than five points.",
    ),
    would_change="More blocks, so that early ones can serve patches; longer training; a class token that enters late.",
    budgets={
        "smoke": Budget(256, 2, images=512, eval_images=200),
        "quick": Budget(SAMPLES, 6),
        "full": Budget(4 * SAMPLES, 8),
    },
    reference=Reference(CLS.name, "shapes", 0.85),
    measure=aggregation,
    figures=(draw_by_block,),
    exact=Fact.proved(
        "cls_aggregates",
        "If the class token attends only to itself in every block, the prediction is the same for every image.",
    ),
    published=(
        Fact(
            "A class token that enters only before the last layers works better than one that is there from the start.",
            'Touvron et al. 2021, "Going deeper with Image Transformers", arXiv 2103.17239, §3',
        ),
    ),
)
