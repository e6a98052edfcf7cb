"""`long_range`: ViTs model long-range dependencies that CNNs struggle with.

Two glyphs at a known distance: are they the same or not? The task does not change with the distance, so a model that
struggles with range must be worse at far pairs than at near ones. A convolutional model in which only the first m
blocks mix tokens can compare two glyphs up to 2 m patches apart. Beyond that, with mean pooling and a linear head, its
output is a sum of one term per glyph, and such a sum is provably right in at most three of four cases. A model that
sees the whole image, or whose head is not linear, has no such limit.

A run learns to compare either completely or not at all, so the share of runs that do, and the samples they need, are
reported too.

Axes:  n images   k glyphs   m pairs of places
"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from vitral.data.drawing import to_bytes
from vitral.data.synthetic.pairs import by_distance, glyph_mask, to_grey
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.position import NoPosition
from vitral.nn.head import MLPHead
from vitral.report.studies import panels_figure
from vitral.studies.arms import ATTENTION, RATIO, RESNET, SHUFFLED, VIT, WIDTH, depthwise_parameters, variant
from vitral.studies.decision_rules import Beyond, Exactly
from vitral.studies.effects import Measure, log2
from vitral.studies.figures import dots, measured_arms, points
from vitral.studies.model_parts.tokenwise_pool import TokenwisePool
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, RunValues, Study
from vitral.studies.training import Trained
from vitral.training.metrics import classify_split

PATCH, SIDE = 4, 5  # pixels of a patch, patches along a side
PAIRS = f"pairs:size={SIDE * PATCH},n=40000,patch={PATCH},noise=0.05"
NEAR = 2  # patches: the largest distance at which one 3 x 3 convolution sees both glyphs
CEILING = 0.75  # accuracy of sums, whatever the glyphs
LEARNED = 0.9  # accuracy from which a run counts as having learned to compare
CONTRAST_PAIRS = 40  # pairs of places per distance over which the interaction contrast is averaged
DEPTH = 4
MANY_STEPS = dict(batch_size=64)  # learning to compare starts with a plateau, and more steps help to leave it

TABLE = SIDE**2 * WIDTH  # of learned positions, which no convolution needs
HEAD = WIDTH**2 + WIDTH  # that an MLP head has more than a linear one


def without_positions(mixing: int, head: int = 0) -> dict[str, Any]:
    """The settings of an arm in which `mixing` blocks mix tokens, with MLPs wide enough to match the ViT's size."""
    held = mixing * depthwise_parameters(3) + head
    hidden = RATIO * WIDTH + round((DEPTH * ATTENTION + TABLE - held) / (DEPTH * (2 * WIDTH + 1)))
    return dict(patch_size=PATCH, position=NoPosition, mlp_ratio=hidden / WIDTH)


# One block mixes, three do not.
NEARBY = dict(mixer=DepthwiseMixing, depth=1, pool=partial(TokenwisePool, depth=3))
ARMS = (
    variant(VIT, "vit", MANY_STEPS, patch_size=PATCH),
    variant(VIT, "cnn, whole image", MANY_STEPS, **without_positions(DEPTH), mixer=DepthwiseMixing),
    variant(VIT, "cnn, near", MANY_STEPS, **without_positions(1), **NEARBY),
    variant(VIT, "cnn, near, mlp head", MANY_STEPS, **without_positions(1, HEAD), **NEARBY, head=MLPHead),
    variant(VIT, "bag of patches", MANY_STEPS, **without_positions(0), mixer=NoMixing),
    variant(RESNET, RESNET.name, MANY_STEPS),
    variant(SHUFFLED, SHUFFLED.name, MANY_STEPS, patch_size=PATCH),
)
WHOLE = ("vit", "cnn, whole image", "resnet")


@torch.no_grad()
def interaction_contrasts(model: nn.Module, trained: Trained) -> list[float]:
    """|L(a, a) - L(a, b) - L(b, a) + L(b, b)| for each distance: zero if the output is a sum of one term per glyph.

    L is the logit of "same" minus that of "different", on images without noise, in double precision.
    """
    size = trained.data.preprocessing.size[0]
    model, found = model.double(), []
    for places in by_distance(size // PATCH):
        some = places[:: max(1, len(places) // CONTRAST_PAIRS)][:CONTRAST_PAIRS]
        logits = {}
        for a, b in product((0, 1), repeat=2):
            pixels = to_bytes(to_grey(glyph_mask(some, np.tile([a, b], (len(some), 1)), size, PATCH)))
            out = model(trained.normalised(pixels).double())
            logits[a, b] = out[:, 1] - out[:, 0]
        # A sum f(first) + g(second) cancels: each of f(a), f(b), g(a), g(b) occurs once with + and once with -.
        interaction = logits[0, 0] - logits[0, 1] - logits[1, 0] + logits[1, 1]
        found.append(float(interaction.abs().mean()))
    model.float()
    return found


def comparison(trained: Trained) -> Measures:
    """Accuracy by distance, whether and after how many samples the model compares, and the interaction contrast."""
    split = trained.test_images()
    right = classify_split(trained.model, split).answers == split.labels
    distance = split.factors["distance"]
    learned_at = [samples for samples, accuracy in trained.record["curve"] if accuracy >= LEARNED]
    contrasts = interaction_contrasts(trained.model.eval(), trained)
    return {
        "by_distance": [float(right[distance == d].mean()) for d in range(1, int(distance.max()) + 1)],
        "near": float(right[distance <= NEAR].mean()),
        "far": float(right[distance > NEAR].mean()),
        "compares": float(right.mean() >= LEARNED),
        "samples_needed": float(min(learned_at, default=trained.training.samples)),
        "contrast": contrasts,
        "contrast_near": float(np.mean(contrasts[:NEAR])),
        "contrast_far": float(np.max(contrasts[NEAR:])),
    }


def draw_accuracy_by_distance(results: RunValues) -> tuple[Figure, str]:
    """Accuracy against distance, one panel per condition, with the limit for sums."""
    panels: dict[str, Mapping[str, np.ndarray]] = {}
    limit = [(d, CEILING, CEILING, CEILING) for d in range(NEAR + 1, SIDE)]
    for condition in results.conditions:
        measured = measured_arms(results, "by_distance", condition)
        lines = {arm: points(range(1, SIDE), values) for arm, values in measured}
        if lines or not panels:
            panels[condition] = lines | {"limit for sums": np.array(limit)}
    return panels_figure(panels, "test accuracy", "distance of the two glyphs, in patches", marked=(NEAR + 0.5,)), (
        f"Accuracy by distance. Beyond the dashed line one 3 x 3 convolution no longer sees both glyphs; from there on "
        f"a model whose output is a sum of one term per glyph is right in at most {CEILING:.0%} of cases."
    )


near, far, samples_needed = Measure("near", is_share=True), Measure("far", is_share=True), Measure("samples_needed")

long_range = Study(
    name="long_range",
    number=5,
    title="Long range",
    claim="ViTs model long-range dependencies that CNNs struggle with.",
    question="Does a convolutional model fail to compare two things because they are far apart?",
    arms=ARMS,
    conditions=(
        Condition("two glyphs", f"{PAIRS},glyphs=2"),
        Condition("eight glyphs", f"{PAIRS},glyphs=8", arms=WHOLE),
    ),
    hypotheses=(
        Hypothesis(
            "From near to far, a CNN that sees the whole image loses more than the ViT, by more than five points.",
            (near["cnn, whole image"] - far["cnn, whole image"]) - (near["vit"] - far["vit"]),
            Beyond(0.05),
        ),
        Hypothesis(
            "A CNN in which only one block mixes loses more than twenty points from near to far.",
            near["cnn, near"] - far["cnn, near"],
            Beyond(0.2),
        ),
        Hypothesis(
            "For glyphs that this block does not see together, the output is a sum: the interaction contrast is zero.",
            Measure("contrast_far")["cnn, near"],
            Exactly(1e-6),
        ),
        Hypothesis(
            "A head that is not linear removes that limit: far apart, it is right in more than 75 % of cases.",
            far["cnn, near, mlp head"],
            Beyond(CEILING),
        ),
        Hypothesis(
            "The ViT needs less than half as many samples as the CNN that sees the whole image to reach 90 %.",
            log2(samples_needed["cnn, whole image"] / samples_needed["vit"]),
            Beyond(1),
        ),
        Hypothesis(
            "For eight glyphs, far apart, the ViT is more accurate than the CNN that sees the whole image.",
            far["vit", "eight glyphs"] - far["cnn, whole image", "eight glyphs"],
            Beyond(0.05),
        ),
        Hypothesis(
            "Also for eight glyphs near each other: comparing is hard for the CNN, not looking far.",
            near["vit", "eight glyphs"] - near["cnn, whole image", "eight glyphs"],
            Beyond(0.05),
        ),
    ),
    outcomes=Outcomes(
        supported="Even a CNN that sees the whole image loses more with distance than the ViT.",
        refuted="Not as stated: a CNN that sees the whole image does not lose five points more with distance than the "
        "ViT. One that sees too little, and whose output is a sum, is provably limited by distance. What a CNN needs "
        "to learn to compare, near or far, is a separate hypothesis.",
        inconclusive="These runs do not decide whether a CNN that sees the whole image loses more than the ViT.",
    ),
    would_change="Images too large for any affordable depth to see them whole; tasks of many steps, as tracing a path.",
    budgets={
        "smoke": Budget(
            256,
            2,
            images=512,
            eval_images=200,
            only=("two glyphs",),
            without=("resnet", "bag of patches", SHUFFLED.name),
        ),
        "quick": Budget(38_400, 4, (1.0, 4.0)),
        "full": Budget(153_600, 8, (0.5, 1.0, 2.0, 4.0)),
    },
    reference=Reference("vit", "two glyphs", LEARNED),
    measure=comparison,
    figures=(
        draw_accuracy_by_distance,
        dots(
            "samples_needed",
            "samples",
            "Samples until 90 % of validation images are right; a run that never gets there is shown at its total.",
            percent=False,
        ),
        dots(
            "compares",
            "share of runs",
            "Runs that learned to compare: 90 % of test images right. A small dot is a run, a large one the mean.",
        ),
    ),
    exact=Fact.proved(
        "long_range",
        "A sum a(first) + b(second) of two glyphs separates same from different in at most 75 % of cases, however "
        "many glyphs there are; if a = b, in at most 64.3 % of cases for eight glyphs.",
        "If m blocks mix by 3 x 3 convolutions, with mean pooling and a linear head, the output for two glyphs "
        "more than 2 m patches apart is such a sum, whatever the weights. With a head that is not linear, or with "
        "a norm over all tokens, it is not.",
    ),
    published=(
        Fact(
            "On Pathfinder, designed to need long range, a plain Transformer reaches 71.4 %; on Path-X, chance.",
            "Tay et al. 2021, github.com/google-research/long-range-arena",
        ),
        Fact(
            "Most of the accuracy that models reach in the Long Range Arena comes from short-range dependencies.",
            "Miralles-González et al. 2025, arXiv 2501.14850",
        ),
        Fact(
            "Feed-forward convolutional networks struggle with Pathfinder where a single recurrent layer does not: the "
            "comparison was with recurrence, not with attention.",
            "Linsley et al. 2018, arXiv 1805.08315",
        ),
    ),
)
