"""`attention_maps`: attention maps show what the model looked at.

Each image has two shapes, each with a dot, and its class is that of the shape whose dot is white. So the right object
is known to the pixel, and can be changed while everything else stays the same. Edges, brightness and location carry no
information about it, so maps without any knowledge of the model serve as controls.

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vitral.base.lookup import names
from vitral.explain.metric import Case, metric
from vitral.explain.object_masks import height_on_objects
from vitral.explain.scoring import score
from vitral.report.studies import Row, dots_figure
from vitral.studies.arms import CLS
from vitral.studies.decision_rules import Beyond
from vitral.studies.effects import Effect, Measure, maximum
from vitral.studies.statistics import mean_interval
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, RunValues, Study
from vitral.studies.training import Trained

DATA = "cued:n=80000,objects=2,smallest=0.27,largest=0.28,rotation=5,contrast=0.7,noise=0.02"
IMAGES = 200  # that the model classifies correctly
METHODS = ("attention", "rollout", "attention_gradient", "chefer", "occlusion")
CONTROLS = tuple(names("explain.controls"))


@metric(better="higher", needs="scene")
def right_object(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 if the map's mean on the object that determines the class is higher than on any other; ties share the 1.

    A constant map, which prefers no object, gets one divided by the number of objects.
    """
    split = case.scene.split
    heights = np.nan_to_num(height_on_objects(maps, split))
    best = heights == heights.max(axis=1, keepdims=True)
    return best[np.arange(len(maps)), split.factors["marked"]] / best.sum(axis=1)


METRICS = ("auroc", right_object, "pointing_game", "exact_deletion", "counterfactual")


def scores(trained: Trained) -> Measures:
    """Every metric of every method and control, averaged over images, by names such as `auroc_attention`."""
    images = min(IMAGES, trained.training.eval_images)
    table = score(METHODS, METRICS, trained.model, trained.data, n=images)
    return {f"{one.metric}_{one.method}": one.value for one in table.scores}


def metric_of(method: str, metric: str) -> Effect:
    return Measure(f"{metric}_{method}")[CLS.name]


def lead(metric: str) -> Effect:
    """How far attention is above the best control."""
    return metric_of("attention", metric) - maximum(*(metric_of(control, metric) for control in CONTROLS))


def draw_metrics(results: RunValues) -> tuple[Figure, str]:
    panels = {
        "AUROC of patches": "auroc",
        "right object": "right_object",
        "probability lost without\nthe highest object": "exact_deletion",
        "follows the dot": "counterfactual",
    }
    found = {
        title: [
            Row(method if method in METHODS else f"{method} (control)", values, mean_interval(values))
            for method in (*METHODS, *CONTROLS)
            if len(values := results.values(f"{metric}_{method}", CLS.name, "two shapes"))
        ]
        for title, metric in panels.items()
    }
    return dots_figure(found, "share, or decrease of the class's probability"), (
        "Methods and controls on images that the model classifies correctly. AUROC: whether patches of the right shape "
        "rank above the others. Right object: whether the map is higher on it than on the other shape. Then the image "
        "is generated again: without the shape on which the map is highest, or with the white dot on the other."
    )


attention_maps = Study(
    name="attention_maps",
    number=10,
    title="Attention maps",
    claim="Attention maps show what the model looked at.",
    question="Does the last block's attention mark the right shape better than maps without knowledge of the model?",
    arms=(CLS,),
    conditions=(Condition("two shapes", DATA),),
    hypotheses=(
        Hypothesis(
            "The last block's attention ranks the right shape's patches first, over 0.05 AUROC above any control.",
            lead("auroc"),
            Beyond(0.05),
        ),
        Hypothesis(
            "It is higher on the right shape than on the other, more often than any control by more than 25 points.",
            lead("right_object"),
            Beyond(0.25),
        ),
        Hypothesis(
            "Removing its highest shape lowers the class's probability by over 0.2 more than for any control.",
            lead("exact_deletion"),
            Beyond(0.2),
        ),
        Hypothesis(
            "When the white dot moves to the other shape, more than half of the attention on shapes moves with it.",
            metric_of("attention", "counterfactual"),
            Beyond(0.5),
        ),
        Hypothesis(
            "Chefer's method (gradients, all layers) ranks the patches better, by more than 0.05 AUROC.",
            metric_of("chefer", "auroc") - metric_of("attention", "auroc"),
            Beyond(0.05),
        ),
        Hypothesis(
            "Occlusion, which covers one patch after another, ranks the patches better, by more than 0.05 AUROC.",
            metric_of("occlusion", "auroc") - metric_of("attention", "auroc"),
            Beyond(0.05),
        ),
    ),
    outcomes=Outcomes(
        supported="The attention in this ViT's last block ranks the right shape's patches above all others, better "
        "than maps without knowledge of the model. It is the same map for every class.",
        inconclusive="These runs do not decide whether the last block's attention ranks the right shape's patches "
        "above any control.",
        refuted="Not in the usual sense: as a ranking of patches, the last block's attention is not 0.05 AUROC better "
        "than the best control. Whether it is higher on the right object is a separate hypothesis.",
    ),
    would_change="Objects of many patches, of which the few highest are a smaller part; a model that pools by the mean "
    "of its patches; photographs, for which the right object is not known.",
    budgets={
        "smoke": Budget(256, 2, images=512, eval_images=20),
        "quick": Budget(307_200, 4),
        "full": Budget(2 * 307_200, 6),
    },
    reference=Reference(CLS.name, "two shapes", 0.85),
    measure=scores,
    figures=(draw_metrics,),
    exact=(
        Fact(
            "Generated again with the white dot on the other shape, an image changes only in the two dots; generated "
            "without a shape, it changes only where that shape was.",
            "tests/unit/test_data_cued.py",
        ),
        Fact(
            "A map that is the same on both shapes finds the right object half of the time; the mask itself always.",
            "tests/laws/test_study_attention_maps.py",
        ),
    ),
    published=(
        Fact(
            "Common metrics of faithfulness do not distinguish advanced explanation methods from random maps.",
            'Wu et al. 2024, "On the Faithfulness of Vision Transformer Explanations", arXiv 2404.01415',
        ),
        Fact(
            "Attention, gradients and relevance are proxies of what a model does; activation patching measures it.",
            "arXiv 2603.13652",
        ),
    ),
)
