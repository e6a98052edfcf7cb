"""A folder of class folders is a data set: cut fairly, nothing dropped in silence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitral.base.errors import DataError, ImageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.division import Division
from vitral.data.folder import folder

SMALL = Preprocessing(size=(8, 8))


def pictures(home, name, count, first=0):
    """`count` grey pictures in a class folder, each of its own grey."""
    (home / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        shade = np.full((10, 12, 3), first + number, np.uint8)
        Image.fromarray(shade).save(home / name / f"{number}.png")


@pytest.fixture
def zoo(tmp_path):
    """20 cats of greys 0 to 19, 20 dogs of greys 100 to 119."""
    pictures(tmp_path, "cat", 20)
    pictures(tmp_path, "dog", 20, 100)
    return tmp_path


def greys(split):
    return set(split.pixels[:, 0, 0, 0].tolist())


def splits(data):
    return data.train, data.val, data.test


def opened(root, **settings):
    """The data set, and the sentences it reported."""
    said = []
    return folder(root, SMALL, report=said.append, **settings), said


def test_class_folders_are_the_classes_in_order_of_name(zoo):
    data, _ = opened(zoo)
    assert data.classes == ("cat", "dog")
    for split in splits(data):
        assert split.pixels.shape[1:] == (8, 8, 3)
        assert ((split.pixels[:, 0, 0, 0] >= 100) == (split.labels == 1)).all()
        assert [Path(name).parent.name for name in split.files] == [data.classes[label] for label in split.labels]


def test_missing_splits_are_cut_without_overlap_and_with_every_image(zoo):
    data, said = opened(zoo)
    parts = [greys(split) for split in splits(data)]
    assert sum(map(len, parts)) == 40
    assert set.union(*parts) == {*range(20), *range(100, 120)}
    assert said == [
        f"{zoo} has no val or test images of its own: its images were divided at random (seed 0) into 28 train, 6 val, "
        "6 test."
    ]


def test_each_class_is_cut_in_the_same_shares(zoo):
    data, _ = opened(zoo)
    assert [np.bincount(split.labels).tolist() for split in splits(data)] == [[14, 14], [3, 3], [3, 3]]


def test_the_cut_is_the_same_by_seed_and_another_by_another(zoo):
    same = [greys(opened(zoo, division=Division(5))[0].test) for _ in range(2)]
    assert same[0] == same[1]
    assert greys(opened(zoo, division=Division(6))[0].test) != same[0]


def test_split_folders_are_taken_as_they_are(tmp_path):
    for number, split in enumerate(("train", "valid", "test")):
        pictures(tmp_path / split, "cat", 4, 10 * number)
        pictures(tmp_path / split, "dog", 3, 100 + 10 * number)
    data, said = opened(tmp_path)
    assert [len(split) for split in splits(data)] == [7, 7, 7]
    assert greys(data.val) == {10, 11, 12, 13, 110, 111, 112}
    assert said == []


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_cut_from_the_training_images(tmp_path, missing):
    present = {"val": "test", "test": "val"}[missing]
    for first, name in enumerate(("cat", "dog")):
        pictures(tmp_path / "train", name, 20, 100 * first)
        pictures(tmp_path / present, name, 5, 100 * first + 50)
    data, said = opened(tmp_path)
    assert (len(data.train), len(data.load(missing)), len(data.load(present))) == (34, 6, 10)
    assert not set(data.train.files) & set(data.load(missing).files)
    assert said == [
        f"{tmp_path} has no {missing} images of its own: its images were divided at random (seed 0) into 34 train, 6 "
        f"{missing}."
    ]


def test_images_deeper_in_a_class_folder_belong_to_the_class(zoo):
    pictures(zoo / "dog" / "puppies" / "small", "white", 5, 200)
    data, _ = opened(zoo)
    assert sum(len(split) for split in splits(data)) == 45
    assert {200, 201, 202, 203, 204} <= set.union(*map(greys, splits(data)))


def test_suffixes_are_read_in_capitals_too(zoo):
    for path in sorted((zoo / "cat").iterdir()):
        path.rename(path.with_suffix(".PNG"))
    assert sum(len(split) for split in splits(opened(zoo)[0])) == 40


def test_files_that_are_no_images_are_counted(zoo):
    (zoo / "cat" / "notes.txt").write_text("whiskers")
    (zoo / "dog" / "clip.mp4").write_bytes(b"...")
    (zoo / "dog" / ".DS_Store").write_bytes(b"...")
    data, said = opened(zoo)
    assert sum(len(split) for split in splits(data)) == 40
    assert any("1 .txt, 1 .mp4 in the class folders were left out" in sentence for sentence in said)


def test_images_beside_the_class_folders_are_reported(zoo):
    pictures(zoo, "", 3)
    _, said = opened(zoo)
    assert any("3 images" in sentence and "not in a class folder" in sentence for sentence in said)


def test_a_class_folder_without_images_is_reported(zoo):
    (zoo / "bird").mkdir()
    data, said = opened(zoo)
    assert data.classes == ("cat", "dog")
    assert any("bird" in sentence for sentence in said)


def broken(path):
    path.write_bytes(path.read_bytes()[:40])
    return path


def test_an_image_that_cannot_be_read_is_named(zoo):
    path = broken(zoo / "cat" / "7.png")
    data, _ = opened(zoo)
    with pytest.raises(ImageError, match=rf"{path} .*--on-bad-image skip"):
        for split in ("train", "val", "test"):
            data.load(split)


def test_skipped_images_are_counted_and_listed(zoo):
    bad = [broken(zoo / "cat" / f"{number}.png") for number in range(4)]
    data, said = opened(zoo, on_bad_image="skip")
    assert sum(len(split) for split in splits(data)) == 36
    assert all(str(path) in " ".join(said) for path in bad)
    counted = [int(sentence.split(" of ")[0]) for sentence in said if "could not be read" in sentence]
    assert sum(counted) == 4
    for split in splits(data):
        assert len(split.pixels) == len(split.labels) == len(split.files)
        assert ((split.pixels[:, 0, 0, 0] >= 100) == (split.labels == 1)).all()


@pytest.mark.parametrize(
    ("damaged", "message"),
    [("", "None of the 38 train images could be read"), ("dog", "'dog'")],
    ids=["all", "a class"],
)
def test_a_split_or_a_class_of_nothing_but_bad_images_is_an_error(zoo, damaged, message):
    for path in (zoo / damaged).rglob("*.png"):
        broken(path)
    data, _ = opened(zoo, on_bad_image="skip")
    with pytest.raises(DataError, match=message):
        _ = data.train


@pytest.mark.parametrize("inside", [[], ["cat"], ["cat", "dog"]], ids=["nothing", "a folder", "two folders"])
def test_an_empty_folder_is_an_error(tmp_path, inside):
    for name in inside:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"has no images in class folders\. Put each class in a folder of its own"):
        folder(tmp_path, SMALL)


TWO = {"cat": 20, "dog": 20}
NO_DATA = {
    "images without class folders": ({"": 5}, "has no images in class folders"),
    "one class": ({"cat": 20}, r"only one class, 'cat'.*Add a second class folder"),
    "a class that is only in the test images": (
        {f"{split}/{name}": 20 for split in ("train", "test") for name in TWO} | {"test/bird": 3},
        r"classes that .*train lacks: bird",
    ),
    "splits without training images": (
        {f"{split}/{name}": 20 for split in ("val", "test") for name in TWO},
        "no train/",
    ),
    "split folders without class folders": (
        {"train": 20, "val": 20},
        r"has train/ and val/, but no class folders in them",
    ),
    "too few images to hold some out": (
        {"cat": 2, "dog": 2},
        r"has 4 images in 2 classes: too few to hold some out, since test would have none",
    ),
}


@pytest.mark.parametrize("kind", NO_DATA)
def test_a_folder_that_cannot_be_learned_from_is_an_error(tmp_path, kind):
    counts, message = NO_DATA[kind]
    for name, count in counts.items():
        pictures(tmp_path, name, count)
    with pytest.raises(DataError, match=message):
        folder(tmp_path, SMALL)


def test_classes_beside_the_splits_are_reported(zoo):
    for name in ("cat", "dog"):
        pictures(zoo / "train", name, 20)
    data, said = opened(zoo)
    assert sum(len(split) for split in splits(data)) == 40
    assert f"{zoo}: images in cat, dog belong to no split and were left out." in said


def test_classes_may_be_named_as_splits_are(tmp_path):
    pictures(tmp_path, "test", 20)
    pictures(tmp_path, "exam", 20, 100)
    assert opened(tmp_path)[0].classes == ("exam", "test")


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        folder(tmp_path / "gone", SMALL)
