"""Windows of large images: the pixels that `load_image` gives, whatever the file's form; what is left out is said."""

import json
import re

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segmenters import CLASSES, photograph, segmenter
from vitral.base.errors import ConfigError, ImageError, ModelError, StoreError, UsageError
from vitral.base.record import ModelRecord, attach_record
from vitral.data import image as whole_image
from vitral.data.image import load_image
from vitral.data.large import image as large_image
from vitral.data.large import tiff
from vitral.data.large.image import DecodedImage, open_large_image
from vitral.data.large.tiff import TiffImage
from vitral.data.large.tiles import cover
from vitral.tasks import tile as task
from vitral.tasks.tile import predict_tiles
from vitral.tasks.tiling.journal import JOURNAL, folder_of

RGB = photograph(120, 90)
GREY = RGB[..., 0]
RGBA = np.dstack([RGB, photograph(120, 90, seed=1)[..., :1]])
COLOURS = np.random.default_rng(0).integers(0, 65_536, (3, 256), dtype=np.uint16)
STRIPS = {278: 16}  # rows per strip
BLOCKS = dict(tile=(32, 48), compression="zlib")


def written(path, pixels, **options):
    tifffile.imwrite(path, pixels, **options)
    return path


def opened(path):
    """The image and the sentences about it."""
    notes = []
    return open_large_image(path, notes.append), " ".join(notes)


# name -> (pixels, options of tifffile.imwrite, words that must be said)
READ_IN_PARTS = {
    "tiled": (RGB, dict(photometric="rgb", **BLOCKS), ""),
    "tiled with a predictor": (RGB, dict(photometric="rgb", predictor=True, **BLOCKS), ""),
    "strips": (RGB, dict(photometric="rgb", rowsperstrip=7, compression="zlib"), ""),
    "uncompressed strips": (RGB, dict(photometric="rgb", rowsperstrip=7), ""),
    "uncompressed in one piece": (RGB, dict(photometric="rgb"), ""),
    "BigTIFF": (RGB, dict(photometric="rgb", bigtiff=True, **BLOCKS), ""),
    "big endian": (RGB, dict(photometric="rgb", byteorder=">", **BLOCKS), ""),
    "lzma": (RGB, dict(photometric="rgb", tile=(32, 48), compression="lzma"), ""),
    "planes of colours": (RGB.transpose(2, 0, 1), dict(photometric="rgb", planarconfig="separate", **BLOCKS), ""),
    "grey": (GREY, dict(photometric="minisblack", **BLOCKS), ""),
    "white is zero": (GREY, dict(photometric="miniswhite", **BLOCKS), ""),
    "16 bits": (GREY.astype(np.uint16) * 257 - 3, dict(**BLOCKS), "16 bits per value: they are scaled to 8 bits"),
    "16 bits, big endian": (GREY.astype(np.uint16) * 100, dict(byteorder=">", **BLOCKS), "65,535 is white"),
    "transparency": (RGBA, dict(photometric="rgb", extrasamples=["unassalpha"], **BLOCKS), "become white"),
    "a palette": (GREY, dict(photometric="palette", colormap=COLOURS, **BLOCKS), ""),
    "a stack": (np.stack([RGB, 255 - RGB]), dict(photometric="rgb", **BLOCKS), "2 planes (axes QYXS): the first is"),
}


@pytest.mark.parametrize("name", READ_IN_PARTS)
def test_a_window_has_the_pixels_of_the_whole_image(name, tmp_path):
    pixels, options, said = READ_IN_PARTS[name]
    path = written(tmp_path / "scan.tif", pixels, **options)
    image, notes = opened(path)
    assert isinstance(image, TiffImage) and (image.height, image.width) == (120, 90)
    assert said in notes and bool(said) == bool(notes)
    try:
        whole = load_image(path)
    except ImageError:  # what Pillow cannot read is compared with what was written
        whole = pixels
    for top, left, height, width in ((0, 0, 120, 90), (31, 47, 2, 2), (119, 89, 1, 1), (7, 0, 50, 90)):
        found = image.read(top, left, height, width)
        assert found.dtype == np.uint8 and found.shape == (height, width, 3)
        difference = np.abs(found.astype(int) - whole[top : top + height, left : left + width])
        assert difference.max() <= (name == "transparency")


def test_alpha_that_is_multiplied_in_is_not_multiplied_again(tmp_path):
    white_on_nothing = np.zeros((40, 40, 4), np.uint8)
    white_on_nothing[:20] = (100, 50, 0, 128)
    path = written(tmp_path / "scan.tif", white_on_nothing, photometric="rgb", extrasamples=["assocalpha"], **BLOCKS)
    found = opened(path)[0].read(19, 0, 2, 1)
    assert found[:, 0].tolist() == [[227, 177, 127], [255, 255, 255]]


def test_of_a_pyramid_the_largest_level_is_read_and_of_several_images_the_first(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(RGB, photometric="rgb", subifds=1, **BLOCKS)
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, **BLOCKS)
        file.write(RGB[:50, :40], photometric="rgb", **BLOCKS)
    image, notes = opened(tmp_path / "pyramid.tif")
    assert (image.read(0, 0, 120, 90) == RGB).all()
    assert "a pyramid of 2 levels: the largest, 120 x 90, is read" in notes
    assert "holds 2 images: the first, 120 x 90, is read; left out: 50 x 40 x 3" in notes


def test_more_channels_than_colours_are_left_out_or_refused(tmp_path):
    five = np.dstack([RGBA, GREY])
    image, notes = opened(written(tmp_path / "five.tif", five, photometric="rgb", **BLOCKS))
    assert (image.read(0, 0, 120, 90) == RGB).all()
    assert "5 channels: red, green and blue are read, and nothing of the others" in notes
    unmarked = written(tmp_path / "bands.tif", five, photometric="minisblack", planarconfig="contig", **BLOCKS)
    with pytest.raises(ImageError, match=r"5 channels that are not marked as red, green and blue.*RGB TIFF"):
        open_large_image(unmarked)


# name -> (how to save it, the reason why it is decoded whole)
DECODED_WHOLE = {
    "scan.png": (lambda path: Image.fromarray(RGB).save(path), "this format cannot be read in parts"),
    "scan.jpg": (lambda path: Image.fromarray(RGB).save(path), "this format cannot be read in parts"),
    "lzw.tif": (lambda path: Image.fromarray(RGB).save(path, compression="tiff_lzw", tiffinfo=STRIPS), "imagecodecs"),
    "jpeg.tif": (lambda path: Image.fromarray(RGB).save(path, compression="jpeg", tiffinfo=STRIPS), "imagecodecs"),
    "cmyk.tif": (lambda path: Image.fromarray(RGB).convert("CMYK").save(path), "colours are stored as SEPARATED"),
    "bits.tif": (lambda path: Image.fromarray(RGB).convert("1").save(path), "packed in one piece"),
    "one piece.tif": (
        lambda path: written(path, RGB, photometric="rgb", rowsperstrip=120, compression="zlib"),
        "packed in one piece",
    ),
    "float.tif": (lambda path: written(path, GREY.astype(np.float32) / 255, **BLOCKS), "its values are float32"),
    "turned.tif": (
        lambda path: written(path, RGB, photometric="rgb", extratags=[(274, 3, 1, 6, True)], **BLOCKS),
        "must be turned upright",
    ),
}


@pytest.mark.parametrize("name", DECODED_WHOLE)
def test_what_cannot_be_read_in_parts_is_decoded_whole_and_its_memory_is_said_first(name, tmp_path):
    save, reason = DECODED_WHOLE[name]
    save(tmp_path / name)
    image, notes = opened(tmp_path / name)
    assert isinstance(image, DecodedImage) and reason in notes and "is decoded whole, 0 MB of memory" in notes
    whole = load_image(tmp_path / name)
    assert (image.height, image.width) == whole.shape[:2] == ((90, 120) if name == "turned.tif" else (120, 90))
    assert (image.read(11, 13, 17, 19) == whole[11:28, 13:32]).all()


def test_a_tiff_under_another_name_is_read_in_parts(tmp_path):
    path = written(tmp_path / "scan.png", RGB, photometric="rgb", **BLOCKS)
    assert isinstance(opened(path)[0], TiffImage)


def test_what_is_too_large_to_be_decoded_whole_says_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(large_image, "MAX_PIXELS", 10_000)
    Image.fromarray(RGB).save(tmp_path / "scan.png")
    with pytest.raises(ImageError, match=r"120 x 90 pixels, and this format cannot be read in parts.*tiled TIFF"):
        open_large_image(tmp_path / "scan.png")
    monkeypatch.setattr(whole_image, "MAX_PIXELS", 10_000)
    huge = written(tmp_path / "huge.tif", RGB, photometric="rgb", **BLOCKS)
    with pytest.raises(ImageError, match=r"more than 10,000 pixels, the limit.*vitral predict MODEL scan.tif --tile"):
        load_image(huge)
    assert opened(huge)[0].read(0, 0, 120, 90).shape == RGB.shape


@pytest.mark.parametrize("damage", ["cut", "no pixels", "nothing", "text", "gone", "folder"])
def test_a_damaged_file_is_an_image_error(tmp_path, damage):
    path = written(tmp_path / "scan.tif", RGB, photometric="rgb", **BLOCKS)
    content = path.read_bytes()
    if damage in ("gone", "folder"):
        path.unlink()
        path.mkdir() if damage == "folder" else None
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "no pixels": content[:16]}.get(damage, b""))
    if damage == "text":
        path.write_bytes(b"II*\0 is how a TIFF starts, but this is none")
    with pytest.raises(ImageError, match=r"scan.tif"):
        open_large_image(path).read(0, 0, 120, 90)


def test_a_missing_extra_names_its_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'vitral[tiles]'")):
        tiff.import_tifffile()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(tile=30, context=0, alignment=8), "every 8 pixels: use 24 or 32"),
        (dict(tile=5, context=0, alignment=8), "use 8"),
        (
            dict(tile=32, context=16, alignment=8),
            "leaves nothing of a tile of 32 pixels: use a larger tile, at least 40",
        ),
    ],
)
def test_tiles_that_do_not_fit_say_which_do(options, words):
    with pytest.raises(ConfigError, match=words):
        cover(100, ramp=4, shrinks=True, **options)


# The task


@pytest.fixture
def scan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return written(tmp_path / "scan.tif", photograph(150, 200), photometric="rgb", **BLOCKS)


def test_the_result_is_a_tiled_tiff_with_the_names_of_its_classes(scan, tmp_path):
    found = predict_tiles(segmenter(), scan, tile=64)
    assert str(found.out) == "scan.classes.tif" and sorted(path.name for path in tmp_path.iterdir()) == [
        "scan.classes.tif",
        "scan.tif",
    ]
    with tifffile.TiffFile(found.out) as file:
        page = file.pages[0]
        assert page.is_tiled and page.shape == (150, 200) and page.dtype == np.uint8 and int(page.compression) == 8
        assert json.loads(page.description)["classes"] == list(CLASSES)
    with Image.open(found.out) as image:  # another reader sees indices, and colours
        assert image.mode == "P" and (np.asarray(image) == found.read()).all()
    assert sum(found.shares) == pytest.approx(1) and len(set(found.read().ravel().tolist())) > 1


def test_a_finished_result_is_returned_and_never_overwritten(scan):
    model = segmenter()
    first = predict_tiles(model, scan, tile=64)
    content = first.out.read_bytes()
    folder_of(first.out).mkdir()  # as if the process had been killed before it was removed
    (folder_of(first.out) / JOURNAL).write_text("{}")
    again = predict_tiles(model, scan, tile=64)
    assert not folder_of(first.out).exists()
    assert any("is finished, with the same settings" in note for note in again.notes)
    assert (again.shares, again.seams) == (first.shares, first.seams)
    with pytest.raises(UsageError, match=r"finished result with other settings: tile \(there \[64, 64\], here"):
        predict_tiles(model, scan, tile=96)
    other = segmenter()
    torch.nn.init.zeros_(other.head.bias)
    with pytest.raises(UsageError, match="other settings: model"):
        predict_tiles(other, scan, tile=64)
    written(scan, photograph(150, 200, seed=5), photometric="rgb", **BLOCKS)
    with pytest.raises(UsageError, match="other settings: image"):
        predict_tiles(model, scan, tile=64)
    assert first.out.read_bytes() == content
    scan.with_name("mine.tif").write_bytes(b"mine")
    with pytest.raises(UsageError, match="is not a result of --tile: it is not overwritten"):
        predict_tiles(model, scan, "mine.tif")
    with pytest.raises(UsageError, match="is not a result of --tile"):
        predict_tiles(model, scan, scan)


class Stop(Exception):
    pass


def stop_after(monkeypatch, tiles):
    """Let the task fail after so many tiles."""
    calls, add = iter(range(tiles)), task.RowBlender.add

    def limited(self, logits):
        if next(calls, None) is None:
            raise Stop
        add(self, logits)

    monkeypatch.setattr(task.RowBlender, "add", limited)


@pytest.mark.parametrize("tiles", [0, 1, 7, 11])
def test_an_unfinished_result_is_continued_to_the_same_bytes(scan, monkeypatch, tiles):
    whole = predict_tiles(segmenter(), scan, "whole.tif", tile=64)
    with monkeypatch.context() as patch:
        stop_after(patch, tiles)
        with pytest.raises(Stop):
            predict_tiles(segmenter(), scan, "parts.tif", tile=64)
    assert not scan.with_name("parts.tif").exists() and scan.with_name("parts.tif.partial").is_dir()
    with pytest.raises(UsageError, match="unfinished result with other settings: tile"):
        predict_tiles(segmenter(), scan, "parts.tif", tile=96)
    found = predict_tiles(segmenter(), scan, "parts.tif", tile=64)
    assert found.out.read_bytes() == whole.out.read_bytes() and found.seams == whole.seams
    assert not folder_of(found.out).exists()


def test_a_damaged_journal_says_what_to_delete(scan, monkeypatch):
    stop_after(monkeypatch, 5)
    with pytest.raises(Stop):
        predict_tiles(segmenter(), scan, tile=64)
    (folder_of(scan.with_name("scan.classes.tif")) / JOURNAL).write_text("{")
    with pytest.raises(StoreError, match=r"Delete .*partial to start over"):
        predict_tiles(segmenter(), scan, tile=64)


def test_a_journal_of_another_version_is_not_continued(scan, monkeypatch):
    stop_after(monkeypatch, 5)
    with pytest.raises(Stop):
        predict_tiles(segmenter(), scan, tile=64)
    path = folder_of(scan.with_name("scan.classes.tif")) / JOURNAL
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(StoreError, match=r"another version of Vitral \(format 99, here 1\)"):
        predict_tiles(segmenter(), scan, tile=64)


def test_files_of_others_in_the_way_are_left(scan):
    folder = folder_of(scan.with_name("scan.classes.tif"))
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    predict_tiles(segmenter(), scan, tile=64)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_models_without_one_class_per_pixel_are_refused(scan):
    model = segmenter()
    whole = attach_record(torch.nn.Sequential(model), ModelRecord(CLASSES, model.preprocessing))
    with pytest.raises(
        UsageError, match=r"predicts one class for a whole image.*segmentation models.*leave --tile out"
    ):
        predict_tiles(whole, scan)
    coarse = attach_record(torch.nn.AvgPool2d(2), ModelRecord(("r", "g", "b"), model.preprocessing, "segmentation"))
    coarse.register_parameter("scale", torch.nn.Parameter(torch.ones(1)))
    with pytest.raises(ModelError, match=r"returned \(1, 3, 16, 16\) for images of shape \(1, 3, 32, 32\)"):
        predict_tiles(coarse, scan)
    few = segmenter()
    attach_record(few, ModelRecord(CLASSES[:3], few.preprocessing, "segmentation"))
    with pytest.raises(UsageError, match="returns 4 logits per pixel, but 3 classes are named"):
        predict_tiles(few, scan)
    many = segmenter()
    names = tuple(map(str, range(256)))
    attach_record(many, ModelRecord(names, many.preprocessing, "segmentation"))
    with pytest.raises(UsageError, match="256 classes, but a class map holds 1 to 254"):
        predict_tiles(many, scan)
