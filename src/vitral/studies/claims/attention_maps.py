"""`attention_maps`: attention maps show what the model looked at.

Two shapes, each with a dot, and the answer is the class of the one whose dot is white: which is right to look at is
known to the last pixel, and can be changed with everything else as it was. Edges, brightness and place say nothing of
it, so maps that know nothing are held beside those of the model.

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
from vitral.studies.results import Results, interval_of
from vitral.studies.rules import Beyond
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained

DATA = "cued:n=80000,objects=2,smallest=0.27,largest=0.28,rotation=5,contrast=0.7,noise=0.02"
IMAGES = 200  # that the model answers right
METHODS = ("attention", "rollout", "attention_gradient", "chefer", "occlusion")
CONTROLS = tuple(names("explain.controls"))


@metric(better="higher", needs="scene")
def right_object(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 where the map is higher on average on the object that counts than on any other; equal ones share it.

    A constant map knows none: its share of the objects.
    """
    split = case.scene.split
    heights = np.nan_to_num(height_on_objects(maps, split))
    best = heights == heights.max(axis=1, keepdims=True)
    return best[np.arange(len(maps)), split.factors["marked"]] / best.sum(axis=1)


METRICS = ("auroc", right_object, "pointing_game", "exact_deletion", "counterfactual")


def scores(trained: Trained) -> Measures:
    """Every metric of every method and control, the mean over images, as `auroc_attention`."""
    table = score(METHODS, METRICS, trained.model, trained.data, n=min(IMAGES, trained.training.judged))
    return {f"{one.metric}_{one.method}": one.value for one in table.scores}


def best_control(metric: str) -> str:
    """A formula."""
    return "max(" + ", ".join(f'{metric}_{control}["{CLS.name}"]' for control in CONTROLS) + ")"


def of(metric: str, method: str) -> str:
    """A formula."""
    return f'{metric}_{method}["{CLS.name}"]'


def drawn(results: Results) -> tuple[Figure, str]:
    panels = {
        "AUROC of patches": "auroc",
        "right object": "right_object",
        "answer lost without\nthe object marked": "exact_deletion",
        "follows the dot": "counterfactual",
    }
    found = {
        title: [
            Row(method if method in METHODS else f"{method} (control)", values, interval_of(values))
            for method in (*METHODS, *CONTROLS)
            if len(values := results.values(f"{metric}_{method}", CLS.name, "two shapes"))
        ]
        for title, metric in panels.items()
    }
    return dots_figure(found, "share, or fall of the answer's probability"), (
        "Methods and controls on images that the model answers right. AUROC: does a patch of the shape that counts "
        "rank above one that is not? Right object: is the map higher on it than on the other shape? Then the image is "
        "drawn again without the shape that the map marks most, and with the white dot on the other."
    )


attention_maps = Study(
    name="attention_maps",
    number=10,
    title="Attention maps",
    claim="Attention maps show what the model looked at.",
    question="Does the last block's attention mark the shape that the answer hangs on, better than maps that know "
    "nothing of the model?",
    arms=(CLS,),
    conditions=(Condition("two shapes", DATA),),
    hypotheses=(
        Hypothesis(
            "The last block's attention ranks the right shape's patches first, better than any control by over 0.05 "
            "AUROC.",
            f"{of('auroc', 'attention')} - {best_control('auroc')}",
            Beyond(0.05),
        ),
        Hypothesis(
            "It tells the shape that counts from the other, better than every control by more than 25 points.",
            f"{of('right_object', 'attention')} - {best_control('right_object')}",
            Beyond(0.25),
        ),
        Hypothesis(
            "Without the shape that it marks most the answer's probability falls further than by any control's, by "
            "over 0.2.",
            f"{of('exact_deletion', 'attention')} - {best_control('exact_deletion')}",
            Beyond(0.2),
        ),
        Hypothesis(
            "When the white dot moves to the other shape, more than half of what it puts on shapes moves along.",
            of("counterfactual", "attention"),
            Beyond(0.5),
        ),
        Hypothesis(
            "Weighted by gradients through all layers (Chefer), it ranks the patches better, by more than 0.05 AUROC.",
            f"{of('auroc', 'chefer')} - {of('auroc', 'attention')}",
            Beyond(0.05),
        ),
        Hypothesis(
            "Covering patch after patch, which asks the model itself, ranks them better, by more than 0.05 AUROC.",
            f"{of('auroc', 'occlusion')} - {of('auroc', 'attention')}",
            Beyond(0.05),
        ),
    ),
    outcomes=Outcomes(
        supported="Found, of the last block of this ViT: its attention ranks the patches of the shape that the answer "
        "hangs on above all others, better than maps that know nothing. It is the same map for every class.",
        refuted="Not as people read them: as a ranking of patches the last block's attention is not better than the "
        "best map that knows nothing of the model, by 0.05 of AUROC. Whether its highest patches are on the right "
        "object is another question, asked separately.",
    ),
    would_change="Objects of many patches, of which a few highest are a smaller part; a model that answers from the "
    "mean of its patches; photographs, where nobody knows what is right to look at.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=20),
        "quick": Budget(307_200, 4),
        "full": Budget(2 * 307_200, 6),
    },
    regime=Regime(CLS.name, "two shapes", 0.85),
    measure=scores,
    figures=(drawn,),
    exact=(
        Fact(
            "Drawn again with the white dot on the other shape, an image is the same but for the two dots; without a "
            "shape, but for its place.",
            "tests/unit/test_data_cued.py",
        ),
        Fact(
            "A map that is the same on both shapes is right half of the time; the mask itself always.",
            "tests/laws/test_study_attention_maps.py",
        ),
    ),
    published=(
        Fact(
            "Metrics of faithfulness in use do not tell advanced explanation methods from random maps.",
            'Wu et al. 2024, "On the Faithfulness of Vision Transformer Explanations", arXiv 2404.01415',
        ),
        Fact(
            "Attention, gradients and relevance are proxies of what a model does; patching activations asks it.",
            "arXiv 2603.13652",
        ),
    ),
)
