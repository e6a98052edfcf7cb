"""The lab from the command line: the reader's files, in a process of their own, whatever they do."""

import json
import time

import pytest

from vitral.lab.start_file import read_solution

RIGHT = read_solution("patchify")
BODY = RIGHT[RIGHT.index("    # Yours") :]


REDEFINES = "deletes or redefines patchify: define it with def"


def with_body(body):
    """A `patchify` with these lines in it."""
    return RIGHT.replace(BODY, "".join(f"    {line}\n" for line in body.splitlines()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def patchify(images, patch_size)\n    return images\n", "Line 1 of patchify.py is not valid Python"),
        ("", "is empty: remove it"),
        ("import torch\n", "defines no function patchify"),
        (with_body("import os\nos._exit(0)"), "ended Python without a result"),
        (with_body("import sys\nsys.exit(3)"), "ends Python (SystemExit in line"),
        (with_body("raise KeyboardInterrupt"), "ends Python (KeyboardInterrupt in line"),
        (with_body("return images.requires_grad_().numpy()"), "uses NumPy, which loses gradients"),
        (with_body("return input()"), "calls input(), which cannot be answered here"),
        (with_body("return images * float('inf')"), "returns shape"),
        (RIGHT + "\ndel patchify\n", "deletes or redefines patchify"),
        ("patchify = lambda images, patch_size: images\n", f"Line 1 of patchify.py {REDEFINES}"),
        ("async def patchify(images, patch_size):\n    return images\n", REDEFINES),
        (RIGHT.replace("images: Tensor, ", "images: Tensor, *, "), "takes patch_size by name only"),
        (
            "import importlib\nimportlib.import_module('vitral.nn.patch')\n" + RIGHT,
            "Line 2 of patchify.py imports vitral.nn",
        ),
        ("def patchfy(images, patch_size):\n    return images\n", "Did you mean 'patchfy'"),
        ("class patchify:\n    pass\n", "should be a function"),
        (
            "def patchify(images):\n    return images\n",
            "takes (images); the station calls it with (images, patch_size)",
        ),
        ("from vitral.nn.patch import PatchEmbedding\n" + RIGHT, "Line 1 of patchify.py imports vitral.nn.patch"),
        ("import vitral\n" + RIGHT, "contains the answer"),
        ("1 / 0\n" + RIGHT, "ZeroDivisionError in line 1"),
        ("import sys\nsys.exit()\n" + RIGHT, "SystemExit in line 2"),
        ("import os\nos._exit(7)\n" + RIGHT, "ended Python without a result (exit code 7)"),
        ("import os\nos.abort()\n" + RIGHT, "crashed Python (SIGABRT). It was at line 2"),
        ("import nowhere\n" + RIGHT, "No module named 'nowhere'"),
        (with_body("return images.nope"), "AttributeError in line"),
        (with_body("raise NotImplementedError"), "is not written yet"),
        (with_body("pass"), "returns None (is there a `return`?)"),
        (with_body("return images.numpy()"), "a NumPy array"),
        (with_body("return [images]"), "a list of 1"),
        (with_body("return images * float('nan')"), "returns shape"),
        (with_body("import torch\nreturn torch.empty(10**13)"), "needs more memory than is allowed"),
        (with_body("x = [0]\nwhile True:\n    x = x + x"), "memory"),
        ("x = 1\n\0", "line 2"),
        (b"x = 1\n\xff\xfe\x00\x80", "Line 2 of patchify.py is not text: save the file as UTF-8"),
    ],
    ids=lambda value: str(value)[-60:].strip(),
)
def test_whatever_a_file_does_is_reported(vitral, tmp_path, text, message):
    (tmp_path / "patchify.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    vitral("lab", "check", "patchify", "--seconds", 20).reported(1, message)


def test_an_endless_loop_is_stopped_and_its_line_reported(vitral, tmp_path):
    (tmp_path / "patchify.py").write_text(with_body("while True:\n    pass"))
    line = 1 + RIGHT[: RIGHT.index(BODY)].count("\n")
    messages = vitral("lab", "check", "patchify", "--seconds", 2).reported(1, "stopped after 2 seconds").printed
    assert f"line {line} of patchify.py" in messages or f"line {line + 1} of patchify.py" in messages


def test_the_output_of_a_file_is_shown_and_does_no_harm(vitral, tmp_path):
    (tmp_path / "patchify.py").write_text(f'print("loud" * 10_000)\n{RIGHT}')
    done = vitral("lab", "check", "patchify", "--json").done()
    assert done.json["stations"][0]["passed"] and "| loud" in done.messages and "... and more" in done.messages


def test_a_missing_file_of_an_earlier_station(vitral, tmp_path):
    (tmp_path / "heads.py").write_text(read_solution("heads"))
    vitral("lab", "check", "heads").reported(1, "heads.py imports head.py, which is missing here")


def test_a_file_is_never_overwritten(vitral, tmp_path):
    vitral("lab", "start", "patchify").done()
    (tmp_path / "patchify.py").write_text("mine")
    assert "was not changed" in vitral("lab", "start", "patchify").done().messages
    assert (tmp_path / "patchify.py").read_text() == "mine"


def test_hints_then_the_solution(vitral):
    vitral("lab", "solution", "head").refused(1, "3 hints are left")
    assert "the last hint" not in vitral("lab", "hint", "heads").done().messages
    for number in (1, 2, 3, 3):
        hint = vitral("lab", "hint", "head").done()
        assert f"hint {number} of 3" in hint.printed
    assert "the last hint" in hint.messages
    assert vitral("lab", "solution", "head").done().out == read_solution("head") + "\n"


def test_a_damaged_progress_file(vitral, tmp_path):
    (tmp_path / "lab.json").write_text("{")
    vitral("lab", "status").refused(1, "lab.json is damaged")


def test_the_right_prediction_is_shown_to_readers_who_made_one(vitral, tmp_path):
    (tmp_path / "patchify.py").write_text(RIGHT)
    assert "write the letter of your answer between the quotes" in vitral("lab", "check", "patchify").done().messages
    (tmp_path / "patchify.py").write_text(RIGHT.replace('prediction = ""', 'prediction = "C"'))
    assert "You predicted c; the answer is b" in vitral("lab", "check", "patchify").done().printed


def test_a_part_that_passed_is_at_work_in_a_trained_model(vitral, tmp_path, photos):
    """It says that it runs; and once it is changed, or where there is none, nothing is shown in its place."""
    picture = next((photos / "dark").iterdir())
    (tmp_path / "patchify.py").write_text(RIGHT.replace("    # Yours", "    print('mine at work')\n    # Yours"))
    assert "mine at work" in vitral("lab", "check", "patchify").done().printed
    answer = vitral("explain", "mine.py:mine", picture).done()
    assert "mine at work" in answer.out and "class 0" not in answer.out
    assert "This model uses your patchify.py" in answer.err
    (tmp_path / "patchify.py").write_text(RIGHT + "\n")
    assert "check patchify" in vitral("lab", "status").done().printed
    vitral("explain", "mine.py:mine", picture).refused(2, "patchify.py has changed since it passed")
    (tmp_path / "patchify.py").unlink()
    vitral("explain", "mine.py:mine", picture).refused(2, "No file in this folder has passed its check")


def test_a_fault_in_an_earlier_file_is_reported_there(vitral, tmp_path):
    (tmp_path / "head.py").write_text(read_solution("head").replace(" / q.shape[-1] ** 0.5", ""))
    (tmp_path / "heads.py").write_text(read_solution("heads"))
    message = "heads.py imports head.py, whose current version has not passed: check it first."
    vitral("lab", "check", "heads").reported(1, message)


def test_a_prediction_without_quotes(vitral, tmp_path):
    (tmp_path / "patchify.py").write_text(RIGHT.replace('prediction = ""', "prediction = b"))
    vitral("lab", "check", "patchify").reported(1, 'put the letter in quotes, prediction = "b"')


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('prediction: str = "B"', "You predicted b, which is right"),
        ('prediction = "a"\nprediction = "b) 144"', "You predicted b, which is right"),
        ('prediction = "144"', 'Your prediction is "144": write one letter'),
    ],
)
def test_a_prediction_written_in_another_way(vitral, tmp_path, written, message):
    (tmp_path / "patchify.py").write_text(RIGHT.replace('prediction = ""', written))
    answer = vitral("lab", "check", "patchify").done()
    assert message in answer.printed + answer.messages


def test_a_fault_in_an_imported_file_names_that_file(vitral, tmp_path):
    (tmp_path / "patchify.py").write_text(RIGHT + "\nx = (\n")
    (tmp_path / "embedding.py").write_text(read_solution("embedding"))
    line = RIGHT.count("\n") + 2
    vitral("lab", "check", "embedding").reported(1, f"SyntaxError in line {line} of patchify.py")
    (tmp_path / "patchify.py").write_text(with_body("while True:\n    pass"))
    messages = vitral("lab", "check", "embedding", "--seconds", 2).reported(1, "stopped after 2 seconds").printed
    assert "of patchify.py. Is there a loop" in messages


def test_an_import_of_the_answer_by_way_of_another_file(vitral, tmp_path):
    (tmp_path / "helper.py").write_text("from vitral.lab.solutions.patchify import patchify as p\n")
    (tmp_path / "patchify.py").write_text("from helper import p\n" + with_body("return p(images, patch_size)"))
    vitral("lab", "check", "patchify").reported(1, "Line 1 of helper.py imports vitral.lab.solutions.patchify")


def test_a_file_with_a_byte_order_mark_passes(vitral, tmp_path):
    (tmp_path / "patchify.py").write_bytes(RIGHT.replace("\n", "\r\n").encode("utf-8-sig"))
    vitral("lab", "check", "1").done()


def test_a_running_thread_does_not_delay_the_check(vitral, tmp_path):
    begun = "import threading, time\nthreading.Thread(target=lambda: time.sleep(500)).start()\n"
    (tmp_path / "patchify.py").write_text(begun + RIGHT)
    start = time.monotonic()
    vitral("lab", "check", "patchify").done()
    assert time.monotonic() - start < 60


def test_all_are_checked_and_reported_as_json(vitral, tmp_path):
    (tmp_path / "patchify.py").write_text(RIGHT)
    answer = vitral("lab", "check", "head", "patchify", "--json")
    head, patchify = json.loads(answer.out.splitlines()[-1])["stations"]
    assert answer.code == 1 and (head["passed"], patchify["passed"]) == (False, True)
    assert head["failed"] == "file" and "There is no head.py here" in head["said"]


def test_a_folder_or_link_in_place_of_a_file_is_kept(vitral, tmp_path):
    (tmp_path / "patchify.py").mkdir()
    vitral("lab", "check", "patchify").reported(1, "is a folder: rename it")
    (tmp_path / "head.py").symlink_to(tmp_path / "nowhere.py")
    assert "was not changed" in vitral("lab", "start", "head").done().messages
    assert (tmp_path / "head.py").is_symlink()
    vitral("lab", "check", "heads", "--folder", "other").reported(1, "vitral lab start heads --folder other")
    vitral("lab", "start", "13").refused(2, "numbered from 1 to 12")
