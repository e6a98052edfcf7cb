"""The method section of a study's page agrees with the records beside it."""

from html import escape
from pathlib import Path

import pytest

from vitral.studies.pages import method_text, number, read_results, sweep_sentences

FOLDER = Path(__file__).parents[2] / "docs" / "studies"
FOUND = {results.study.name: results for results in read_results(FOLDER)}
RATES = (0.5, 1.0, 2.0)


@pytest.mark.parametrize("results", FOUND.values(), ids=FOUND)
def test_the_committed_page_describes_the_method(results):
    """Run: python -m benchmarks.study_pages."""
    budget = results.study.budgets[results.preset]
    text = method_text(results, budget.samples, budget.rates)
    page = (FOLDER / f"{results.study.name}.html").read_text(encoding="utf-8")
    assert escape(text).replace("&#x27;", "&#39;") in page
    assert ("determines the images" in text) == bool(budget.samples)


def test_an_arm_with_another_base_rate_is_named():
    assert "(0.002; resnet 0.008)" in sweep_sentences(FOUND["locality"], RATES)[0]


def test_arms_at_an_end_of_the_sweep_are_named():
    assert sweep_sentences(FOUND["locality"], RATES)[1:] == [
        "The highest rate was chosen for dwconv3; bag of patches; higher ones were not tried."
    ]
    assert sweep_sentences(FOUND["long_range"], (1.0, 4.0))[1:] == [
        "The lowest rate was chosen for every arm; lower ones were not tried."
    ]


@pytest.mark.parametrize(("value", "text"), [(-2.78e-17, "0"), (0.0, "0"), (1e-6, "1e-06"), (-0.0168, "-0.0168")])
def test_rounding_errors_are_shown_as_zero(value, text):
    assert number(value) == text
