"""Folders as people have them: what splits are called, what stands in them, and what is used to judge a model."""

import numpy as np
import pytest
from PIL import Image

from vitral.base.errors import DataError
from vitral.base.preprocessing import Preprocessing
from vitral.data.examples import BadImages, open_splits
from vitral.data.folder import folder
from vitral.data.split_folders import SPLIT_NAMES, split_folders, split_of

SMALL = Preprocessing(size=(8, 8))


def pictures(home, names="cat dog", count=12, suffix=".png", first=0):
    for shade, name in enumerate(names.split()):
        (home / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.full((9, 9, 3), (17 * shade + first + number) % 256, np.uint8)
            Image.fromarray(pixels).save(home / name / f"{first + number}{suffix}")
    return home


def opened(root, **settings):
    said = []
    return folder(root, SMALL, report=said.append, **settings), said


@pytest.mark.parametrize("split", SPLIT_NAMES)
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_a_split_has_several_names_in_any_case(tmp_path, split, change):
    for number, name in enumerate(SPLIT_NAMES[split]):
        root = tmp_path / str(number)
        (root / change(name)).mkdir(parents=True)
        assert split_folders(root) == {split: root / change(name)} and split_of(f" {change(name)} ") == split


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "holdout"), ("train", "Eval")])
def test_split_folders_of_other_names_are_not_classes(tmp_path, names):
    for name, count in zip(names, (20, 8)):
        pictures(tmp_path / name, count=count)
    data, _ = opened(tmp_path)
    assert data.classes == ("cat", "dog")
    held_out = data.test if split_of(names[1]) == "test" else data.val
    assert len(held_out) == 16 and all(f"/{names[1]}/" in file for file in held_out.files)


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "val", "dev"):
        pictures(tmp_path / name)
    with pytest.raises(DataError, match="dev/ and val/, which both name the val split"):
        opened(tmp_path)


def test_splits_inside_the_classes_are_refused_with_the_way_round(tmp_path):
    for name in ("cat", "dog"):
        pictures(tmp_path / name, "train test")
    with pytest.raises(DataError, match=r"splits are inside the classes. Turn them around: .*/test/cat/1.jpg"):
        opened(tmp_path)


def test_a_class_that_holds_trains_is_a_class(tmp_path):
    pictures(tmp_path / "vehicle", "train plane")
    pictures(tmp_path, "animal")
    assert opened(tmp_path)[0].classes == ("animal", "vehicle")


@pytest.mark.parametrize(
    ("names", "order"),
    [("10 9 1 2", ("1", "2", "9", "10")), ("10 9 b", ("10", "9", "b")), ("02 1 10", ("1", "02", "10"))],
)
def test_classes_that_are_numbers_stand_in_the_order_of_their_values(tmp_path, names, order):
    assert opened(pictures(tmp_path, names))[0].classes == order


@pytest.mark.parametrize(
    "suffix", [".avif", ".AVIF", ".jfif", ".jpe", ".JPEG", ".webp", ".TIF", ".ppm", ".bmp", ".gif"]
)
def test_a_class_may_have_any_format_that_is_read(tmp_path, suffix):
    pictures(tmp_path, "cat dog")
    (tmp_path / "owl").mkdir()
    for number in range(12):
        kind = {".jfif": "JPEG", ".jpe": "JPEG"}.get(suffix)
        Image.fromarray(np.full((9, 9, 3), 200 + number, np.uint8)).save(tmp_path / "owl" / f"{number}{suffix}", kind)
    data, _ = opened(tmp_path)
    assert data.classes == ("cat", "dog", "owl")
    owls = data.train.pixels[data.train.labels == 2]
    assert len(owls) == 8 and np.abs(owls.astype(int) - 205).max() < 12  # JPEG and AVIF are not exact


def test_a_class_in_a_format_that_is_not_read_does_not_vanish(tmp_path):
    pictures(tmp_path)
    (tmp_path / "owl").mkdir()
    for number in range(3):
        (tmp_path / "owl" / f"{number}.CR2").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"owl has images in formats that are not read: 3 \.cr2"):
        opened(tmp_path)


def test_what_is_left_out_is_named_by_suffix_and_count(tmp_path):
    pictures(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("")
    for name in ("a.psd", "b.psd", "readme"):
        (tmp_path / "cat" / name).write_bytes(b"")
    _, said = opened(tmp_path)
    assert any("notes (1 .txt) has no images and was left out as a class" in one for one in said)
    assert any("2 .psd, 1 without a suffix in the class folders were left out" in one for one in said)


def test_every_split_is_read_before_training_and_all_bad_files_are_named(tmp_path):
    for name in ("train", "val", "test"):
        pictures(tmp_path / name)
    (tmp_path / "train" / "dog" / "torn.png").write_bytes(b"\x89PNG")
    (tmp_path / "test" / "cat" / "broken.jpg").write_text("oops")
    with pytest.raises(BadImages, match=r"2 images cannot be read:(\n.*){2}torn.*\n.*broken|2 images") as caught:
        open_splits(opened(tmp_path)[0])
    assert [any(name in error for error in caught.value.errors) for name in ("torn", "broken")] == [True, True]
    data, said = opened(tmp_path, on_bad_image="skip")
    assert len(open_splits(data).test) == 24 and sum("left out" in one for one in said) == 2


class TestWhole:
    """A folder to judge a model on is used as a whole, unless it has splits."""

    def test_each_split_is_all_of_a_folder_without_splits(self, tmp_path):
        data, said = opened(pictures(tmp_path), whole=True)
        assert {len(data.load(split)) for split in SPLIT_NAMES} == {24}
        assert said == [f"{tmp_path} has no split folders: all of its 24 images are used."]

    def test_one_class_is_enough(self, tmp_path):
        assert opened(pictures(tmp_path, "cat", 1), whole=True)[0].classes == ("cat",)

    def test_a_folder_with_training_images_is_divided_as_for_training(self, tmp_path):
        for name, count in (("train", 20), ("test", 4)):
            pictures(tmp_path / name, count=count)
        assert len(opened(tmp_path, whole=True)[0].test) == 8

    def test_a_test_folder_alone_is_the_test_split(self, tmp_path):
        pictures(tmp_path / "Test", count=4)
        data, _ = opened(tmp_path, whole=True)
        assert len(data.test) == 8
        with pytest.raises(DataError, match="has no val images, but test"):
            data.load("val")

    def test_a_table_is_used_whole(self, tmp_path):
        pictures(tmp_path, "all")
        rows = "".join(f"all/{number}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(12))
        (tmp_path / "labels.csv").write_text(f"file_name,label\n{rows}")
        assert len(opened(tmp_path, whole=True)[0].test) == 12

    @pytest.mark.parametrize("home", ["", "test"])
    def test_masks_are_used_whole(self, tmp_path, home):
        root = tmp_path / home
        for part in ("images", "masks"):
            pictures(root, part, 5)
        for number in range(5):
            Image.fromarray(np.eye(9, dtype=np.uint8)).save(root / "masks" / f"{number}.png")
        assert len(opened(tmp_path, whole=True)[0].test) == 5
