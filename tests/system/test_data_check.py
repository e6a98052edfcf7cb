"""`vitral data check`: what is wrong with a folder is found before a model is trained on it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shell import paint
from vitral.data.inspection.checks import CHECKS, Inspected, findings
from vitral.data.inspection.files import file_facts


def checked(vitral, *words):
    """The exit code, and the findings by title."""
    answer = vitral("data", "check", *words, "--json")
    return answer, {one["title"]: one for one in answer.json["findings"]}


@pytest.fixture
def folder(tmp_path):
    """60 pictures of 80 x 80 pixels in two classes, with noise that no two of them share."""
    return paint(tmp_path / "photos", {"dark": 60, "light": 190}, 30, (80, 80))


def test_a_folder_with_nothing_wrong_is_ready(vitral, folder):
    answer, found = checked(vitral, folder)
    assert answer.code == 0 and answer.json["verdict"] == "Ready to be trained on."
    assert {one["level"] for one in found.values()} == {"note"}
    assert found["Files"]["text"] == "60 images: 60 PNG; modes 60 RGB; 80 to 80 pixels wide, 80 to 80 high."
    assert "divided at random" in found["How the folder is read"]["text"]


def test_files_that_cannot_be_read_are_all_listed_and_the_rest_is_checked(vitral, folder):
    broken = sorted(folder.rglob("*.png"))[:3]
    for path in broken:
        path.write_bytes(path.read_bytes()[:200])
    answer, found = checked(vitral, folder)
    assert answer.code == 1 and answer.json["verdict"].startswith("Not ready: 1 thing to mend before training")
    named = found["Files that cannot be read"]["files"]
    assert len(named) == 3 and all(any(str(path) in one for one in named) for path in broken)
    assert found["Files"]["text"].startswith("57 images")


def test_copies_across_splits_and_classes_are_named(vitral, folder):
    shutil.copy(folder / "dark" / "0.png", folder / "light" / "same.png")
    answer, found = checked(vitral, folder)
    assert answer.code == 0 and "1 thing to look at" in answer.json["verdict"]
    assert "different labels" in found["Copies"]["text"] and "--duplicates drop" in found["Copies"]["advice"]
    assert "same.png" not in found["Copies"]["text"]  # it is listed
    (pair,) = found["Copies"]["files"]
    assert "same.png" in pair and "0.png" in pair


def test_classes_that_are_rare_or_not_tested_are_named(vitral, tmp_path, folder):
    paint(folder, {"owl": 120}, 1, (80, 80))
    _, found = checked(vitral, folder)
    assert (
        "owl (1)" in found["Rare classes"]["text"]
        and "always predicting" in found["Classes of different size"]["text"].lower()
    )
    assert "test images of owl" in found["Classes that are not tested"]["text"]


def test_names_that_only_a_letters_case_or_form_tells_apart_are_named(vitral, tmp_path):
    home = paint(tmp_path / "photos", {"Cat": 60, "cat": 90, "na\u00efve": 150, "nai\u0308ve": 200}, 12, (80, 80))
    answer, _ = checked(vitral, home)
    alike = [one["text"] for one in answer.json["findings"] if one["title"] == "Class names that are alike"]
    assert len(alike) == 2 and "'Cat' and 'cat'" in alike[0] + alike[1]


def test_eight_and_twelve_bits_in_sixteen_are_found_and_sixteen_are_not(vitral, folder):
    rng = np.random.default_rng(0)
    for name, most in (("eight", 255), ("twelve", 4_095), ("sixteen", 65_535)):
        values = rng.integers(0, most, (80, 80)).astype(np.uint16)
        values[0, 0] = most
        Image.fromarray(values).save(folder / "dark" / f"{name}.png")
    _, found = checked(vitral, folder)
    dark = found["Images of fewer bits than their files"]
    assert sorted(Path(path).name for path in dark["files"]) == ["eight.png", "twelve.png"]
    assert "above 4,095" in dark["text"]


@pytest.mark.parametrize("bits", [13, 14])
def test_all_files_of_a_camera_have_fewer_bits_than_their_files(vitral, folder, bits):
    """One dark file among files of 16 bits is a dark picture, and no finding."""
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 2**bits, (80, 80)).astype(np.uint16)
        Image.fromarray(values).save(folder / "dark" / f"{number}.png")
    _, found = checked(vitral, folder)
    assert f"they seem to hold {bits} bits" in found["Images of fewer bits than their files"]["text"]
    Image.fromarray(np.full((80, 80), 65_535, np.uint16)).save(folder / "dark" / "whole.png")
    assert "Images of fewer bits than their files" not in checked(vitral, folder)[1]


def test_training_says_what_the_check_of_its_files_finds(vitral, folder, tmp_path):
    """12 bits in files of 16, tiny and wide images, and two names of one class: with the advice of the check."""
    deep = np.random.default_rng(0).integers(0, 4000, (20, 20)).astype(np.uint16)
    home = next(path for path in sorted(folder.iterdir()) if path.is_dir())
    Image.fromarray(deep).save(home / "deep.png")
    Image.new("RGB", (300, 20), "red").save(home / "wide.png")
    Image.new("RGB", (4, 4), "red").save(home / "tiny.png")
    words = ("train", "--data", folder.name, "--model", "vit_nano_patch4_32", "--img-size", 16, "--epochs", 1)
    answer = vitral(*words).done()
    checked = vitral("data", "check", folder.name).out
    for sentence in (
        "they seem to hold 12 bits, and are read with 6.1% of the brightness that they can have. Scale",
        "since their sides are cut off",
        "half as large as the",
    ):
        assert sentence in answer.messages
        assert sentence.split(". ")[0] in checked


def test_wide_small_and_turned_images_are_told_apart(vitral, folder):
    rng = np.random.default_rng(0)

    def save(name, height, width, **options):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "light" / name, **options)

    save("wide.png", 80, 400)
    save("tiny.png", 9, 9)
    save("tall.jpg", 80, 400, exif=turned_by(6))
    _, found = checked(vitral, folder, "--img-size", 64)
    assert {path.rpartition("/")[2] for path in found["Images that are cut"]["files"]} == {"wide.png", "tall.jpg"}
    assert [path.rpartition("/")[2] for path in found["Small images"]["files"]] == ["tiny.png"]
    facts = file_facts(folder / "light" / "tall.jpg")
    assert (facts.height, facts.width) == (400, 80)


def turned_by(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def test_a_folder_that_is_no_data_set_says_why_and_its_files_are_checked(vitral, tmp_path):
    home = paint(tmp_path / "photos", {"dark": 60}, 5)
    answer, found = checked(vitral, home)
    assert answer.code == 1 and "has only one class" in found["Not a data set"]["text"]
    assert found["Files"]["text"].startswith("5 images")


def test_masks_are_checked_with_their_images(vitral, tmp_path):
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "field" / part).mkdir(parents=True)
    for number in range(12):
        mask = (rng.random((40, 40)) < 0.5).astype(np.uint8)
        mask[0] = 255
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "field/images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "field/masks" / f"{number}.png")
    _, found = checked(vitral, tmp_path / "field")
    assert "12 images" in found["Files"]["text"] and "2.3% of the pixels" in found["Ignored pixels"]["text"]


def test_the_page_shows_the_findings_and_pictures(vitral, folder, tmp_path):
    shutil.copy(folder / "dark" / "0.png", folder / "dark" / "<b>.png")
    answer = vitral("data", "check", folder, "--out", "page.html").done()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "page: page.html" in answer.printed and "Copies, side by side" in page and "Images per class" in page
    assert "&lt;b&gt;.png" in page and "<b>.png" not in page
    vitral("data", "check", folder, "--out", "page.png").refused(2, "the page is HTML")
    vitral("data", "check", folder, "--split", "val").refused(2, "reads every split")
    vitral("data", "check", "shapes").refused(2, "there are no files to check")


def test_every_check_is_silent_where_there_is_nothing_to_say(tmp_path):
    empty = Inspected(tmp_path, ())
    assert findings(empty) == [] and all(list(check(empty)) == [] for check in CHECKS)
