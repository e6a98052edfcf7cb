"""How much of the code one call goes through: files, functions and calls between files, and forward passes of a model.

    python -m benchmarks code_paths               measures this code; the "before" figures in the results stay
    python -m benchmarks.code_paths CHECKOUT      measures another checkout of the project, as "before"

Counted in any thread, by `sys.setprofile`. A file is entered if any code of it runs but the module's own body, so that
the body of a class counts; a function, generator expressions included, if it is called (Python 3.12 and later run list
comprehensions within their function, so compare counts of one Python). An edge is a pair of project files, of which one
calls a function of the other, directly or through a library.
"""

import contextlib
import inspect
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.code_size import side_by_side

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "code_paths.json"
ATTENTION_METHODS = ("attention", "rollout", "chefer", "attention_gradient")
TRAIN = ("train", "--data", "shapes:n=64,size=16", "--epochs", "1", "--batch-size", "16")


class Entered:
    """Which functions of a folder of code are called, and from which of its files; for `sys.setprofile`."""

    def __init__(self, home: Path):
        self.home = str(home) + os.sep
        self.files: set[str] = set()
        self.functions: set[tuple[str, str, int]] = set()
        self.edges: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self.home) or code.co_name == "<module>":
            return
        self.files.add(code.co_filename.removeprefix(self.home))
        if not code.co_flags & inspect.CO_NEWLOCALS:  # the body of a class
            return
        self.functions.add((code.co_filename, code.co_qualname, code.co_firstlineno))
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(self.home):
            caller = caller.f_back  # through a library, such as the call of a torch module
        if caller is not None and caller.f_code.co_flags & inspect.CO_NEWLOCALS:
            source = caller.f_code.co_filename
            if source != code.co_filename:
                self.edges.add((source, code.co_filename))

    def counts(self) -> dict[str, Any]:
        sizes = {"files": len(self.files), "functions": len(self.functions), "edges": len(self.edges)}
        return sizes | {"entered": sorted(self.files)}


@contextlib.contextmanager
def profiled() -> Iterator[Entered]:
    """Watch every call of the package's functions, in this thread and in those that begin meanwhile."""
    import vitral

    entered = Entered(Path(str(vitral.__file__)).parent)
    threading.setprofile(entered)
    sys.setprofile(entered)
    try:
        yield entered
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type] # as the documentation has it


def command_line(*words: str) -> None:
    """Run a verb in this process, as its entry point does."""
    from vitral.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    if code:
        sys.exit(f"vitral {' '.join(words)} ended with {code}: {said.getvalue()}")


def paths_of(work: Callable[[], object]) -> dict[str, Any]:
    with profiled() as entered:
        work()
    return entered.counts()


def load_timm(folder: Path) -> dict[str, Any]:
    import vitral

    return paths_of(lambda: vitral.load(folder / "timm"))


def train(folder: Path) -> dict[str, Any]:
    return paths_of(lambda: command_line(*TRAIN, "--out", str(folder / "again")))


def explain(folder: Path) -> dict[str, Any]:
    words = ("explain", str(folder / "run"), str(folder / "image.png"), "--out", str(folder / "explained"))
    return paths_of(lambda: command_line(*words))


def passes(folder: Path) -> dict[str, Any]:
    """How often `vitral explain` runs a model on the image itself, and on batches of it partly covered."""
    import torch

    import vitral

    batches: list[int] = []

    def count(module: torch.nn.Module, given: tuple[Any, ...], output: object) -> None:
        if isinstance(module, vitral.VisionTransformer):
            batches.append(len(given[0]))

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    found = {}
    try:
        for number, methods in enumerate([*((method,) for method in ATTENTION_METHODS), ATTENTION_METHODS]):
            batches.clear()
            out = folder / f"passes-{number}"
            words = ("explain", str(folder / "run"), str(folder / "image.png"), "--out", str(out))
            command_line(*words, "--method", *methods)
            sizes = Counter("the image" if batch == 1 else "covered copies" for batch in batches)
            found[", ".join(methods)] = dict(sizes)
        model, images = vitral.load(folder / "run"), torch.randn(1, 3, 16, 16)
        for method in ATTENTION_METHODS:
            batches.clear()
            getattr(vitral.explain, method)(model, images)
            found[f"vitral.explain.{method}(model, images)"] = {"the image": len(batches)}
    finally:
        hook.remove()
    return found


def modules(folder: Path) -> dict[str, Any]:
    """How many modules of `explain/` the import of one attention method brings, itself among them."""
    program = (
        "import importlib, sys; importlib.import_module('vitral.explain.methods.' + sys.argv[1]); "
        "print(*(name for name, module in sys.modules.items() if name.startswith('vitral.explain.') "
        "and not hasattr(module, '__path__')))"
    )
    found = {}
    for method in ATTENTION_METHODS:
        done = subprocess.run([sys.executable, "-c", program, method], stdout=subprocess.PIPE, text=True, check=True)
        found[method] = {"modules": len(done.stdout.split()), "names": sorted(done.stdout.split())}
    return found


MEASURES = {
    "vitral train --data shapes": train,
    "vitral explain RUN IMAGE": explain,
    "vitral.load(timm file)": load_timm,
    "forward passes": passes,
    "modules of explain": modules,
}


def prepare(folder: Path) -> None:
    """A run, an image and a folder of timm's, to be opened by what is measured."""
    import numpy as np
    import safetensors.torch
    from PIL import Image

    from benchmarks.peers import timm

    command_line(*TRAIN, "--out", str(folder / "run"))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    name = "vit_tiny_patch16_224"
    model = timm.create_model(name)
    (folder / "timm").mkdir()
    safetensors.torch.save_file(model.state_dict(), folder / "timm" / "model.safetensors")
    described = {"architecture": name, "num_classes": 1000, "pretrained_cfg": model.pretrained_cfg}
    (folder / "timm" / "config.json").write_text(json.dumps(described), encoding="utf-8")


def measure(checkout: Path) -> dict[str, Any]:
    """Every measure of a checkout, each in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(ROOT)])}
    with tempfile.TemporaryDirectory() as home:
        found = {}
        for name in ("", *MEASURES):
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.code_paths", "measure", home, name]
            done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            if name:
                print(f"   {name}", flush=True)
                found[name] = json.loads(done.stdout.splitlines()[-1])
        return found


def run() -> dict[str, object]:
    return side_by_side(RESULT, after=measure(ROOT), show=table)


def table(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """The figures of both versions, a line each."""
    for name, now in after.items():
        was = before.get(name, {})
        if "files" in now:
            for unit in ("files", "functions", "edges"):
                yield f"{f'{name}: {unit}':<75} {was.get(unit, '-'):>6} {now[unit]:>6}"
            continue
        for key, values in now.items():
            for unit, value in values.items():
                if isinstance(value, int):
                    yield f"{f'{name}: {key}, {unit}':<75} {was.get(key, {}).get(unit, '-'):>6} {value:>6}"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", home, ""]:
            prepare(Path(home))
        case ["measure", home, name]:
            print(json.dumps(MEASURES[name](Path(home))))
        case [checkout]:
            side_by_side(RESULT, before=measure(Path(checkout).resolve()), show=table)
        case _:
            sys.exit(__doc__)
