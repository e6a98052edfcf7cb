"""What goes wrong while training: a full disk, a folder that cannot be written, a loss that is no number.

Each ends with a sentence and exit code 1, and what was good before is good afterwards.
"""

import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file

import vitral as package
from shell import QUICK, TINY, Trained, small_disk, tree


def fill(place, leave):
    """Take all but so many bytes of a file system."""
    free = int(
        subprocess.run(["df", "--output=avail", "-B1", place], capture_output=True, text=True).stdout.split()[-1]
    )
    (place / "filler").write_bytes(b"\0" * max(0, free - leave))


def loads(run):
    """Whether the model and the last checkpoint of a run are whole."""
    assert all(np.isfinite(values).all() for values in run.weights.values())
    assert package.load(run.folder).classes
    assert load_file(run.last_checkpoint / "weights.safetensors").keys() == run.weights.keys()


def test_a_full_disk_at_the_start_is_a_sentence(terminal, photos, quick):
    with small_disk(terminal.folder / "disk", "64k") as disk:
        fill(disk, 0)
        answer = terminal("train", *TINY, "--epochs", 1, "--out", "disk/run")
        answer.failed(1, "disk/run", "The disk is full: free some space")
        assert [name for name in tree(disk) if name != "filler" and name != "run/config.yaml"] == []


def test_a_disk_that_fills_while_training_leaves_the_last_checkpoint_good(terminal, vitral, photos):
    """The run's own module fills the disk at its seventh step, when two epochs are done."""
    (terminal.folder / "quick.py").write_text(
        QUICK
        + """
from pathlib import Path

class Filling(Quick):
    steps = 0

    def forward(self, images):
        if self.training:
            Filling.steps += 1
            if Filling.steps == 7 and not Path("disk/filler").exists():
                with open("disk/filler", "wb", buffering=0) as filler:
                    try:
                        while filler.write(bytes(4096)) == 4096:
                            pass
                    except OSError:
                        pass
        return super().forward(images)
"""
    )
    words = (*TINY[:3], "quick.py:Filling", *TINY[4:], "--epochs", 10)
    with small_disk(terminal.folder / "disk", "1m") as disk:
        answer = terminal("train", *words, "--out", "disk/run")
        answer.failed(1, "could not be written. The disk is full: free some space")
        run = Trained(disk / "run")
        assert run.last_checkpoint.name == "step-000006"
        loads(run)
        assert not [name for name in tree(disk) if name.rpartition("/")[2].startswith(".")]
        (disk / "filler").write_bytes(b"")
        vitral("train", "--resume", "disk/run").done()
        assert run.steps == 20
        loads(run)


@pytest.mark.parametrize("left", [0, 3_000, 9_000, 20_000, 40_000])
def test_wherever_the_disk_fills_the_message_is_the_same(vitral, photos, quick, tmp_path, left):
    """Settings, film, model, checkpoint and report are all written in the same way."""
    with small_disk(tmp_path / "disk", "256k") as disk:
        fill(disk, left // 4096 * 4096)
        answer = vitral("train", *TINY, "--epochs", 2, "--out", "disk/run")
        answer.failed(1, "could not be written. The disk is full")
        assert not [name for name in tree(disk) if name.rpartition("/")[2].startswith(".")]
        if (disk / "run" / "model.json").exists():
            assert package.load(disk / "run").classes


def test_a_full_disk_is_a_sentence_for_every_verb_that_writes(vitral, trained, photos, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        fill(disk, 0)
        vitral("data", "show", "shapes:n=16,size=16", "--out", "disk/sheet.png").refused(1, "The disk is full")
        words = ("explain", trained.folder, photos / "dark" / "0.png", "--layer", 0, "--out", "disk/maps")
        vitral(*words).refused(1, "The disk is full")
        assert tree(disk) == ["filler"]


def test_a_folder_that_may_not_be_written_to_is_a_sentence(terminal, photos, quick):
    with small_disk(terminal.folder / "disk", "64k", read_only=True):
        answer = terminal("train", *TINY, "--epochs", 1, "--out", "disk/run")
        answer.failed(1, "disk/run", "The file system is read-only: choose another folder.")


def test_a_folder_below_a_file_cannot_be_made(vitral, photos, quick, tmp_path):
    (tmp_path / "file").write_text("mine")
    for words in (
        ("train", *TINY, "--epochs", 1, "--out", "file/run"),
        ("data", "show", "shapes:n=16,size=16", "--out", "file/sheet.png"),
    ):
        vitral(*words).failed(1, "file/", "choose another folder")
    assert (tmp_path / "file").read_text() == "mine"


# A loss that is no number

BREAKING = (
    QUICK
    + """
from pathlib import Path

class Breaking(Quick):
    steps = 0

    def broken(self):
        if self.training:
            type(self).steps += 1
        return self.training and type(self).steps == 12 and not Path("mended").exists()

    def forward(self, images):
        logits = super().forward(images)
        return logits * float("nan") if self.broken() else logits


class BreakingBackward(Breaking):
    '''A loss that is a number, and a gradient that is none: the root of zero.'''

    def forward(self, images):
        logits = Quick.forward(self, images)
        return logits + (logits * 0).abs().sqrt() if self.broken() else logits
"""
)


@pytest.mark.parametrize("name", ["Breaking", "BreakingBackward"])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run_and_keeps_what_was_good(
    terminal, vitral, photos, tmp_path, name
):
    """Of 20 steps the 12th breaks; every second is saved. The rest is done as if nothing had been."""
    (tmp_path / "quick.py").write_text(BREAKING)
    words = ("train", *TINY[:3], f"quick.py:{name}", *TINY[4:], "--epochs", 10)
    answer = (terminal if name == "Breaking" else vitral)(*words, "--out", "run")
    answer.failed(1, "step 12", "nan", "--lr", "The checkpoint of step 10 is kept in run.")
    run = Trained(tmp_path / "run")
    assert run.last_checkpoint.name == "step-000010"
    loads(run)

    (tmp_path / "mended").touch()
    vitral("train", "--resume", "run").done()
    vitral(*words, "--out", "whole").done()
    whole = Trained(tmp_path / "whole")
    assert all((run.weights[key] == values).all() for key, values in whole.weights.items())


def test_a_loss_that_is_no_number_at_the_first_step_leaves_nothing_to_go_on_from(vitral, photos, tmp_path):
    (tmp_path / "quick.py").write_text(BREAKING.replace("== 12", "== 1"))
    answer = vitral("train", *TINY[:3], "quick.py:Breaking", *TINY[4:], "--epochs", 3, "--out", "run")
    assert answer.code == 1 and "step 1" in answer.err
    assert "kept" not in answer.err
    assert not (tmp_path / "run" / "model.safetensors").exists()
