"""What a study's page says of how it was done, held against the records beside it."""

from html import escape
from pathlib import Path

import pytest

from vitral.studies.report import done_words, number, read, swept_words

FOLDER = Path(__file__).parents[2] / "docs" / "studies"
FOUND = {results.study.name: results for results in read(FOLDER)}
RATES = (0.5, 1.0, 2.0)


@pytest.mark.parametrize("results", FOUND.values(), ids=FOUND)
def test_the_committed_page_says_what_was_done(results):
    """Run: python -m benchmarks.study_pages."""
    budget = results.study.budgets[results.preset]
    said = done_words(results, budget.samples, budget.rates)
    page = (FOLDER / f"{results.study.name}.html").read_text(encoding="utf-8")
    assert escape(said).replace("&#x27;", "&#39;") in page
    assert ("decide the images" in said) == bool(budget.samples)


def test_an_arm_with_another_base_rate_is_named_with_it():
    assert "(0.002; resnet 0.008)" in swept_words(FOUND["locality"], RATES)[0]


def test_whose_rate_lies_at_an_end_of_the_sweep_is_said():
    assert swept_words(FOUND["locality"], RATES)[1:] == [
        "The highest was chosen for dwconv3; bag of patches: higher ones were not tried."
    ]
    assert swept_words(FOUND["long_range"], (1.0, 4.0))[1:] == [
        "The lowest was chosen for every arm: lower ones were not tried."
    ]


@pytest.mark.parametrize(("value", "said"), [(-2.78e-17, "0"), (0.0, "0"), (1e-6, "1e-06"), (-0.0168, "-0.0168")])
def test_what_is_only_rounding_is_zero(value, said):
    assert number(value) == said
