"""Near copies are found by bands of hashes and coarse thumbnails: the same pairs as by comparing all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.copies import BITS, CONTRAST, DIFFERENCE, copied_pairs, difference_hashes, thumbnails


def things_on_white(count, seed):
    """Boxes on white, whose hashes are alike, and some of them again, a little darker."""
    generator = np.random.default_rng(seed)
    images = np.full((count, 32, 32, 3), 255, np.uint8)
    for image in images:
        top, left, height, width = generator.integers(4, 14, 4)
        image[top : top + height, left : left + width] = generator.integers(0, 200, 3)
    chosen = images[generator.integers(0, count, count // 3)].astype(int)
    darker = chosen - generator.integers(1, 8, (count // 3, 1, 1, 1))
    return np.concatenate([images, darker.clip(0, 255).astype(np.uint8)])


def by_comparing_all(images):
    small, hashes = thumbnails(images), difference_hashes(images)
    deviation = small.std(axis=1)
    for one in range(len(images)):
        for other in range(one + 1, len(images)):
            apart = np.sqrt(((small[one] - small[other]) ** 2).mean())
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= BITS
            clear = min(deviation[one], deviation[other])
            if near and clear >= CONTRAST and apart <= DIFFERENCE * clear:
                yield one, other


@given(count=st.integers(2, 40), seed=st.integers(0, 1000))
def test_the_same_pairs_as_by_comparing_all(count, seed):
    images = things_on_white(count, seed)
    found = {tuple(sorted(pair)) for pair in copied_pairs([images[: count // 2], images[count // 2 :]])}
    expected = set(by_comparing_all(images))
    assert len(expected) >= count // 3  # the darker ones
    assert found == expected
