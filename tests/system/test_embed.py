"""`vitral embed MODEL DIR`: each image once, also after a process was killed; bad files with the reason."""

import csv
import signal

import numpy as np
import pytest

from shell import SLEEPING


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def slow(tmp_path):
    (tmp_path / "slow.py").write_text(SLEEPING)
    return "embed", "slow.py:Slow", "many", "--on-bad-image", "skip", "--out"


def test_a_run_that_is_killed_is_continued_to_the_same_features(terminal, many, slow, tmp_path):
    terminal(*slow, "whole.npy").done()
    listed, partial = tmp_path / "parts.npy.files.csv", tmp_path / "parts.npy.unfinished"
    for count in (60, 180):

        def reached(count=count):
            return listed.is_file() and len(listed.read_bytes().splitlines()) > count

        killed = terminal.stopped(*slow, "parts.npy", when=reached, by=signal.SIGKILL)
        assert killed.code == -signal.SIGKILL and not (tmp_path / "parts.npy").exists()
        with listed.open("ab") as file:
            file.write(b"9,many/dark/1.png,")  # as a process that is killed while it writes leaves it
        with partial.open("ab") as file:
            file.write(b"half a vector")
    answer = terminal(*slow, "parts.npy").done()
    assert "of them before" in answer.out and "3 images could not be read" in answer.out
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert rows(listed) == rows(tmp_path / "whole.npy.files.csv")
    assert not list(tmp_path.glob("*.unfinished"))
    own = rows(listed)
    assert len({row["image"] for row in own}) == len(own) == 320
    assert [row["row"] for row in own if not row["error"]] == list(map(str, range(317)))
    assert all("is not an image" in row["error"] for row in own if not row["row"])


def test_what_does_not_fit_is_refused(vitral, many, slow, tmp_path):
    words = [word for word in slow if word not in ("--on-bad-image", "skip")]
    vitral(*words, "out.npy").refused(1, "light/150.png", "Rows so far are kept")
    (tmp_path / "slow.py").write_text(SLEEPING.replace("manual_seed(0)", "manual_seed(1)"))
    vitral(*slow, "out.npy").refused(2, "was begun with another model")
    (tmp_path / "slow.py").write_text(SLEEPING)
    content = (tmp_path / "out.npy.unfinished").read_bytes()
    (tmp_path / "out.npy.unfinished").write_bytes(content[:-1])
    vitral(*slow, "out.npy").refused(1, "is shorter than its list says")
    (tmp_path / "out.npy.unfinished").write_bytes(content)
    (tmp_path / "out.npy").write_bytes(b"as a run that was killed at its very end leaves it")
    assert vitral(*slow, "out.npy", "--json").done().json["n"] == 317 == len(np.load(tmp_path / "out.npy"))


def test_parquet_has_the_names_beside_the_features(vitral, many, slow, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    vitral(*slow, "out.npy").done()
    vitral(*slow, "out.parquet").done()
    table, features = parquet.read_table(tmp_path / "out.parquet"), np.load(tmp_path / "out.npy")
    assert np.array_equal(np.stack(table["features"].to_numpy()), features)
    assert table["image"].to_pylist() == [row["image"] for row in rows(tmp_path / "out.npy.files.csv") if row["row"]]
