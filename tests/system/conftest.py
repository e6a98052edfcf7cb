"""The command line as a person types it: in a folder of its own, without a network, mostly as a process of its own."""

import csv
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from shell import NO_NETWORK, OWN, QUICK, TINY, WARNINGS, Answer, Terminal, Trained, paint, text


@pytest.fixture(scope="session")
def isolated(tmp_path_factory):
    """The environment of a process that cannot reach a network and computes in one thread."""
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "sitecustomize.py").write_text(NO_NETWORK)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(blocked), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "PYTHONWARNINGS": WARNINGS,
    }


@pytest.fixture
def terminal(isolated, tmp_path):
    return Terminal(isolated, tmp_path)


@pytest.fixture
def vitral(tmp_path, monkeypatch, capfd):
    """The same entry point without the two seconds of starting a process."""
    from vitral.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words):
        capfd.readouterr()
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            code = main(text(words))
        except SystemExit as end:  # of the command-line parser
            code = end.code if isinstance(end.code, int) else 0
        assert signal.getsignal(signal.SIGINT) is interrupt
        said = capfd.readouterr()
        return Answer(text(words), code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def trained(isolated, tmp_path_factory):
    """A run of the lecture's model on a few small shapes, made once by the real command."""
    folder = tmp_path_factory.mktemp("trained")
    words = ("train", "--data", "shapes:n=64,size=16", "--epochs", 2, "--batch-size", 16, "--json")
    answer = Terminal(isolated, folder)(*words).done()
    return Trained(folder / "runs" / "shapes-1", answer)


@pytest.fixture
def photos(tmp_path):
    """12 dark and 12 light pictures in class folders."""
    return paint(tmp_path / "photos", {"dark": 60, "light": 190})


@pytest.fixture
def many(tmp_path):
    """320 pictures in five batches, some of which cannot be read."""
    home = paint(tmp_path / "many", {"dark": 60, "light": 190}, count=160)
    for number in (3, 77, 150):
        (home / "light" / f"{number}.png").write_bytes(b"damaged %d" % number)
    return home


@pytest.fixture
def own(tmp_path):
    """A file with the reader's own model, its attention written out by hand."""
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def quick(tmp_path):
    """A file with models of the reader's own that train in no time."""
    path = tmp_path / "quick.py"
    path.write_text(QUICK)
    return path


@pytest.fixture
def quick_run(vitral, photos, quick, tmp_path):
    """A finished run of a model that trains in no time, in the folder `base`."""
    words = (*TINY, "--epochs", 2, "--seed", 3, "--out", "base")
    return Trained(tmp_path / "base", vitral("train", *words).done())


def paint_squares(root, label, count=120):
    """Squares of red, green and blue on grey; `label` makes a row's values of which are there, and of the grey."""
    rng = np.random.default_rng(0)
    root.mkdir()
    rows = []
    for number in range(count):
        grey, has = int(rng.integers(0, 120)), rng.random(3) < 0.5
        pixels = np.full((32, 32, 3), grey, np.uint8)
        for colour in np.flatnonzero(has):
            y, x = rng.integers(0, 3, 2) * 8
            pixels[y : y + 16, x : x + 16] = 0
            pixels[y : y + 16, x : x + 16, colour] = 255
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        rows.append([f"{number:03}.png", *label(has, grey)])
    return rows


@pytest.fixture
def colours(tmp_path):
    """Images with several classes."""
    rows = paint_squares(tmp_path / "colours", lambda has, grey: map(int, has))
    with (tmp_path / "colours" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "red", "green", "blue"], *rows])
    return tmp_path / "colours"


@pytest.fixture
def greys(tmp_path):
    """Images with a number in the thousands."""
    rows = paint_squares(tmp_path / "greys", lambda has, grey: [1000 + 10 * grey])
    with (tmp_path / "greys" / "metadata.jsonl").open("w") as file:
        file.writelines(json.dumps({"file_name": name, "dose (mg)": dose}) + "\n" for name, dose in rows)
    return tmp_path / "greys"
