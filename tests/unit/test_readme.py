"""What the README says is what was measured, and what it points to is there."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/believe.md"])
def test_its_numbers_are_those_of_the_benchmarks(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks.tables import PAGES, with_numbers

    text = (ROOT / page).read_text(encoding="utf-8")
    assert with_numbers(text, PAGES[page]()) == text, "Run: python -m benchmarks.tables"


def test_every_file_it_points_to_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
