"""Stored similarities of tokens: none is off by more than the bound, whatever the vectors, and the bytes hold them."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.errors import UsageError
from vitral.explorer.base85 import decode
from vitral.explorer.similarities import BOUND, Products, Vectors, encode_similarities

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
    found = encode_similarities(vectors)
    off = np.abs(found.restored - cosines(vectors)).max()
    assert off <= BOUND + 1e-9 and BOUND == 0.01
    assert found.error == pytest.approx(off, abs=1e-9)  # what the page states is what was measured
    if isinstance(found, Vectors):
        assert found.numbers.shape[1] <= min(tokens, width)


def unpacked(found):
    about = found.to_json("tokens-0-0")
    return about, np.frombuffer(zlib.decompress(decode(found.content.text, about["bytes"])), np.uint8)


def test_the_bytes_hold_the_similarity_of_each_pair():
    found = encode_similarities(vectors_of("noise", 9, 30, 0))
    assert isinstance(found, Products)
    about, content = unpacked(found)
    first = about["step"] * content[:8].view(np.int8)
    np.testing.assert_allclose(first, found.restored[0, 1:])
    assert about["tokens"] == 9 and len(content) == 9 * 8 / 2 and (first < 0).any()


def test_the_bytes_hold_the_coordinates():
    found = encode_similarities(vectors_of("few directions", 200, 40, 0))
    assert isinstance(found, Vectors)
    about, content = unpacked(found)
    assert about["directions"] == 2 and about["tokens"] == 200
    low, high = content.reshape(2, 2, 200).astype(np.uint16)
    np.testing.assert_array_equal((low | high << 8).view(np.int16).T, found.numbers)
    assert (found.numbers < 0).any() and about["step"] == found.step


def test_the_smaller_form_is_taken():
    """Pairs grow with the square of the tokens, coordinates with their number."""
    few = encode_similarities(vectors_of("noise", 30, 40, 0))
    many = encode_similarities(vectors_of("few directions", 400, 40, 0))
    assert isinstance(few, Products) and isinstance(many, Vectors)
    assert many.content.num_bytes < 400 * 399 / 2 / 20


def test_a_vector_of_zeros_is_like_no_other():
    products = encode_similarities(np.array([[0.0, 0.0], [1.0, 2.0]])).restored
    assert products[0].tolist() == [0, 0] and products[1, 1] == pytest.approx(1, abs=BOUND)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(UsageError, match="not finite"):
        encode_similarities(np.array([[1.0, np.inf]]))
