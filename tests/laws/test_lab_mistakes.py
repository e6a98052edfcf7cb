"""The lab: solutions pass, start files fail with a line, and every mistake is recognised under its own name."""

import ast
import random
import re
from importlib import import_module
from itertools import combinations
from pathlib import Path

import pytest

from vitral.lab import stages
from vitral.lab.identification import records_agree
from vitral.lab.recorder import record_calls
from vitral.lab.source_check import check_source, find_definitions
from vitral.lab.start_file import build_start_file, find_required, read_solution
from vitral.lab.station import Mistake, load_stations

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "how-to" / "add-a-station.md").read_text(encoding="utf-8")
STATIONS = load_stations()
MISTAKES = [(name, mistake) for name, station in STATIONS.items() for mistake in station.mistakes]
each_station = pytest.mark.parametrize("station", STATIONS.values(), ids=STATIONS)


def test_there_are_twelve_stations_in_order_with_enough_mistakes():
    assert [station.number for station in STATIONS.values()] == list(range(1, 13))
    assert len(MISTAKES) >= 120
    assert f"compared with {len(MISTAKES)} known mistakes" in README
    assert all(8 <= len(station.mistakes) <= 20 for station in STATIONS.values())


@each_station
def test_the_solution_passes_up_to_the_trained_model(station):
    report = stages.check_answer(station, station.solution)
    assert not report.failed, report
    assert report.same_in_model


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{name}-{own.name[:40]}" for name, own in MISTAKES])
def test_each_mistake_is_recognised_under_its_own_name(name, mistake, without_integration):
    report = stages.check_answer(STATIONS[name], mistake.build_answer(STATIONS[name].solution))
    assert report.failed in ("contract", "properties", "comparison")
    assert (report.mistake, report.question) == (mistake.name, mistake.question)


def test_the_mistake_of_the_guide_is_recognised(monkeypatch, without_integration):
    module = import_module("vitral.lab.mistakes.maps")
    added = dict(vars(module))
    exec(re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1], added)
    monkeypatch.setattr(module, "second_row", added["second_row"], raising=False)
    mistake = STATIONS["maps"].mistakes[-1]
    assert mistake is added["second_row"]
    report = stages.check_answer(STATIONS["maps"], mistake.build_answer(STATIONS["maps"].solution))
    assert (report.mistake, report.question) == (mistake.name, mistake.question)


@each_station
def test_no_two_mistakes_look_alike(station):
    answers = [mistake.build_answer(station.solution) for mistake in station.mistakes]
    records = [[record_calls(station.observe, answer, seed) for seed in stages.SEEDS] for answer in answers]
    for first in range(len(records)):
        for second in range(first):
            alike = all(map(records_agree, records[first], records[second]))
            assert not alike, (station.mistakes[first].name, station.mistakes[second].name)


def draw_pairs() -> list[tuple[str, Mistake, Mistake]]:
    """Pairs of mistakes in different definitions, a few of each station."""
    generator = random.Random(0)
    found = []
    for name, station in STATIONS.items():
        every = combinations(station.mistakes, 2)
        pairs = [pair for pair in every if not set(pair[0].definitions) & set(pair[1].definitions)]
        found += [(name, *pair) for pair in generator.sample(pairs, min(5, len(pairs)))]
    return found


@pytest.mark.parametrize(("name", "one", "other"), draw_pairs())
def test_of_two_mistakes_one_is_named_and_the_report_says_that_there_is_another(name, one, other, without_integration):
    both = Mistake("Both.", "Which?", {**one.definitions, **other.definitions})
    report = stages.check_answer(STATIONS[name], both.build_answer(STATIONS[name].solution))
    named = report.mistake.removesuffix(f" {stages.NOT_ALONE}")
    assert named in (one.name, other.name)
    assert report.question == (one if named == one.name else other).question


@each_station
def test_each_station_has_its_texts(station):
    assert station.prediction.letter in ("a", "b", "c") and station.prediction.reason.endswith(".")
    assert 1 <= station.difficulty <= 5 and 5 <= station.minutes <= 60
    assert len(set(station.hints)) == 3
    text = read_solution(station.name)
    assert text.startswith(f'"""Station {station.number}: ')
    assert "Before you write:" in text and all(f" {letter}  " in text for letter in "abc")
    for mistake in station.mistakes:
        assert mistake.name.endswith(".") and mistake.question.endswith("?"), mistake.name


@each_station
def test_the_start_file_is_the_solution_without_its_bodies(station, tmp_path):
    for other in find_required(station.name):
        (tmp_path / f"{other}.py").write_text(read_solution(other))
    path = tmp_path / f"{station.name}.py"
    path.write_text(build_start_file(station.name))
    report = check_source(station.name, path)
    assert report is not None and report.failed == "file" and "Begin at line" in report.message
    line = int(re.search(r"line (\d+)", report.message)[1])
    assert path.read_text().splitlines()[line - 1].lstrip().startswith("# TODO: ")
    path.write_text(read_solution(station.name))
    assert check_source(station.name, path) is None
    assert path.read_text().count("# Yours: ") == build_start_file(station.name).count("raise NotImplementedError")


def test_start_files_define_what_solutions_define():
    for name in STATIONS:
        start, solution = (find_definitions(ast.parse(text(name))) for text in (build_start_file, read_solution))
        assert list(start) == list(solution)
