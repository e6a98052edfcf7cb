"""What strangers typed, and what their files held: a sentence each, and nothing silently wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shell import paint, text
from vitral.base.errors import StoreError
from vitral.data.split_table import read_splits
from vitral.explain.film import Film

USAGE, FAILURE = 2, 1
QUICK_WORDS = ("train", "--data", "photos", "--img-size", 8, "--batch-size", 8)


def piped(terminal, command):
    """Through a shell, with the exit code of each process in the pipe."""
    script = f"{command}; echo ${{PIPESTATUS[0]}}"
    at = dict(cwd=terminal.folder, env=terminal.environment, timeout=300)
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, **at)
    return answer.stdout.splitlines()


def test_training_goes_on_when_nobody_reads_what_it_says(terminal, photos, quick):
    words = " ".join(text((*QUICK_WORDS, "--model", "quick.py:Quick", "--epochs", 2, "--out", "run")))
    said = piped(terminal, f"{sys.executable} -m vitral {words} 2>&1 | head -1")
    assert said[-1] == "0"
    assert (terminal.folder / "run" / "report.html").is_file()


def test_models_keep_their_names_in_a_pipe(terminal):
    said = piped(terminal, f"{sys.executable} -m vitral models | cat")
    assert sum("vit_base_patch16_224" in line.split() for line in said) == 1


@pytest.mark.parametrize("command", ["vitral models --json", "vitral --help"])
def test_a_full_disk_behind_the_output_is_a_sentence(terminal, command):
    said = piped(terminal, f"{sys.executable} -m {command} 2>&1 >/dev/full")
    assert "Traceback" not in "".join(said) and said[-1] == "1"
    assert "No space left on device" in " ".join(said)


def test_a_terminal_without_the_letters_and_a_reader_that_stops(terminal):
    ascii_only = terminal.environment | {"PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-m", "vitral", "models"]
    answer = subprocess.run(words, env=ascii_only, capture_output=True, timeout=60, check=True)
    assert b"vit_tiny_patch16_224" in answer.stdout
    assert piped(terminal, f"{sys.executable} -m vitral.nn 2>&1 | head -2")[-1] == "0"


def test_without_standard_error_it_works_all_the_same(terminal, photos, quick):
    words = " ".join(text((*QUICK_WORDS, "--model", "quick.py:Quick", "--epochs", 1, "--json")))
    said = piped(terminal, f"{sys.executable} -m vitral {words} 2>&-")
    assert said[-1] == "0" and json.loads(said[-2])["steps"] > 0


OWN_MISTAKES = {
    "frozen": ("for p in self.parameters(): p.requires_grad_(False)", "", "Every parameter of the model is frozen"),
    "its own classes": ("self.classes = 3", "", "has an attribute `classes` of its own"),
    "fails in training only": ("", "if self.training: x = undefined", "NameError in line"),
    "detached": ("", "x = x.detach(); self = self.frozen_copy() if self.training else self", "failed in step 1"),
}


@pytest.mark.parametrize("kind", OWN_MISTAKES)
def test_mistakes_in_the_readers_own_model(vitral, photos, tmp_path, kind):
    made, ran, message = OWN_MISTAKES[kind]
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Mine(nn.Module):\n"
        "    def __init__(self, num_classes=2):\n        super().__init__()\n"
        "        self.one = nn.Linear(192, num_classes)\n"
        f"        {made or 'pass'}\n"
        "    def frozen_copy(self):\n        raise RuntimeError('no copy')\n"
        f"    def forward(self, x):\n        {ran or 'pass'}\n        return self.one(x.flatten(1))\n"
    )
    vitral(*QUICK_WORDS, "--model", "mine.py:Mine", "--epochs", 1).refused(USAGE, message)


def test_a_file_that_ends_the_program_is_reported(vitral, photos, tmp_path):
    (tmp_path / "mine.py").write_text("import sys\nsys.exit(0)\n")
    vitral(*QUICK_WORDS, "--model", "mine.py:Mine").refused(USAGE, "mine.py does not run: SystemExit in line 2: 0.")


def test_a_model_may_import_the_files_beside_it(vitral, photos, quick, tmp_path):
    quick.rename(tmp_path / "beside.py")
    (tmp_path / "mine.py").write_text("from beside import Quick\n\n\nclass Mine(Quick):\n    pass\n")
    vitral(*QUICK_WORDS, "--model", "mine.py:Mine", "--epochs", 1).done()
    assert not (tmp_path / "__pycache__").exists()


def test_a_test_split_that_may_have_been_learned_is_not_judged(vitral, photos, quick):
    vitral(*QUICK_WORDS, "--model", "quick.py:Quick", "--epochs", 1, "--out", "run").done()
    before = vitral("eval", "run", "--json").done().json
    paint(photos / "new", {"dark": 60, "light": 190}, seed=1)
    for path in sorted((photos / "new").rglob("*.png")):
        path.rename(photos / path.parent.name / f"new{path.name}")
    shutil.rmtree(photos / "new")
    again = vitral("eval", "run", "--json").done()  # the same images as before
    assert "24 of 48 images in photos are not in run/splits.csv" in again.messages
    assert again.json["confusion"] == before["confusion"]
    shutil.copytree(photos, photos.parent / "copy")
    for data in ("photos", "copy"):  # the test images and the new ones
        judged = vitral("eval", "run", "--data", data, "--json").done()
        assert judged.json["n"] == 28 and "has seen 20 of 48 images" in judged.messages
    tested = [row.path for row in read_splits(Path("run/splits.csv")) if row.split == "test"]
    (photos / tested[0]).unlink()
    answer = vitral("eval", "run", "--json").done()
    assert answer.json["n"] == 3 and "1 test images of run are gone or have changed" in answer.messages
    Path("run/splits.csv").unlink()
    vitral("eval", "run").refused(FAILURE, "has no splits.csv", "--data")
    answer = vitral("eval", "run", "--data", "photos", "--json").done()
    assert answer.json["n"] == 47 and "unknown whether it was trained on some of these images" in answer.messages


def test_hidden_folders_are_no_part_of_a_class_and_links_are_told(vitral, photos):
    (photos / "dark" / ".thumbnails").mkdir()
    for number in range(5):
        shutil.copy(photos / "dark" / "0.png", photos / "dark" / ".thumbnails" / f"{number}.png")
    (photos / "light" / "more").symlink_to(photos / "dark")
    answer = vitral("data", "show", "photos", "--json").done()
    assert sum(answer.json["classes"].values()) < 24
    assert "1 links to folders inside classes were not followed" in answer.messages
    assert "12 train" not in answer.messages and "24" not in str(answer.json["classes"])


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes")
def test_a_class_whose_name_is_no_text(vitral, photos):
    os.rename(os.fsencode(photos / "dark"), os.fsencode(photos) + b"/caf\xe9")  # noqa: PTH104 - bytes
    vitral("data", "show", "photos").refused(FAILURE, "whose name is not readable text")


def test_a_class_may_be_called_a_formula(vitral, tmp_path, quick):
    paint(tmp_path / "photos", {r"$\frac$": 60, "光": 190, "a" * 120: 120})
    answer = vitral(*QUICK_WORDS, "--model", "quick.py:Quick", "--epochs", 1).done()
    assert "Glyph" not in answer.err and "constrained" not in answer.err


def with_state(**changes):
    """Change the record of the checkpoint."""
    return lambda content: json.dumps(json.loads(content) | changes).encode()


DAMAGES = {  # a file, and its new content from the old
    "a film that is none": ("film.npz", lambda content: b"no film"),
    "metrics that are none": ("metrics.jsonl", lambda content: b"123\n"),
    "metrics that begin as no text": ("metrics.jsonl", lambda content: b"\xff\xfe\n" + content),
    "another step": ("checkpoints/step-*/state.json", with_state(step=5)),
    "no files": ("checkpoints/step-*/state.json", with_state(files=[])),
}


@pytest.mark.parametrize(("file", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_resuming_a_run_whose_files_are_damaged(vitral, trained, tmp_path, file, damage):
    run = trained.copy(tmp_path / "run")
    for path in run.folder.glob(file):  # of each checkpoint: from a whole one the run is resumed
        path.write_bytes(damage(path.read_bytes()))
    vitral("train", "--resume", "run").refused(FAILURE, str(run.folder.name))


def test_a_film_that_is_none_says_what_to_do(tmp_path):
    (tmp_path / "film.npz").write_bytes(b"")
    with pytest.raises(StoreError, match="Delete it to continue without the film"):
        Film.load(tmp_path / "film.npz", 3)


def test_other_folders_among_the_checkpoints_are_no_checkpoints(vitral, trained, tmp_path):
    run = trained.copy(tmp_path / "run")
    for name in ("step-old", "step-000008 (copy)"):
        (run.folder / "checkpoints" / name).mkdir()
    vitral("train", "--resume", "run").done()


CARDS = {
    "a size below zero": (("preprocessing", "size"), [-1, 0], "size must be at least 1"),
    "two means": (("preprocessing", "mean"), [0.5, 0.5], "mean and std need one number per channel"),
    "a deviation of zero": (("preprocessing", "std"), [0, 0, 0], "std above zero"),
    "too much crop": (("preprocessing", "crop"), 5, "crop in (0, 1]"),
    "twice the same class": (("classes",), ["a"] * 8, "the same name"),
    "a seed that is none": (("provenance", "seed"), "abc", "must be a value of type int"),
    "data that is none": (("provenance", "data"), 5, "must be a value of type str"),
}


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_with_impossible_values(vitral, trained, tmp_path, kind):
    run = trained.copy(tmp_path / "run")
    place, value, message = CARDS[kind]
    card = json.loads((run.folder / "model.json").read_text())
    inner = card
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (run.folder / "model.json").write_text(json.dumps(card))
    vitral("eval", "run").refused(FAILURE, message)


def test_code_for_a_model_that_needs_none(vitral, trained, quick):
    vitral("eval", trained.folder, "--code", "quick.py:Quick").refused(FAILURE, "does not apply: leave it out")


def test_an_empty_folder_among_images(vitral, trained, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    vitral("predict", trained.folder, photos / "dark" / "0.png", "empty").refused(USAGE, "no images in empty")


@pytest.mark.parametrize("data", ["shapes:size=4000,n=8", "shapes:n=100000000000"])
def test_more_than_any_memory_holds(vitral, data):
    vitral("data", "show", data).refused(USAGE, "shapes cannot be drawn with")


def test_data_without_a_name(vitral):
    vitral("data", "show", "").refused(USAGE, "There is no data set or folder ''")


def test_a_contact_sheet_is_a_png_and_writes_over_nothing(vitral, tmp_path):
    answer = vitral("data", "show", "shapes:n=16,size=16", "--out", "a.jpg")
    answer.refused(USAGE, "a.jpg is not a .png file: the contact sheet is a PNG")
    (tmp_path / "a.png").write_text("mine")
    vitral("data", "show", "shapes:n=16,size=16", "--out", "a.png").done()
    assert (tmp_path / "a.png").read_text() == "mine" and (tmp_path / "a-2.png").is_file()


def test_commands_that_are_printed_can_be_typed(vitral, photos, quick):
    answer = vitral(*QUICK_WORDS, "--model", "quick.py:Quick", "--epochs", 1, "--out", "my run").done()
    assert "vitral explain 'my run' IMAGE" in answer.messages
