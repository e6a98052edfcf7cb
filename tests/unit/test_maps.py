"""`Maps`: numbers first, a figure from them, a file from the figure."""

import io
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vitral import Maps
from vitral.base.errors import UsageError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return Maps(
        method="attention",
        explained="What CLS attends to.",
        values=rng.random((2, 3, 4, 2, 3)).astype(np.float32) * 4,
        prefix_mass=rng.random((2, 3, 4)).astype(np.float32),
        pixels=rng.integers(0, 256, (2, 8, 18, 3), dtype=np.uint8),
        layers=("blocks.0.attn", "blocks.1.attn", "blocks.2.attn"),
        heads=(0, 1, 2, 3),
        residual=1.6e-7,
    )


def test_the_grid_is_that_of_the_values(maps):
    assert maps.grid == (2, 3)


def test_the_caption_says_what_is_shown_and_how_far_it_was_checked(maps):
    assert maps.caption == "What CLS attends to. Checked: rows · v is the model's own output, to 2e-07 of its largest."


def test_a_figure_shows_one_image(maps):
    for image in (0, 1):
        figure = maps.figure(image)
        assert isinstance(figure, Figure)
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), maps.pixels[image])
        np.testing.assert_array_equal(figure.axes[1].images[-1].get_array(), maps.values[image, 0, 0])
        assert figure.get_suptitle() == maps.caption
    assert isinstance(maps.show(1), Figure)


@pytest.mark.parametrize("image", [2, -1])
def test_an_image_that_does_not_exist_is_refused(maps, tmp_path, image):
    with pytest.raises(UsageError, match=f"no image {image}: the maps are of 2, 0 to 1"):
        maps.figure(image)
    with pytest.raises(UsageError):
        maps.save(tmp_path / "map.png", image)
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_the_first_image(maps):
    shown = maps._repr_png_()
    assert shown.startswith(PNG)
    assert np.asarray(Image.open(io.BytesIO(shown))).std() > 1


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_a_png_is_the_figure(maps, tmp_path, kind):
    path = maps.save(kind(tmp_path / "new" / "map.png"), 1)
    assert path == tmp_path / "new" / "map.png"
    assert path.read_bytes().startswith(PNG)
    assert path.read_bytes() != maps.save(tmp_path / "other.png", 0).read_bytes()


def test_an_npz_holds_everything_and_no_code(maps, tmp_path):
    path = maps.save(tmp_path / "map.npz")
    with np.load(path, allow_pickle=False) as saved:
        assert set(saved) == set(vars(maps))
        for name, value in vars(maps).items():
            np.testing.assert_array_equal(saved[name], np.asarray(value))
        again = Maps(
            values=saved["values"],
            prefix_mass=saved["prefix_mass"],
            pixels=saved["pixels"],
            layers=tuple(saved["layers"].tolist()),
            heads=tuple(saved["heads"].tolist()),
            residual=float(saved["residual"]),
            **{name: str(saved[name]) for name in ("method", "explained", "unit", "sign")},
        )
    assert again.save(tmp_path / "again.png").read_bytes() == maps.save(tmp_path / "first.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "said"), [("map.jpg", "not .jpg"), ("map", "not without a suffix"), ("map.npz.txt", "not .txt")]
)
def test_another_suffix_is_refused_and_writes_nothing(maps, tmp_path, name, said):
    with pytest.raises(UsageError, match=rf"{name}: maps are saved as \.png or \.npz, {said}"):
        maps.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_maps_do_not_change(maps):
    with pytest.raises(FrozenInstanceError):
        maps.residual = 0.0
