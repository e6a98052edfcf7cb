"""The notebook "ViT from scratch" as Jupyter, Colab and VS Code open it.

`python -m benchmarks.notebook` writes `examples/notebook/vit_from_scratch.ipynb` from the marimo file of that name.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

SOURCE = Path(__file__).parents[1] / "examples" / "notebook" / "vit_from_scratch.py"
MARIMO = "import marimo as mo"  # needed for the marimo file's own texts alone


def exported() -> str:
    """The notebook as JSON, without results and without what is marimo's own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "notebook.ipynb"
        words = ["-m", "marimo", "-q", "-y", "export", "ipynb", str(SOURCE), "--sort", "top-down", "-o", str(out)]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        notebook = nbformat.read(out, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip() != MARIMO]
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    SOURCE.with_suffix(".ipynb").write_text(exported(), encoding="utf-8")
