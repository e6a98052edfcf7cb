"""Images out of the cache are the images of the files: whatever was stored before, by whom, and in which order."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitral.base.errors import StoreError
from vitral.base.files import sha256
from vitral.base.preprocessing import Preprocessing
from vitral.data import mapped_pixels, pixel_cache
from vitral.data.decode import load_resized
from vitral.data.folder import folder
from vitral.data.mapped_pixels import chosen_pixels
from vitral.data.pixel_cache import PixelCache, find_cache
from vitral.data.read_pixels import read_pixels
from vitral.data.reading import Reading

SIZE = Preprocessing(size=(12, 8))


def draw(path, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    home = tmp_path_factory.mktemp("photos")
    readable = [draw(home / f"{number}.{'jpg' if number % 2 else 'png'}", number) for number in range(12)]
    for number in (3, 7):  # cut off in the middle
        readable[number].write_bytes(readable[number].read_bytes()[:300])
    return readable


def read(files, cache, split="train", told=None):
    reading = Reading("skip", (told if told is not None else []).append, cache=cache)
    return read_pixels(files, [sha256(file) for file in files], SIZE, split, reading)


def assert_equal(one, other):
    assert np.array_equal(one.pixels, other.pixels)
    assert one.kept.tolist() == other.kept.tolist()
    assert one.source_index.tolist() == other.source_index.tolist()
    assert [str(error) for error in one.errors] == [str(error) for error in other.errors]


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=8), min_size=1, max_size=4))
def test_every_read_is_that_of_the_files_whatever_was_read_before(files, tmp_path_factory, sequence):
    cache = PixelCache(tmp_path_factory.mktemp("cache"))
    for which in sequence:
        chosen = [files[number] for number in which]
        assert_equal(read(chosen, cache), read(chosen, None))


def test_images_are_those_that_the_files_give_one_by_one(files, tmp_path):
    for cache in (PixelCache(tmp_path), PixelCache(tmp_path), None):
        for split in ("train", "val"):
            found = read(files, cache, split)
            assert len(found.kept) == 10
            for pixels, number in zip(found.pixels, found.kept):
                assert np.array_equal(pixels, load_resized(files[number], SIZE, for_training=split == "train"))


def test_what_is_in_the_cache_is_not_decoded_again(files, tmp_path, monkeypatch):
    cache, good = PixelCache(tmp_path), [file for number, file in enumerate(files) if number not in (3, 7)]
    first = read(good[:8], cache)
    decoded = []
    monkeypatch.setattr(
        "vitral.data.read_pixels.load_resized", lambda file, *rest: decoded.append(file) or load_resized(file, *rest)
    )
    assert_equal(read(good[:8], cache), first)
    assert decoded == []
    assert_equal(read(good, cache), read(good, None))
    assert sorted(decoded[:2]) == sorted(good[8:])  # two were new; `None` decodes all


def test_a_folder_that_only_others_may_write_to_is_read(files, tmp_path, monkeypatch):
    cache, good = PixelCache(tmp_path), [file for number, file in enumerate(files) if number not in (3, 7)]
    first = read(good, cache)

    def denied(*arguments, **options):
        raise PermissionError("not yours")

    monkeypatch.setattr("vitral.data.pixel_cache.os.utime", denied)
    monkeypatch.setattr("vitral.data.read_pixels.load_resized", None)  # nothing is decoded
    assert_equal(read(good, cache), first)


def test_reduced_images_for_training_are_never_used_for_another_split(tmp_path):
    files = [draw(tmp_path / f"{number}.jpg", number, (200, 300)) for number in range(3)]
    cache = PixelCache(tmp_path / "cache")
    trained, judged = (read(files, cache, split).pixels for split in ("train", "test"))
    assert not np.array_equal(trained, judged)  # so that the next line can fail
    assert np.array_equal(judged, read(files, None, "test").pixels)


@pytest.mark.parametrize("other", [replace(SIZE, size=(8, 12)), replace(SIZE, crop=0.5)])
def test_another_way_of_resizing_has_images_of_its_own(files, tmp_path, other):
    read(files, PixelCache(tmp_path))
    contents = [sha256(file) for file in files]
    with_cache, without = (
        read_pixels(files, contents, other, "train", Reading("skip", cache=cache))
        for cache in (PixelCache(tmp_path), None)
    )
    assert_equal(with_cache, without)


def test_another_version_of_the_format_or_the_decoder_is_not_used(files, tmp_path, monkeypatch):
    cache = PixelCache(tmp_path)
    own = cache.shelf(SIZE, True).folder
    monkeypatch.setattr(pixel_cache, "FORMAT", pixel_cache.FORMAT + 1)
    other = cache.shelf(SIZE, True).folder
    monkeypatch.setattr(pixel_cache.PIL, "__version__", "0.0")
    assert len({own, other, cache.shelf(SIZE, True).folder, cache.shelf(SIZE, False).folder}) == 4


def test_a_set_that_was_cut_off_is_made_again(files, tmp_path):
    cache = PixelCache(tmp_path)
    first = read(files, cache)
    (stored,) = tmp_path.glob("*/*.pixels")
    pixels = np.array(first.pixels)
    with stored.open("r+b") as opened:
        opened.truncate(100)
    again = read(files, cache)
    assert np.array_equal(again.pixels, pixels)
    assert stored.stat().st_size == pixels.nbytes


def test_a_file_that_changes_while_it_is_read_is_refused(files, tmp_path):
    file = draw(tmp_path / "a.png", 1)
    contents = [sha256(file)]
    draw(file, 2)
    found = read_pixels([file], contents, SIZE, "train", Reading("skip", cache=PixelCache(tmp_path / "cache")))
    assert "was changed while" in str(found.errors[0])
    assert len(found.pixels) == 0


def test_a_full_disk_means_memory_and_a_sentence(files, tmp_path, monkeypatch):
    def full(file, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_cache, "reserve", full)
    told = []
    assert_equal(read(files, PixelCache(tmp_path), told=told), read(files, None))
    assert told == [
        f"Decoded train images are kept in memory, not in {next(tmp_path.iterdir())}: No space left on device."
    ]
    assert not list(tmp_path.glob("*/*.unfinished"))


def test_a_disk_that_becomes_full_at_the_last_moment_means_memory_and_a_sentence(files, tmp_path, monkeypatch):
    """There was room for the pixels, and there is none for the list of what they are."""

    def fail(path, content):
        raise StoreError(f"{path} could not be written. The disk is full.")

    monkeypatch.setattr(pixel_cache, "write_file", fail)
    told = []
    assert_equal(read(files, PixelCache(tmp_path), told=told), read(files, None))
    assert len(told) == 1 and "are kept in memory" in told[0] and "The disk is full" in told[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_interrupted_read_leaves_no_file(files, tmp_path, monkeypatch):
    def interrupted(*rest):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitral.data.read_pixels.load_resized", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(files, PixelCache(tmp_path))
    assert not list(tmp_path.glob("*/*"))


def count_of(cache, files):
    found = read(files, PixelCache(cache))
    return found.pixels.sum(dtype=int), len(found.kept)


def test_processes_that_read_at_once_get_the_same_images(files, tmp_path):
    with ProcessPoolExecutor(3) as pool:
        found = list(pool.map(partial(count_of, tmp_path), [files] * 6))
    assert len(set(found)) == 1
    assert len(list(tmp_path.glob("*/*.pixels"))) == 1
    assert not list(tmp_path.glob("*/*.unfinished"))


def test_images_are_private_and_the_sets_unused_for_longest_are_removed(files, tmp_path, monkeypatch):
    told = []
    cache = PixelCache(tmp_path, told.append)
    kept = [read(files[start : start + 3], cache).pixels.nbytes for start in (0, 4)]
    (shelf,) = tmp_path.iterdir()
    assert shelf.stat().st_mode & 0o077 == 0
    oldest = min(tmp_path.glob("*/*.pixels"), key=lambda path: path.stat().st_mtime_ns)
    os.utime(oldest, (1, 1))
    unfinished = shelf / "x.unfinished"
    unfinished.touch()
    os.utime(unfinished, (1, 1))
    read(files[8:11], cache)
    assert not oldest.exists()
    assert not unfinished.exists()
    gone = pixel_cache.in_bytes(kept[0])
    assert told[-1] == f"Removed the least recently used decoded images from {tmp_path} ({gone})."
    monkeypatch.setattr(pixel_cache, "LIMIT", 1)
    last = read(files[1:3], cache)  # the set in use stays, however large
    (only,) = tmp_path.glob("*/*.pixels")
    assert only.stat().st_size == last.pixels.nbytes
    assert len(list(tmp_path.glob("*/*.contents"))) == 1


def test_a_data_set_is_the_same_with_and_without(tmp_path):
    for name in ("cat", "dog"):
        for number in range(12):
            draw(tmp_path / "photos" / name / f"{number}.png", number + 100 * (name == "cat"))
    made = [
        folder(tmp_path / "photos", SIZE, cache=cache)
        for cache in (None, PixelCache(tmp_path / "cache"), PixelCache(tmp_path / "cache"))
    ]
    for split in ("train", "val", "test"):
        one, *others = (data.split(split) for data in made)
        for other in others:
            assert isinstance(other.pixels, np.memmap)
            assert np.array_equal(one.pixels, other.pixels)
            assert one.files == other.files
            assert one.labels.tolist() == other.labels.tolist()


def test_many_chosen_images_stay_on_disk(files, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_pixels, "LARGE", 500)
    monkeypatch.setattr(mapped_pixels, "AT_ONCE", 600)  # two images
    pixels = read(files, PixelCache(tmp_path)).pixels
    which = np.array([4, 0, 0, 7, 2])
    some = chosen_pixels(pixels, which)
    assert isinstance(some, np.memmap)
    assert np.array_equal(some, np.array(pixels)[which])
    assert not isinstance(chosen_pixels(pixels, which[:1]), np.memmap)
    assert np.array_equal(chosen_pixels(some, which[:2]), np.array(some)[which[:2]])


def test_the_environment_names_the_folder_or_turns_it_off(tmp_path, monkeypatch):
    monkeypatch.setenv(pixel_cache.VARIABLE, str(tmp_path))
    assert find_cache("auto", print) == PixelCache(tmp_path / "pixels", print)
    monkeypatch.setenv(pixel_cache.VARIABLE, "none")
    assert find_cache("auto", print) is None
    monkeypatch.delenv(pixel_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache("auto", print) == PixelCache(tmp_path / "vitral" / "pixels", print)
    assert find_cache("none", print) is None
    assert find_cache("here", print) == PixelCache(Path("here") / "pixels", print)
