"""The package as others install it: the built wheel, and `pip install .`, each in a clean environment of its own.

The clean environments see the libraries of this one, not the source tree: what Vitral needs must be in its wheel.
"""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

from shell import Answer, text
from vitral.lab.start_file import read_solution
from vitral.lab.station import load_stations

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "vitral"


def clean(place):
    """A new environment without Vitral; its Python."""
    venv.create(place, with_pip=False, symlinks=True)
    (home,) = (place / "lib").glob("python*/site-packages")
    (home / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "python"


@pytest.fixture(scope="module")
def isolated(isolated):
    """Without the sources on the path, if the tests were started with them there."""
    blocked = isolated["PYTHONPATH"].partition(os.pathsep)[0]
    return isolated | {"PYTHONPATH": blocked}


def install(python, what, environment):
    options = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, what]
    subprocess.run(command, cwd=python.parent, env=environment | {"PYTHONWARNINGS": "default"}, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, isolated):
    """Built from the source tree, as for a release."""
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, ROOT]
    subprocess.run(command, env=isolated | {"PYTHONWARNINGS": "default"}, check=True, stdout=subprocess.DEVNULL)
    (built,) = place.iterdir()
    return built


def in_environment(python, environment, folder):
    """Run the `vitral` of an environment in a folder."""

    def run(*words):
        command = [python.parent / "vitral", *text(words)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        return Answer(text(words), done.returncode, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize("what", ["the built wheel", "pip install ."])
def test_an_installed_vitral_works_by_itself(request, isolated, tmp_path, photos, quick, what):
    python = clean(tmp_path / "clean")
    install(python, ROOT if what == "pip install ." else request.getfixturevalue("wheel"), isolated)
    command = [python, "-c", "import vitral, vitral.base.errors; print(vitral.__file__)"]
    found = subprocess.run(command, cwd=tmp_path, env=isolated, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(tmp_path / "clean"))

    vitral = in_environment(python, isolated, tmp_path)
    assert "vit_nano_patch8_48" in vitral("models").done().out
    words = ("train", "--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--epochs", 1, "--out", "run")
    vitral(*words).done()
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")
    small = ("--model", "vit_nano_patch4_32", "--img-size", 16, "--epochs", 1)
    vitral("train", "--data", "photos", *small, "--out", "vit").done()
    photo = min((tmp_path / "photos").rglob("*.png"))
    page = tmp_path / vitral("explore", "vit", photo, "--json").done().json["page"]
    assert "class Explorer" in page.read_text() and "class BreakIt" in page.read_text()


class OtherNames(ast.NodeTransformer):
    """Rename a function's local variables, so that the code differs from the solution."""

    def __init__(self, function):
        arguments = {own.arg for own in function.args.args}
        stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and type(node.ctx) is ast.Store}
        self.local = stored - arguments

    def visit_Name(self, node):
        return ast.Name(f"my_{node.id}", node.ctx) if node.id in self.local else node


def find_functions(text):
    """The functions and methods of a file, in order."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]


def fill_in(start, solution, letter):
    """A start file with the missing code and the prediction in it, as a reader would type them."""
    lines = start.replace('prediction = ""', f'prediction = "{letter}"').splitlines()
    pairs = sorted(zip(find_functions(start), find_functions(solution)), key=lambda pair: -pair[0].lineno)
    for own, right in pairs:  # from the last one up, so that line numbers stay valid
        missing = own.body[-1]
        assert own.name == right.name and ast.unparse(missing) == "raise NotImplementedError"
        body = right.body[len(own.body) - 1 :]  # what comes before it is in the start file
        code = ast.unparse(OtherNames(right).visit(ast.Module(body, [])))
        lines[missing.lineno - 1] = textwrap.indent(code, " " * missing.col_offset)
    return "\n".join(lines) + "\n"


def test_the_lab_is_passed_from_the_wheel_by_start_files_filled_in(wheel, isolated, tmp_path, photos):
    python = clean(tmp_path / "clean")
    install(python, wheel, isolated)
    vitral = in_environment(python, isolated, tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    vitral("lab", "start", "all").done()
    for name, station in load_stations().items():
        path = tmp_path / "mine" / f"{name}.py"
        if station.number == 1:  # of the others, tests/laws/test_lab_mistakes.py asks without a process for each
            vitral("lab", "check", name).reported(1, "Begin at line")
        path.write_text(fill_in(path.read_text(), read_solution(name), station.prediction.letter))
    assert vitral("lab", "check", "all").done().printed.count("which is right") == 12
    assert "12 of 12 passed" in vitral("lab", "status").done().printed
    messages = vitral("explain", "mine.py:mine", next((photos / "dark").iterdir())).done().messages
    assert "This model uses your vit.py" in messages


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
        notes = {name.partition("/")[2] for name in archive.namelist()} - {name.partition("/")[2] for name in held}
    files = {path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert held == {f"vitral/{path.relative_to(SOURCE)}" for path in files}
    assert "vitral/report/page.html" in held
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= notes


def imported(path):
    """The top-level packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


EXTRAS = {"scikit-learn", "huggingface-hub", "pillow-heif", "tifffile", "zarr", "pyarrow", "onnx", "onnxruntime"}
EXTRAS |= {"anywidget", "ipython", "traitlets"}


def test_everything_that_is_imported_is_required(wheel):
    """By the wheel's own metadata; what only an extra brings is imported where it is used."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    required = {
        re.split(r"[^\w-]", line.removeprefix("Requires-Dist: "))[0].lower().replace("_", "-"): "extra ==" in line
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ")
    }
    belongs = importlib.metadata.packages_distributions()
    used = {name for path in SOURCE.rglob("*.py") for name in imported(path)}
    used -= {*sys.stdlib_module_names, "vitral"}
    needed = {belongs[name][0].lower().replace("_", "-") for name in used}
    assert needed <= required.keys()
    assert {name for name, extra in required.items() if not extra} == needed - EXTRAS
