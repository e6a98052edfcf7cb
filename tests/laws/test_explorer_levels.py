"""Stored rows of attention: no weight is off by more than 1/250 of its row's largest, and none becomes another's."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.explorer.base85 import ALPHABET, decode, encode
from vitral.explorer.levels import BOUND, LEVELS, quantise, restore

SHARPNESS = [0.0, 0.01, 1.0, 4.0, 16.0, 60.0]  # deviation of the scores: from uniform rows to rows with one key


def rows_of(sharpness, keys=197, seed=0):
    """Softmax rows."""
    scores = np.random.default_rng(seed).normal(0, sharpness, (64, keys))
    rows = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


@given(st.sampled_from(SHARPNESS), st.sampled_from([1, 2, 49, 197, 1_370]), st.integers(0, 2**16))
def test_no_weight_is_off_by_more_than_a_250th_of_its_rows_largest(sharpness, keys, seed):
    rows = rows_of(sharpness, keys, seed)
    largest, levels, error = quantise(rows)
    off = (np.abs(restore(largest, levels).astype(np.float64) - rows) / rows.max(axis=1, keepdims=True)).max()
    assert off <= BOUND == 1 / 250
    assert error == pytest.approx(off, abs=1e-6)  # what the page states is what was measured


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_the_largest_weight_of_a_row_is_exact_and_zero_stays_zero(sharpness):
    rows = rows_of(sharpness)
    rows[:, 3] = 0
    largest, levels, _ = quantise(rows)
    again = restore(largest, levels)
    np.testing.assert_array_equal(again.max(axis=1), rows.max(axis=1))
    assert (again[:, 3] == 0).all()


@pytest.mark.parametrize("sharpness", [4.0, 8.0])
def test_weights_far_below_the_largest_keep_their_ratio(sharpness):
    """Maps are coloured by ratios: even levels, which keep the bound too, would turn most of these into zero."""
    rows = rows_of(sharpness)
    largest, levels, _ = quantise(rows)
    shares = rows / rows.max(axis=1, keepdims=True)
    small = (shares > 0.001) & (shares < 0.01)
    assert small.sum() > 100
    ratio = (restore(largest, levels)[small] / rows[small]).astype(np.float64)
    assert np.abs(np.log2(ratio)).max() < 0.5  # half an octave, of the eight that the colours span
    even = np.round(shares * 126) / 126
    assert (even[small] == 0).mean() > 0.4


def test_levels_ascend_from_nothing_to_the_whole():
    assert LEVELS[0] == 0 and LEVELS[-1] == 1 and len(LEVELS) <= 256
    assert (np.diff(LEVELS) > 0).all() and np.diff(LEVELS).max() / 2 < BOUND


def test_a_row_of_zeros_stays_one():
    largest, levels, error = quantise(np.zeros((2, 5), np.float32))
    assert (restore(largest, levels) == 0).all() and error == 0


@given(st.binary(max_size=300))
def test_bytes_come_back_from_their_text(content):
    assert decode(encode(content), len(content)) == content
    assert len(encode(content)) == 5 * -(-len(content) // 4)


def test_the_text_has_no_character_with_a_meaning_in_a_page():
    assert len(set(ALPHABET)) == 85 and not set(ALPHABET) & set("<>&\"'\\` \n\t")
    content = zlib.compress(bytes(range(256)) * 9)
    assert set(encode(content)) <= set(ALPHABET)
