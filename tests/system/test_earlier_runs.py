"""Runs that start from runs, and folders that grow: no image that trained is judged, and no group is torn apart."""

import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from shell import paint
from vitral.data.split_table import EARLIER, read_splits

SMALL = ("--img-size", 16, "--batch-size", 8, "--epochs", 1)
NEW = ("--model", "vit_nano_patch4_32", *SMALL)


@pytest.fixture
def first(vitral, photos):
    """A run on the photos, and a folder of other photos."""
    vitral("train", "--data", "photos", *NEW, "--out", "first").done()
    paint(photos.parent / "others", {"dark": 60, "light": 190}, seed=1)
    return read_splits(Path("first/splits.csv"))


def test_a_run_knows_what_trained_the_runs_before_it(vitral, first):
    vitral("train", "--data", "others", "--init", "first", *SMALL, "--out", "second").done()
    rows = read_splits(Path("second/splits.csv"))
    assert sum(row.path.startswith(EARLIER) for row in rows) == 24 and len(rows) == 48
    judged = vitral("eval", "second", "--data", "photos", "--json").done()
    assert judged.json["n"] == 4 and "has seen 20 of 24 images: 16 to train and 4 to validate" in judged.messages
    own = vitral("eval", "second", "--json").done()
    assert own.json["n"] == 4 and "are gone" not in own.messages
    vitral("train", "--data", "photos", "--init", "second", "--seed", 9, *SMALL, "--out", "third").done()
    third = {row.content: row.split for row in read_splits(Path("third/splits.csv"))}
    assert all(third[row.content] == row.split for row in first)


def test_a_checkpoint_of_a_run_has_its_table(vitral, first):
    checkpoint = max(Path("first/checkpoints").iterdir())
    judged = vitral("eval", checkpoint, "--data", "photos", "--json").done()
    assert judged.json["n"] == 4 and "has seen 20 of 24 images" in judged.messages


def test_folders_that_contradict_the_first_run_are_warned_of(vitral, first, photos):
    trained = [row.path for row in first if row.split == "train"]
    shutil.copytree("others", "mixed/train")
    for path in trained[:3]:
        Path("mixed/test", path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / path, Path("mixed/test", path))
    answer = vitral("train", "--data", "mixed", "--init", "first", *SMALL, "--out", "second").done()
    assert "warning: first was trained on 3 validation or test images" in answer.messages


def test_groups_are_kept_without_repeating_the_pattern(vitral, photos):
    for path in sorted(photos.rglob("*.png")):
        path.rename(path.with_name(f"patient{int(path.stem) // 2}-{path.name}"))
    vitral("train", "--data", "photos", *NEW, "--group-by", r"(patient\d+)", "--out", "first").done()
    paint(photos.parent / "more", {"dark": 60, "light": 190}, seed=1)
    for path in sorted(Path("more").rglob("*.png")):
        shutil.copy(path, photos / path.parent.name / f"patient{int(path.stem) // 2}-new{path.name}")
    vitral("train", "--data", "photos", "--splits", "first", *NEW, "--seed", 5, "--out", "second").done()
    found = defaultdict(set)
    for row in read_splits(Path("second/splits.csv")):
        found[row.path.split("/")[1].split("-")[0]].add(row.split)
    assert all(len(splits) == 1 for splits in found.values())
    tested = [row for row in read_splits(Path("first/splits.csv")) if row.split == "test"]
    judged = vitral("eval", "first", "--data", "photos", "--json").done().json
    assert judged["n"] == 2 * len(tested)  # of a patient of whom some trained, none is judged


def test_a_resume_that_is_refused_writes_no_table(vitral, first, photos):
    table = Path("first/splits.csv")
    table.unlink()
    shutil.copy("others/dark/0.png", photos / "dark" / "new.png")
    vitral("train", "--resume", "first").refused(1, "have changed")
    assert not table.exists()
