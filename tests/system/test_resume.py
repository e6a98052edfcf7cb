"""A run that is killed or stopped and then resumed is the run that never stopped, bit for bit."""

import json
import signal

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from shell import TINY, Terminal, Trained, tree
from vitral.data.split_table import read_splits

WORDS = ("train", "--data", "shapes:n=64,size=16", "--epochs", 5, "--batch-size", 16)  # 20 steps, every second saved
TIMINGS = ("seconds", "stepping", "images_per_second", "waiting", "forward", "backward", "optimizer")


@pytest.fixture(scope="module")
def unbroken(isolated, tmp_path_factory):
    """20 steps in one go."""
    folder = tmp_path_factory.mktemp("unbroken")
    Terminal(isolated, folder)(*WORDS, "--out", "run").done()
    return Trained(folder / "run")


def untimed(run):
    """What the run logged, without what is measured of the machine."""
    records = [record for record in run.metrics if "memory_kind" not in record]
    return [{key: value for key, value in record.items() if key not in TIMINGS} for record in records]


def state(run):
    """The optimisers' numbers and the random state."""
    return torch.load(run.last_checkpoint / "optimizers.pt", weights_only=True)


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def assert_same(run, unbroken):
    """Model, checkpoint, metrics and film; everything but times."""
    for file in ("model.safetensors", f"checkpoints/{run.last_checkpoint.name}/weights.safetensors"):
        assert (run.folder / file).read_bytes() == (unbroken.folder / file).read_bytes(), file
    assert equal(state(run), state(unbroken))
    assert untimed(run) == untimed(unbroken)
    assert tree(run.folder) == tree(unbroken.folder)
    assert (run.folder / "config.yaml").read_text() == (unbroken.folder / "config.yaml").read_text()
    if not (unbroken.folder / "film.npz").exists():  # segmentation has none
        return
    with np.load(run.folder / "film.npz") as film, np.load(unbroken.folder / "film.npz") as whole:
        assert all((film[name] == whole[name]).all() for name in whole.files)


def reached(folder, step):
    """Whether the checkpoint of a step, or of a later one, is there."""
    return lambda: any(path.name >= f"step-{step:06d}" for path in folder.glob("checkpoints/step-*"))


def test_a_killed_run_is_resumed_bit_for_bit(terminal, unbroken):
    folder = terminal.folder / "run"
    killed = terminal.stopped(*WORDS, "--out", "run", when=reached(folder, 10), by=signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    at = Trained(folder).last_checkpoint.name
    assert "step-000010" <= at < "step-000020"
    assert not (folder / "report.html").exists()
    answer = terminal("train", "--resume", "run", "--json").done()
    assert answer.json["run"] == "run" and answer.json["steps"] == 20
    assert_same(Trained(folder), unbroken)


def test_an_interrupted_run_is_saved_says_how_to_go_on_and_is_resumed(terminal, unbroken):
    folder = terminal.folder / "run"
    words = (*WORDS, "--out", "run", "--json")
    stopped = terminal.stopped(*words, when=reached(folder, 4), by=signal.SIGINT)
    assert stopped.code == 130 and "Traceback" not in stopped.err
    assert "Stopped and saved. To continue: vitral train --resume run" in stopped.messages
    assert stopped.json == {"run": "run", "stopped": True, "exit_code": 130}
    last = Trained(folder).last_checkpoint
    assert json.loads((last / "state.json").read_text())["step"] < 20
    terminal("train", "--resume", "run").done()
    assert_same(Trained(folder), unbroken)


STOPPING = """
import signal
from pathlib import Path


class Stopping(Quick):
    '''Sends Ctrl-C to its own process at each step that the file `stops` names.'''

    steps = 0

    def forward(self, images):
        if self.training:
            Stopping.steps += 1
            if str(Stopping.steps) in Path("stops").read_text().split():
                signal.raise_signal(signal.SIGINT)
        return super().forward(F.dropout(images, 0.2, self.training))
"""


WORDS_STOPPING = ("train", *TINY[:3], "quick.py:Stopping", *TINY[4:], "--epochs", 10)


STRONG = ("--augment", "photo_strong", "--mix", "cutmix", "--ema", "0.9", "--patience", "50", "--sampling", "balanced")


@pytest.mark.parametrize("more", [("--augment", "photo"), STRONG])
def test_a_run_may_be_stopped_at_any_step_and_any_number_of_times(more, vitral, photos, quick, tmp_path):
    """In the middle of an epoch, which has two steps: pixels and pairs are those of the unbroken run."""
    quick.write_text(quick.read_text() + STOPPING)
    (tmp_path / "stops").write_text("")
    words = (*WORDS_STOPPING, *more)
    vitral(*words, "--out", "whole").done()

    (tmp_path / "stops").write_text("1")
    assert vitral(*words, "--out", "run").code == 130
    for stop, step in (("2", 3), ("4", 7), ("6", 13)):
        (tmp_path / "stops").write_text(stop)
        assert vitral("train", "--resume", "run").code == 130
        assert Trained(tmp_path / "run").last_checkpoint.name == f"step-{step:06d}"
    (tmp_path / "stops").write_text("")
    vitral("train", "--resume", "run").done()
    run, whole = Trained(tmp_path / "run"), Trained(tmp_path / "whole")
    assert (run.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert equal(state(run), state(whole))
    assert untimed(run) == untimed(whole)


def test_a_second_ctrl_c_ends_it_at_once_and_leaves_the_last_checkpoint(vitral, photos, quick, tmp_path):
    quick.write_text(
        quick.read_text()
        + STOPPING.replace("signal.raise_signal(signal.SIGINT)", "[signal.raise_signal(signal.SIGINT) for _ in 'ab']")
    )
    (tmp_path / "stops").write_text("8")
    vitral(*WORDS_STOPPING, "--out", "run").failed(130, "vitral train: interrupted.")
    assert Trained(tmp_path / "run").last_checkpoint.name == "step-000006"
    (tmp_path / "stops").write_text("")
    vitral("train", "--resume", "run").done()


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizers.pt", "state.json"])
def test_a_damaged_checkpoint_leaves_the_one_before(vitral, trained, tmp_path, file):
    run = trained.copy(tmp_path / "run")
    first, last = sorted((run.folder / "checkpoints").iterdir())
    before = {path.name: path.read_bytes() for path in last.iterdir()}
    damaged = last / file
    damaged.write_bytes(damaged.read_bytes()[:-5])
    answer = vitral("train", "--resume", "run").done()
    step = int(first.name.removeprefix("step-"))
    assert file in answer.messages and f"Resumed from the checkpoint before: step {step}." in answer.messages
    again = Trained(run.folder).last_checkpoint
    assert again.name == last.name and (again / "weights.safetensors").read_bytes() == before["weights.safetensors"]
    assert all((run.weights[name] == values).all() for name, values in trained.weights.items())


def test_a_run_may_be_made_longer_but_not_shorter(vitral, trained, tmp_path):
    run = trained.copy(tmp_path / "run")
    before = run.contents
    vitral("train", "--resume", "run", "--epochs", 1).refused(2, "run of 2 epochs", "may take more, not 1")
    assert run.contents == before
    answer = vitral("train", "--resume", "run", "--epochs", 3).done()
    assert "goes on to step 12; 8 were planned" in answer.messages
    assert run.steps == 12 and "epochs: 3.0" in (run.folder / "config.yaml").read_text()
    tests = [record for record in run.metrics if "test_loss" in record]
    assert [record["step"] for record in tests] == [12]
    assert "goes on" not in vitral("train", "--resume", "run").done().messages


def test_a_resumed_run_may_go_on_without_images_that_cannot_be_read_any_more(vitral, quick, photos, tmp_path):
    vitral("train", *TINY, "--epochs", 2, "--out", "run").done()
    rows = read_splits(tmp_path / "run" / "splits.csv")
    lost = next(row for row in rows if row.split == "train")
    (photos / lost.path).write_bytes(b"damaged")
    vitral("train", "--resume", "run").failed(1, "have changed since the run started")
    words = ("train", "--resume", "run", "--epochs", 4, "--on-bad-image", "skip")
    answer = vitral(*words).done()
    assert "the steps from here leave them out" in answer.messages and lost.path in answer.messages


def test_a_resumed_run_that_leaves_images_out_does_not_take_other_labels(vitral, quick, photos, tmp_path):
    """Two images change places: none is missing, and none is unreadable, but each has the label of the other."""
    vitral("train", *TINY, "--epochs", 2, "--on-bad-image", "skip", "--out", "run").done()
    rows = read_splits(tmp_path / "run" / "splits.csv")
    one, other = (next(r.path for r in rows if r.split == "train" and r.path.startswith(c)) for c in ("dark", "light"))
    for source, target in ((one, "kept"), (other, one), ("kept", other)):
        (photos / source).rename(photos / target)
    vitral("train", "--resume", "run", "--epochs", 4).failed(1, "have changed since the run started")


def test_a_machine_that_is_taken_back_leaves_a_saved_run(vitral, photos, quick, tmp_path):
    """SIGTERM, as clusters and `docker stop` send it."""
    quick.write_text(quick.read_text() + STOPPING.replace("SIGINT", "SIGTERM"))
    (tmp_path / "stops").write_text("5")
    answer = vitral(*WORDS_STOPPING, "--out", "run")
    answer.failed(143, "SIGTERM: stopping after this step", "Stopped and saved. To continue")
    assert Trained(tmp_path / "run").last_checkpoint.name == "step-000005"
    (tmp_path / "stops").write_text("")
    vitral("train", "--resume", "run").done()
    vitral(*WORDS_STOPPING, "--out", "whole").done()
    run, whole = Trained(tmp_path / "run"), Trained(tmp_path / "whole")
    assert all((run.weights[name] == values).all() for name, values in whole.weights.items())


def test_a_finished_run_is_left_as_it_is_and_its_report_written_again(vitral, trained, tmp_path):
    run = trained.copy(tmp_path / "run")
    before = run.contents
    (run.folder / "report.html").unlink()
    answer = vitral("train", "--resume", "run", "--json").done()
    assert "run had already finished; writing its report again." in answer.messages
    assert answer.json["test_accuracy"] == trained.answer.json["test_accuracy"]
    after = run.contents
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"report.html"}


def test_a_line_that_a_crash_cut_short_is_forgotten(vitral, photos, quick, tmp_path):
    quick.write_text(quick.read_text() + STOPPING)
    (tmp_path / "stops").write_text("5")
    assert vitral(*WORDS_STOPPING, "--out", "run").code == 130
    run = Trained(tmp_path / "run")
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 0.')
    (tmp_path / "stops").write_text("")
    vitral("train", "--resume", "run").done()
    assert [record["step"] for record in run.metrics if "best" in record] == list(range(2, 21, 2))


def test_checkpoints_are_whole_or_not_there(vitral, trained):
    """The weights of the last checkpoint are those that the record names, of the model that was trained."""
    from vitral.base.files import sha256

    record = json.loads((trained.last_checkpoint / "state.json").read_text())
    assert record["step"] == 8
    assert record["files"] == {name: sha256(trained.last_checkpoint / name) for name in record["files"]}
    assert load_file(trained.last_checkpoint / "weights.safetensors").keys() == trained.weights.keys()
