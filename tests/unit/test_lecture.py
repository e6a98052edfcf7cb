"""`docs/lecture.md` agrees with the records: generated again it is the same, and its numbers are recomputed."""

import ast
import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
from scipy import stats

from vitral.base.lookup import names
from vitral.cli._parse import parse
from vitral.nn.zoo import MODELS, create
from vitral.studies.study import studies

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
ROWS = ["* " + own.split("\n\n")[0] for own in PAGE.split("\n* ")[1:]]
MEASURED = re.compile(
    r"\*([^*\n]+)\* Measured: (\S+)( points)? \((\S+) to (\S+), (\d+) seeds\); "
    r"rule set beforehand: ([^\n]+?)( points)?\.\s"
)
RESULTS = [(re.search(r"studies/(\w+)\.html\): `", row)[1], *found) for row in ROWS for found in MEASURED.findall(row)]
RECORDED = {path.stem for path in (ROOT / "docs" / "studies").glob("*.json")}
COMMANDS = sorted(set(re.findall(r"`((?:vitral|pytest|python) [^`]+)`", PAGE)) - {"python -m benchmarks.lecture"})


def hypotheses(study):
    return json.loads((ROOT / "docs" / "studies" / f"{study}.json").read_text(encoding="utf-8"))["hypotheses"]


@pytest.fixture
def lecture(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks import lecture

    return lecture


def test_it_is_what_the_command_generates(lecture):
    assert lecture.page() == PAGE, "Run: python -m benchmarks.lecture"


def test_every_study_and_every_hypothesis_that_the_template_names_is_there(lecture):
    template = lecture.TEMPLATE.read_text(encoding="utf-8")
    named = re.findall(r"{{ (?:decided|also)\(\"(\w+)\", ([\d, ]+)\) }}", template)
    assert len(named) == template.count("{{ decided(") + template.count("{{ also(")
    assert {study for study, _ in named} == RECORDED  # a study that has not been run has no place there yet
    assert len(ROWS) == len(re.findall(r"^\* ", template, re.MULTILINE))
    expected = [(study, int(number)) for study, numbers in named for number in numbers.split(",")]
    missing = [place for place in expected if hypotheses(place[0])[place[1]]["mean"] is None]
    assert PAGE.count("Not measured: runs are missing.") == len(missing)
    expected = [place for place in expected if place not in missing]
    assert len(RESULTS) == len(expected)
    for (study, number), (found, sentence, *_) in zip(expected, RESULTS):
        assert (study, hypotheses(study)[number]["sentence"]) == (found, sentence)


@pytest.mark.parametrize(("study", "sentence", "mean", "points", "low", "high", "count", "rule", "also"), RESULTS)
def test_its_numbers_follow_from_the_effects_of_the_seeds(study, sentence, mean, points, low, high, count, rule, also):
    (one,) = (own for own in hypotheses(study) if own["sentence"] == sentence)
    scale, border = 100 if points else 1, one["rule"]["border"]
    effects = [scale * value for value in one["effects"]]
    assert len(effects) == int(count)
    assert float(mean) == pytest.approx(sum(effects) / len(effects), rel=0.01, abs=1e-6)
    assert also == points
    assert border == 0 if rule == "zero" else float(rule.split()[-1]) == pytest.approx(scale * border)
    if one["rule"]["kind"] != "exactly":
        found = stats.ttest_1samp(effects, 0).confidence_interval(0.95)
        assert (float(low), float(high)) == pytest.approx((found.low, found.high), rel=0.01, abs=6e-4 * scale)


@pytest.mark.parametrize(("study", "sentence"), [own[:2] for own in RESULTS])
def test_each_hypothesis_stands_beside_its_own_verdict(study, sentence):
    (one,) = (own for own in hypotheses(study) if own["sentence"] == sentence)
    rows = (row for row in ROWS if f"studies/{study}.html): `" in row)
    lines = [line for row in rows for line in row.splitlines() if sentence in line]
    assert lines
    for line in lines:
        context = f" (context, {', '.join(one['context'])} not matched in size)" if one["context"] else ""
        scope = json.loads((ROOT / "docs" / "studies" / f"{study}.json").read_text(encoding="utf-8"))["scope"]
        head = line.strip().startswith(f"**{scope}:** ") and f"Hypothesis, {one['verdict']}: *{sentence}*" in line
        assert head or line.strip().startswith(f"Also {one['verdict']}{context}: ")


def test_effects_are_in_points_where_their_sentence_speaks_of_points():
    for _, sentence, _, points, *_ in RESULTS:
        assert points or "points" not in sentence


def test_its_own_summaries_agree_with_the_verdicts():
    decided = {study: [own["verdict"] for own in hypotheses(study)] for study in RECORDED}
    for study, number in [("data_hunger", 0), ("data_hunger", 4), ("pooling", 0), ("cls_aggregates", 1)]:
        assert decided[study][number] == "supported"
    assert decided["cls_aggregates"][4] == "supported" and decided["global_attention"][4] == "holds"
    assert decided["equivariance"][10:13] == ["holds"] * 3
    assert decided["attention_cost"][5] == "holds"
    demo = create("vit_nano_patch8_48")
    assert (3 * 8 * 8, demo.config["embed_dim"]) == (192, 64) and "192 numbers become 64" in PAGE


def test_corrections_name_their_source():
    corrected = [row for row in ROWS if "**Correction:**" in row]
    assert len(corrected) >= 5
    for row in corrected:
        assert re.search(r"arXiv \d|§\d|tests/\w+/test_\w+\.py", row), row


def test_the_tests_that_it_names_exist():
    files = set(re.findall(r"tests/\w+/\w+\.py", PAGE))
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
    for name, file in re.findall(r"`(test_\w+)` in\s+`(tests/\w+/\w+\.py)`", PAGE):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
    assert "tests/laws`" not in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_typed(command):
    program, *words = shlex.split(command)
    if program == "pytest":
        assert words and all((ROOT / word).is_file() for word in words)
        return
    if program == "python":
        option, code = words
        assert option == "-c" and ast.parse(code)
        assert set(re.findall(r"create\('(\w+)'\)", code)) <= set(MODELS)
        return
    verb, *rest = words
    assert verb in names("cli")
    module = import_module(f"vitral.cli.{verb}")
    options = parse(module.Options, rest, f"vitral {verb}", module.__doc__, getattr(module, "defaults", None))
    if verb == "study":
        assert set(options.names) <= set(studies())
    if verb == "models":
        assert options.pattern in MODELS


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_each_statement_ends_with_a_command(row):
    assert re.search(r"`(vitral|pytest|python) [^`]*`$", row.rstrip()), row
