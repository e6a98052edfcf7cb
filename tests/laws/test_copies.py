"""Copies are found wherever they are, images that only look alike are not, and dropping keeps each image once."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from vitral.base.errors import DataError
from vitral.base.preprocessing import Preprocessing
from vitral.data.copies import check_copies, difference_hashes, find_copies
from vitral.data.dataset import Dataset, Split
from vitral.data.spec import find_data

SIZE = 32


def split_of(pixels, labels=None, name="a"):
    labels = np.zeros(len(pixels), int) if labels is None else np.array(labels)
    return Split(np.stack(pixels), labels, files=tuple(f"{name}/{index}.png" for index in range(len(pixels))))


def windows(count, seed=0, side=160):
    """Different windows of a photograph."""
    photo, rng = load_sample_image("china.jpg"), np.random.default_rng(seed)
    places = rng.integers(0, [photo.shape[0] - side, photo.shape[1] - side], (count, 2))
    return [photo[y : y + side, x : x + side] for y, x in places]


def resized(pixels, side=SIZE):
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def crops(count):
    """The same in the size of a model."""
    return [resized(one) for one in windows(count)]


def saved_again(pixels, quality):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 19), max_size=12))
def test_exact_copies_are_found_wherever_they_are(seed, copied):
    """20 random images, and copies of some of them in any split."""
    rng = np.random.default_rng(seed)
    images = list(rng.integers(0, 256, (20, 8, 8, 3), np.uint8))
    images += [images[index] for index in copied]
    order = rng.permutation(len(images))
    at = np.split(order, [len(order) // 3, len(order) // 2])
    splits = {name: split_of([images[i] for i in own], name=name) for name, own in zip(("test", "val", "train"), at)}
    originals = [*range(20), *copied]
    expected = {}
    for name, own in zip(splits, at):
        for place, index in enumerate(own):
            expected.setdefault(originals[index], set()).add((name, place))
    found = [{(one.split, one.index) for one in group.members} for group in find_copies(splits)]
    assert sorted(map(sorted, found)) == sorted(sorted(own) for own in expected.values() if len(own) > 1)


@pytest.mark.parametrize("change", ["quality 95", "quality 75", "brighter", "scaled"])
def test_near_copies_of_photographs_are_found_and_other_photographs_are_not(change):
    images = windows(60)
    changed = {
        "quality 95": lambda one: saved_again(one, 95),
        "quality 75": lambda one: saved_again(one, 75),
        "brighter": lambda one: (one * 0.97 + 4).clip(0, 255).astype(np.uint8),
        "scaled": lambda one: resized(one, 100),
    }[change]
    copies = [resized(changed(one)) for one in images[:20]]
    found = find_copies({"train": split_of(list(map(resized, images))), "test": split_of(copies, name="b")})
    pairs = {tuple(sorted((one.split, one.index) for one in group.members)) for group in found}
    expected = {(("test", index), ("train", index)) for index in range(20)}
    assert len(pairs & expected) >= 18  # a window of bare sky has too little in it to be known
    assert not pairs - expected


def test_images_that_are_drawn_alike_are_no_copies():
    for name in ("shapes:n=1500", "scenes:n=300,size=64,held_out=8"):
        data = find_data(name)
        assert find_copies({"train": data.train}) == []


def test_flat_images_are_copies_only_if_they_are_equal():
    flat = [np.full((SIZE, SIZE, 3), shade, np.uint8) for shade in (10, 11, 200, 200)]
    (group,) = find_copies({"train": split_of(flat)})
    assert [one.index for one in group.members] == [2, 3]


def test_the_hash_has_a_bit_for_each_step_to_the_right():
    across = np.broadcast_to(np.arange(0, 252, 7, dtype=np.uint8)[:, None], (36, 36, 3)).copy()
    down = np.ascontiguousarray(across.transpose(1, 0, 2))
    assert difference_hashes(np.stack([across, down, across[:, ::-1]])).tolist() == [2**64 - 1, 0, 0]


def dataset(test, val, train, labels):
    parts = {
        name: split_of(own, labels[name], name).in_random_order()
        for name, own in (("test", test), ("val", val), ("train", train))
    }
    return Dataset("photos", ("cat", "dog"), Preprocessing(size=(SIZE, SIZE)), parts.__getitem__)


def files(data, split):
    return set(data.load(split).files)


def test_dropping_keeps_each_image_once_in_the_split_that_judges():
    a, b, c, d, e = crops(5)
    data = dataset(
        [a, b, d], [b, c, d], [a, c, c, d, e, e], {"test": [0, 1, 1], "val": [1, 0, 1], "train": [0, 0, 0, 0, 1, 1]}
    )
    left, sentences = check_copies(data, "drop")
    assert files(left, "test") == {"test/0.png", "test/1.png"}  # d has two labels
    assert files(left, "val") == {"val/1.png"} and files(left, "train") in ({"train/4.png"}, {"train/5.png"})
    assert any("different labels" in one for one in sentences) and "left out" in sentences[-1]
    kept, sentences = check_copies(data, "keep")
    assert kept is data and "figures are too good" in sentences[0] and "--duplicates drop" in sentences[-1]
    with pytest.raises(DataError, match="Remove the copies"):
        check_copies(data, "fail")


def test_data_without_copies_are_as_they_were():
    images = crops(6)
    data = dataset(images[:2], images[2:4], images[4:], {name: [0, 1] for name in ("test", "val", "train")})
    for how in ("keep", "drop", "fail"):
        assert check_copies(data, how) == (data, [])


def test_nothing_but_copies_is_refused():
    (one,) = crops(1)
    data = dataset([one], [one], [one], {name: [0] for name in ("test", "val", "train")})
    with pytest.raises(DataError, match="Without copies, photos has no val images"):
        check_copies(data, "drop")
