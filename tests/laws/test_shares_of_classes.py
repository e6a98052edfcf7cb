"""The losses of labels that are shares of classes: those of classes where a share is 1, and linear between."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.answer import answer_for
from vitral.data.mix import as_shares

K, N = 4, 12
seeds, smoothing = st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.5])


def drawn(seed):
    """Logits, two rows of classes, and the classes of the training images, of which some are rare."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(N, K)) * 3)
    one, other = (torch.from_numpy(rng.integers(0, K, N)) for _ in range(2))
    return logits, one, other, np.concatenate([np.arange(K), np.zeros(30, int), np.ones(5, int)])


@given(seed=seeds, smoothing=smoothing, balanced=st.booleans())
def test_a_whole_share_is_the_class(seed, smoothing, balanced):
    logits, labels, _, targets = drawn(seed)
    loss = answer_for("one class").loss(smoothing, targets, balanced)
    shares = as_shares(labels, K).double()
    torch.testing.assert_close(loss(logits, shares), loss(logits, labels))


@given(seed=seeds, smoothing=smoothing, share=st.floats(0, 1))
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(seed, smoothing, share):
    logits, one, other, _ = drawn(seed)
    loss = answer_for("one class").loss(smoothing)
    mixed = share * as_shares(one, K).double() + (1 - share) * as_shares(other, K).double()
    torch.testing.assert_close(loss(logits, mixed), share * loss(logits, one) + (1 - share) * loss(logits, other))


@given(seed=seeds, smoothing=smoothing, share=st.floats(0, 1))
def test_weights_of_classes_count_each_share_by_the_weight_of_its_class(seed, smoothing, share):
    logits, one, other, targets = drawn(seed)
    loss = answer_for("one class").loss(smoothing, targets, balanced=True)
    weights = torch.from_numpy(len(targets) / (K * np.bincount(targets)))
    sums, totals = [], []
    for labels in (one, other):
        sums.append(F.cross_entropy(logits, labels, weights, label_smoothing=smoothing) * weights[labels].sum())
        totals.append(weights[labels].sum())
    expected = (share * sums[0] + (1 - share) * sums[1]) / (share * totals[0] + (1 - share) * totals[1])
    mixed = share * as_shares(one, K).double() + (1 - share) * as_shares(other, K).double()
    torch.testing.assert_close(loss(logits, mixed), expected)


@given(seed=seeds, smoothing=smoothing, share=st.floats(0, 1))
def test_several_classes_are_mixed_each_on_its_own(seed, smoothing, share):
    logits, _, _, _ = drawn(seed)
    one, other = (torch.from_numpy(np.random.default_rng([seed, i]).random((N, K)) < 0.5) for i in range(2))
    loss = answer_for("several classes").loss(smoothing)
    mixed = share * one.double() + (1 - share) * other.double()
    torch.testing.assert_close(loss(logits, mixed), share * loss(logits, one) + (1 - share) * loss(logits, other))


def test_no_accuracy_is_counted_where_no_class_is_the_right_one():
    logits, labels, _, _ = drawn(0)
    answer = answer_for("one class")
    assert answer.correct(logits, as_shares(labels, K)) is None
    assert answer.correct(logits, labels) == int((logits.argmax(1) == labels).sum())


def test_classes_become_shares():
    assert as_shares(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert as_shares(torch.tensor([[True, False, True]]), 3).tolist() == [[1, 0, 1]]
    with pytest.raises(RuntimeError, match="Class values must be smaller"):
        as_shares(torch.tensor([3]), 3)
