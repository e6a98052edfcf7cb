"""`Maps`: numbers first, a figure from them, a file from the figure."""

import html
import io
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vitral import Maps
from vitral.base.errors import UsageError
from vitral.explain.maps import side_by_side

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


CHECKED = "rows · v reproduces the output of the attention layers to 2e-07 of the largest value."


def test_the_caption_says_what_is_shown_and_how_far_it_was_checked(maps):
    assert maps.caption == f"What CLS attends to. Checked: {CHECKED}"
    assert maps.grid == (2, 3)


def test_a_figure_shows_one_image(maps):
    for image in (0, 1):
        figure = maps.figure(image)
        assert isinstance(figure, Figure)
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), maps.pixels[image])
        np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), maps.values[image, 0, 0])
        assert figure.get_label() == maps.caption
        assert figure.get_suptitle() == ""  # the caption is text, not pixels
    assert isinstance(maps.show(1), Figure)


@pytest.mark.parametrize("image", [2, -1])
def test_an_image_that_does_not_exist_is_refused(maps, tmp_path, image):
    with pytest.raises(UsageError, match=f"no image {image}: the maps show 2, 0 to 1"):
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
    (path,) = maps.save(kind(tmp_path / "new" / "map.png"), 1)
    assert path == tmp_path / "new" / "map.png"
    assert path.read_bytes().startswith(PNG)
    (other,) = maps.save(tmp_path / "other.png", 0)
    assert path.read_bytes() != other.read_bytes()


def test_a_png_holds_its_caption_as_text(maps, tmp_path):
    (path,) = maps.save(tmp_path / "map.png", 1)
    with Image.open(path) as saved:
        assert saved.text["Description"] == maps.caption_of(1)


def test_all_images_are_saved_by_number_on_one_scale(maps, tmp_path):
    files = maps.save(tmp_path / "map.png")
    assert files == [tmp_path / "map-image-0.png", tmp_path / "map-image-1.png"]
    assert sorted(tmp_path.iterdir()) == files
    for image, path in enumerate(files):
        (alone,) = maps.save(tmp_path / "alone.png", image)
        assert path.read_bytes() == alone.read_bytes()
    single = replace(maps, values=maps.values[:1], prefix_mass=maps.prefix_mass[:1], pixels=maps.pixels[:1])
    assert single.save(tmp_path / "single.png") == [tmp_path / "single.png"]


def test_a_notebook_shows_all_images_with_captions_and_descriptions_as_text(maps):
    shown = maps._repr_html_()
    assert shown.count("<img") == shown.count("<figcaption>") == 2
    assert html.escape(maps.caption_of(1)) in shown and html.escape(maps.alt_text(1)) in shown
    many = replace(maps, **{name: np.repeat(getattr(maps, name), 5, 0) for name in ("values", "prefix_mass", "pixels")})
    assert "8 of 10 images; show(8) shows the next." in many._repr_html_()


def test_an_alternative_text_says_which_image_which_method_and_where_the_map_is_highest(maps):
    values = np.ones((2, 1, 1, 6, 6), np.float32)
    values[1, 0, 0, 2, 5] = 4
    values[1, 0, 0, 0, 0] = 0.25
    named = one(maps, "occlusion", values=values)
    assert named.alt_text(1, "cat.png") == (
        "occlusion map of cat.png for ring, on 6 rows and 6 columns of patches: highest at row 2, column 5, right, "
        "with 4 times uniform; the median patch has 1, the lowest 0.25."
    )
    assert named.alt_text(0).endswith("of patches: the same everywhere, 1 times uniform.")
    assert "maps of image 0 in 3 layers and 4 heads" in maps.alt_text(0)
    layer, head, row, column = maps.peak(1)
    assert maps.values[1, layer, head, row, column] == maps.values[1].max()
    assert f"row {row}, column {column}" in maps.alt_text(1)
    assert f"in {maps.layers[layer]}, head {head}" in maps.alt_text(1)


def test_a_map_that_is_zero_everywhere_says_why(maps):
    zero = one(maps, "chefer", values=maps.values[:, :1, :1].copy(), why_zero="Nothing raises the logit.")
    zero.values[0] = 0
    said = "The map is zero everywhere, so it ranks no patch. Nothing raises the logit."
    assert zero.caption_of(0) == f"What CLS attends to. The class is disk. {said}"
    assert "zero" not in zero.caption_of(1)
    beside = side_by_side([zero, one(maps, "occlusion")], 0).get_label()
    assert "The map of chefer is zero everywhere. Nothing raises the logit." in beside
    assert "Constant" not in beside


def test_an_npz_holds_everything_and_no_code(maps, tmp_path):
    (path,) = maps.save(tmp_path / "map.npz")
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
    for mine, theirs in zip(again.save(tmp_path / "again.png"), maps.save(tmp_path / "first.png"), strict=True):
        assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("name", "said"),
    [("map.jpg", "not as .jpg"), ("map", "not as a file without a suffix"), ("map.npz.txt", "not as .txt")],
)
def test_another_suffix_is_refused_and_writes_nothing(maps, tmp_path, name, said):
    with pytest.raises(UsageError, match=rf"{name}: maps are saved as \.png or \.npz, {said}"):
        maps.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_maps_do_not_change(maps):
    with pytest.raises(FrozenInstanceError):
        maps.residual = 0.0


def one(maps, method, **changes):
    """One map an image, of a method that knows classes."""
    plain = dict(method=method, values=maps.values[:, :1, :1], prefix_mass=maps.prefix_mass[:, :1, :1])
    known = dict(layers=("all",), heads=(0,), residual=None, targets=(1, 2), class_names=("disk", "ring"))
    return replace(maps, **(plain | known | changes))


def test_a_caption_names_the_class_of_its_image(maps):
    named = one(maps, "occlusion")
    assert named.caption_of(0) == "What CLS attends to. The class is disk."
    assert named.caption_of(1) == "What CLS attends to. The class is ring."
    assert named.caption == "What CLS attends to. The classes are disk, ring."


def test_what_is_the_same_everywhere_is_said_of_the_image_it_is_true_of(maps):
    flat = replace(maps, values=maps.values.copy())
    flat.values[0] = 1
    assert flat.caption_of(0).endswith("The map is constant, so it ranks no patch.")
    assert flat.caption_of(1) == maps.caption_of(1)
    assert flat.caption.endswith("The maps of images [0] are constant, so they rank no patch.")


def test_a_check_without_any_error_is_a_check(maps):
    exact = replace(maps, residual=0.0)
    sentence = "Checked: rows · v reproduces the output of the attention layers exactly."
    assert exact.caption == f"What CLS attends to. {sentence}"
    assert "Checked" not in replace(maps, residual=None).caption


def test_one_of_several_maps_is_named(maps):
    assert maps.which == "blocks.2.attn, its 4 heads averaged"
    single = replace(maps, values=maps.values[:, :, 2:3], prefix_mass=maps.prefix_mass[:, :, 2:3], heads=(2,))
    assert single.which == "blocks.2.attn, head 2"
    assert one(maps, "occlusion").which == ""


def test_methods_beside_each_other_are_captioned_by_what_they_are(maps):
    cam, occlusion = one(maps, "grad_cam", residual=2e-7), one(maps, "occlusion", sign="signed")
    both = side_by_side([cam, occlusion], 1).get_label()
    assert both == f"The class is ring. Checked (grad_cam): {CHECKED}"
    three = side_by_side([maps, cam], 0).get_label()
    which = "The map of attention is blocks.2.attn, its 4 heads averaged."
    assert f"The class is disk (grad_cam). {which} Checked: rows" in three
    other = one(maps, "chefer", class_names=("disk", "plus"))
    assert "Classes: ring (grad_cam), plus (chefer)." in side_by_side([cam, other], 1).get_label()


def test_a_verdict_stands_below_its_map(maps):
    judged = one(maps, "occlusion", verdicts=("better than chance", "one image cannot tell"))
    figure = side_by_side([judged, one(maps, "grad_cam")], 1)
    assert [axes.get_xlabel() for axes in figure.axes[1:3]] == ["one image cannot tell", ""]


def test_only_maps_of_the_same_image_stand_beside_each_other(maps):
    with pytest.raises(UsageError, match="attention and occlusion show different images"):
        side_by_side([maps, one(maps, "occlusion", pixels=255 - maps.pixels)])
    with pytest.raises(UsageError, match="no maps to compare"):
        side_by_side([])
    with pytest.raises(UsageError, match="no image 2"):
        side_by_side([maps], 2)
