"""The first images of a split are a fair sample of it, always the same one, whatever order they were read in."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiny import tiny_vit
from vitral.base.preprocessing import Preprocessing
from vitral.data.augmentation.none import none
from vitral.data.batches import batches
from vitral.data.class_names import describe_classes, missing_classes
from vitral.data.classes import reorder_classes
from vitral.data.dataset import Dataset, Split, random_order
from vitral.data.folder import folder
from vitral.data.spec import built_in_sets, find_data
from vitral.explain.maps import pixels_of
from vitral.studies.dataset_changes import CHANGES, apply_change
from vitral.training.checkpoint import fingerprint

PREPROCESSING = Preprocessing(size=(4, 4))
CLASS_SIZES = st.lists(st.integers(1, 400), min_size=2, max_size=12)


def numbered(labels, files=True):
    """A split in which image number i has the value i in its pixels, its mask's corner, its factor and its file."""
    count = len(labels)
    pixels = np.zeros((count, 4, 4, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    masks = np.zeros((count, 4, 4), bool)
    masks[:, 0, 0] = np.arange(count) % 2
    names = tuple(f"{label}/{index}.png" for index, label in enumerate(labels)) if files else ()
    return Split(pixels, np.asarray(labels), masks, {"number": np.arange(count)}, names)


def by_class(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def in_memory(labels):
    classes = tuple("abcdefghijkl")[: max(labels) + 1]
    return Dataset("mine", classes, PREPROCESSING, lambda name: numbered(labels))


def bound(n, total, count):
    """Five standard deviations of the number of images of a class in a random sample, and one image for rounding."""
    share = count / total
    return 5 * math.sqrt(n * share * (1 - share) * (total - n) / max(1, total - 1)) + 1


@given(st.integers(0, 3000), st.integers(0, 500))
def test_the_order_is_a_permutation_and_images_added_at_the_end_leave_the_others_in_theirs(count, more):
    order = random_order(count)
    assert sorted(order.tolist()) == list(range(count))
    longer = random_order(count + more)
    assert longer[longer < count].tolist() == order.tolist()


def test_the_order_is_the_same_in_every_process():
    code = "from vitral.data.dataset import random_order; print(random_order(50).tolist())"
    for seed in ("0", "1"):
        command = [sys.executable, "-c", code]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert printed.strip() == str(random_order(50).tolist())
    # Written out, since the first images of a split are in published numbers: another order would be other images.
    assert random_order(12).tolist() == [5, 6, 8, 3, 7, 2, 4, 9, 0, 11, 10, 1]


@given(CLASS_SIZES, st.floats(0, 1))
def test_every_prefix_of_a_set_that_was_read_class_by_class_has_each_class_in_its_share(sizes, share):
    labels = by_class(sizes)
    n = round(share * len(labels))
    first = in_memory(labels).test.labels[:n]
    for label, count in enumerate(sizes):
        found = int((first == label).sum())
        assert abs(found - n * count / len(labels)) <= bound(n, len(labels), count)


@given(CLASS_SIZES)
def test_each_image_keeps_its_label_its_mask_its_factors_and_its_file(sizes):
    labels = by_class(sizes)
    split = in_memory(labels).test
    number = split.pixels[:, 0, 0, 0] + 256 * split.pixels[:, 0, 0, 1].astype(int)
    assert sorted(number.tolist()) == list(range(len(labels)))
    assert (split.source_index == number).all() and (split.factors["number"] == number).all()
    assert (split.labels == labels[number]).all() and (split.masks[:, 0, 0] == number % 2).all()
    assert split.files == tuple(f"{labels[index]}/{index}.png" for index in number)
    back = split.only(split.source_order)
    assert (back.labels == labels).all() and back.files == numbered(labels).files


@given(CLASS_SIZES, st.integers(0, 5))
def test_an_order_that_is_random_already_stays(sizes, drop):
    split = numbered(by_class(sizes)).in_random_order()
    assert split.in_random_order() is split
    some = split.only(np.arange(max(0, len(split) - drop)))
    assert some.in_random_order() is some
    assert replace(split, masks=None).in_random_order().files == split.files


@given(CLASS_SIZES, st.integers(1, 300), st.integers(0, 3))
def test_training_batches_and_the_hash_of_the_data_do_not_depend_on_the_order(sizes, batch_size, seed):
    read = numbered(by_class(sizes))
    kept = read.in_random_order()
    assert fingerprint(kept, read) == fingerprint(read, kept) == fingerprint(read, read)
    pairs = zip(*(batches(split, PREPROCESSING, batch_size, seed, none) for split in (read, kept)))
    for (images, labels), (own_images, own_labels) in (next(pairs) for _ in range(3)):
        assert torch.equal(images, own_images) and torch.equal(labels, own_labels)


def test_the_hash_of_the_data_is_that_of_the_labels_and_the_pixels_as_read():
    import hashlib

    read = numbered(by_class([3, 5]))
    expected = hashlib.sha256(read.labels.tobytes() + read.pixels.tobytes()).hexdigest()
    assert fingerprint(read.in_random_order()) == expected
    changed = replace(read, labels=read.labels[::-1].copy())
    assert fingerprint(changed) != expected


@pytest.mark.parametrize("name", sorted(built_in_sets()))
def test_the_first_images_of_a_built_in_set_have_each_class_in_its_share(name):
    data = find_data(name if name == "digits" else f"{name}:n=600")
    for split in (data.train, data.val, data.test):
        classes, n = np.arange(len(data.classes)), 100
        # An image has its class, or those of its mask.
        has = (split.labels.reshape(len(split), -1, 1) == classes).any(axis=1)
        counts, first = has.sum(axis=0), has[:n].sum(axis=0)
        bounds = [bound(n, len(split), count) for count in counts]
        assert (np.abs(first - n * counts / len(split)) <= bounds).all()


def test_the_first_digits_are_not_those_of_the_first_writers():
    """The scans are stored writer by writer."""
    data = find_data("digits")
    places = data.test.source_index[:100]
    assert abs(places.mean() / len(data.test) - 0.5) < 5 * math.sqrt(1 / 12 / 100)


def write_folder(root, counts, reverse=False):
    """Images whose grey is their number, written in the order of their names or in the reverse order."""
    names = [(split, name, i) for split, held in counts.items() for name, n in held.items() for i in range(n)]
    for split, name, i in reversed(names) if reverse else names:
        (root / split / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(root / split / name / f"{i}.png")
    return root


EVEN = dict.fromkeys("abcde", 20)


def test_a_folder_has_one_order_wherever_it_lies_and_in_whatever_order_it_was_written(tmp_path):
    sets = [
        folder(write_folder(tmp_path / name, {"train": EVEN, "val": EVEN, "test": EVEN}, reverse), PREPROCESSING)
        for name, reverse in (("one", False), ("other", True))
    ]
    for split in ("train", "val", "test"):
        ours, others = (data.load(split) for data in sets)
        names = [[file.split(f"{split}/")[1] for file in each.files] for each in (ours, others)]
        assert names[0] == names[1] and (ours.labels == others.labels).all() and (ours.pixels == others.pixels).all()
        assert set(ours.labels[:20].tolist()) == set(range(5))
        for file, label, pixels in zip(ours.files, ours.labels, ours.pixels):
            assert file.endswith(f"/{'abcde'[label]}/{pixels[0, 0, 0]}.png")


def test_images_that_are_left_out_leave_no_file_with_the_name_of_another(tmp_path):
    root = write_folder(tmp_path / "set", {"train": EVEN, "val": EVEN, "test": EVEN})
    (root / "test" / "b" / "7.png").write_bytes(b"not an image")
    test = folder(root, PREPROCESSING, on_bad_image="skip").test
    assert len(test) == 99 and len(set(test.files)) == 99
    for file, label, pixels in zip(test.files, test.labels, test.pixels):
        assert file.endswith(f"/{'abcde'[label]}/{pixels[0, 0, 0]}.png")


def test_classes_without_held_out_images_are_named(tmp_path):
    told = []
    sizes = EVEN | {"rare": 2}
    data = folder(write_folder(tmp_path / "set", {"all": sizes}) / "all", PREPROCESSING, report=told.append)
    lacking = {split: missing_classes(data.load(split).labels, data.classes) for split in ("val", "test")}
    assert any(lacking.values())
    for split, names in lacking.items():
        if names:
            assert f"No {split} images of rare: {split} figures do not cover these classes." in told


def test_other_names_for_the_classes_leave_the_images_in_their_order():
    data = in_memory(by_class([20, 30, 10]))
    other = reorder_classes(data, ("c", "a", "b"))
    assert (other.test.pixels == data.test.pixels).all()
    assert [other.classes[label] for label in other.test.labels] == [data.classes[label] for label in data.test.labels]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_data_set_leaves_the_images_in_their_order(change):
    labels = by_class([20, 30, 10])
    pixels = np.zeros((60, 8, 8, 3), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None, None]
    data = Dataset("mine", ("a", "b", "c"), Preprocessing(size=(8, 8)), lambda name: Split(pixels, labels))
    changed = apply_change(data, change, 3)
    for split in ("train", "val", "test"):
        before, after = data.load(split), changed.load(split)
        assert (after.pixels[:, 0, 0, 0] == before.pixels[:, 0, 0, 0]).all()
        assert split == "train" or (after.labels == before.labels).all()


@given(CLASS_SIZES)
def test_the_classes_that_a_sample_lacks_are_counted_and_named(sizes):
    labels, classes = by_class(sizes), tuple("abcdefghijkl")
    missing = missing_classes(labels, classes)
    assert missing == list(classes[len(sizes) :])
    text = describe_classes(len(sizes), missing)
    assert text == (f"{len(sizes)} of 12 classes (none of {', '.join(missing)})" if missing else "all 12 classes")


@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.01, 1000))
def test_how_an_image_is_drawn_does_not_depend_on_the_others_in_the_batch(count, channels, contrast):
    images = torch.rand(count, channels, 5, 6, generator=torch.Generator().manual_seed(count))
    images[-1] = contrast * images[-1] - contrast / 3
    for model in (torch.nn.Identity(), tiny_vit(in_channels=channels)):
        alone = np.concatenate([pixels_of(model, image[None]) for image in images])
        np.testing.assert_array_equal(pixels_of(model, images), alone)
