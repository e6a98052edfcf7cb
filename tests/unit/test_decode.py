"""Files read in a model's size: the same pixels as from the whole image, in bounded memory."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from segmenters import photograph
from vitral.base.errors import ImageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.decode import Room, load_resized, reduce
from vitral.data.image import load_image
from vitral.data.preprocess import crop_and_resize

SIZES = [(16, 16), (12, 20), (37, 53)]
ORIENTATION = 274


def saved(path, mode="RGB", orientation=None, height=240, width=320):
    image = Image.fromarray(photograph(height, width))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        image.putalpha(image.convert("L"))
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    image.save(path, exif=exif.tobytes() if orientation else b"")
    return path


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "I;16"])
def test_any_mode_has_the_pixels_of_the_whole_image(tmp_path, mode, size):
    path, asked = saved(tmp_path / "a.png", mode), Preprocessing(size=size)
    assert (load_resized(path, asked) == crop_and_resize(load_image(path), asked)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_turned_photographs_too(tmp_path, orientation, crop):
    path, asked = saved(tmp_path / "a.jpg", orientation=orientation), Preprocessing(size=(24, 16), crop=crop)
    assert (load_resized(path, asked) == crop_and_resize(load_image(path), asked)).all()
    reduced = load_resized(path, asked, for_training=True)
    assert reduced.shape == (24, 16, 3)
    assert np.abs(reduced.astype(int) - load_resized(path, asked)).mean() < 3


def test_an_image_of_the_models_size_is_not_resized(tmp_path):
    path = saved(tmp_path / "a.png", height=24, width=16)
    assert (load_resized(path, Preprocessing(size=(24, 16))) == photograph(24, 16)).all()


@pytest.mark.parametrize(("side", "decoded"), [(20, 320 // 8), (40, 320 // 4), (80, 320 // 2), (81, 320), (300, 320)])
def test_a_jpeg_keeps_twice_the_pixels_of_the_result(tmp_path, side, decoded):
    with Image.open(saved(tmp_path / "a.jpg", height=320, width=320)) as image:
        reduce(image, Preprocessing(size=(side, side)))
        assert image.size == (decoded, decoded)


@pytest.mark.parametrize("for_training", [False, True])
def test_what_cannot_be_read_is_a_sentence(tmp_path, for_training):
    path = saved(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"a\.jpg is damaged or incomplete"):
        load_resized(path, Preprocessing(size=(16, 16)), for_training)


def test_threads_wait_for_room():
    room, inside, most = Room(100), [], []

    def work(count):
        with room.for_pixels(count):
            inside.append(min(count, 100))
            most.append(sum(inside))
            time.sleep(0.002)
            inside.remove(min(count, 100))

    threads = [threading.Thread(target=work, args=(count,)) for count in [30, 60, 1000, 40, 100, 10] * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 30 and max(most) <= 100 and room.left == 100


def test_room_is_given_back_after_an_error():
    room = Room(10)
    with pytest.raises(ValueError, match="no"), room.for_pixels(7):
        raise ValueError("no")
    assert room.left == 10
