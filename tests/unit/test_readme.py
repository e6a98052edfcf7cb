"""The README is short, its numbers are the measured ones, and the files that it links to exist."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 1200


def test_it_has_at_most_1200_words():
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", ["docs/numbers.md", "docs/believe.md"])
def test_the_number_tables_are_those_of_the_benchmarks(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks.tables import PAGES, with_numbers

    text = (ROOT / page).read_text(encoding="utf-8")
    assert with_numbers(text, PAGES[page]()) == text, "Run: python -m benchmarks.tables"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_file_it_links_to_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
