"""`docs/lecture.md` says what the records say: written again it is the same, and its numbers are computed anew."""

import json
import re
import sys
from pathlib import Path

import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if "by a rule that was set before" in line]


@pytest.fixture
def lecture(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks import lecture

    return lecture


def test_it_is_as_the_command_writes_it(lecture):
    assert lecture.page() == PAGE, "Run: python -m benchmarks.lecture"


def test_all_that_studies_decide_is_there(lecture):
    asked = {own.study for part in lecture.PARTS for own in part.statements if own.study}
    assert asked >= {
        "equivariance",
        "locality",
        "global_attention",
        "data_hunger",
        "long_range",
        "cls_aggregates",
        "pooling",
        "attention_cost",
        "positions",
    }
    assert len(ROWS) == sum(bool(own.study) for part in lecture.PARTS for own in part.statements)


@pytest.mark.parametrize("row", ROWS)
def test_its_numbers_follow_from_the_effects_of_the_seeds(row):
    mean, low, high, count, name = re.search(
        r"Found: (\S+) \((\S+) to (\S+), (\d+) seeds\).*studies/(\w+)\.html", row
    ).groups()
    record = json.loads((ROOT / "docs" / "studies" / f"{name}.json").read_text())
    (one,) = (own for own in record["hypotheses"] if own["sentence"] in row)
    found = stats.ttest_1samp(one["effects"], 0).confidence_interval(0.95)
    assert len(one["effects"]) == int(count)
    assert float(mean) == pytest.approx(sum(one["effects"]) / len(one["effects"]), rel=0.01, abs=1e-6)
    if one["rule"]["kind"] != "exactly":
        assert (float(low), float(high)) == (
            pytest.approx(found.low, rel=0.01, abs=6e-4),
            pytest.approx(found.high, rel=0.01, abs=6e-4),
        )


def test_corrections_name_their_source():
    for row in PAGE.splitlines():
        if "**Wrong" in row:
            assert "arXiv" in row or "tests/laws" in row
