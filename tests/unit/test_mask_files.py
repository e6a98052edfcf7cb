"""Mask files: what they hold is read as it is stored, or refused with what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from vitral.base.errors import DataError, ImageError
from vitral.data.mask_file import as_image, read_mask, with_ignored
from vitral.data.mask_names import read_mask_classes

VALUES = np.array([[0, 1, 2], [3, 0, 255]], np.uint8)
COLOURS = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2, (128, 128, 0): 3, (255, 255, 255): 255}
SHOWN = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], np.uint8)


def saved(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def in_colours(values=VALUES):
    return Image.fromarray(with_ignored(SHOWN)[values])


@pytest.mark.parametrize("kind", ["png", "tif", "bmp"])
def test_grey_values_are_class_indices(tmp_path, kind):
    found = read_mask(saved(tmp_path / f"a.{kind}", Image.fromarray(VALUES)))
    assert (found.values == VALUES).all()


def test_a_palette_is_read_by_its_indices_and_kept(tmp_path):
    found = read_mask(saved(tmp_path / "a.png", as_image(VALUES, SHOWN)))
    assert (found.values == VALUES).all()
    assert found.palette[1] == (128, 0, 0) and found.palette[255] == (255, 255, 255)


@given(mask=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_mask_that_is_written_is_read_again(tmp_path_factory, mask):
    path = saved(tmp_path_factory.mktemp("masks") / "a.png", as_image(mask, SHOWN))
    assert (read_mask(path).values == mask).all()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_values_of_more_bits_keep_their_numbers(tmp_path, mode):
    large = np.array([[0, 300, 65_535]])
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    path = saved(tmp_path / ("a.png" if mode == "I;16" else "a.tif"), Image.fromarray(large.astype(kinds[mode])))
    assert read_mask(path).values.tolist() == large.tolist()


def test_fractions_are_refused(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[0.0, 0.5]], np.float32)))
    with pytest.raises(DataError, match=r"a\.tif holds fractions, from 0 to 0\.5\. Save class indices\."):
        read_mask(path)


def few_bits(path, values, bits):
    """A grey PNG of 1, 2 or 4 bits per pixel, which Pillow reads but does not write."""
    import struct
    import zlib

    rows = b""
    for row in values:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_values_of_few_bits_are_indices_and_not_scaled_to_grey(tmp_path, bits):
    values = np.arange(12).reshape(3, 4) % 2**bits
    found = read_mask(few_bits(tmp_path / "a.png", values, bits))
    assert (found.values == values).all() and found.has_one_bit == (bits == 1)


def test_a_palette_of_few_bits_keeps_its_indices(tmp_path):
    image = as_image(VALUES % 4, SHOWN)
    found = read_mask(saved(tmp_path / "a.png", image, bits=2))
    assert (found.values == VALUES % 4).all() and found.palette[2] == (0, 128, 0)


def test_a_grey_picture_that_was_saved_in_colour_is_grey(tmp_path):
    for mode in ("RGB", "RGBA", "LA"):
        path = saved(tmp_path / f"{mode}.png", Image.fromarray(VALUES).convert(mode))
        assert (read_mask(path).values == VALUES).all()


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.png", "JPEG"), ("a.gif", "GIF"), ("a.webp", "WEBP")])
def test_formats_that_change_values_are_refused_whatever_the_name(tmp_path, name, kind):
    path = saved(tmp_path / name, Image.fromarray(VALUES), format=kind)
    with pytest.raises(
        DataError, match=rf"is a {kind} file, a format that may change pixel values.* Save masks as PNG\."
    ):
        read_mask(path)


def test_a_file_of_several_pages_is_refused(tmp_path):
    pages = [Image.fromarray(VALUES), Image.fromarray(VALUES + 1)]
    path = saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"a\.tif has 2 pages; a mask is one"):
        read_mask(path)


def test_damaged_and_missing_masks_are_named(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(VALUES))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageError, match=r"a\.png is damaged or not an image"):
        read_mask(path)
    with pytest.raises(ImageError, match=r"There is no mask .*b\.png"):
        read_mask(tmp_path / "b.png")


def test_colours_are_classes_where_they_are_named(tmp_path):
    for mode in ("RGB", "RGBA", "P"):
        path = saved(tmp_path / f"{mode}.png", in_colours().convert(mode, palette=Image.Palette.ADAPTIVE))
        assert (read_mask(path, COLOURS).values == VALUES).all()


def test_colours_without_names_are_refused_with_some_of_them(tmp_path):
    path = saved(tmp_path / "a.png", in_colours())
    with pytest.raises(
        DataError, match=r"stored in colours, such as \(0, 0, 0\), .*classes\.csv, with the columns name"
    ):
        read_mask(path)


def test_colours_that_no_class_has_are_counted(tmp_path):
    smooth = np.array(in_colours())
    smooth[0, 1] = 64, 0, 0
    path = saved(tmp_path / "a.png", Image.fromarray(smooth))
    with pytest.raises(
        DataError, match=r"has 16\.7% of pixels in colours that classes\.csv does not name: \(64, 0, 0\)"
    ):
        read_mask(path, COLOURS)


def test_indices_are_read_as_such_where_the_colours_of_classes_csv_are_for_showing(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(VALUES))
    assert (read_mask(path, COLOURS).values == VALUES).all()


def test_the_files_own_palette_gives_way_to_named_colours(tmp_path):
    """Index 0 shows the colour of class 1 here."""
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([128, 0, 0, 0, 0, 0])
    assert read_mask(saved(tmp_path / "a.png", image), COLOURS).values.tolist() == [[1, 0]]


def names_in(folder, **files):
    said = []
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return read_mask_classes(folder, said.append), said


def test_names_are_lines_of_a_text_file(tmp_path):
    classes, said = names_in(tmp_path, classes_txt="\ufeffbackground\n cat \ndog\n\n")
    assert classes.names == ("background", "cat", "dog") and classes.colours is None and said == []
    assert read_mask_classes(tmp_path / "none", said.append) is None


def test_names_and_colours_are_columns_of_a_table(tmp_path):
    table = "ID,Name,red,green,blue\n1,cat,128,0,0\n0,background,0,0,0\n255,border,255,255,255\n"
    classes, _ = names_in(tmp_path, classes_csv=table)
    assert classes.names == ("background", "cat")
    assert classes.colours == {(128, 0, 0): 1, (0, 0, 0): 0, (255, 255, 255): 255}
    classes, _ = names_in(tmp_path, classes_csv="name\nbackground\ncat\n")
    assert classes.names == ("background", "cat") and classes.colours is None


def test_the_table_is_read_where_there_are_both(tmp_path):
    classes, said = names_in(tmp_path, classes_txt="a\nb\n", classes_csv="name\nc\nd\n")
    assert classes.names == ("c", "d") and "the names are read from classes.csv" in said[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (dict(classes_txt="a\n\nb\n"), "line 2 is empty: line 1 is class 0"),
        (dict(classes_txt="a\nb\na\n"), "names 'a' twice"),
        (dict(classes_txt="a\n"), "names 1 classes; masks can have 2 to 254"),
        (dict(classes_txt="".join(f"{n}\n" for n in range(255))), "names 255 classes"),
        (dict(classes_txt=""), "names 0 classes"),
        (dict(classes_csv="label\na\n"), "needs a first line with the column name"),
        (dict(classes_csv=""), "needs a first line with the column name"),
        (dict(classes_csv="id,name\n0,a\n2,b\n"), "the ids must be 0 to 1, each once (255 for ignored pixels)"),
        (dict(classes_csv="id,name\n0,a\n0,b\n"), "the ids must be 0 to 1, each once"),
        (dict(classes_csv="id,name\nx,a\n"), "must be whole numbers"),
        (dict(classes_csv="name,red,green,blue\na,0,0,0\nb,0,0,0\n"), "gives two classes the same colour"),
        (dict(classes_csv="name,red,green,blue\na,0,0,\nb,0,0,1\n"), "must be whole numbers"),
        (dict(classes_csv="name\na\n\"\"\n"), "line 3 has no name"),
    ],
)  # fmt: skip
def test_names_that_contradict_themselves_are_refused(tmp_path, files, message):
    with pytest.raises(DataError) as caught:
        names_in(tmp_path, **files)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_palette_with_some_of_the_classes_colours_is_refused(tmp_path):
    """An edge between two classes has a colour of its own: its pixels would get whatever class their index is."""
    palette = np.concatenate([SHOWN, [[64, 64, 0]]]).astype(np.uint8)
    mask = as_image(np.array([[0, 1, 2], [3, 4, 0]], np.uint8), palette)
    with pytest.raises(DataError, match=r"the colour \(0, 0, 0\) stands for a class and \(64, 64, 0\) for none"):
        read_mask(saved(tmp_path / "a.png", mask), COLOURS)


@pytest.mark.parametrize("values", [[[0, 0], [0, 0]], [[0, 1], [1, 0]]])
def test_grey_masks_have_indices_where_classes_have_colours(tmp_path, values):
    colours = {(255, 0, 0): 0, (0, 0, 0): 1, (0, 255, 0): 2}  # black is class 1, and a grey 0 is class 0
    mask = np.array(values, np.uint8)
    assert (read_mask(saved(tmp_path / "a.png", Image.fromarray(mask)), colours).values == mask).all()


def test_grey_masks_have_the_grey_levels_of_their_classes(tmp_path):
    mask = np.array([[0, 128], [128, 0]], np.uint8)
    found = read_mask(saved(tmp_path / "a.png", Image.fromarray(mask)), {(128, 128, 128): 0, (0, 0, 0): 1})
    assert found.values.tolist() == [[1, 0], [0, 1]]
