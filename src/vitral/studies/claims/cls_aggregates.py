"""`cls_aggregates`: the class token aggregates the image over the layers.

What the class token holds is read by a linear probe after each block. What it takes from where is asked by cutting: in
some blocks it reads nothing but itself, everything else as it was, and the model answers with what is left.

Axes:  b images   l places in the stream   h heads   r rows   m key tokens   n tokens   d width
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitral.data.dataset import Split
from vitral.data.preprocess import normalise
from vitral.explain.diagnostics.attention_mass import attention_mass
from vitral.explain.diagnostics.probe import answers, features, probe
from vitral.recording.edits import Edit, Weights, renormalise
from vitral.recording.intercept import watch
from vitral.report.beside import beside_figure
from vitral.studies.arms import CLS, SAMPLES, SHAPES
from vitral.studies.drawing import points
from vitral.studies.results import Results
from vitral.studies.rules import Beyond, Exactly
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained, first

LEARNED, JUDGED = 1_000, 500  # images that a probe learns from, and that it and the cut model are judged by
DEPTH = 4
HALF = DEPTH // 2
BETWEEN = tuple(range(DEPTH + 1))  # after so many blocks


def unread(layers: Sequence[int]) -> Edit:
    """In these layers the first token reads itself alone."""

    def edit(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if current not in layers or 0 not in queries:
            return rows
        kept = torch.ones_like(rows)
        kept[:, :, list(queries).index(0), 1:] = 0
        return renormalise(rows * kept)

    return Edit(edit, tuple(layers))


@torch.no_grad()
def accuracy(model: nn.Module, images: Float[Tensor, "b c y x"], labels: Tensor, cut: Sequence[int]) -> float:
    """With the class token cut off in some layers."""
    with watch(model, rows=[0], edit=unread(cut)):
        logits = model(images)
    return float((logits.argmax(dim=1) == labels).double().mean())


def given(split: Split, n: int, trained: Trained) -> tuple[Tensor, Tensor]:
    """So many images and labels, or as many as the model is judged by."""
    some = first(split, min(n, trained.training.judged))
    return normalise(torch.from_numpy(some.pixels), trained.data.preprocessing), torch.from_numpy(some.labels)


@torch.no_grad()
def means(model: nn.Module, images: Float[Tensor, "b c y x"]) -> list[Float[Tensor, "b d"]]:
    """The mean of the patches after each block."""
    return [one.mean(dim=(2, 3)) for one in model.features(images, range(DEPTH))]  # type: ignore[operator]


def gathered(trained: Trained) -> Measures:
    """What probes read after each block, and what is lost where the class token is cut off, in accuracy."""
    model: nn.Module = trained.model.eval()
    (known, known_labels), (images, labels) = (
        given(split, n, trained) for split, n in ((trained.data.train, LEARNED), (trained.data.test, JUDGED))
    )
    token = probe(model, known, known_labels.tolist(), images, labels.tolist()).tolist()
    patches = [
        float((answers(own, known_labels, other) == labels).double().mean())
        for own, other in zip(means(model, known), means(model, images))
    ]
    blocks = range(DEPTH)
    before = [accuracy(model, images, labels, blocks[:place]) for place in BETWEEN]
    onwards = [accuracy(model, images, labels, blocks[place:]) for place in BETWEEN]
    start = features(model, images[:100])[0]
    return {
        "token": token,
        "patches": patches,
        "cut_before": before,
        "cut_onwards": onwards,
        "cut_alone": [accuracy(model, images, labels, [block]) for block in blocks],
        "reading": attention_mass(model, images[:100])["cls reads patches"].mean(axis=(0, 2)).tolist(),
        "early": before[0] - before[HALF],
        "late": onwards[-1] - onwards[HALF],
        "last": onwards[-1] - onwards[-2],
        "rise_by_half": (token[HALF] - token[0]) / max(token[-1] - token[0], 0.01),
        "behind": patches[-2] - token[-2],
        "differs_at_start": float((start - start[0]).abs().max()),
    }


def drawn(results: Results) -> tuple[Figure, str]:
    panels = {
        "read by a probe": {"class token": ("token", BETWEEN), "mean of patches": ("patches", BETWEEN[1:])},
        "class token cut off": {
            "in the first blocks": ("cut_before", BETWEEN),
            "in all later blocks": ("cut_onwards", BETWEEN),
            "in the next block alone": ("cut_alone", BETWEEN[:-1]),
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
    return beside_figure(found, "test accuracy", "after so many blocks"), (
        "Left: what a linear probe reads from the class token, and from the mean of the patches, after each block. "
        "Right: the model's answers when the class token reads nothing in all blocks up to here, from here on, or in "
        "the next one."
    )


cls_aggregates = Study(
    name="cls_aggregates",
    number=6,
    title="The class token",
    claim="The class token aggregates the image over the layers.",
    question="In which blocks does the class token take what the answer is made of?",
    arms=(CLS,),
    conditions=(Condition("shapes", SHAPES),),
    hypotheses=(
        Hypothesis(
            "It takes something early: cut off in the first half of the blocks, the model loses more than 5 points.",
            'early["vit, class token"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "It takes more late: the second half costs more than the first, by more than 5 points.",
            'late["vit, class token"] - early["vit, class token"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "The last block alone costs more than 5 points.",
            'last["vit, class token"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "Half way, a probe reads more than half of what it reads at the end, over chance.",
            'rise_by_half["vit, class token"]',
            Beyond(0.5),
        ),
        Hypothesis(
            "Before the last block the mean of the patches says more of the class than the token, by more than 5 "
            "points.",
            'behind["vit, class token"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "Entering the first block it is the same for every image.",
            'differs_at_start["vit, class token"]',
            Exactly(0),
        ),
    ),
    outcomes=Outcomes(
        supported="True of this ViT: cut off from the patches in the first half of the blocks, the class token misses "
        "what it would have read there, and answers are lost. How much is taken in later, and what a probe reads on "
        "the way, is asked separately.",
        refuted="Not over the layers: cut off from the image in the first half of the blocks, the class token loses "
        "next to nothing, so it takes what it needs from the later ones.",
    ),
    would_change="More blocks, so that early ones can be left to the patches; long training; a class token that "
    "enters only in the last blocks and has never read early.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=200),
        "quick": Budget(SAMPLES, 6),
        "full": Budget(4 * SAMPLES, 8),
    },
    regime=Regime(CLS.name, "shapes", 0.85),
    measure=gathered,
    figures=(drawn,),
    exact=(
        Fact(
            "Cut off from the patches in every block, the class token leads to the same answer for every image.",
            "tests/laws/test_study_cls_aggregates.py",
        ),
    ),
    published=(
        Fact(
            "A class token that enters only before the last layers does better than one that is there from the first.",
            'Touvron et al. 2021, "Going deeper with Image Transformers", arXiv 2103.17239, §3',
        ),
    ),
)
