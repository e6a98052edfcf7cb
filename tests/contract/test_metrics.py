"""What every metric of maps promises; a new file in `explain/metrics` is enrolled by being there."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import UsageError
from vitral.base.lookup import find, names
from vitral.data.preprocess import normalise
from vitral.data.synthetic.cued import cued, erase_shape, move_cue, shape_masks
from vitral.explain import metric as metric_module
from vitral.explain.controls.edges import edges as edges_method
from vitral.explain.entry import explainer
from vitral.explain.metric import Case, Scene, patch_shares, patches_on_object, rank_correlation

ALL = names("explain.metrics")
every = pytest.mark.parametrize("name", ALL)
COUNT, GRID, SIZE = 6, (2, 3), (8, 18)
RANDOM = np.random.default_rng(0)


def metric(name):
    return find("explain.metrics", name, "metric")


def explain_again(model, images, classes):
    return explain.occlusion(model, images, classes).merged


@pytest.fixture(scope="module")
def case():
    model = tiny_vit()
    images = torch.randn(COUNT, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    masks = np.zeros((COUNT, *SIZE), bool)
    for image, mask in enumerate(masks):
        mask[4 * (image % 2) : 4 * (image % 2) + 4, 6 * (image % 3) : 6 * (image % 3) + 6] = True
    with torch.no_grad():
        classes = model(images).argmax(1).numpy()
    others = {"chefer": explain.chefer(model, images).merged, "rollout": explain.rollout(model, images).merged}
    return Case(model, images, classes, masks, explain_again, others)


class Knows(torch.nn.Module):
    """Gives the class of images it knows, and nothing of others."""

    def __init__(self, known):
        super().__init__()
        self.known_labels = {
            image.numpy().tobytes(): label for images, labels in known for image, label in zip(images, labels)
        }

    def forward(self, images):
        logits = torch.zeros(len(images), 8)
        for own, image in zip(logits, images):
            if (label := self.known_labels.get(image.numpy().tobytes())) is not None:
                own[label] = 4
        return logits


@pytest.fixture(scope="module")
def drawn_case():
    """Images of three objects and a model that answers them right, also when the dot has moved."""
    data = cued(n=8)
    split = data.test.only(np.arange(COUNT))
    moved = [move_cue(split, (split.factors["marked"] + step) % 3) for step in range(3)]

    def prepare(pixels):
        return normalise(torch.from_numpy(pixels), data.preprocessing)

    def edges(model, images, classes):
        return explainer(edges_method)(model, images, grid=(3, 4)).merged

    model = Knows([(prepare(one.pixels), one.labels) for one in moved])
    return Case(model, prepare(split.pixels), split.labels, split.masks, edges, {}, Scene(split, prepare))


@pytest.fixture(scope="module")
def case_of(case, drawn_case):
    return lambda name: drawn_case if metric(name).needs == "scene" else case


def maps_of(case):
    return case.explain(case.model, case.images, case.classes.tolist())


@pytest.fixture(scope="module")
def maps(case):
    return maps_of(case)


@every
def test_a_file_holds_the_metric_it_is_named_after_and_says_where_it_comes_from(name):
    function = metric(name)
    module = inspect.getmodule(function)
    assert function.__name__ == name
    assert module.__doc__.startswith(f"`{name}`")
    assert re.search(r"\b(19|20)\d\d\b", module.__doc__)
    assert function.better in ("higher", "lower", "neither")
    assert list(inspect.signature(function).parameters) == ["maps", "case"]


@every
def test_it_gives_a_number_an_image_and_the_same_each_time(name, case_of):
    case = case_of(name)
    maps = np.abs(maps_of(case))  # nothing positive has no mass to share
    values = metric(name)(maps, case)
    assert len(values) == COUNT
    assert np.isfinite(values).all()
    assert np.isfinite(metric(name).pool(values))
    np.testing.assert_array_equal(metric(name)(maps, case), values)


@every
def test_a_constant_map_wins_nothing(name, case_of):
    case = case_of(name)
    flat = np.full_like(maps_of(case), 0.3)
    values = metric(name)(flat, case)
    if name in ("auroc", "average_precision", "mass_ratio", "pointing_game"):  # what chance would give, or nothing
        share = patches_on_object(case.masks, GRID).mean(1)
        chance = {"auroc": 0.5, "average_precision": share, "mass_ratio": 1.0, "pointing_game": 0.0}[name]
        np.testing.assert_allclose(values, np.broadcast_to(chance, COUNT))
    else:
        assert np.isnan(values).all()


@pytest.mark.parametrize("name", [name for name in ALL if metric(name).needs == "masks"])
def test_the_mask_itself_wins_and_its_opposite_loses(name, case):
    right = patch_shares(case.masks, GRID).astype(np.float32)
    function = metric(name)
    best, worst = function.pool(function(right, case)), function.pool(function(1 - right, case))
    assert best > worst
    assert best == pytest.approx({"mass_ratio": 6.0}.get(name, best if name == "iou" else 1.0))
    assert name == "iou" or worst == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("name", [name for name in ALL if metric(name).needs == "masks"])
def test_without_masks_it_says_so(name, case, maps):
    bare = Case(case.model, case.images, case.classes, None, case.explain)
    with pytest.raises(UsageError, match="needs masks"):
        metric(name)(maps, bare)


@pytest.mark.parametrize("name", [name for name in ALL if metric(name).needs == "masks"])
@pytest.mark.parametrize(
    ("convert", "kind"),
    [
        (lambda masks: masks.astype(np.uint8), "uint8"),
        (lambda masks: masks.astype(int) * 255, "int64"),
        (lambda masks: masks.astype(float), "float64"),
        (torch.from_numpy, "torch.bool"),
    ],
    ids=["0 and 1", "0 and 255", "shares", "tensor"],
)
def test_masks_that_are_not_true_or_false_are_refused(name, case, maps, convert, kind):
    """~1 is -2: what is beside the object would be counted wrong."""
    other = object.__new__(Case)  # as the plain run lets anyone do, and the typed one does not
    vars(other).update(vars(case) | {"known_masks": convert(case.known_masks)})
    with pytest.raises(UsageError, match=f"Masks have type {kind}: pass a NumPy array of bool"):
        metric(name)(maps, other)


@pytest.mark.parametrize("wrong", [dict(better="up"), dict(better=None), dict(better="lower", needs="mask")], ids=str)
def test_a_metric_is_declared_in_known_words(wrong):
    with pytest.raises(UsageError, match=r"@metric: (better|needs) must be one of \w+, .*; found "):
        inspect.unwrap(metric_module.metric)(**wrong)


@pytest.mark.parametrize("name", [name for name in ALL if metric(name).needs == "scene"])
def test_where_nothing_can_be_drawn_again_it_says_so(name, case, maps):
    with pytest.raises(UsageError, match="only the data set `cued` supports"):
        metric(name)(maps, case)


def on_object(split, which):
    """A map that is the object's own mask."""
    masks = shape_masks(split)[np.arange(COUNT), which]
    return patch_shares(masks, (3, 4)).astype(np.float32) + 1e-3 * RANDOM.random((COUNT, 3, 4), dtype=np.float32)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_exact_deletion_is_the_fall_of_the_probability_without_the_object(drawn_case, step):
    split = drawn_case.scene.split
    which = (split.factors["marked"] + step) % 3
    right = np.exp(4) / (np.exp(4) + 7)  # of a model that knows the image, and 1/8 of one that does not
    found = metric("exact_deletion")(on_object(split, which), drawn_case)
    np.testing.assert_allclose(found, right - 1 / 8, rtol=1e-5)
    erased = drawn_case.scene.prepare(erase_shape(split, which))
    knowing = Knows([(drawn_case.images, split.labels), (erased, split.labels)])
    same = dataclasses.replace(drawn_case, model=knowing)
    np.testing.assert_allclose(metric("exact_deletion")(on_object(split, which), same), 0, atol=1e-6)


def test_a_map_that_follows_the_dot_wins_the_counterfactual_and_one_that_stays_does_not(drawn_case):
    split = drawn_case.scene.split
    before = on_object(split, split.factors["marked"])
    other = (split.factors["marked"] + 1) % 3

    def following(model, images, classes):
        return on_object(split, other)

    counterfactual = metric("counterfactual")
    follows = dataclasses.replace(drawn_case, explain=following)
    assert counterfactual(before, follows).min() > 0.8  # patches hold parts of two
    staying = dataclasses.replace(drawn_case, explain=lambda model, images, classes: before)
    np.testing.assert_allclose(counterfactual(before, staying), 0, atol=1e-6)
    ignorant = dataclasses.replace(drawn_case, model=Knows([]))
    followed = move_cue(split, other).labels == 0  # which is what it answers, knowing nothing
    np.testing.assert_array_equal(np.isnan(counterfactual(before, ignorant)), ~followed)


def test_ranks_are_scikit_learns(case, maps):
    coarse = np.round(maps * 2) / 2  # with ties
    inside = patches_on_object(case.masks, GRID)
    for values in (maps, coarse):
        for name, reference in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
            expected = [reference(mine, own.ravel()) for mine, own in zip(inside, values)]
            np.testing.assert_allclose(metric(name)(values, case), expected)


def test_rank_correlation_is_scipys(maps):
    other = np.round(RANDOM.random(maps.shape), 1)
    expected = [spearmanr(one.ravel(), two.ravel()).statistic for one, two in zip(maps, other)]
    np.testing.assert_allclose(rank_correlation(maps, other), expected)


def test_the_pointing_game_counts_ties_by_their_share(case):
    maps = np.zeros((COUNT, *GRID))
    maps[:, 0, 0] = maps[:, 1, 2] = 1
    hits = metric("pointing_game")(maps, case)
    inside = patches_on_object(case.masks, GRID).reshape(COUNT, *GRID)
    np.testing.assert_array_equal(hits, (inside[:, 0, 0].astype(float) + inside[:, 1, 2]) / 2)


def test_an_empty_mask_is_no_hit_and_no_miss(case, maps):
    empty = Case(case.model, case.images, case.classes, np.zeros_like(case.masks), case.explain)
    for name in ("pointing_game", "auroc", "average_precision", "mass_ratio"):
        assert np.isnan(metric(name)(maps, empty)).all()


def test_the_iou_is_the_published_protocols(case):
    """Foreground above the map's own mean, sums over the images, mean over background and foreground."""
    maps = np.repeat(np.repeat(RANDOM.random((COUNT, 8, 18)), 1, 1), 1, 2)
    front = maps > maps.mean((1, 2), keepdims=True)
    both = [(~front & ~case.masks).sum(), (front & case.masks).sum()]
    either = [(~front | ~case.masks).sum(), (front | case.masks).sum()]
    expected = (both[0] / either[0] + both[1] / either[1]) / 2
    assert metric("iou").pool(metric("iou")(maps, case)) == pytest.approx(expected)


def by_hand(case, maps, hidden):
    """The area as patches go one by one from the highest on, image by image."""
    areas = []
    for image, values, label, other in zip(case.images, maps, case.classes, hidden):
        order, current, curve = np.argsort(-values.ravel()), image.clone(), []
        for step in range(7):
            with torch.no_grad():
                curve.append(float(case.model(current[None]).softmax(1)[0, label]))
            if step < 6:
                row, column = divmod(int(order[step]), 3)
                part = (slice(None), slice(4 * row, 4 * row + 4), slice(6 * column, 6 * column + 6))
                current[part] = other[part]
        areas.append((sum(curve) - curve[0] / 2 - curve[-1] / 2) / 6)
    return np.array(areas)


def test_deletion_is_the_area_of_the_curve(case, maps):
    expected = by_hand(case, maps, torch.zeros_like(case.images))
    np.testing.assert_allclose(metric("deletion")(maps, case), expected, rtol=1e-4)


def test_insertion_is_deletion_backwards_of_a_blurred_image(case, maps):
    from kornia.filters import gaussian_blur2d

    blurred = gaussian_blur2d(case.images, (7, 7), (1.0, 1.0))
    forward = metric("insertion")(maps, case)
    expected = by_hand(Case(case.model, blurred, case.classes, None, case.explain), maps, case.images)
    np.testing.assert_allclose(forward, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "method", "value"),
    [("class_specificity", explain.rollout, 0), ("randomisation", explainer(edges_method), 1)],
    ids=["a method that knows no class is not class-specific", "what does not read the model is not changed by it"],
)
def test_of_what_a_method_does_not_look_at_nothing_is_found(case, name, method, value):
    def blind(model, images, classes):
        return method(model, images).merged

    known = Case(case.model, case.images, case.classes, None, blind)
    values = metric(name)(blind(case.model, case.images, []), known)
    np.testing.assert_allclose(values, value, atol=1e-12 if value == 0 else 0)
