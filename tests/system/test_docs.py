"""The documentation site builds, a broken link stops it, and what its pages tell to type works."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
WRITTEN = ("learn.md", "use.md", "research.md")  # whose blocks are to be typed
SLOW = (["train"], ["study", "run"])  # what takes minutes is read by the same parser, but not run


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
    assert {path.stem for path in (site / "build" / "site").glob("*.html")} >= {Path(page).stem for page in PAGES}
    reference = (site / "build" / "site" / "reference.html").read_text(encoding="utf-8")
    for name in re.findall(r"^::: vitral\.(\S+)", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE):
        assert f'id="vitral.{name}"' in reference, name


@pytest.mark.parametrize("link", ["[gone](gone.md)", "[gone](learn.md#gone)"])
def test_a_broken_link_stops_it(site, link):
    page = site / "docs" / "use.md"
    page.write_text(f"{page.read_text()}\n{link}\n")
    assert built(site).returncode != 0


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_pages_that_it_points_to_are_there(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:\s]+)", text):
        assert (ROOT / "docs" / target).exists(), target


@pytest.fixture
def desk(trained, tmp_path, photos):
    """A folder with what the pages speak of: two runs, a photo, a folder of photos."""
    for run in ("shapes-1", "photos-1"):
        trained.copy(tmp_path / "runs" / run)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_work_as_they_stand(page, vitral, desk, monkeypatch):
    from vitral import cli

    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert commands
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "vitral"
        if any(words[: len(slow)] == slow for slow in SLOW):
            with monkeypatch.context() as patch:
                patch.setattr(cli, "run", lambda verb, rest: checked(verb, rest))
                vitral(*words).done()
        else:
            vitral(*words).done()


def checked(verb, words):
    """Only whether the verb takes these words."""
    from importlib import import_module

    from vitral.cli._parse import parse

    module = import_module(f"vitral.cli.{verb}")
    parse(module.Options, words, f"vitral {verb}", module.__doc__ or "", getattr(module, "defaults", None))
    return 0


@pytest.mark.parametrize(
    ("page", "code"),
    [(page, code) for page in WRITTEN for code in blocks(page, "python")],
    ids=lambda value: value[:12],
)
def test_python_runs_as_it_stands(page, code, isolated, desk):
    done = subprocess.run([sys.executable, "-c", code], cwd=desk, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_no_page_has_a_block_that_nothing_runs():
    """But for blocks without a language, which show what is printed or how something looks."""
    for page in PAGES:
        languages = set(re.findall(r"^```(\w+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE))
        assert not languages or page in WRITTEN, (page, languages)
