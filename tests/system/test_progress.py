"""What a person sees while a model trains: a live table on a terminal, plain lines elsewhere."""

import os
import pty
import re
import select
import subprocess
import sys

WORDS = ("train", "--data", "photos", "--model", "quick.py:Quick", "--img-size", "8", "--epochs", "2")
NUMBERS = (r"loss \d\.\d{3}", r"accuracy +\d+\.\d%", r"[\d,]+ images/s", r"waiting \d+%", r"left \d+:\d\d")


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(vitral, photos, quick):
    answer = vitral(*WORDS).done()
    (line,) = [line for line in answer.err.splitlines() if re.match(r"step +2/2 ", line)]
    for number in NUMBERS:
        assert re.search(number, line), line
    assert "validation: loss" in line
    assert "\x1b" not in answer.err and "\r" not in answer.err


def test_on_a_terminal_there_is_a_live_table(isolated, photos, quick, tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vitral", *WORDS],
        cwd=tmp_path,
        env=isolated | {"TERM": "xterm"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 120)[0]:
        try:
            shown += os.read(ours, 65_536)
        except OSError:  # its end, on Linux
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "\x1b[" in text
    for number in (*NUMBERS, "validation loss", "test accuracy"):
        assert re.search(number, text), number
