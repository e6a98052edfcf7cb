"""The method section of a study's page agrees with the records beside it."""

from html import escape
from pathlib import Path

import pytest

from vitral.studies.pages import method_text, number, read_results, sample_sentences, sweep_sentences

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


def run_of(n, of, missing=(), classes=5):
    """A record of a run with a part of its test images, beside splits that are used whole."""
    whole = dict(of=9, classes=classes, missing=[])
    part = dict(of=of, classes=classes - len(missing), missing=list(missing))
    return {"record": {"n": {"train": 9, "val": 9, "test": n}, "sample": {"train": whole, "val": whole, "test": part}}}


def test_a_part_of_a_split_is_described_by_its_images_and_classes():
    assert sample_sentences([run_of(9, 9), run_of(9, 9)]) == []
    assert sample_sentences([run_of(200, 1000), run_of(200, 1000)]) == [
        "Accuracy on test images is measured on 200 of 1,000, chosen at random, of 5 of 5 classes."
    ]
    assert sample_sentences([run_of(4, 99, "ab"), run_of(5, 100, "bc"), {"status": "failed"}]) == [
        "Accuracy on test images is measured on 4 to 5 of 99 to 100, chosen at random, of 3 of 5 classes; some "
        "runs have none of a, b, c."
    ]


def test_a_whole_split_that_lacks_a_class_is_described_too():
    assert sample_sentences([run_of(9, 9, "a")]) == [
        "Accuracy on test images is measured on all 9, of 4 of 5 classes; some runs have none of a."
    ]


def test_records_from_before_samples_were_described_give_no_sentence():
    for results in FOUND.values():
        old = [one for one in results.runs if "sample" not in one["record"]]
        assert sample_sentences(old) == []
