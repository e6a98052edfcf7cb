"""`long_range`: ViTs model long-range dependencies that CNNs struggle with.

Two glyphs at a known distance: the same or not? What is asked does not change with the distance, so whoever struggles
with range must be worse where they are far apart than where they are near. A convolutional model of which only the
first m blocks mix holds two glyphs against each other up to 2 m patches apart; beyond, with a mean and a linear head,
its answer is a sum of what it makes of each, and that is proved to be right three times in four at most. A model that
sees the whole image, or whose head is not linear, has no such limit.

Whether a run learns to compare is all or nothing, so the share of runs that do and the samples they need are given too.

Axes:  n images   k glyphs   m pairs of places
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from vitral.data.drawing import to_bytes
from vitral.data.preprocess import normalise
from vitral.data.synthetic.pairs import by_distance, grey, lit
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.position import NoPosition
from vitral.nn.head import MLPHead
from vitral.report.beside import beside_figure
from vitral.studies.arms import RATIO, RESNET, SHUFFLED, VIT, WIDTH, depthwise, named
from vitral.studies.drawing import dots, points
from vitral.studies.results import Results
from vitral.studies.rules import Beyond, Exactly
from vitral.studies.settled import SettledPool
from vitral.studies.study import Arm, Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained, first
from vitral.training.metrics import predict_split

PATCH, SIDE = 4, 5  # pixels of a patch, patches along a side
PAIRS = f"pairs:size={SIDE * PATCH},n=40000,patch={PATCH},noise=0.05"
NEAR = 2  # patches: how far apart two glyphs may be for one 3 x 3 convolution to see both
CEILING = 0.75  # of sums, whatever the glyphs
ENOUGH = 0.9  # the share of right answers from which a run has learned to compare
ASKED = 40  # pairs of places at each distance of which the interaction contrast is the mean
DEPTH = 4
MANY_STEPS = dict(batch_size=64)  # learning to compare begins with a plateau, which steps overcome

ATTENTION = 4 * WIDTH**2 + 4 * WIDTH + 4 * (WIDTH // 4)  # numbers that attention holds more than nothing
PLACES = SIDE**2 * WIDTH  # a learned table, which no convolution needs
HEAD = WIDTH**2 + WIDTH  # what an MLP head holds more than a linear one


def alike(name: str, mixing: int, **settings: object) -> Arm:
    """An arm without positions that mixes in so many blocks, with MLPs as wide as makes up for what it lacks."""
    held = mixing * depthwise(3) + (HEAD if "head" in settings else 0)
    hidden = RATIO * WIDTH + round((DEPTH * ATTENTION + PLACES - held) / (DEPTH * (2 * WIDTH + 1)))
    shared = dict(patch_size=PATCH, position=NoPosition, mlp_ratio=hidden / WIDTH)
    return Arm(name, settings=shared | settings, recipe=MANY_STEPS)


NEAR_SIGHTED = dict(mixer=DepthwiseMixing, depth=1, pool=partial(SettledPool, depth=3))  # one block mixes, three go on
ARMS = (
    named(VIT, "vit", MANY_STEPS, patch_size=PATCH),
    alike("cnn, whole image", DEPTH, mixer=DepthwiseMixing),
    alike("cnn, near", 1, **NEAR_SIGHTED),
    alike("cnn, near, mlp head", 1, **NEAR_SIGHTED, head=MLPHead),
    alike("bag of patches", 0, mixer=NoMixing),
    named(RESNET, RESNET.name, MANY_STEPS),
    named(SHUFFLED, SHUFFLED.name, MANY_STEPS, patch_size=PATCH),
)
WHOLE = ("vit", "cnn, whole image", "resnet")


@torch.no_grad()
def contrast(model: nn.Module, trained: Trained) -> list[float]:
    """|L(a, a) - L(a, b) - L(b, a) + L(b, b)| for each distance: what the answer is more than a sum of two.

    L is the logit of "same" less that of "different", on images without noise, in double precision.
    """
    size = trained.data.preprocessing.size[0]
    model, found = model.double(), []
    for places in by_distance(size // PATCH):
        some = places[:: max(1, len(places) // ASKED)][:ASKED]
        logits = {}
        for a in (0, 1):
            for b in (0, 1):
                pixels = to_bytes(grey(lit(some, np.tile([a, b], (len(some), 1)), size, PATCH)))
                out = model(normalise(torch.from_numpy(pixels), trained.data.preprocessing).double())
                logits[a, b] = out[:, 1] - out[:, 0]
        crossed = logits[0, 0] - logits[0, 1] - logits[1, 0] + logits[1, 1]
        found.append(float(crossed.abs().mean()))
    model.float()
    return found


def compared(trained: Trained) -> Measures:
    """Right answers by distance, whether and after how many samples it compares, and the interaction contrast."""
    split = first(trained.data.test, trained.training.judged)
    right = predict_split(trained.model, split).answers == split.labels
    distance = split.factors["distance"]
    by = [float(right[distance == d].mean()) for d in range(1, int(distance.max()) + 1)]
    reached = [samples for samples, accuracy in trained.record["curve"] if accuracy >= ENOUGH]
    crossed = contrast(trained.model.eval(), trained)
    return {
        "by_distance": by,
        "near": float(right[distance <= NEAR].mean()),
        "far": float(right[distance > NEAR].mean()),
        "compares": float(right.mean() >= ENOUGH),
        "samples_needed": float(min(reached, default=trained.training.samples)),
        "contrast": crossed,
        "contrast_near": float(np.mean(crossed[:NEAR])),
        "contrast_far": float(np.max(crossed[NEAR:])),
    }


def knees(results: Results) -> tuple[Figure, str]:
    """Right answers against distance, a panel a condition, with what sums are capped at."""
    panels: dict[str, Mapping[str, np.ndarray]] = {}
    for condition in results.conditions:
        lines = {}
        for arm in results.arms:
            if len(values := results.values("by_distance", arm, condition)):
                lines[arm] = points(range(1, SIDE), values)
        beyond = [(d, CEILING, CEILING, CEILING) for d in range(NEAR + 1, SIDE)]
        if lines or not panels:
            panels[condition] = lines | {"sums: at most": np.array(beyond)}
    return beside_figure(panels, "test accuracy", "distance of the two glyphs, in patches", marked=(NEAR + 0.5,)), (
        f"Right answers by distance. At the dashed line one 3 x 3 convolution ceases to see both glyphs; from there on "
        f"a model whose answer is a sum of what it makes of each is right in {CEILING:.0%} of cases at most."
    )


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
            "A CNN that sees the whole image loses more from near to far than the ViT, by more than five points.",
            '(near["cnn, whole image"] - far["cnn, whole image"]) - (near["vit"] - far["vit"])',
            Beyond(0.05),
        ),
        Hypothesis(
            "A CNN of which one block mixes does lose from near to far: more than twenty points.",
            'near["cnn, near"] - far["cnn, near"]',
            Beyond(0.2),
        ),
        Hypothesis(
            "What that block cannot see together adds up to a sum: the interaction contrast is nothing but rounding.",
            'contrast_far["cnn, near"]',
            Exactly(1e-6),
        ),
        Hypothesis(
            "A head that is not linear takes that limit away: far apart, it is right in more than 75 % of cases.",
            'far["cnn, near, mlp head"]',
            Beyond(CEILING),
        ),
        Hypothesis(
            "The ViT takes less than half as many samples as the CNN that sees the whole image to be right in 90 %.",
            'log2(samples_needed["cnn, whole image"] / samples_needed["vit"])',
            Beyond(1),
        ),
        Hypothesis(
            "Of eight glyphs, far apart, the ViT is right more often than the CNN that sees the whole image.",
            'far["vit", "eight glyphs"] - far["cnn, whole image", "eight glyphs"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "So it is of eight glyphs near each other: what the CNN finds hard is to compare, not to look far.",
            'near["vit", "eight glyphs"] - near["cnn, whole image", "eight glyphs"]',
            Beyond(0.05),
        ),
    ),
    outcomes=Outcomes(
        supported="Found here: a CNN that sees the whole image still loses more with distance than the ViT.",
        refuted="Not as stated: a CNN that sees the whole image does not lose more with distance than the ViT, to "
        "within five points. One that sees too little, and answers by a sum, is provably bound by distance; what it "
        "takes a CNN to learn to compare, near or far, is asked separately.",
        inconclusive="These runs cannot tell whether distance costs a CNN that sees the whole image more than the ViT.",
    ),
    would_change="Images so large that no affordable depth sees them whole; chains of many steps, as a path to be "
    "traced, instead of one comparison.",
    budgets={
        "smoke": Budget(
            256, 2, images=512, judged=200, only=("two glyphs",), without=("resnet", "bag of patches", SHUFFLED.name)
        ),
        "quick": Budget(38_400, 4, (1.0, 4.0)),
        "full": Budget(153_600, 8, (0.5, 1.0, 2.0, 4.0)),
    },
    regime=Regime("vit", "two glyphs", ENOUGH),
    measure=compared,
    figures=(
        knees,
        dots(
            "samples_needed",
            "samples",
            "Samples until 90 % of validation answers are right; a run that never got there stands at all its samples.",
            percent=False,
        ),
        dots(
            "compares",
            "share of runs",
            "Runs that learned to compare: 90 % of test answers right. A small dot is a run, a large one the mean.",
        ),
    ),
    exact=(
        Fact(
            "A sum a(first) + b(second) of two glyphs tells same from different in at most 75 % of cases, however many "
            "glyphs there are; if a = b, of eight in at most 64.3 %.",
            "tests/laws/test_study_long_range.py",
        ),
        Fact(
            "If m blocks mix by 3 x 3 convolutions, with a mean and a linear head, the answer for two glyphs more than "
            "2 m patches apart is such a sum, whatever the weights. A head that is not linear, or a norm over all "
            "tokens, makes it none.",
            "tests/laws/test_study_long_range.py",
        ),
    ),
    published=(
        Fact(
            "On Pathfinder, made to ask for long range, a plain Transformer reaches 71.4 %, and on its longer form, "
            "Path-X, it learns nothing.",
            "Tay et al. 2021, github.com/google-research/long-range-arena",
        ),
        Fact(
            "Most of what models get right in the Long Range Arena comes from short-range dependencies.",
            "Miralles-González et al. 2025, arXiv 2501.14850",
        ),
        Fact(
            "Feed-forward convolutional networks struggle with Pathfinder where a single recurrent layer does not: "
            "the comparison was with recurrence, not with attention.",
            "Linsley et al. 2018, arXiv 1805.08315",
        ),
    ),
)
