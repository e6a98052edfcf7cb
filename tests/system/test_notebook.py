"""The notebook runs from the first cell to the last, and its two files are one."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "notebook" / "vit_from_scratch.py"
FEW = {"n=40000": "n=256", "STEPS, BATCH, WARMUP, PEAK = 900, 128": "STEPS, BATCH, WARMUP, PEAK = 100, 4"}


def test_the_jupyter_notebook_is_the_marimo_one(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks.notebook import exported

    assert SOURCE.with_suffix(".ipynb").read_text(encoding="utf-8") == exported(), "Run: python -m benchmarks.notebook"


def test_it_is_about_as_long_as_it_says():
    notebook = nbformat.read(SOURCE.with_suffix(".ipynb"), as_version=4)
    typed = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert 100 <= len([line for line in typed if line.strip()]) <= 140
    assert not any("marimo" in cell.source for cell in notebook.cells)


def shortened(text: str) -> str:
    """With fewer images and smaller steps than a reader has: how much it learns is measured, not tested."""
    for much, little in FEW.items():
        text = text.replace(much, little)
    return text.replace("assert trained > 0.9", "assert 0 < trained < 1")


def test_the_marimo_notebook_runs_to_its_end(tmp_path, isolated):
    text = SOURCE.read_text(encoding="utf-8")
    assert all(much in text for much in FEW)
    (tmp_path / "notebook.py").write_text(shortened(text))
    words, environment = [sys.executable, "notebook.py"], isolated | {"MPLBACKEND": "agg"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "step  100" in done.stdout + done.stderr


def test_the_jupyter_notebook_runs_in_a_kernel_and_shows_each_picture_once(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the other core runs other tests
    notebook = nbformat.read(SOURCE.with_suffix(".ipynb"), as_version=4)
    for cell in notebook.cells:
        cell.source = shortened(cell.source)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    given = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [sum("image/png" in own.get("data", {}) for own in outputs) for outputs in given]
    assert [each for each in pictures if each] == [1, 1] and pictures[-1] == 1
    results = [own.data["text/plain"] for outputs in given for own in outputs if own.output_type == "execute_result"]
    mean, largest = [text for text in results if not text.startswith("<Figure")]
    assert re.fullmatch(r"tensor\(\[(2\.0*(, )?){5}\]\)", mean), mean
    assert largest.startswith("'largest difference of 800 logits: ")
