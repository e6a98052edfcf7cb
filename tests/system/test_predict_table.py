"""`vitral predict MODEL DIR --csv`: each image once, also after a process was killed; bad files with the reason."""

import csv
import signal
from pathlib import Path

import pytest

from segmenters import SEGMENTER
from shell import SLEEPING, paint


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_that_is_killed_is_continued_to_the_same_table(terminal, many, tmp_path):
    (tmp_path / "slow.py").write_text(SLEEPING)
    words = "predict", "slow.py:Slow", "many", "--on-bad-image", "skip", "--csv"
    terminal(*words, "whole.csv").done()
    whole = (tmp_path / "whole.csv").read_bytes()
    parts, journal = tmp_path / "parts.csv", tmp_path / "parts.csv.unfinished"
    for count in (60, 180):  # in the second batch, and in the fourth

        def reached(count=count):
            return parts.is_file() and len(parts.read_bytes().splitlines()) > count

        killed = terminal.stopped(*words, "parts.csv", when=reached, by=signal.SIGKILL)
        assert killed.code == -signal.SIGKILL and journal.is_file()
        with parts.open("ab") as file:
            file.write(b'many/dark/1.png,"half a r')  # as a process that is killed while it writes leaves it
    answer = terminal(*words, "parts.csv").done()
    assert parts.read_bytes() == whole and not journal.exists()
    assert "of them before; 3 cannot be read" in answer.out
    names = [row["image"] for row in rows(parts)]
    assert len(names) == len(set(names)) == 320 and sum(bool(row["error"]) for row in rows(parts)) == 3


def test_another_model_does_not_go_on(vitral, many, tmp_path):
    (tmp_path / "slow.py").write_text(SLEEPING)
    vitral("predict", "slow.py:Slow", "many", "--csv", "out.csv").refused(1, "light/150.png", "Rows so far are kept")
    assert 64 <= len(rows(tmp_path / "out.csv")) < 320
    (tmp_path / "other.py").write_text(SLEEPING.replace("manual_seed(0)", "manual_seed(1)"))
    words = "predict", "other.py:Slow", "many", "--on-bad-image", "skip", "--csv", "out.csv"
    vitral(*words).refused(2, "was begun with another model")
    (tmp_path / "out.csv.unfinished").write_text("{")
    vitral(*words).refused(1, "is damaged. Delete it and")


def test_masks_have_the_share_of_each_class(vitral, many, tmp_path):
    (tmp_path / "own.py").write_text(SEGMENTER)
    found = vitral("predict", "own.py:Segmenter", many / "dark", "--csv", "out.csv", "--json").done().json
    assert (found["n"], found["bad"]) == (160, [])
    first = rows(tmp_path / "out.csv")[0]
    assert list(first) == ["image", "low", "middle", "high", "unlike_training_images", "error"]
    assert sum(float(first[name]) for name in ("low", "middle", "high")) == pytest.approx(1, abs=1e-4)


def test_other_images_and_other_processes_are_refused(terminal, vitral, many, tmp_path):
    (tmp_path / "slow.py").write_text(SLEEPING)
    words = "predict", "slow.py:Slow", "many", "--on-bad-image", "skip", "--csv", "out.csv"
    started = terminal.start(*words)
    try:
        while not (tmp_path / "out.csv.unfinished").exists() or len(rows(tmp_path / "out.csv")) < 64:
            assert started.poll() is None
        vitral(*words).refused(2, "is being written by another process")
    finally:
        started.kill()
        started.communicate()
    other = "predict", "slow.py:Slow", many / "dark", "--csv", "out.csv"
    vitral(*other).refused(2, "was begun of other images")
    assert vitral(*words, "--json").done().json["n"] == 320


def test_any_name_is_one_row(vitral, many, tmp_path):
    (tmp_path / "own.py").write_text(SEGMENTER)
    home = paint(tmp_path / "odd", {"dark": 60}, count=4) / "dark"
    names = ["a\rb.png", "c\nd.png", 'e,"f".png', "ü ß.png"]
    for number, name in enumerate(names):
        (home / f"{number}.png").rename(home / name)
    vitral("predict", "own.py:Segmenter", "odd", "--csv", "out.csv").done()
    assert {Path(row["image"]).name for row in rows(tmp_path / "out.csv")} == set(names)


def test_a_file_that_several_paths_lead_to_is_one_row(vitral, tmp_path):
    (tmp_path / "own.py").write_text(SEGMENTER)
    image = paint(tmp_path / "photos", {"dark": 60}, count=2) / "dark" / "0.png"
    same = ("photos", "photos/dark/../dark/0.png", image, "./photos/dark/0.png")
    vitral("predict", "own.py:Segmenter", *same, "--csv", "out.csv").done()
    assert [Path(row["image"]).name for row in rows(tmp_path / "out.csv")] == ["0.png", "1.png"]


def test_masks_of_a_folder_are_no_photographs(vitral, tmp_path):
    (tmp_path / "own.py").write_text(SEGMENTER)
    paint(tmp_path / "field", {"images": 60, "masks": 0}, count=3)
    answer = vitral("predict", "own.py:Segmenter", "field", "--csv", "out.csv").done()
    assert len(rows(tmp_path / "out.csv")) == 3 and "3 files in masks/ taken for masks" in answer.messages
    answer = vitral("predict", "own.py:Segmenter", "field", "--json").done()
    assert len(answer.json["predictions"]) == 3 and "3 files in masks/ taken for masks" in answer.messages
