"""Folders of images with masks: pairs, names, splits; what is wrong is said with the number of files."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vitral.base.errors import DataError, ImageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.classes import match_classes
from vitral.data.division import Division
from vitral.data.folder import folder
from vitral.data.mask_file import as_image
from vitral.data.spec import find_data

SIZE = (12, 16)
SQUASHED = Preprocessing(size=(8, 8), crop_mode="squash")
SHADES = np.array([[10, 10, 10], [200, 20, 20], [20, 20, 200], [20, 200, 20]], np.uint8)


def mask_of(number, classes=3, size=SIZE):
    """One rectangle of each class but the first, at places that differ from image to image."""
    mask = np.zeros(size, np.uint8)
    for index in range(1, classes):
        mask[(index * 3 + number) % 8 :][:3, (5 * index + number) % 9 :][:, :4] = index
    return mask


def save_pair(home, number, mask, stored=None, suffix="png", name="a"):
    """An image whose colours show the mask, and the mask as an image."""
    for part in ("images", "masks"):
        (home / part).mkdir(parents=True, exist_ok=True)
    shown = SHADES[np.where(mask < len(SHADES), mask, 0)]
    own = f"{name}{number}"  # in the file, so that no two files are copies
    info = PngInfo()
    info.add_text("name", own)
    Image.fromarray(shown).save(home / "images" / f"{own}.{suffix}", pnginfo=info, comment=own.encode())
    (Image.fromarray(mask) if stored is None else stored).save(home / "masks" / f"{name}{number}.png")


def paint(home, count=10, classes=3, names="background\ncat\ndog\n", change=lambda mask, number: mask, **options):
    for number in range(count):
        save_pair(home, number, change(mask_of(number, classes), number), **options)
    if names:
        (home / "classes.txt").write_text(names)
    return home


def opened(path, preprocessing=SQUASHED, seed=0, on_bad_image="fail"):
    said = []
    data = folder(find_data(str(path)), preprocessing, Division(seed), on_bad_image, said.append)
    return data, said


def refused(path, *words, error=DataError):
    with pytest.raises(error) as caught:
        opened(path)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def splits(data):
    return data.train, data.val, data.test


@pytest.fixture
def pets(tmp_path):
    return paint(tmp_path / "pets")


def test_images_and_masks_of_one_name_are_pairs_with_names_from_the_text_file(pets):
    data, said = opened(pets, Preprocessing(size=SIZE))
    assert data.task == "segmentation" and data.classes == ("background", "cat", "dog")
    assert said == [
        f"{pets} has no val or test images of its own: its images were divided at random (seed 0) into 7 train, 2 val, "
        "1 test."
    ]
    for split in splits(data):
        assert split.labels.shape == (len(split), *SIZE) and split.labels.dtype == np.uint8
        assert (SHADES[split.labels] == split.pixels).all()  # each image has its own mask
        assert all("images" in file for file in split.files)
    files = [file for split in splits(data) for file in split.files]
    assert len(set(files)) == 10


def test_the_division_depends_on_the_seed_alone(pets):
    one, again, other = (set(opened(pets, seed=seed)[0].train.files) for seed in (0, 0, 1))
    assert one == again != other


def test_jpeg_images_have_png_masks_and_folders_may_be_deep(tmp_path):
    home = paint(tmp_path / "pets", 6, suffix="jpg")
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        (home / part / "more").mkdir()
        (home / part / f"a0.{suffix}").rename(home / part / "more" / f"a1.{suffix}")
    data, _ = opened(home)
    assert sum(map(len, splits(data))) == 6


@pytest.mark.parametrize("inside", [False, True], ids=["train/images", "images/train"])
def test_split_folders_are_taken_as_they_are(tmp_path, inside):
    home = tmp_path / "pets"
    for split, count in (("train", 5), ("valid", 3), ("test", 2)):
        paint(home / split, count, names="", name=split)
        if inside:
            for part in ("images", "masks"):
                (home / part).mkdir(exist_ok=True)
                (home / split / part).rename(home / part / split)
            (home / split).rmdir()
    (home / "classes.txt").write_text("background\ncat\ndog\n")
    data, said = opened(home)
    assert [len(split) for split in splits(data)] == [5, 3, 2] and said == []
    assert all("valid" in file for file in data.val.files)


def test_images_beside_the_split_folders_are_counted(tmp_path):
    home = tmp_path / "pets"
    for split in ("train", "val", "test"):
        paint(home, 4, names="", name=split)
        for part in ("images", "masks"):
            (home / part / split).mkdir()
            for path in [path for path in (home / part).iterdir() if path.is_file()]:
                path.rename(home / part / split / path.name)
    paint(home, 2, names="", name="loose")
    data, said = opened(home)
    assert [len(split) for split in splits(data)] == [4, 4, 4]
    assert any("4 images directly in images/ or masks/" in one and "are in no split" in one for one in said)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_taken_from_the_training_images(tmp_path, missing):
    home = tmp_path / "pets"
    for split in {"train", "val", "test"} - {missing}:
        paint(home / split, 10, names="", name=split)
    data, said = opened(home)
    assert len(data.train) == 9 and len(data.load(missing)) == 1
    assert (
        f"has no {missing} images of its own: its images were divided at random (seed 0) into 9 train, 1"
        in " ".join(said)
    )


def test_a_split_without_masks_is_named(tmp_path):
    home = tmp_path / "pets"
    for split in ("train", "test"):
        paint(home / split, 4, names="", name=split)
    for file in (home / "test" / "masks").iterdir():
        file.unlink()
    (home / "test" / "masks").rmdir()
    refused(home, f"There is no {home / 'test' / 'masks'}. Each split has images/ and masks/: move images without")


def test_images_beside_split_folders_are_said_to_be_read_alone(pets):
    paint(pets / "test", 2, names="")
    data, said = opened(pets)
    assert sum(map(len, splits(data))) == 10
    assert said[0] == f"{pets} has images/ and split folders with images/: only {pets / 'images'} is read."


def test_what_has_no_counterpart_is_counted_and_left_out(pets):
    (pets / "masks" / "a3.png").unlink()
    for number in (5, 6, 7, 8):
        (pets / "images" / f"a{number}.png").unlink()
    data, said = opened(pets)
    assert sum(map(len, splits(data))) == 5
    assert f"1 image without a mask was left out: {pets / 'images' / 'a3.png'}." in said
    shown = ", ".join(str(pets / "masks" / f"a{number}.png") for number in (5, 6, 7))
    assert f"4 masks without an image were left out: {shown}, ...." in said


def test_names_that_never_match_are_an_error_with_examples(pets):
    for path in sorted((pets / "masks").iterdir()):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    refused(pets, "has a mask of its name", "Images: a0, a1, a2; masks: a0_mask, a1_mask, a2_mask")


@pytest.mark.parametrize(("part", "words"), [("images", "Images: none; masks: a0"), ("masks", "masks: none")])
def test_an_empty_folder_is_an_error(pets, part, words):
    for path in (pets / part).iterdir():
        path.unlink()
    refused(pets, words)


def test_two_files_of_one_name_are_an_error(pets):
    Image.new("RGB", SIZE[::-1]).save(pets / "images" / "a0.jpg")
    refused(pets, "has a0.jpg and a0.png: one name, two files. Keep one.")


def test_too_few_images_to_hold_some_out_are_an_error(tmp_path):
    refused(paint(tmp_path / "pets", 2), "has 2 images: too few to hold some out")


def test_masks_of_another_size_are_named_and_counted(pets):
    for number in (2, 4):
        Image.fromarray(mask_of(number, size=(6, 8))).save(pets / "masks" / f"a{number}.png")
    refused(
        pets,
        f"{pets / 'masks' / 'a2.png'} is 6x8, its image 12x16 (2 of 10 masks do not fit)",
        "save each mask in its image",
    )


def test_masks_with_unknown_values_are_named_and_counted(pets):
    for number in (1, 4):
        mask = mask_of(number)
        mask[0, :5] = 7
        Image.fromarray(mask).save(pets / "masks" / f"a{number}.png")
    refused(
        pets, f"2 of 10 masks hold values that {pets / 'classes.txt'} does not name: 7 (10 pixels; first in",
        "a1.png). Name them, or save what is to be ignored as 255.",
    )  # fmt: skip


def test_masks_saved_as_jpeg_are_counted(pets):
    for number in (0, 1):
        path = pets / "masks" / f"a{number}.png"
        Image.fromarray(mask_of(number)).save(path.with_suffix(".jpg"))
        path.unlink()
    refused(pets, "a0.jpg is a JPEG file", "In all, 2 of 10 masks cannot be used.")


def test_a_damaged_mask_is_named(pets):
    (pets / "masks" / "a3.png").write_bytes(b"damaged")
    refused(pets, "a3.png is damaged or not an image. Replace it.")


def test_palettes_that_differ_are_an_error(tmp_path):
    palettes = [SHADES, SHADES[[0, 2, 1, 3]]]
    home = tmp_path / "pets"
    for number in range(6):
        mask = mask_of(number)
        save_pair(home, number, mask, as_image(mask, palettes[number == 4]))
    refused(home, "a0.png", "a4.png have different palettes: value 1 is (200, 20, 20) in one and (20, 20, 200)")


def test_palettes_may_differ_where_no_mask_has_a_pixel(tmp_path):
    home = tmp_path / "pets"
    for number in range(6):
        mask = mask_of(number)
        save_pair(home, number, mask, as_image(mask, SHADES[: 3 + number % 2]))
    assert opened(home)[0].classes == ("background", "class 1", "class 2")


def test_colours_need_classes_csv_and_are_classes_with_it(tmp_path):
    home = tmp_path / "pets"
    for number in range(6):
        mask = mask_of(number)
        save_pair(home, number, mask, Image.fromarray(SHADES[mask]))
    refused(home, "a0.png is stored in colours", "In all, 6 of 6 masks cannot be used.")
    rows = "".join(f"{name},{','.join(map(str, SHADES[index]))}\n" for index, name in enumerate(("none", "cat", "dog")))
    (home / "classes.csv").write_text(f"name,red,green,blue\n{rows}")
    data, _ = opened(home, Preprocessing(size=SIZE))
    assert data.classes == ("none", "cat", "dog")
    assert (SHADES[data.train.labels] == data.train.pixels).all()


def test_255_is_ignored_and_its_share_is_said(tmp_path):
    def border(mask, number):
        mask[0] = 255
        return mask

    data, said = opened(paint(tmp_path / "pets", change=border), Preprocessing(size=SIZE))
    assert said[0] == "8.3% of pixels are 255: ignored in training and in figures."
    assert (data.train.labels[:, 0] == 255).all() and data.classes == ("background", "cat", "dog")


def test_mostly_ignored_masks_are_doubted(tmp_path):
    def most(mask, number):
        mask[:9] = 255
        return mask

    _, said = opened(paint(tmp_path / "pets", change=most))
    assert "75.0% of pixels are 255" in said[0] and "check that 255 is not meant as a class" in said[0]


@pytest.mark.parametrize("names", ["", "nothing\nvessel\n"])
def test_masks_of_0_and_255_alone_have_two_classes(tmp_path, names):
    data, said = opened(
        paint(tmp_path / "pets", names=names, change=lambda mask, number: np.where(mask, 255, 0).astype(np.uint8))
    )
    expected = tuple(names.split()) or ("background", "foreground")
    assert data.classes == expected and set(np.unique(data.train.labels)) == {0, 1}
    assert f"255 is read as class 1, {expected[1]}, not as ignored pixels" in said[0] and len(said) == 2


def test_masks_of_0_and_255_alone_do_not_fit_three_names(tmp_path):
    home = paint(tmp_path / "pets", change=lambda mask, number: np.where(mask, 255, 0).astype(np.uint8))
    refused(home, "names 3 classes, but masks hold 0 and 255 alone")


def test_values_without_names_are_classes_by_number(tmp_path):
    data, said = opened(paint(tmp_path / "pets", names=""))
    assert data.classes == ("background", "class 1", "class 2")
    assert "has no classes.txt, so classes are named by number, and class 0 is taken for the background" in said[0]


def test_gaps_are_reported_and_many_gaps_are_refused(tmp_path):
    data, said = opened(
        paint(tmp_path / "some", names="", change=lambda mask, number: np.array([0, 1, 3], np.uint8)[mask])
    )
    assert len(data.classes) == 4 and "no mask has a pixel of class 2" in said[0]
    home = paint(tmp_path / "many", names="", change=lambda mask, number: np.array([0, 85, 170], np.uint8)[mask])
    refused(home, "masks hold the values 0, 85, 170, which leaves 168 classes without a pixel", "classes.txt")


def test_a_class_without_pixels_is_reported(tmp_path):
    _, said = opened(paint(tmp_path / "pets", names="background\ncat\ndog\ncow\n"))
    assert said[0].endswith("no mask has a pixel of cow.")


def test_masks_of_one_value_are_refused(tmp_path):
    home = paint(tmp_path / "pets", names="", change=lambda mask, number: mask * 0)
    refused(home, "every mask holds the value 0 alone. Masks need two classes or more.")
    home = paint(tmp_path / "named", change=lambda mask, number: mask * 0)
    assert opened(home)[0].classes == ("background", "cat", "dog")  # another folder may have the rest


@pytest.mark.parametrize("named", [True, False])
def test_ids_of_instances_in_16_bits_are_refused(tmp_path, named):
    home = tmp_path / "pets"
    for number in range(6):
        mask = mask_of(number)
        save_pair(home, number, mask, Image.fromarray((mask * np.uint16(1000)).astype(np.uint16)))
    if named:
        (home / "classes.txt").write_text("background\ncat\ndog\n")
        refused(home, "6 of 6 masks hold values that", "does not name: 1000, 2000")
    else:
        refused(home, "masks hold values from 0 to 2000; class indices are 0 to 253", "colours or instances")


def test_16_bits_of_class_indices_are_read(tmp_path):
    home = tmp_path / "pets"
    for number in range(6):
        mask = mask_of(number)
        save_pair(home, number, mask, Image.fromarray(mask.astype(np.uint16)))
    data, _ = opened(home, Preprocessing(size=SIZE))
    assert (SHADES[data.train.labels] == data.train.pixels).all()


def test_some_masks_of_one_bit_are_reported(tmp_path):
    home = paint(tmp_path / "pets", change=lambda mask, number: mask)
    Image.fromarray(mask_of(2) > 0).save(home / "masks" / "a2.png")
    _, said = opened(home)
    assert any("1 of 10 masks have one bit per pixel" in sentence and "class 0 or 1" in sentence for sentence in said)


def test_photographs_turned_by_exif_need_masks_of_the_upright_image(tmp_path):
    home = paint(tmp_path / "pets")
    mask = mask_of(0)
    image = Image.fromarray(SHADES[mask]).transpose(Image.Transpose.ROTATE_90)  # stored on its side
    exif = Image.Exif()
    exif[274] = 6  # turn it clockwise to see it upright
    (home / "images" / "a0.png").unlink()
    image.save(home / "images" / "a0.png", exif=exif)
    data, said = opened(home, Preprocessing(size=SIZE))
    assert any(sentence.startswith("EXIF tags turn 1 image upright, such as") for sentence in said)
    for split in splits(data):
        assert (SHADES[split.labels] == split.pixels).all()
    Image.fromarray(np.ascontiguousarray(np.rot90(mask))).save(home / "masks" / "a0.png")
    refused(home, "a0.png is 16x12, its image 12x16")


def test_images_that_cannot_be_read_are_named_or_skipped(pets):
    (pets / "images" / "a5.png").write_bytes(b"damaged")
    data, _ = opened(pets)
    with pytest.raises(ImageError, match=r"a5\.png .*--on-bad-image skip"):
        _ = splits(data)
    data, said = opened(pets, on_bad_image="skip")
    assert sum(map(len, splits(data))) == 9
    assert any("could not be read and were left out" in sentence and "a5.png" in sentence for sentence in said)


def test_grey_images_have_masks_too(tmp_path):
    home = paint(tmp_path / "pets")
    for path in (home / "images").iterdir():
        Image.open(path).convert("L").save(path)
    assert opened(home)[0].train.pixels.shape == (7, 8, 8, 3)


def test_the_same_classes_in_another_order_are_put_in_the_models_order(tmp_path):
    data, _ = opened(paint(tmp_path / "a"), Preprocessing(size=SIZE))

    def other_order(mask, number):
        changed = np.array([2, 0, 1], np.uint8)[mask]
        changed[0, 0] = 255
        return changed

    home = tmp_path / "b"
    for number in range(10):
        mask = mask_of(number)
        save_pair(home, number, mask, Image.fromarray(other_order(mask, number)))
    (home / "classes.txt").write_text("cat\ndog\nbackground\n")
    other = match_classes(opened(home, Preprocessing(size=SIZE))[0], data.classes, SIZE, "segmentation")
    assert other.classes == data.classes
    for one, two in zip(splits(data), splits(other)):
        assert (two.labels[:, 0, 0] == 255).all()
        assert (one.labels.reshape(len(one), -1)[:, 1:] == two.labels.reshape(len(two), -1)[:, 1:]).all()


@pytest.mark.parametrize("name", ["labels", "annotations", "SegmentationClass"])
def test_images_and_masks_by_other_names_are_not_taken_for_two_classes(pets, name):
    (pets / "masks").rename(pets / name)
    refused(pets, f"{pets} has images/ and {name}/. For segmentation rename the folder of images to images/")
    data, _ = opened(f"{pets}:task=one_class")
    assert sorted(data.classes) == sorted(["images", name])


def test_masks_for_the_test_alone_need_training_masks(tmp_path):
    home = paint(tmp_path / "pets" / "test", names="").parent
    refused(home, "has test, but no train/ with images/ and masks/", "pets/images/ and pets/masks/")


def test_a_folder_without_masks_is_refused_for_segmentation(tmp_path):
    (tmp_path / "images").mkdir()
    refused(f"{tmp_path}:task=segmentation", "has no images/ and masks/ folders, which segmentation needs")


def test_a_palette_that_differs_from_any_other_mask_is_refused(tmp_path):
    """The first mask need not have the value whose colour differs."""
    home = tmp_path / "field"
    palettes = [np.array([[0, 0, 0], [255, 0, 0], last], np.uint8) for last in ((0, 0, 255), (0, 0, 255), (0, 255, 0))]
    for number, palette in enumerate(palettes):
        mask = mask_of(number, 2 if number == 0 else 3)
        save_pair(home, number, mask, as_image(mask, palette))
    refused(home, "a1.png and", "a2.png have different palettes: value 2 is (0, 0, 255) in one and (0, 255, 0)")


def test_smoothed_edges_are_refused_rather_than_taken_for_classes(tmp_path):
    home = tmp_path / "field"
    rows, columns = np.mgrid[:120, :120]
    for number in range(6):
        distance = np.hypot(rows - 60, columns - 40 - number) - 25
        smooth = (255 / (1 + np.exp(distance / 3))).round().astype(np.uint8)
        save_pair(home, number, mask_of(number, 2, smooth.shape), Image.fromarray(smooth))
    refused(home, "values, from 0 to 25", "smoothed (antialiased)", "classes.txt")


def test_masks_of_two_conventions_are_refused(tmp_path):
    home = paint(tmp_path / "field", 6, 2, names="")
    for number in range(6, 9):
        save_pair(home, number, np.where(mask_of(number, 2) > 0, 255, 0).astype(np.uint8))
    refused(home, "3 masks hold 0 and 255, such as", "6 hold 1, such as")


@pytest.mark.parametrize("more", ["SegmentationObject", "ImageSets"])
def test_a_folder_of_images_and_several_of_masks_is_no_set_of_classes(tmp_path, more):
    home = paint(tmp_path / "voc")
    (home / "images").rename(home / "JPEGImages")
    (home / "masks").rename(home / "SegmentationClass")
    (home / more).mkdir()
    Image.fromarray(mask_of(0, 2)).save(home / more / "a.png")
    refused(home, "JPEGImages/ and SegmentationClass/", "rename the folder of images to images/")
