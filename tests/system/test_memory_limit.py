"""A batch that does not fit into memory, tried for real: the process gets a limit on its memory (`ulimit -v`)."""

import subprocess
import sys

import pytest

from shell import Answer, paint, text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on a process's memory are Linux's")

LIMITED = """
import resource, sys
import matplotlib.pyplot, torch, vitral.tasks.train
from vitral.base.memory import PROC, fields
from vitral.cli import main

size = fields(PROC / "self/status")["VmSize"]
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]) * 10**6,) * 2)
sys.exit(main(sys.argv[2:]))
"""
# 448 training images, a step on all of which takes about 2 GB.
WORDS = ("train", "--data", "large", "--model", "vit_nano_patch8_48", "--img-size", 128, "--batch-size", 448)


@pytest.fixture(autouse=True)
def large(tmp_path):
    paint(tmp_path / "large", {"dark": 60, "light": 190}, count=320)


@pytest.fixture
def limited(isolated, tmp_path):
    """Run a command in a process that may take so many MB more than it has after its imports."""

    def run(megabytes, *words):
        given = [sys.executable, "-c", LIMITED, str(megabytes), *text(words)]
        process = subprocess.run(given, cwd=tmp_path, env=isolated, capture_output=True, text=True, timeout=300)
        return Answer(text(words), process.returncode, process.stdout, process.stderr)

    return run


def test_a_batch_that_does_not_fit_ends_with_one_that_does(limited):
    answer = limited(1800, *WORDS, "--epochs", 1)
    answer.failed(1, "Step 1 ran out of memory: 448 images of 128x128 at once through vit_nano_patch8_48, in float32")
    assert "on the address space (ulimit -v). An image takes about" in answer.messages
    fits = int(answer.messages.partition("and a step on ")[2].split()[0])
    assert 2 <= fits < 448 and f"--batch-size {fits}." in answer.messages
    limited(1800, *WORDS[:-1], fits, "--epochs", 0.2).done()


def test_what_does_not_fit_elsewhere_is_a_sentence_too(limited):
    limited(60, *WORDS, "--epochs", 1).failed(1, "not enough memory")


def test_a_resumed_run_that_does_not_fit_any_more_keeps_its_checkpoint(limited):
    limited(6000, *WORDS, "--epochs", 1, "--out", "run").done()
    answer = limited(1800, "train", "--resume", "run", "--epochs", 2)
    answer.failed(1, "Step 2 ran out of memory", "Earlier steps of the run fitted", "The checkpoint of step 1 is kept")
    assert "--batch-size" not in answer.messages.partition("Step 2")[2]
