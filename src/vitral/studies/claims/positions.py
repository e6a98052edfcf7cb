"""`positions`: learned 1-D positions discover the 2-D grid.

A learned table has a row for each place in the sequence, and nothing in it says which places are neighbours. Whether
its similarities come to follow the grid is one question; whether they follow the *images* is answered by images whose
patches have changed places, the same for all: then the grid of the data is not that of the index. What training did to
the table, the end less the start, is looked at too, since a table that starts wide hides it.

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
from vitral.report.positions import similarity
from vitral.report.similar import similar_figure
from vitral.store.classifier import Classifier
from vitral.studies.arms import BAG, NO_POSITIONS, SAMPLES, SHUFFLED, SMALL_SHAPES, VIT, named
from vitral.studies.drawing import dots
from vitral.studies.results import Results
from vitral.studies.rules import Beyond
from vitral.studies.study import Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Regime, Study
from vitral.studies.training import Trained, data_of, first, model_of
from vitral.studies.wide_start import WideStart
from vitral.training.metrics import predict_split

SMALL_BATCH = dict(batch_size=32)  # a table that starts near zero moves by the step, so there must be many
TABLE = named(VIT, "learned", SMALL_BATCH, position=LearnedPosition)
WIDE = named(VIT, "learned, wide start", SMALL_BATCH, position=WideStart)
START = named(VIT, "learned, sin-cos start", SMALL_BATCH)
FIXED = named(VIT, "sin-cos", SMALL_BATCH, position=SinCosPosition)
ROTARY = named(VIT, "rotary", SMALL_BATCH, position=NoPosition, mixer=QKNormRotary)
NOTHING = named(NO_POSITIONS, "none", SMALL_BATCH)
UNLEARNED = "its positions are not learned, so it has no table"
ARMS = (TABLE, WIDE, START, *(replace(arm, unmatched=UNLEARNED) for arm in (FIXED, ROTARY, NOTHING)))
CONTROLS = tuple(named(arm, arm.name, SMALL_BATCH) for arm in (BAG, SHUFFLED))
TABLES = (TABLE.name, WIDE.name)
LARGER = 48  # pixels, where those trained on have 32: the same images drawn half as large again


def vit_of(model: nn.Module) -> VisionTransformer:
    assert isinstance(model, VisionTransformer)
    return model


def order_of(trained: Trained) -> Int[np.ndarray, " g"]:
    """Which place of the original image each patch is from: `changes.permuted_patches` draws it from the seed."""
    count = math.prod(vit_of(trained.model).grid)
    moved = trained.training.change == "patches permuted"
    return np.random.default_rng(trained.training.seed).permutation(count) if moved else np.arange(count)


def follows(similar: Float[np.ndarray, "g g"], places: Int[np.ndarray, " g"], columns: int) -> float:
    """The correlation of similarity with nearness, over all pairs of different patches, if they stood at `places`."""
    at = np.stack(np.divmod(places, columns), axis=1)
    apart = np.linalg.norm(at[:, None] - at, axis=-1)
    others = ~np.eye(len(places), dtype=bool)
    return float(np.corrcoef(similar[others], -apart[others])[0, 1])


def structure(trained: Trained) -> Measures:
    """How a learned table follows the grid of the index and that of the images; also its change, and where it began."""
    model, new = vit_of(trained.model), vit_of(trained.training.built())
    assert model.pos_embed is not None and new.pos_embed is not None
    table, start = (values[0].detach().double().numpy() for values in (model.pos_embed, new.pos_embed))
    rows, columns = model.grid
    count, order = rows * columns, order_of(trained)
    back = np.argsort(order)  # of each place of the original image, the patch that shows it

    def similar(values: Float[np.ndarray, "g d"]) -> Float[np.ndarray, "g g"]:
        return similarity(values[-count:].reshape(rows, columns, -1)).reshape(count, count)

    end, change = similar(table), similar(table - start)
    return {
        "follows_index": follows(end, np.arange(count), columns),
        "follows_images": follows(end, order, columns),
        "began": follows(similar(start), order, columns),
        "change_follows_images": follows(change, order, columns),
        "by_index": end.tolist(),
        "by_image": end[np.ix_(back, back)].tolist(),
    }


def enlarged(trained: Trained, data: Dataset) -> Classifier:
    """The trained model for the larger images: the same patches, more of them, its positions resampled in between."""
    own, size = trained.training, data.preprocessing.size
    model = model_of(own.model, own.settings, len(data.classes), size)
    weights = dict(trained.model.state_dict())
    if isinstance(model, VisionTransformer):
        old, new = vit_of(trained.model), model
        if old.pos_embed is not None:
            weights["pos_embed"] = resample_positions(old.pos_embed.detach(), old.grid, new.grid)
        if isinstance(old.position, SinCosPosition):
            new.position.fixed = resample_positions(old.position.fixed, old.grid, new.grid)
    model.load_state_dict(weights)
    return attach_record(model, ModelRecord(data.classes, data.preprocessing))


def placed(trained: Trained) -> Measures:
    """Accuracy on the same images drawn larger, and for a learned table, its structure."""
    own = trained.training
    table = getattr(trained.model, "pos_embed", None)
    found = {} if table is None else dict(structure(trained))
    if not own.change:
        data = data_of(own.data.replace("size=32", f"size={LARGER}"), "", own.seed)
        found["larger"] = predict_split(enlarged(trained, data), first(data.test, own.judged)).accuracy
    return found


def maps(results: Results) -> tuple[Figure, str]:
    """The similarities of the first seed's tables, as the ViT paper's figure 7 shows them."""
    found = {}
    for title, measure, condition in (
        ("images as they are", "by_index", "plain"),
        ("patches permuted, by index", "by_index", "patches permuted"),
        ("the same, put where they are from", "by_image", "patches permuted"),
    ):
        values = results.values(measure, TABLE.name, condition)
        if len(values):
            side = math.isqrt(values.shape[1])
            found[title] = values[0].reshape(side, side, side, side)
    return similar_figure(found), (
        "How alike each patch's learned position is to all others, the mean taken out; one seed. Where patches are "
        "permuted, the same for all images, a table that had learned the index would look right in the middle, and one "
        "that learned the images looks right once it is put back."
    )


positions = Study(
    name="positions",
    number=9,
    title="Positions",
    claim="Learned 1-D position embeddings discover the 2-D grid of the image.",
    question="Do the similarities of learned positions come to follow the grid, and if so the index's or the images'?",
    arms=(*ARMS, *CONTROLS),
    conditions=(
        Condition("plain", SMALL_SHAPES),
        Condition("patches permuted", SMALL_SHAPES, "patches permuted", arms=TABLES),
    ),
    hypotheses=(
        Hypothesis(
            "Learned positions that start near zero end up the more alike the nearer they are (correlation > 0.1).",
            'follows_index["learned", "plain"]',
            Beyond(0.1),
        ),
        Hypothesis(
            "On permuted patches they follow the images and not the index, by more than 0.1.",
            'follows_images["learned", "patches permuted"] - follows_index["learned", "patches permuted"]',
            Beyond(0.1),
        ),
        Hypothesis(
            "A table that starts wide shows less of it, by more than 0.1.",
            'follows_index["learned", "plain"] - follows_index["learned, wide start", "plain"]',
            Beyond(0.1),
        ),
        Hypothesis(
            "What training changed in it shows more of it than the table itself, by more than 0.05.",
            'change_follows_images["learned, wide start", "plain"] - follows_images["learned, wide start", "plain"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "Without any positions the model is worse than with learned ones, by more than five points.",
            'accuracy["learned", "plain"] - accuracy["none", "plain"]',
            Beyond(0.05),
        ),
        Hypothesis(
            "A table that starts as sines and cosines is better than one that starts near zero, by over two points.",
            'accuracy["learned, sin-cos start", "plain"] - accuracy["learned", "plain"]',
            Beyond(0.02),
        ),
        Hypothesis(
            "On larger images rotary positions lose less than learned ones that are resampled, by over two points.",
            '(accuracy["learned", "plain"] - larger["learned", "plain"])'
            ' - (accuracy["rotary", "plain"] - larger["rotary", "plain"])',
            Beyond(0.02),
        ),
    ),
    outcomes=Outcomes(
        supported="Found, in part: positions that start near zero come to be alike where patches are near. The index "
        "cannot be what tells them: to a ViT all orders of its patches are provably alike. Whether they follow the "
        "images when patches are permuted is asked separately.",
        refuted="Not found in runs of this length: learned positions are hardly more alike where patches are near.",
        inconclusive="These runs cannot tell whether learned positions follow the grid.",
    ),
    would_change="Longer training, which makes the structure stronger; a table that starts wide, which hides it.",
    budgets={
        "smoke": Budget(
            256,
            2,
            images=512,
            judged=200,
            without=("learned, sin-cos start", "sin-cos", "none", *(arm.name for arm in CONTROLS)),
        ),
        "quick": Budget(SAMPLES, 5),
        "full": Budget(8 * SAMPLES, 5, (0.5, 1.0, 2.0)),
    },
    regime=Regime("learned", "plain", 0.8),
    measure=placed,
    figures=(
        maps,
        dots("accuracy", "test accuracy", "The same model with other positions, on the images it was trained on."),
        dots("larger", "test accuracy at 48 pixels", "The same models on the same images drawn half as large again."),
    ),
    exact=(
        Fact(
            "A ViT on permuted patches, with its positions permuted alike, is the same function and has the same "
            "gradients: it cannot tell the index's grid from any other order.",
            "tests/laws/test_study_positions.py",
        ),
    ),
    published=(
        Fact(
            "From 224 to 384 pixels, a DeiT-III-S with learned positions goes from 80.4 to 79.4 %, one with mixed "
            "rotary positions from 80.9 to 81.8 %.",
            "Heo et al. 2024, arXiv 2403.13298, github.com/naver-ai/rope-vit",
        ),
    ),
)
