"""Two processes that train together, started as launchers start them, on this machine without a GPU."""

import contextlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from shell import QUICK, WARNINGS, Trained, paint, text, tree
from together import Together, finished

# 24 pictures: 18 train, in batches of 7: 4 and 3 for the processes, 2 steps per epoch. AdamW, as Muon computes in
# bfloat16, which makes more of a rounding error.
WORDS = ("train", "--data", "photos", "--img-size", 8, "--batch-size", 7, "--optimizer", "adamw", "--epochs", 4)
MODEL = ("--model", "quick.py:Quick")
HEAVY = ("--augment", "photo_strong", "--mix", "cutmix", "--class-weights", "balanced")

# Models that end, or send a signal to, their own process: `at` names the rank and its steps.
BREAKING = (
    QUICK
    + """
import contextlib
import os
import signal
from pathlib import Path


class Breaking(Quick):
    steps = 0

    def forward(self, images):
        if self.training:
            Breaking.steps += 1
            restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            for line in Path("at").read_text().splitlines():
                rank, restart, step, number = line.split()
                if (rank, restart, int(step)) == (os.environ.get("RANK", "0"), restarts, Breaking.steps):
                    os.kill(os.getpid(), int(number))
        return super().forward(images)


class Normed(Quick):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        return super().forward(self.norm(images))
"""
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with pictures and models."""
    folder = tmp_path_factory.mktemp("together")
    paint(folder / "photos", {"dark": 60, "light": 190})
    (folder / "quick.py").write_text(BREAKING)
    (folder / "at").write_text("")
    return folder


@pytest.fixture(scope="module")
def environment():
    """Without the block of Python's sockets, which torchrun needs to meet itself on this machine."""
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONWARNINGS": WARNINGS, "VITRAL_TIMEOUT": "60"}


@pytest.fixture(scope="module")
def both(environment, home):
    return Together(environment, home)


@pytest.fixture(scope="module")
def alone(environment, home):
    """The same command in one process, without the seconds of starting it."""
    from vitral.cli import main

    def run(*words):
        with contextlib.chdir(home):
            assert main(text(words)) == 0

    return run


@pytest.fixture
def breaking(home):
    """Write when a process ends: (rank, restart, step, signal) for each."""

    def write(*when):
        (home / "at").write_text("\n".join(" ".join(map(str, map(int, one))) for one in when))

    yield write
    write()


def assert_close(run, other, tolerance=1e-5):
    """Same weights to rounding, same steps, same figures, same files."""
    steps = [sorted(path.name for path in (each.folder / "checkpoints").glob("*")) for each in (run, other)]
    assert steps[0] == steps[1]
    for name, values in other.weights.items():
        np.testing.assert_allclose(run.weights[name], values, atol=tolerance, rtol=tolerance, err_msg=name)
    losses = [[(one["step"], one["loss"]) for one in each.metrics if "loss" in one] for each in (run, other)]
    np.testing.assert_allclose(*losses, atol=1e-4)
    assert tree(run.folder) == tree(other.folder)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("heavy", (*MODEL, *HEAVY)),
        ("normed", ("--model", "quick.py:Normed")),
    ],
)
def test_two_processes_are_one_to_rounding(name, more, both, alone, home):
    alone(*WORDS, *more, "--out", f"{name}-1")
    first, second = both(*WORDS, *more, "--out", f"{name}-2", "--json")
    assert first.done().json["run"] == f"{name}-2" and first.json["steps"] == 8
    assert "2 processes, each with 3 or 4 images of a step" in first.messages
    assert (second.code, second.out, second.err) == (0, "", "")
    assert_close(Trained(home / f"{name}-2"), Trained(home / f"{name}-1"))


@pytest.mark.parametrize("way", ["lora", "probe", "auto"])
def test_each_way_to_adapt_is_the_same_in_two_processes(way, both, alone, home):
    if not (home / "start").exists():
        alone(*WORDS, "--model", "vit_nano_patch2_8", "--out", "start")
    words = (*WORDS, "--init", "start", "--adapt", way)
    alone(*words, "--out", f"{way}-1")
    for answer in both(*words, "--out", f"{way}-2"):
        answer.done()
    assert_close(Trained(home / f"{way}-2"), Trained(home / f"{way}-1"))


def test_one_process_takes_up_what_two_began_and_the_reverse(both, alone, breaking, home):
    """A signal to one process stops both after the same step, and the run is saved once."""
    words = (*WORDS, "--model", "quick.py:Breaking", *HEAVY)
    alone(*words, "--out", "whole")
    breaking((1, 0, 3, signal.SIGTERM))
    first, second = both(*words, "--out", "two")
    first.failed(130, "Stopped and saved. To continue: vitral train --resume two")
    second.failed(143, "SIGTERM: stopping after this step")
    breaking((0, 0, 5, signal.SIGINT))
    assert Together(both.environment, home, 1)(*words, "--out", "one")[0].code == 130
    assert Trained(home / "two").last_checkpoint.name == "step-000003"
    assert Trained(home / "one").last_checkpoint.name == "step-000005"
    breaking()
    alone("train", "--resume", "two")
    for answer in both("train", "--resume", "one"):
        answer.done()
    for run in ("two", "one"):
        assert_close(Trained(home / run), Trained(home / "whole"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_with_a_message(rank, both, breaking, home):
    breaking((rank, 0, 4, signal.SIGKILL))
    answers = both(*WORDS, "--model", "quick.py:Breaking", "--out", f"killed-{rank}")
    assert answers[rank].code == -signal.SIGKILL
    kept = ("The checkpoint of step 3 is kept",) if rank == 1 else ()
    answers[1 - rank].failed(1, f"Process {1 - rank} of 2 has lost another one", *kept)
    assert Trained(home / f"killed-{rank}").last_checkpoint.name == "step-000003"


def test_a_process_that_does_not_answer_ends_the_others_after_the_time(both, breaking, home):
    breaking((1, 0, 4, signal.SIGSTOP))
    processes = both.start(
        "-m", "vitral", *map(str, WORDS), "--model", "quick.py:Breaking", "--out", "hung", VITRAL_TIMEOUT="3"
    )
    processes[0].wait(timeout=60)
    processes[1].kill()
    finished(processes)[0].failed(1, "has ended or has not answered for 3 s")


def torchrun(environment, home, *words, restarts=0):
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--max-restarts", str(restarts)),
            *("-m", "vitral", *map(str, words)),
        ],
        cwd=home,
        env=environment | {"PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_torchrun_starts_again_and_the_run_goes_on(environment, alone, breaking, home):
    """Once before the first checkpoint, when it begins anew, and once after some."""
    words = (*WORDS, "--model", "quick.py:Breaking")
    alone(*words, "--out", "unbroken")
    breaking((1, 0, 1, signal.SIGKILL), (0, 1, 5, signal.SIGKILL))
    answer = torchrun(environment, home, *words, restarts=2)
    assert answer.returncode == 0, answer.stderr
    for sentence in ("runs/photos-1, which had no checkpoint yet, begins anew", "runs/photos-1 is resumed"):
        assert sentence in answer.stderr
    assert [run.name for run in (home / "runs").iterdir()] == ["photos-1"]
    run = Trained(home / "runs" / "photos-1")
    assert (run.folder / "job.txt").read_text()
    (run.folder / "job.txt").unlink()
    assert_close(run, Trained(home / "unbroken"))


def test_another_job_does_not_take_up_the_run(environment, home):
    """The folder of an earlier job is not overwritten, nor taken for one of this job."""
    from vitral.base.launch import Launch
    from vitral.tasks.launched import earlier_run, job_text
    from vitral.training.recipe import Recipe

    run = home / "earlier"
    run.mkdir()
    mine = Launch(0, 2, 0, "", job="a", restarts=1)
    (run / "job.txt").write_text(job_text(mine, Recipe()))
    for other in (
        (mine, Recipe(seed=1)),
        (Launch(0, 2, 0, "", job="b", restarts=1), Recipe()),
        (Launch(0, 2, 0, "", job="a", restarts=0), Recipe()),
        (None, Recipe()),
    ):
        assert earlier_run(other[0], run, other[1]) == (run, None)
        assert (run / "job.txt").exists()
    (run / "checkpoints" / "step-000001").mkdir(parents=True)
    assert earlier_run(mine, run, Recipe()) == (None, run)


def test_a_process_whose_others_do_not_come_says_so(environment, home):
    process = Together(environment, home).start("-m", "vitral", *map(str, WORDS), *MODEL, VITRAL_TIMEOUT="2")
    for other in process[1:]:
        other.kill()
    answer = finished(process)[0]
    answer.failed(
        1,
        "Process 0 of 2 could not connect to all others at 127.0.0.1:",
        "waits for up to 2 s",
        "unset WORLD_SIZE and RANK",
    )


def test_a_mistake_is_reported_once(both):
    first, second = both(*WORDS, *MODEL, "--batch-size", 1, "--out", "mistake")
    first.failed(2, "A batch of 1 image cannot be divided over 2 processes. Start fewer, or use a larger --batch-size")
    assert (second.code, second.out, second.err) == (2, "", "")


def test_processes_with_other_images_are_refused(both, home, tmp_path):
    other = tmp_path / "other"
    paint(other / "photos", {"dark": 60, "light": 190}, seed=1)
    (other / "quick.py").write_text(BREAKING)
    for answer in both(*WORDS, *MODEL, "--out", "different", folders=[home, other]):
        answer.failed(1, "The processes have read different images")


COUNTING = """
import os
from pathlib import Path
import PIL.Image

load = PIL.Image.Image.load

def counted(self):
    if getattr(self, "filename", ""):  # Pillow draws images of its own, too
        with Path("decoded").open("a") as file:
            file.write(os.environ["RANK"])
    return load(self)

PIL.Image.Image.load = counted
"""


def test_images_are_decoded_by_one_process(both, home, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    cache = str(tmp_path / "cache")
    for answer in both(*WORDS, *MODEL, "--out", "decoded-once", "--cache", cache, PYTHONPATH=path):
        answer.done()
    assert set((home / "decoded").read_text()) == {"0"}


def test_minutes_are_measured_by_both(both, home):
    words = [*WORDS[:-2], *MODEL, "--minutes", 0.2, "--out", "timed"]
    for answer in both(*words):
        answer.done()
    assert Trained(home / "timed").steps > 1


ALONE = """
import sys
import vitral
vitral.train(data="shapes:n=16,size=16", epochs=1, batch_size=8, out=sys.argv[1])
print([name for name in sys.modules if name.startswith("vitral") and name.endswith(("distributed", "follow"))])
"""


def test_one_process_imports_nothing_of_it(environment, tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path / "run"], env=environment, capture_output=True, text=True
    )
    assert answer.stdout.splitlines()[-1:] == ["[]"], answer.stderr


TWICE = """
import vitral
for name in ("first", "second"):
    print(vitral.train(data="shapes:n=16,size=16", epochs=1, batch_size=8, out=name).run)
"""


def test_a_program_may_train_twice(both):
    for answer in finished(both.start("-c", TWICE)):
        assert answer.done().out.split() == ["first", "second"]


CHOOSING = """
import sys
import torch
import vitral
from vitral.base import numerics
from vitral.tasks import choose_numerics, plan_run

for module, name in ((plan_run, "SHORT"), (plan_run, "WORTH"), (choose_numerics, "WORTH_COMPILING")):
    setattr(module, name, 0.0)
choose_numerics.computes_in_bfloat16 = numerics.cpu_computes_in_bfloat16 = lambda device="": True
choose_numerics.compiles = lambda device: True
rank = __import__("os").environ["RANK"]
compile = torch.compile


def compiling(model):
    if rank in sys.argv[2:]:
        raise RuntimeError(f"process {rank} has no compiler")
    return compile(model, backend="eager")


torch.compile = compiling
shapes = dict(data="shapes:n=64,size=16", epochs=2, batch_size=16)
found = vitral.train(model="vit_nano_patch4_32", out=sys.argv[1], **shapes)
print("; ".join(found.notes))
"""


@pytest.mark.parametrize("failing", ["", "1"])
def test_what_auto_measures_is_chosen_for_both(failing, both, home):
    run = f"chosen{failing}"
    first, second = finished(both.start("-c", CHOOSING, run, failing))
    said = first.done().out
    second.done()
    assert "--precision auto: " in said and "--compile auto: " in said
    config = yaml.safe_load((home / run / "config.yaml").read_text())
    assert config["precision"] in ("float32", "bfloat16") and config["compile"] in ("always", "never")
    if failing:
        assert config["compile"] == "never" and "another process could not" in said
