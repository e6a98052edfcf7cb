"""`vitral predict MODEL scan.tif --tile`: killed and resumed to the same bytes; messages for what is in the way."""

import functools
import json
import re
import signal
from pathlib import Path

import pytest
import tifffile
from PIL import Image

from segmenters import SEGMENTER, photograph
from shell import small_disk

PREDICT = ("predict", "own.py:Segmenter", "scan.tif", "--tile")


@pytest.fixture
def scan(tmp_path):
    """A folder with a scan of 300 x 260 pixels and the reader's own segmentation model."""
    (tmp_path / "own.py").write_text(SEGMENTER)
    pixels = photograph(300, 260)
    tifffile.imwrite(tmp_path / "scan.tif", pixels, tile=(64, 64), compression="zlib", photometric="rgb")
    return pixels


def rows_done(path):
    """What the journal of an unfinished result says; -1 while there is none."""
    try:
        return json.loads((path.with_name(f"{path.name}.partial") / "journal.json").read_text())["rows_done"]
    except FileNotFoundError:
        return -1


def has_done(path, rows):
    return rows_done(path) >= rows


def test_a_run_that_is_killed_twice_is_continued_to_the_same_bytes(terminal, vitral, scan, tmp_path):
    words = (*PREDICT, "--tile-size", 32)
    whole = vitral(*words, "--out", "whole.tif", "--json").done()
    parts = tmp_path / "parts.tif"
    terminal.environment = terminal.environment | {"PAUSE": "0.005"}
    for row in (2, 6):
        reached = functools.partial(has_done, parts, row)
        killed = terminal.stopped(*words, "--out", parts, when=reached, by=signal.SIGKILL)
        assert killed.code == -signal.SIGKILL and not parts.exists()
        assert row <= rows_done(parts) < 11
    answer = vitral(*words, "--out", parts, "--json").done()
    assert "Continuing" in answer.messages and "rows of tiles are done" in answer.messages
    assert parts.read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert answer.json | {"out": ""} == whole.json | {"out": ""}
    assert sorted(path.name for path in tmp_path.glob("parts*")) == ["parts.tif"]


def test_an_interrupted_run_says_how_to_continue(terminal, vitral, scan, tmp_path):
    out = tmp_path / "scan.classes.tif"
    terminal.environment = terminal.environment | {"PAUSE": "0.01"}
    words = (*PREDICT, "--tile-size", 32)
    stopped = terminal.stopped(*words, when=lambda: rows_done(out) >= 2, by=signal.SIGINT)
    stopped.failed(130, "rows of tiles done. To continue, repeat the command.")
    assert "Continuing scan.classes.tif.partial" in vitral(*words).done().messages


def test_what_was_chosen_and_measured_is_said(vitral, scan):
    answer = vitral(*PREDICT).done()
    assert "300 x 260 pixels in 1 tile of 300 x 260" in answer.messages
    answer = vitral(*PREDICT, "--tile-size", 64, "--out", "small.tif").done()
    assert "The model sees 1 pixels around each pixel (measured)" in answer.messages
    assert "tiles give the logits of the whole image" in answer.messages
    assert "where tiles meet: the class differs at 0.00% of" in answer.printed and "small.tif" in answer.printed
    with Image.open("small.tif") as small, Image.open("scan.classes.tif") as whole:
        assert small.tobytes() == whole.tobytes()


def test_what_does_not_fit_is_refused_with_the_way_out(vitral, scan, quick):
    vitral("predict", "quick.py:Quick", "scan.tif", "--tile").failed(2, "predicts one class for a whole image")
    vitral(*PREDICT, "--top", 2).refused(2, "--top and --on-bad-image do not apply to --tile")
    vitral(*PREDICT[:2], "scan.tif", "own.py", "--tile").refused(2, "--tile takes one image, not 2")
    vitral(*PREDICT[:3], "--context", 4).refused(2, "--tile-size and --context are for --tile: add it")
    vitral(*PREDICT[:3], "--out", "x.tif").refused(2, "--out x.tif is a file that --tile writes: add --tile")
    vitral(*PREDICT[:2], "gone.tif", "--tile").failed(1, "There is no image gone.tif")
    vitral(*PREDICT, "--tile-size", 16, "--context", 8).failed(2, "leaves nothing of a tile of 16 pixels")
    vitral(*PREDICT, "--out", "scan.tif").failed(2, "is not a result of --tile: it is not overwritten")
    vitral(*PREDICT, "--out", "own.py/x.tif").failed(1, "could not be written")


def test_a_module_that_only_states_the_task_is_refused(vitral, scan, tmp_path):
    (tmp_path / "own.py").write_text(SEGMENTER.replace("self.head(images)", "self.head(images).mean((2, 3))"))
    vitral(*PREDICT).failed(2, "states task = 'segmentation', so it must return logits (B, classes, height, width)")


def test_a_disk_that_is_too_small_is_said_before_the_work(vitral, scan, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        vitral(*PREDICT, "--out", disk / "out.tif").failed(1, "The disk is full")


def test_the_guide_works_as_it_stands(vitral, scan, tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "large-images.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "segmenter.py").write_text(code)
    for command in commands.splitlines():
        assert "background" in vitral(*command.split()[1:]).done().printed
    with Image.open("scan.classes.tif") as whole, Image.open("small-tiles.tif") as small:
        assert whole.tobytes() == small.tobytes()


def test_an_image_that_is_too_large_says_the_option(vitral, quick, scan, monkeypatch):
    monkeypatch.setattr("vitral.data.image.MAX_PIXELS", 10_000)
    vitral("predict", "quick.py:Quick", "scan.tif").failed(1, "vitral predict MODEL scan.tif --tile")
