"""Stored vectors of tokens: no cosine is off by more than the bound, whatever the vectors, and the bytes hold them."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.errors import UsageError
from vitral.explorer.base85 import decode
from vitral.explorer.vectors import BOUND, encode_vectors

KINDS = ["noise", "few directions", "one large channel", "nearly alike", "opposite", "huge", "tiny"]


def vectors_of(kind, tokens, width, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(tokens, width))
    if kind == "few directions":
        return generator.normal(size=(tokens, 2)) @ generator.normal(size=(2, width))
    if kind == "one large channel":
        vectors[:, 0] *= 1_000
    if kind == "nearly alike":
        vectors = vectors * 1e-3 + 1
    if kind == "opposite":
        vectors[::2] = -vectors[0]
    return vectors * {"huge": 1e30, "tiny": 1e-30}.get(kind, 1.0)


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


@given(st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**16))
def test_no_similarity_is_off_by_more_than_the_bound(kind, tokens, width, seed):
    vectors = vectors_of(kind, tokens, width, seed)
    found = encode_vectors(vectors)
    off = np.abs(found.restored @ found.restored.T - cosines(vectors)).max()
    assert off <= BOUND == 0.01
    assert found.error == pytest.approx(off, abs=1e-9)  # what the page states is what was measured
    assert found.numbers.shape[1] <= min(tokens, width)


@pytest.mark.parametrize("shape", [(7, 30), (50, 8)])
def test_the_bytes_hold_the_numbers(shape):
    found = encode_vectors(vectors_of("noise", *shape, 0))
    about = found.to_json("tokens-0-0")
    content = zlib.decompress(decode(found.content.text, about["bytes"]))
    low, high = np.frombuffer(content, np.uint8).reshape(2, about["directions"], shape[0]).astype(np.uint16)
    np.testing.assert_array_equal((low | high << 8).view(np.int16).T, found.numbers)
    assert (found.numbers < 0).any() and about["step"] == found.step


def test_vectors_in_few_directions_have_few_numbers():
    found = encode_vectors(vectors_of("few directions", 50, 40, 0))
    assert found.numbers.shape == (50, 2)


def test_a_vector_of_zeros_is_like_no_other():
    vectors = np.array([[0.0, 0.0], [1.0, 2.0]])
    products = encode_vectors(vectors).restored @ encode_vectors(vectors).restored.T
    assert products[0].tolist() == [0, 0] and products[1, 1] == pytest.approx(1, abs=BOUND)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(UsageError, match="not finite"):
        encode_vectors(np.array([[1.0, np.inf]]))
