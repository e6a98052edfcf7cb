"""The training film: what CLS attends to, step by step."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiny import redraw
from vitral.base.preprocessing import Preprocessing
from vitral.data.class_names import describe_classes
from vitral.data.dataset import Dataset, Split
from vitral.data.preprocess import normalise
from vitral.explain import attention
from vitral.explain.film import FRAMES, Film, frame_steps
from vitral.report.colours import DIVERGING, SHADE, UNIFORM, colour_scale
from vitral.report.film import CELL, GAP, HEAD, MARGIN, animation, blend, film_frames, still
from vitral.tasks.training_report import describe_film_images


@pytest.fixture
def film(labelled):
    return Film(np.random.default_rng(0).integers(0, 256, (2, 8, 18, 3), dtype=np.uint8))


@given(st.integers(1, 100_000))
def test_the_first_and_the_last_step_are_filmed_and_the_beginning_more_closely(total):
    steps = sorted(frame_steps(total))
    assert (steps[0], steps[-1]) == (0, total)
    assert len(steps) <= FRAMES
    gaps = np.diff(steps)
    assert total < 100 or (len(steps) == FRAMES and gaps[0] == gaps.min() and gaps[-1] == gaps.max())


def test_a_frame_is_the_attention_averaged_over_heads(film, labelled):
    film.shoot(labelled, 0)
    maps = attention(labelled, normalise(torch.from_numpy(film.pixels), labelled.preprocessing))
    np.testing.assert_array_equal(film.frames[0], maps.values.mean(axis=2))
    np.testing.assert_array_equal(film.prefix_mass[0], maps.prefix_mass.mean(axis=2))
    assert film.frames[0].shape == (2, 3, 2, 3)


def test_a_step_is_filmed_once_and_the_models_mode_is_left_alone(film, labelled):
    labelled.train()
    for step in (0, 5, 5, 3, 9):
        film.shoot(labelled, step)
    assert film.steps == [0, 5, 9]
    assert labelled.training


def test_a_film_comes_back_up_to_a_step(film, labelled, tmp_path):
    for step in (0, 4, 9):
        film.shoot(redraw(labelled, seed=step), step)
    film.save(tmp_path / "film.npz")
    again = Film.load(tmp_path / "film.npz", until=4)
    assert again.steps == [0, 4]
    np.testing.assert_array_equal(again.pixels, film.pixels)
    for kept, was in ((again.frames, film.frames), (again.prefix_mass, film.prefix_mass)):
        assert len(kept) == 2
        np.testing.assert_array_equal(kept, was[:2])
    assert not np.array_equal(film.frames[0], film.frames[1])
    again.shoot(redraw(labelled, seed=9), 9)
    np.testing.assert_array_equal(again.frames[2], film.frames[2])


def drawn(frames=3):
    rng = np.random.default_rng(0)
    pixels, values = rng.integers(0, 256, (2, 8, 18, 3), dtype=np.uint8), rng.random((frames, 2, 3, 2, 3)) * 3
    steps = [frame * 10 for frame in range(frames)]
    return pixels, values, film_frames(pixels, values, steps, [None, 0.5, 1.0][:frames])


def test_each_frame_is_a_picture_of_one_size_with_a_pane_for_each_image_and_layer():
    pixels, values, pictures = drawn()
    assert len(pictures) == 3
    assert len({picture.size for picture in pictures}) == 1
    norm = colour_scale(UNIFORM, [values])
    for frame, picture in enumerate(pictures):
        for image in range(2):
            left = MARGIN + image * (CELL + GAP)
            for layer in range(3):
                above = HEAD + (layer + 1) * (CELL + GAP)
                pane = picture.crop((left, above, left + CELL, above + CELL))
                expected = blend(pixels[image], values[frame, image, layer], norm)
                np.testing.assert_array_equal(np.asarray(pane), np.asarray(expected))


@pytest.mark.parametrize(("grey", "light"), [(0, 1 - SHADE), (255, 1)])
def test_a_panes_hue_is_its_attention_on_one_scale_and_its_brightness_is_the_images(grey, light):
    image, values = np.full((4, 6, 3), grey, dtype=np.uint8), np.array([[0.0, 1.0, 2.0], [4.0, 4.0, 0.5]])
    pane = np.asarray(blend(image, values, colour_scale(UNIFORM, [values]))).astype(int)
    centres = pane[CELL // 4 :: CELL // 2, CELL // 6 :: CELL // 3][:2, :3]
    for place, colour in zip((0, 0.5, 0.75, 1, 1, 0.25), centres.reshape(-1, 3)):
        expected = light * 255 * np.array(DIVERGING(float(place))[:3])
        np.testing.assert_allclose(colour, expected, atol=2)


def test_the_film_of_an_untrained_model_alone_is_drawn():
    assert len(drawn(frames=1)[-1]) == 1


def test_an_animation_holds_every_frame_and_the_last_for_longer():
    *_, pictures = drawn()
    with Image.open(io.BytesIO(animation(pictures, seconds=0.2))) as moving:
        assert moving.n_frames == 3
        assert moving.info["loop"] == 0
        times = []
        for frame in range(3):
            moving.seek(frame)
            moving.load()
            times.append(moving.info["duration"])
    assert times == [200, 200, 2500]


def test_a_still_is_the_frame():
    *_, pictures = drawn()
    with Image.open(io.BytesIO(still(pictures[1]))) as picture:
        assert picture.size == pictures[1].size
        difference = np.asarray(picture.convert("RGB")).astype(int) - np.asarray(pictures[1])
    assert np.abs(difference).mean() < 6


def test_the_report_says_which_images_the_film_shows():
    labels = np.repeat(np.arange(4), 25)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 18, 3), dtype=np.uint8)
    data = Dataset("mine", tuple("abcd"), Preprocessing((8, 18)), lambda name: Split(pixels, labels))
    for count in (1, 3, 6, 100):
        missing = [name for label, name in enumerate("abcd") if label not in data.val.labels[:count]]
        part = f"{count} of 100 validation images, chosen at random" if count < 100 else "100 validation images"
        text = describe_film_images(Film(data.val.pixels[:count]), data)
        assert text == f"The same {part}, of {describe_classes(4 - len(missing), missing)}"
    # The film of a run that was begun when splits had another order shows other images.
    assert describe_film_images(Film(pixels[:6]), data) == "The same 6 validation images"
    of_numbers = replace(data, task="numbers", read=lambda name: Split(pixels, np.zeros((100, 1))))
    assert describe_film_images(Film(data.val.pixels[:6]), of_numbers) == (
        "The same 6 of 100 validation images, chosen at random"
    )
