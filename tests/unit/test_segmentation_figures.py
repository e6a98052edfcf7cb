"""Figures and losses of masks: against scikit-learn, and against slow code that is written out here."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from vitral.base.answer import answer_for, scored_answer_of
from vitral.base.answers.segmentation import Counts, MaskFigures, MaskTally, dice_loss
from vitral.base.boundaries import boundary, boundary_counts
from vitral.base.class_weights import balanced_weights
from vitral.base.errors import UsageError
from vitral.base.intervals import bootstrap
from vitral.base.mask_values import background_of
from vitral.base.prediction import Prediction
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.training.fit import UNTRAINED

NAMES = ("background", "cat", "dog", "frog")
IGNORED = 255
SEEDS = st.integers(0, 10_000)


def masks(rng, n=5, size=(9, 12), classes=4, ignored=0.0):
    """Masks of blocks, so that there are boundaries and insides, some of whose pixels are ignored."""
    blocks = rng.integers(0, classes, (n, -(-size[0] // 3), -(-size[1] // 3)))
    mask = blocks.repeat(3, axis=1).repeat(3, axis=2)[:, : size[0], : size[1]].astype(np.uint8)
    mask[rng.random(mask.shape) < ignored] = IGNORED
    return mask


def logits_for(predicted, classes=4, rng=None):
    """Logits whose highest are these classes, with other values at random."""
    rng = rng or np.random.default_rng(0)
    found = rng.random((len(predicted), classes, *predicted.shape[1:]))
    np.put_along_axis(found, predicted[:, None].astype(int), 2.0, axis=1)
    return torch.from_numpy(found)


def tallied(predicted, right, names=NAMES, batches=1):
    tally = MaskTally(names)
    output = logits_for(predicted, len(names))
    for own, labels in zip(output.tensor_split(batches), np.array_split(right, batches)):
        tally.add(own, labels)
    return tally.figures("")


def slow_boundary(mask):
    """Pixel by pixel: whether a neighbour in a row or a column has another class, ignored ones aside."""
    found = np.zeros(mask.shape, bool)
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                row, column = y + down, x + right
                if not (0 <= row < height and 0 <= column < width) or IGNORED in (mask[y, x], mask[row, column]):
                    continue
                found[y, x] |= mask[y, x] != mask[row, column]
    return found


def slow_counts(first, second, classes, tolerance):
    edges, others = slow_boundary(first), slow_boundary(second)
    counts, near = np.zeros(classes, int), np.zeros(classes, int)
    for y, x in zip(*np.nonzero(edges)):
        own = first[y, x]
        window = (slice(max(0, y - tolerance), y + tolerance + 1), slice(max(0, x - tolerance), x + tolerance + 1))
        counts[own] += 1
        near[own] += bool((others[window] & (second[window] == own)).any())
    return counts, near


@given(
    seed=SEEDS, tolerance=st.integers(0, 3), ignored=st.sampled_from([0.0, 0.2]), size=st.sampled_from([(5, 7), (1, 9)])
)
def test_boundaries_are_those_of_slow_code(seed, tolerance, ignored, size):
    rng = np.random.default_rng(seed)
    first, second = masks(rng, 3, size, ignored=ignored), masks(rng, 3, size, ignored=ignored)
    assert (boundary(first) == [slow_boundary(mask) for mask in first]).all()
    counts, near = boundary_counts(first, second, 4, tolerance)
    for index in range(3):
        slow = slow_counts(first[index], second[index], 4, tolerance)
        assert (counts[index] == slow[0]).all() and (near[index] == slow[1]).all()


def test_a_mask_of_one_class_has_no_boundary_and_the_border_is_none():
    assert not boundary(np.zeros((1, 6, 6), np.uint8)).any()
    half = np.zeros((1, 4, 6), np.uint8)
    half[:, :, 3:] = 1
    assert (np.flatnonzero(boundary(half)[0, 0]) == [2, 3]).all()


def test_a_boundary_that_is_two_pixels_away_is_right_and_one_of_three_is_wrong():
    """A square moved down: its boundary pixels have one of its own class within two rows and columns, or not."""
    right = np.zeros((1, 30, 30), np.uint8)
    right[:, 8:20, 8:20] = 1
    scores = [tallied(np.roll(right, shift, axis=1), right).class_boundary_f[1] for shift in (0, 2, 5)]
    assert scores[0] == scores[1] == 1 and scores[2] < 0.9


@given(seed=SEEDS, ignored=st.sampled_from([0.0, 0.3]))
def test_figures_are_scikit_learns(seed, ignored):
    rng = np.random.default_rng(seed)
    right, predicted = masks(rng, ignored=ignored), masks(rng)
    figures = tallied(predicted, right)
    judged = right != IGNORED
    flat = right[judged], predicted[judged]
    every = list(range(4))
    assert (figures.confusion == confusion_matrix(*flat, labels=every)).all()
    known = jaccard_score(*flat, labels=every, average=None)
    np.testing.assert_allclose(figures.iou, known)
    present = [index for index in (1, 2, 3) if (right == index).any()]
    assert figures.value == pytest.approx(known[present].mean())
    assert figures.pixel_accuracy == pytest.approx((flat[0] == flat[1]).mean())
    loss = F.cross_entropy(logits_for(predicted), torch.from_numpy(right.astype(np.int64)), ignore_index=IGNORED)
    assert figures.loss == pytest.approx(float(loss))


def test_the_boundary_score_is_the_harmonic_mean_of_precision_and_recall():
    rng = np.random.default_rng(3)
    right, predicted = masks(rng), masks(rng)
    figures = tallied(predicted, right)
    pairs = list(zip(predicted, right))
    found = np.sum([slow_counts(first, second, 4, 2) for first, second in pairs], axis=0)
    seen = np.sum([slow_counts(second, first, 4, 2) for first, second in pairs], axis=0)
    precision, recall = found[1] / found[0], seen[1] / seen[0]
    np.testing.assert_allclose(figures.class_boundary_f, 2 * precision * recall / (precision + recall))
    assert figures.boundary_f == pytest.approx(figures.class_boundary_f[1:].mean())


@given(seed=SEEDS)
def test_what_is_predicted_for_ignored_pixels_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    right, predicted = masks(rng, ignored=0.3), masks(rng)
    other = np.where(right == IGNORED, (predicted + 1 + rng.integers(0, 3, right.shape)) % 4, predicted).astype(
        np.uint8
    )
    one, two = tallied(predicted, right), tallied(other, right)
    # The logits of pixels that count are the same, so the loss is, too.
    assert one.loss == two.loss and (one.confusion == two.confusion).all()
    for name in Counts.__dataclass_fields__:
        assert (getattr(one.counts, name) == getattr(two.counts, name)).all()
    output = logits_for(predicted).requires_grad_()
    for options in ({}, {"label_smoothing": 0.1}, {"dice": 1.0}, {"balanced": True, "targets": right}):
        loss = answer_for("segmentation").loss(**options)(output, torch.from_numpy(right))
        (gradient,) = torch.autograd.grad(loss, output)
        assert not gradient.movedim(1, -1)[torch.from_numpy(right == IGNORED)].any()
        assert gradient.movedim(1, -1)[torch.from_numpy(right != IGNORED)].any()


@pytest.mark.parametrize("batches", [2, 3, 5])
def test_figures_do_not_depend_on_the_batches(batches):
    rng = np.random.default_rng(1)
    right, predicted = masks(rng, ignored=0.1), masks(rng)
    whole, parts = tallied(predicted, right), tallied(predicted, right, batches=batches)
    assert (whole.confusion == parts.confusion).all() and whole.interval == parts.interval
    np.testing.assert_array_equal(whole.per_image, parts.per_image)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)


def test_masks_that_are_ignored_whole_have_neither_loss_nor_figures():
    right = np.full((2, 6, 6), IGNORED, np.uint8)
    figures = tallied(np.zeros_like(right), right)
    assert figures.loss == 0 and figures.confusion.sum() == 0 and math.isnan(figures.value)
    found = figures.to_json(NAMES)
    assert found["mIoU"] is None and found["mIoU_with_background"] is None and found["per_class"]["cat"]["IoU"] is None
    assert all("no pixel" in line for line in figures.lines(NAMES))
    output = torch.zeros(2, 4, 6, 6, requires_grad=True)
    for dice in (0.0, 1.0):
        loss = answer_for("segmentation").loss(dice=dice)(output, torch.from_numpy(right))
        loss.backward()
        assert float(loss.detach()) == 0 and not output.grad.any()


def test_the_background_is_not_counted_in_means_whatever_its_place_or_spelling():
    rng = np.random.default_rng(2)
    right, predicted = masks(rng), masks(rng)
    iou = tallied(predicted, right).iou
    for place, name in enumerate(("Background", "_background_", "BG", "void")):
        names = [f"thing {index}" for index in range(4)]
        names[place] = name
        figures = tallied(predicted, right, tuple(names))
        assert background_of(names) == figures.background == place
        assert figures.value == pytest.approx(np.delete(iou, place).mean())
        assert f"without {name} (95%" in figures.summary(names)
    things = ("cat", "dog", "frog", "newt")
    assert tallied(predicted, right, things).value == pytest.approx(iou.mean())
    assert "without" not in tallied(predicted, right, things).summary(things)


def test_a_class_that_is_only_predicted_is_not_counted_but_takes_from_the_others():
    right = np.ones((2, 6, 6), np.uint8)
    predicted = right.copy()
    predicted[:, :3] = 2
    figures = tallied(predicted, right)
    assert figures.value == 0.5 and figures.iou[2] == 0
    assert figures.per_image.tolist() == [0.25, 0.25]  # of one image, both count


def test_masks_of_background_alone_have_no_mean():
    nothing = np.zeros((3, 6, 6), np.uint8)
    figures = tallied(nothing, nothing)
    assert math.isnan(figures.value) and figures.pixel_accuracy == 1 and np.isnan(figures.per_image).all()
    assert figures.score > UNTRAINED  # the loss then chooses the best model
    worse = tallied(nothing + np.uint8(1), nothing)
    assert figures.score > worse.score and json.dumps(figures.to_json(NAMES), allow_nan=False)
    assert "nan" not in figures.summary(NAMES) + figures.headline(NAMES)
    assert figures.iou[0] == 1


def test_intervals_are_over_images():
    rng = np.random.default_rng(5)
    right = masks(rng, 40)
    predicted = np.where(rng.random(right.shape) < rng.random((40, 1, 1)), right, masks(rng, 40)).astype(np.uint8)
    figures = tallied(predicted, right)
    low, high = figures.interval
    assert low < figures.value < high

    def mean_iou(chosen):
        some = right[chosen].ravel(), predicted[chosen].ravel()
        return float(jaccard_score(*some, labels=[1, 2, 3], average="macro"))

    assert figures.interval == pytest.approx(bootstrap(mean_iou, 40))


def test_baseline_is_what_the_most_frequent_class_reaches():
    rng = np.random.default_rng(4)
    right = np.where(rng.random((4, 9, 9)) < 0.7, 2, masks(rng, 4, (9, 9))).astype(np.uint8)
    constant = tallied(np.full_like(right, 2), right)
    line = tallied(masks(rng, 4, (9, 9)), right).baseline(NAMES)
    assert f"always dog, the most frequent class: {constant.pixel_accuracy:.1%} of pixels" in line
    assert f"mean IoU {constant.value:.1%}" in line
    empty = np.zeros((2, 6, 6), np.uint8)
    assert "mean IoU" not in tallied(empty, empty).baseline(NAMES)


@given(seed=SEEDS)
def test_dice_is_one_minus_twice_the_overlap_over_the_sum(seed):
    rng = np.random.default_rng(seed)
    right, output = masks(rng, 2, ignored=0.2), torch.from_numpy(rng.normal(size=(2, 4, 9, 12)))
    likely, terms = output.softmax(dim=1).numpy(), []
    judged = right != IGNORED
    for index in range(4):
        own, truth = likely[:, index][judged], (right[judged] == index).astype(float)
        if truth.any():
            terms.append(1 - 2 * (own * truth).sum() / (own.sum() + truth.sum()))
    assert float(dice_loss(output, torch.from_numpy(right.astype(np.int64)))) == pytest.approx(np.mean(terms), rel=1e-6)


def test_dice_of_a_perfect_mask_is_zero_and_of_a_wrong_one_is_one():
    right = masks(np.random.default_rng(0), 2)
    labels = torch.from_numpy(right.astype(np.int64))
    assert float(dice_loss(logits_for(right) * 100, labels)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(logits_for((right + 1) % 4) * 100, labels)) == pytest.approx(1, abs=1e-6)


def test_balanced_weights_are_the_median_frequency_over_each_at_most_ten():
    targets = np.repeat(np.array([0, 1, 2, 3, IGNORED], np.uint8), [800, 100, 50, 2, 300])[None, None]
    np.testing.assert_allclose(
        balanced_weights(np.bincount(targets[targets != IGNORED])), [75 / 800, 75 / 100, 75 / 50, 10.0]
    )
    absent = balanced_weights(np.bincount(targets[(targets != 2) & (targets != IGNORED)]))
    np.testing.assert_allclose(absent, [100 / 800, 1.0, 1.0, 10.0])  # a class without pixels counts as one


def test_the_loss_is_pytorchs_with_these_weights():
    rng = np.random.default_rng(0)
    right, output = masks(rng, ignored=0.1), torch.from_numpy(rng.normal(size=(5, 4, 9, 12)))
    labels = torch.from_numpy(right)
    targets = labels.long()
    plain = answer_for("segmentation").loss()(output, labels)
    torch.testing.assert_close(plain, F.cross_entropy(output, targets, ignore_index=IGNORED))
    smooth = answer_for("segmentation").loss(0.1)(output, labels)
    torch.testing.assert_close(smooth, F.cross_entropy(output, targets, ignore_index=IGNORED, label_smoothing=0.1))
    weights = torch.from_numpy(balanced_weights(np.bincount(right[right != 255], minlength=4))).float()
    balanced = answer_for("segmentation").loss(balanced=True, targets=right)(output.float(), labels)
    torch.testing.assert_close(balanced, F.cross_entropy(output.float(), targets, weights, ignore_index=IGNORED))
    both = answer_for("segmentation").loss(dice=0.5)(output, labels)
    torch.testing.assert_close(both, plain + 0.5 * dice_loss(output, targets))


def test_balanced_weights_cover_classes_that_training_masks_lack():
    """The model has more classes than the masks: their weight is 1."""
    right = masks(np.random.default_rng(0), classes=2)
    output = torch.randn(5, 6, 9, 12)
    weights = torch.ones(6)
    weights[:2] = torch.from_numpy(balanced_weights(np.bincount(right[right != 255], minlength=2)))
    loss = answer_for("segmentation").loss(balanced=True, targets=right)(output, torch.from_numpy(right))
    torch.testing.assert_close(loss, F.cross_entropy(output, torch.from_numpy(right).long(), weights))


def test_a_prediction_has_the_shares_of_pixels():
    output = logits_for(np.array([[[0, 0, 1, 1], [0, 0, 2, 1]]], np.uint8))
    values = answer_for("segmentation").values(output)
    assert values.tolist() == [[0.5, 0.375, 0.125, 0.0]]
    one = Prediction("a.png", NAMES, tuple(values[0].tolist()), "segmentation")
    assert one.text(2) == "background 50.0%, cat 37.5% of pixels" and one.text(9).count("%") == 3
    assert one.to_json(1) == {"image": "a.png", "task": "segmentation", "shares_of_pixels": {"background": 0.5}}
    assert one.to_csv_row() == {"image": "a.png", "background": 0.5, "cat": 0.375, "dog": 0.125, "frog": 0.0}


def test_masks_are_described_by_pixels_and_images():
    right = np.zeros((4, 2, 5), np.uint8)
    right[0, 0, 0], right[1:3, 0, :2], right[3, 1] = 1, 2, IGNORED
    found = answer_for("segmentation").describe(right, NAMES)
    assert found["masks"]["dog"] == {"images": 2, "pixels": 0.1} and found["masks"]["frog"] == {
        "images": 0,
        "pixels": 0.0,
    }
    assert found["ignored"] == 5 / 40
    groups = answer_for("segmentation").groups(right, NAMES)
    assert (
        groups["cat"].tolist() == [0]
        and groups["dog"].tolist() == [1, 2]
        and groups["background"].tolist() == [0, 1, 2, 3]
    )


def test_a_segmentation_model_is_explained_by_regions_only():
    model = attach_record(torch.nn.Conv2d(3, 4, 1), ModelRecord(NAMES, Preprocessing((8, 8)), "segmentation"))
    with pytest.raises(UsageError, match=r"vitral explain --region X,Y,WIDTH,HEIGHT or --target NAME.*RegionModel"):
        scored_answer_of(model)


def test_a_class_that_no_right_mask_has_counts_in_no_mean():
    """One stray pixel of it takes from the class that it lies in, and nothing else."""
    right = np.ones((2, 12, 12), np.uint8)
    right[:, :6] = 0
    predicted = right.copy()
    predicted[0, 11, 11] = 2
    figures = tallied(predicted, right)
    assert figures.tested.tolist() == [1] and figures.value == figures.iou[1] > 0.98
    assert figures.boundary_f == figures.class_boundary_f[1] > 0.8


def test_every_interval_is_that_of_its_own_bootstrap():
    rng = np.random.default_rng(0)
    right = masks(rng)
    figures = tallied(np.where(rng.random(right.shape) < 0.2, 0, right).astype(np.uint8), right)

    def part(chosen, name, index):
        return float(getattr(figures.counts.only(chosen).sums(), name)[0, index])

    for name, found in (("iou", figures.iou_intervals), ("boundary_f", figures.boundary_intervals)):
        for index, ends in enumerate(found):
            known = bootstrap(lambda chosen, name=name, index=index: part(chosen, name, index), figures.n)
            np.testing.assert_allclose(ends, known)


def test_many_classes_have_their_intervals_at_once():
    counts = Counts(*(np.random.default_rng(0).integers(0, 9, (400, 150)) for _ in Counts.__dataclass_fields__))
    figures = MaskFigures(counts, np.eye(150, dtype=np.int64), 0.0)
    assert len(figures.iou_intervals) == 150 and all(low <= high for low, high in figures.boundary_intervals)
