"""`positions`: learned 1-D positions discover the 2-D grid.

A learned position table has one row per place in the sequence, and nothing in it says which places are neighbours.
Two questions: do the rows' similarities come to follow the grid, and is it the grid of the images? The second is
answered by images whose patches are permuted, the same for all: then the grid of the images is not that of the index.
What training changed in the table (its end minus its start) is measured too, since a wide initialisation hides it.

Axes:  g patches   gy gx rows, columns of patches   d width
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import nn

from vitral.base.record import ModelRecord, attach_record
from vitral.data.dataset import Dataset
from vitral.nn.family.position import NoPosition, SinCosPosition
from vitral.nn.family.resample import resample_positions
from vitral.nn.family.rope import QKNormRotary
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer
from vitral.report.similarity import cosine_similarity, similarity_figure
from vitral.store.classifier import Classifier
from vitral.studies.arms import BAG, NO_POSITIONS, SAMPLES, SHUFFLED, SMALL_SHAPES, VIT, variant
from vitral.studies.decision_rules import Beyond
from vitral.studies.effects import Measure, accuracy
from vitral.studies.figures import dots
from vitral.studies.model_parts.wide_positions import WideStart
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Reference, RunValues, Study
from vitral.studies.training import Trained, build_model, first_images, seeded_dataset
from vitral.training.metrics import classify_split

SMALL_BATCH = dict(batch_size=32)  # a table that starts near zero changes a little per step, so it needs many steps
TABLE = variant(VIT, "learned", SMALL_BATCH, position=LearnedPosition)
WIDE = variant(VIT, "learned, wide start", SMALL_BATCH, position=WideStart)
START = variant(VIT, "learned, sin-cos start", SMALL_BATCH)
FIXED = variant(VIT, "sin-cos", SMALL_BATCH, position=SinCosPosition)
ROTARY = variant(VIT, "rotary", SMALL_BATCH, position=NoPosition, mixer=QKNormRotary)
NOTHING = variant(NO_POSITIONS, "none", SMALL_BATCH)
UNLEARNED = "its positions are not learned, so it has no table"
ARMS = (TABLE, WIDE, START, *(replace(arm, unmatched=UNLEARNED) for arm in (FIXED, ROTARY, NOTHING)))
CONTROLS = tuple(variant(arm, arm.name, SMALL_BATCH) for arm in (BAG, SHUFFLED))
TABLES = (TABLE.name, WIDE.name)
LARGER = 48  # pixels; training images have 32. The same images, half as large again.


def as_vit(model: nn.Module) -> VisionTransformer:
    assert isinstance(model, VisionTransformer)
    return model


def patch_order(trained: Trained) -> Int[np.ndarray, " g"]:
    """The place in the original image that each patch comes from: `permute_patches` draws it from the seed."""
    count = math.prod(as_vit(trained.model).grid)
    permuted = trained.training.change == "patches permuted"
    return np.random.default_rng(trained.training.seed).permutation(count) if permuted else np.arange(count)


def correlation_with_nearness(similar: Float[np.ndarray, "g g"], places: Int[np.ndarray, " g"], columns: int) -> float:
    """The correlation of similarity with nearness, over all pairs of different patches, if they are at `places`."""
    at = np.stack(np.divmod(places, columns), axis=1)
    distances = np.linalg.norm(at[:, None] - at, axis=-1)
    others = ~np.eye(len(places), dtype=bool)
    return float(np.corrcoef(similar[others], -distances[others])[0, 1])


def table_structure(trained: Trained) -> Measures:
    """How a learned table follows the grid of the index and that of the images; also its start and its change."""
    model, untrained = as_vit(trained.model), as_vit(trained.training.build())
    assert model.pos_embed is not None and untrained.pos_embed is not None
    table, start = (values[0].detach().double().numpy() for values in (model.pos_embed, untrained.pos_embed))
    rows, columns = model.grid
    count, order = rows * columns, patch_order(trained)
    inverse = np.argsort(order)  # for each place in the original image, the patch that shows it

    def similar(values: Float[np.ndarray, "g d"]) -> Float[np.ndarray, "g g"]:
        return cosine_similarity(values[-count:].reshape(rows, columns, -1)).reshape(count, count)

    end, change = similar(table), similar(table - start)
    return {
        "follows_index": correlation_with_nearness(end, np.arange(count), columns),
        "follows_images": correlation_with_nearness(end, order, columns),
        "began": correlation_with_nearness(similar(start), order, columns),
        "change_follows_images": correlation_with_nearness(change, order, columns),
        "by_index": end.tolist(),
        "by_image": end[np.ix_(inverse, inverse)].tolist(),
    }


def enlarge(trained: Trained, data: Dataset) -> Classifier:
    """The trained model for larger images: more patches of the same size, with resampled positions."""
    own, size = trained.training, data.preprocessing.size
    model = build_model(own.model, own.settings, len(data.classes), size)
    weights = dict(trained.model.state_dict())
    if isinstance(model, VisionTransformer):
        old, new = as_vit(trained.model), model
        if old.pos_embed is not None:
            weights["pos_embed"] = resample_positions(old.pos_embed.detach(), old.grid, new.grid)
        if isinstance(old.position, SinCosPosition):
            new.position.fixed = resample_positions(old.position.fixed, old.grid, new.grid)
    model.load_state_dict(weights)
    return attach_record(model, ModelRecord(data.classes, data.preprocessing))


def structure_and_transfer(trained: Trained) -> Measures:
    """The structure of a learned table, and accuracy on the same images at a larger size."""
    own = trained.training
    has_table = isinstance(trained.model, VisionTransformer) and trained.model.pos_embed is not None
    found = dict(table_structure(trained)) if has_table else {}
    if not own.change:
        data = seeded_dataset(own.data.replace("size=32", f"size={LARGER}"), "", own.seed)
        found["larger"] = classify_split(enlarge(trained, data), first_images(data.test, own.eval_images)).accuracy
    return found


def draw_similarities(results: RunValues) -> tuple[Figure, str]:
    """The similarities in the first seed's tables, as in figure 7 of the ViT paper."""
    found = {}
    for title, measure, condition in (
        ("original images", "by_index", "plain"),
        ("patches permuted, by index", "by_index", "patches permuted"),
        ("the same, by original place", "by_image", "patches permuted"),
    ):
        values = results.values(measure, TABLE.name, condition)
        if len(values):
            side = math.isqrt(values.shape[1])
            found[title] = values[0].reshape(side, side, side, side)
    return similarity_figure(found), (
        "The similarity of each patch's learned position to all others, with the mean removed; one seed. In the middle "
        "and on the right the patches of all images are permuted in the same way. A table that follows the index would "
        "show the grid in the middle; one that follows the images shows it on the right."
    )


follows_index, follows_images, larger = Measure("follows_index"), Measure("follows_images"), Measure("larger")

positions = Study(
    name="positions",
    number=9,
    title="Positions",
    claim="Learned 1-D position embeddings discover the 2-D grid of the image.",
    question="Do the similarities of learned positions follow a grid, and is it that of the index or of the images?",
    arms=(*ARMS, *CONTROLS),
    conditions=(
        Condition("plain", SMALL_SHAPES),
        Condition("patches permuted", SMALL_SHAPES, "patches permuted", arms=TABLES),
    ),
    hypotheses=(
        Hypothesis(
            "Learned positions that start near zero become more similar the nearer they are (correlation > 0.1).",
            follows_index["learned", "plain"],
            Beyond(0.1),
        ),
        Hypothesis(
            "With permuted patches they follow the images and not the index, by more than 0.1.",
            follows_images["learned", "patches permuted"] - follows_index["learned", "patches permuted"],
            Beyond(0.1),
        ),
        Hypothesis(
            "A table with a wide initialisation shows less of this, by more than 0.1.",
            follows_index["learned", "plain"] - follows_index["learned, wide start", "plain"],
            Beyond(0.1),
        ),
        Hypothesis(
            "What training changed in that table shows more of it than the table itself, by more than 0.05.",
            Measure("change_follows_images")["learned, wide start", "plain"]
            - follows_images["learned, wide start", "plain"],
            Beyond(0.05),
        ),
        Hypothesis(
            "Without any positions the model is less accurate than with learned ones, by more than five points.",
            accuracy["learned", "plain"] - accuracy["none", "plain"],
            Beyond(0.05),
        ),
        Hypothesis(
            "A table that starts as sines and cosines is better than one that starts near zero, by over two points.",
            accuracy["learned, sin-cos start", "plain"] - accuracy["learned", "plain"],
            Beyond(0.02),
        ),
        Hypothesis(
            "On larger images rotary positions lose less than resampled learned ones, by over two points.",
            (accuracy["learned", "plain"] - larger["learned", "plain"])
            - (accuracy["rotary", "plain"] - larger["rotary", "plain"]),
            Beyond(0.02),
        ),
    ),
    outcomes=Outcomes(
        supported="In part: positions that start near zero become similar where patches are near. They cannot learn "
        "this from the index, since all orders of the patches are provably equivalent for a ViT. Whether they follow "
        "the images when patches are permuted is a separate hypothesis.",
        refuted="Not found in runs of this length: learned positions are hardly more similar where patches are near.",
        inconclusive="These runs do not decide whether learned positions follow the grid.",
    ),
    would_change="Longer training, which makes the structure stronger; a wide initialisation, which hides it.",
    budgets={
        "smoke": Budget(
            256,
            2,
            images=512,
            eval_images=200,
            without=("learned, sin-cos start", "sin-cos", "none", *(arm.name for arm in CONTROLS)),
        ),
        "quick": Budget(SAMPLES, 5),
        "full": Budget(8 * SAMPLES, 5, (0.5, 1.0, 2.0)),
    },
    reference=Reference("learned", "plain", 0.8),
    measure=structure_and_transfer,
    figures=(
        draw_similarities,
        dots("accuracy", "test accuracy", "The same model with different positions, on images of the training size."),
        dots("larger", "test accuracy at 48 pixels", "The same models on the same images, half as large again."),
    ),
    exact=Fact.proved(
        "positions",
        "A ViT on permuted patches, with its positions permuted in the same way, is the same function and has the "
        "same gradients: it cannot distinguish the index's grid from any other order.",
    ),
    published=(
        Fact(
            "From 224 to 384 pixels, a DeiT-III-S with learned positions goes from 80.4 to 79.4 %, one with mixed "
            "rotary positions from 80.9 to 81.8 %.",
            "Heo et al. 2024, arXiv 2403.13298, github.com/naver-ai/rope-vit",
        ),
    ),
)
