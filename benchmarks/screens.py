"""The lab and the notebook as a reader sees them: `python -m benchmarks.screens` draws the pictures again.

`lab.png`: a terminal in which wrong answers are checked. `notebook.png`: the end of the notebook, after all of it ran.
"""

import html
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.notebook import SOURCE
from vitral.lab.start_file import read_solution
from vitral.lab.station import load_stations

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RIGHT = "patches], dim=1) + pos_embed"
WRONG = "patches + pos_embed[:, 1:]], dim=1)"
COMMANDS = ("vitral lab check tokens", "vitral lab hint tokens", "vitral lab check tokens", "vitral lab status")
DARK = "background:#1d1f27;color:#e4e4ea;padding:22px 26px"
LIGHT = "background:#fff;color:#222;padding:22px 26px"
CODE = "font:14px/1.5 'DejaVu Sans Mono',monospace;white-space:pre-wrap;margin:0"


def terminal() -> str:
    """A wrong answer, a hint, the right answer: what the commands print, nothing else."""
    said = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, station in list(load_stations().items())[:3]:
            answer = read_solution(name).replace('prediction = ""', f'prediction = "{station.prediction.letter}"')
            (home / f"{name}.py").write_text(answer, encoding="utf-8")
        own = (home / "tokens.py").read_text(encoding="utf-8")
        assert RIGHT in own
        (home / "tokens.py").write_text(own.replace(RIGHT, WRONG), encoding="utf-8")
        run(home, "vitral lab check patchify embedding")
        for command in COMMANDS:
            if said and command == COMMANDS[0]:
                (home / "tokens.py").write_text(own, encoding="utf-8")
            said.append(f"<b style='color:#8fd3a8'>$ {command}</b>\n{html.escape(run(home, command))}\n")
    return f'<pre style="{CODE};{DARK}">{"".join(said)}</pre>'


def run(home: Path, command: str) -> str:
    words = [str(Path(sys.executable).parent / "vitral"), *command.split()[1:]]
    return subprocess.run(words, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def notebook() -> str:
    """The last texts and cells, and what they gave."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "notebook.ipynb"
        words = ["export", "ipynb", str(SOURCE), "--sort", "top-down", "--include-outputs", "-o", str(out)]
        subprocess.run([sys.executable, "-m", "marimo", "-q", "-y", *words], check=True, capture_output=True)
        cells = nbformat.read(out, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    training, looking = code[-2:]
    steps = next(each.text for each in training.outputs if each.output_type == "stream")
    figure = next(each.data["image/png"] for each in looking.outputs if "image/png" in each.get("data", {}))
    shown = looking.source.split("\n\n")[0]
    return (
        f'<div style="{LIGHT}"><pre style="{CODE}">{html.escape(steps)}</pre>'
        f'<pre style="{CODE};background:#f4f4f6;padding:12px;margin:16px 0">{html.escape(shown)}</pre>'
        f'<img src="data:image/png;base64,{figure}" style="width:100%"></div>'
    )


def drawn(body: str, width: int = 940) -> Image.Image:
    with sync_playwright() as play:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 100}, device_scale_factor=2)
        page.set_content(f"<meta charset=utf-8><body style='margin:0'>{body}")
        picture = page.screenshot(full_page=True)
        browser.close()
    return Image.open(io.BytesIO(picture)).convert("RGB")


if __name__ == "__main__":
    for name, body in {"lab": terminal, "notebook": notebook}.items():
        target = IMAGES / f"{name}.png"
        drawn(body()).quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1024:.0f} KiB")
