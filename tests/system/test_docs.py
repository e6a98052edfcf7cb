"""The documentation site builds, a broken link stops the build, and the commands and code of its pages work."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitral import cli
from vitral.cli._parse import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
RUN_HERE = ("learn.md", "use.md", "research.md")  # pages whose commands and code these tests run
RUN_ELSEWHERE = tuple(page for page in PAGES if page.startswith("how-to/"))  # guides with a test of their own
SLOW = (["train"], ["study", "run"])  # commands that take minutes are parsed but not run


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def built(folder):
    command = [Path(sys.executable).parent / "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def site(tmp_path):
    """What the site is made of."""
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "src").symlink_to(ROOT / "src")
    return tmp_path


def test_the_site_builds_with_every_page(site):
    done = built(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((site / "build" / "site" / page).with_suffix(".html").is_file() for page in PAGES)
    reference = (site / "build" / "site" / "reference.html").read_text(encoding="utf-8")
    for name in re.findall(r"^::: vitral\.(\S+)", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE):
        assert f'id="vitral.{name}"' in reference, name
    assert "<blockquote>" not in reference  # what an example in a docstring would become, were it not shown as code


@pytest.mark.parametrize("link", ["[gone](gone.md)", "[gone](learn.md#gone)"])
def test_a_broken_link_stops_the_build(site, link):
    page = site / "docs" / "use.md"
    page.write_text(f"{page.read_text()}\n{link}\n")
    assert built(site).returncode != 0


@pytest.mark.parametrize("page", PAGES)
def test_figures_and_pages_that_it_links_to_exist(page):
    path = ROOT / "docs" / page
    for target in re.findall(r"\]\(([^)#:\s]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.fixture
def desk(trained, tmp_path, photos):
    """A folder with the files that the pages mention: two runs, a photo, a folder of photos."""
    for run in ("shapes-1", "photos-1"):
        trained.copy(tmp_path / "runs" / run)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.parametrize("page", RUN_HERE)
def test_commands_work_as_they_stand(page, vitral, desk, monkeypatch):
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert commands
    for command in commands:
        program, *words = shlex.split(command)
        if program == "torchrun":  # tests/system/test_distributed.py starts processes; here the words are those of one
            program, *words = words[words.index("vitral") :]
        assert program == "vitral"
        if any(words[: len(slow)] == slow for slow in SLOW):
            with monkeypatch.context() as patch:
                patch.setattr(cli, "run", lambda verb, rest: parsed(verb, rest))
                vitral(*words).done()
        else:
            vitral(*words).done()


def parsed(verb, words):
    """Parse the words without running the verb."""
    module = import_module(f"vitral.cli.{verb}")
    parse(module.Options, words, f"vitral {verb}", module.__doc__ or "", getattr(module, "defaults", None))
    return 0


@pytest.mark.parametrize(
    ("page", "code"),
    [(page, code) for page in RUN_HERE for code in blocks(page, "python")],
    ids=lambda value: value[:12],
)
def test_python_runs_as_it_stands(page, code, isolated, desk):
    done = subprocess.run([sys.executable, "-c", code], cwd=desk, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_block_with_a_language_is_run():
    """Blocks without a language show what is printed or how something looks."""
    for page in PAGES:
        languages = set(re.findall(r"^```(\w+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE))
        assert not languages or page in RUN_HERE + RUN_ELSEWHERE, (page, languages)
