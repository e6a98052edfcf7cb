"""`load_image`: whatever the file holds, upright 8-bit RGB comes out, or an `ImageError` that names the file."""

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from vitral import load_image
from vitral.base.errors import ImageError
from vitral.data.examples import is_image
from vitral.data.image import MAX_PIXELS

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True}}


def encoded(image, kind, **settings):
    """The image as the bytes of a file."""
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def quarters(height=32, width=48):
    """Four quarters of different colours, none of which a turn or a mirror leaves where it is."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = YELLOW
    return pixels


def noise(height=32, width=48, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


# How a camera stores what was upright, for each orientation it writes down.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def held(orientation, kind, **settings):
    upright = Image.fromarray(quarters())
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(upright.transpose(turn) if turn is not None else upright, kind, exif=exif, **settings)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_an_image_is_upright_whatever_its_exif_orientation(kind, orientation):
    assert (load_image(held(orientation, kind, **LOSSLESS[kind])) == quarters()).all()


@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_is_upright_whatever_its_exif_orientation(orientation):
    pixels = load_image(held(orientation, "JPEG", quality=95, subsampling=0))
    assert pixels.shape == quarters().shape
    assert np.abs(pixels.astype(int) - quarters()).mean() < 6


def test_an_orientation_that_does_not_exist_is_no_turn():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert (load_image(encoded(Image.fromarray(quarters()), "PNG", exif=exif)) == quarters()).all()


def test_a_path_a_string_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "a picture.png"
    path.write_bytes(encoded(Image.fromarray(noise()), "PNG"))
    for source in (path, str(path), path.read_bytes()):
        assert (load_image(source) == noise()).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_rgb_comes_back_exactly(kind):
    pixels = load_image(encoded(Image.fromarray(noise()), kind, **LOSSLESS.get(kind, {})))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert (pixels == noise()).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_is_black_and_white(kind):
    bits = noise()[..., 0] > 127
    pixels = load_image(encoded(Image.fromarray(bits), kind))
    assert (pixels == np.where(bits, 255, 0)[..., None]).all()


def test_a_fax_where_zero_is_white_is_not_inverted():
    bits = noise()[..., 0] > 127
    page = encoded(Image.fromarray(bits), "TIFF", compression="group4", tiffinfo={262: 0})
    assert (load_image(page) == np.where(bits, 255, 0)[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_is_the_same_in_every_channel(kind):
    grey = noise()[..., 0]
    assert (load_image(encoded(Image.fromarray(grey), kind)) == grey[..., None]).all()


def test_a_grey_photo_is_the_same_in_every_channel():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    pixels = load_image(encoded(Image.fromarray(ramp), "JPEG", quality=95))
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    assert np.abs(pixels[..., 0].astype(int) - ramp).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_a_palette_becomes_its_colours(kind):
    indexed = Image.fromarray(quarters()).quantize(4)
    assert indexed.mode == "P"
    assert (load_image(encoded(indexed, kind)) == quarters()).all()


def over_white(pixels, alpha):
    share = alpha.astype(float)[..., None] / 255
    return pixels * share + 255 * (1 - share)


def ramp_of_alpha(height=32, width=48):
    return np.linspace(0, 255, height * width).round().astype(np.uint8).reshape(height, width)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_lies_on_white(kind):
    alpha = ramp_of_alpha()
    image = Image.fromarray(np.dstack([noise(), alpha]), "RGBA")
    pixels = load_image(encoded(image, kind, **LOSSLESS[kind]))
    assert np.abs(pixels - over_white(noise(), alpha)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_colour_hidden_under_full_transparency_does_not_show(kind):
    image = Image.fromarray(np.dstack([noise(), np.zeros((32, 48), np.uint8)]), "RGBA")
    assert (load_image(encoded(image, kind, **LOSSLESS[kind])) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparent_grey_lies_on_white(kind):
    alpha, grey = ramp_of_alpha(), noise()[..., :1]
    pixels = load_image(encoded(Image.fromarray(np.dstack([grey, alpha]), "LA"), kind))
    assert np.abs(pixels - over_white(np.repeat(grey, 3, axis=2), alpha)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_white(kind):
    indexed = Image.fromarray(quarters()).quantize(4)
    place = np.asarray(indexed)[0, 0]
    expected = quarters()
    expected[:16, :24] = WHITE
    assert (load_image(encoded(indexed, kind, transparency=int(place))) == expected).all()


def test_a_palette_with_an_alpha_for_each_colour_lies_on_white():
    indexed = Image.fromarray(quarters()).quantize(4)
    alphas = bytearray([255] * 4)
    alphas[int(np.asarray(indexed)[0, 0])] = 128
    pixels = load_image(encoded(indexed, "PNG", transparency=bytes(alphas)))
    assert np.abs(pixels[0, 0] - over_white(np.array(RED), np.array(128))).max() <= 1
    assert tuple(pixels[0, -1]) == GREEN


def test_a_palette_with_an_alpha_channel_lies_on_white():
    image = Image.new("PA", (48, 32))
    image.putpalette([*RED, *GREEN])
    image.putdata([(x % 2, 255 if x % 3 else 0) for x in range(48 * 32)])
    pixels = load_image(encoded(image, "TIFF"))
    expected = [WHITE if x % 3 == 0 else (RED, GREEN)[x % 2] for x in range(48)]
    assert [tuple(map(int, pixel)) for pixel in pixels[0]] == expected


def test_the_transparent_colour_of_an_rgb_image_is_white():
    expected = quarters()
    expected[:16, :24] = WHITE
    assert (load_image(encoded(Image.fromarray(quarters()), "PNG", transparency=RED)) == expected).all()


def ramp16():
    """Every 16-bit value, in order, 256 x 256."""
    return np.arange(65_536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_levels(kind):
    pixels = load_image(encoded(Image.fromarray(ramp16()), kind))
    assert len(np.unique(pixels)) >= 250
    assert np.abs(pixels[..., 0] - ramp16() / 257).max() <= 0.5
    assert (np.diff(pixels[..., 0].ravel().astype(int)) >= 0).all()


def test_sixteen_bit_grey_of_the_other_byte_order_keeps_its_levels():
    big = Image.frombytes("I;16B", (256, 256), ramp16().astype(">u2").tobytes())
    pixels = load_image(encoded(big, "TIFF"))
    assert np.abs(pixels[..., 0] - ramp16() / 257).max() <= 0.5


def test_a_transparent_value_of_sixteen_bit_grey_is_white():
    content = encoded(Image.fromarray(ramp16()), "PNG")
    key = b"tRNS" + struct.pack(">H", 20_000)
    at = content.index(b"IDAT") - 4
    keyed = content[:at] + struct.pack(">I", 2) + key + struct.pack(">I", zlib.crc32(key)) + content[at:]
    pixels = load_image(keyed).reshape(-1, 3)
    assert (pixels[20_000] == 255).all()
    assert abs(int(pixels[20_001, 0]) - 20_001 / 257) <= 0.5


def test_thirty_two_bit_integers_are_read_as_sixteen_bits_of_grey():
    pixels = load_image(encoded(Image.fromarray(ramp16().astype(np.int32)), "TIFF"))
    assert np.abs(pixels[..., 0] - ramp16() / 257).max() <= 0.5


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floating_point_grey_keeps_its_levels(top):
    values = np.linspace(0, top, 4_096, dtype=np.float32).reshape(64, 64)
    pixels = load_image(encoded(Image.fromarray(values), "TIFF"))
    assert len(np.unique(pixels)) == 256
    assert np.abs(pixels[..., 0] - values * (255 / top)).max() <= 0.51


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 4), -1, np.int32),
        np.full((4, 4), 70_000, np.int32),
        np.full((4, 4), -0.5, np.float32),
        np.full((4, 4), 1_000, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.full((4, 4), np.inf, np.float32),
    ],
    ids=["negative", "too large", "negative float", "float too large", "not a number", "infinite"],
)
def test_values_that_mean_no_brightness_are_refused(tmp_path, values):
    path = tmp_path / "depth.tif"
    path.write_bytes(encoded(Image.fromarray(values), "TIFF"))
    with pytest.raises(ImageError, match=r"depth\.tif.*Convert it to 8 or 16 bits"):
        load_image(path)


def test_a_photo_for_print_keeps_its_colours():
    inks = {(0, 255, 255, 0): RED, (255, 0, 255, 0): GREEN, (0, 0, 0, 255): BLACK, (0, 0, 0, 0): WHITE}
    for ink, expected in inks.items():
        content = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
        assert b"Adobe" in content
        assert np.abs(load_image(content).astype(int) - expected).max() <= 3


def test_an_uncompressed_image_for_print_keeps_its_colours():
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF")
    assert np.abs(load_image(content).astype(int) - RED).max() <= 3


def test_lab_keeps_its_colours():
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = to_lab.apply(Image.fromarray(quarters()))
    assert lab.mode == "LAB"
    assert np.abs(load_image(encoded(lab, "TIFF")).astype(int) - quarters()).max() <= 25  # LAB's 8 bits cut them short
    brown = to_lab.apply(Image.new("RGB", (8, 8), (200, 100, 50)))
    assert np.abs(load_image(encoded(brown, "TIFF")).astype(int) - (200, 100, 50)).max() <= 2


def test_middle_grey_in_lab_is_middle_grey():
    grey = Image.new("LAB", (8, 8), (round(0.5 * 255), 128, 128))
    assert np.abs(load_image(encoded(grey, "TIFF")).astype(int) - 119).max() <= 2  # L* 50 is sRGB 119


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.fromarray(np.full((16, 16, 3), colour, np.uint8)) for colour in (RED, GREEN, BLUE)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))
    with Image.open(io.BytesIO(content)) as several:
        assert several.n_frames == 3
    assert (load_image(content) == RED).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_the_smallest_images_are_read(shape):
    assert load_image(encoded(Image.fromarray(noise(*shape)), "PNG")).shape == (*shape, 3)


WHOLE = {
    "JPEG": encoded(Image.fromarray(noise()), "JPEG", quality=90),
    "progressive JPEG": encoded(Image.fromarray(noise()), "JPEG", progressive=True),
    "turned JPEG": held(6, "JPEG"),
    **{kind: encoded(Image.fromarray(noise()), kind) for kind in ("PNG", "GIF", "BMP", "WEBP", "TIFF")},
    "deflated TIFF": encoded(Image.fromarray(noise()), "TIFF", compression="tiff_adobe_deflate"),
    "16-bit PNG": encoded(Image.fromarray(ramp16()), "PNG"),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_beginning_of_a_file_is_refused_wherever_it_was_cut(kind, data):
    """All but the last bytes may be lost: some formats end with a mark that the pixels do not need."""
    content = WHOLE[kind]
    cut = data.draw(st.integers(0, len(content) * 9 // 10))
    with pytest.raises(ImageError, match="the image given as bytes"):
        load_image(content[:cut])


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_an_image_or_an_image_error(kind, data):
    """Flipped bytes may go unnoticed in the pixels; nothing else may happen."""
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    try:
        pixels = load_image(bytes(content))
    except ImageError as error:
        assert "the image given as bytes" in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", *(whole[:12] for whole in WHOLE.values())]))
def test_bytes_of_anything_are_an_image_error(content, start):
    with pytest.raises(ImageError):
        load_image(start + content)


def test_reading_in_threads_leaves_the_warnings_filters_as_they_were():
    """Some files make Pillow warn; `warnings.catch_warnings` overlapping in threads would leave its own filters."""
    odd = WHOLE["TIFF"][:40]
    before = list(warnings.filters)

    def read(number):
        with contextlib.suppress(ImageError):
            load_image(odd if number % 3 else WHOLE["JPEG"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(300)))
    assert warnings.filters == before


def refused(path, *words):
    with pytest.raises(ImageError) as caught:
        load_image(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def png_that_claims(width, height):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1_000))) + chunk(b"IEND", b"")


BROKEN = {
    "half.jpg": (WHOLE["JPEG"][: len(WHOLE["JPEG"]) // 2], "damaged or incomplete", "Replace or remove it."),
    "empty.png": (b"", "not an image"),
    "notes.png": (b"Not a picture, whatever its name says.\n", "not an image", "JPEG, PNG"),
    "icon.ico": (
        encoded(Image.fromarray(noise(32, 32)), "ICO"),
        "not an image in a supported format",
        "JPEG, PNG, WEBP, GIF, BMP, TIFF",
    ),
    "just small enough.png": (png_that_claims(MAX_PIXELS // 10_000, 10_000), "damaged or incomplete"),  # no bomb
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_whole_image_is_named_with_what_is_wrong(tmp_path, name):
    content, *words = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, *words)


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "gone.jpg", "There is no image", "Check the path.")


def test_a_file_below_a_file_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(WHOLE["JPEG"])
    refused(tmp_path / "a.jpg" / "b.jpg", "There is no image")


def test_a_folder_is_named(tmp_path):
    refused(tmp_path, "is a folder")


def test_a_name_too_long_for_any_file_is_an_image_error():
    refused("x" * 5_000 + ".png")


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 20_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(side, side))
    refused(path, f"{MAX_PIXELS:,}", "Scale it down first")


def test_heic_photographs_are_read_by_their_plug_in(tmp_path):
    pixels = np.full((24, 32, 3), (200, 40, 90), np.uint8)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=95)
    found = load_image(tmp_path / "a.heic")
    assert found.shape == (24, 32, 3) and np.abs(found.astype(int) - pixels).max() < 8
    assert is_image(tmp_path / "a.heic")
