"""The README is short, its numbers are the measured ones, and the files that it links to exist."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 1200


def test_it_has_at_most_1200_words():
    assert len(README.split()) <= MOST_WORDS


def result(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_what_it_says_of_the_demo_was_measured():
    runs = result("demo")["runs"]
    seconds = sorted(round(run["seconds"]) for run in runs)
    mean = sum(run["test_accuracy"] for run in runs) / len(runs)
    assert f"{mean:.1%} test accuracy in {seconds[0]} to {seconds[-1]} s" in " ".join(README.split())
    accuracy = {arm["arm"]: arm["accuracy"] for arm in result("trials")["results"]}
    assert f"{accuracy['both put back']:.0%} instead of {accuracy['the demo']:.0%} validation accuracy" in README


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


def test_what_it_says_of_any_vit_was_measured():
    record = json.loads((ROOT / "benchmarks" / "results" / "any_vit.json").read_text(encoding="utf-8"))
    words = " ".join(README.split())
    shown = record["found"]["exact, with places"]
    assert (
        f"for {record['drawn']:,} ViTs drawn from" in words and f"matched tokens to patches in {shown}, never" in words
    )
    assert not record["wrong"] and sum(record["found"].values()) == record["drawn"]
