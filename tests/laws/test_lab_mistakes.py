"""The lab: every solution passes, every start file fails kindly, every mistake is caught under its own name."""

import random
import re
from itertools import combinations
from pathlib import Path

import pytest

from vitral.lab import checking
from vitral.lab.inspection import observed
from vitral.lab.reading import definitions, read
from vitral.lab.report import Report
from vitral.lab.start import needed, solution_text, start_text
from vitral.lab.station import Mistake, stations

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
STATIONS = stations()
MISTAKES = [(name, mistake) for name, station in STATIONS.items() for mistake in station.mistakes]
each_station = pytest.mark.parametrize("station", STATIONS.values(), ids=STATIONS)


@pytest.fixture
def untransplanted(monkeypatch):
    """What is asked before a trained model is."""
    monkeypatch.setattr(checking, "transplanted", lambda station, answer: Report())


def test_there_are_twelve_in_a_row_and_enough_mistakes():
    assert [station.number for station in STATIONS.values()] == list(range(1, 13))
    assert len(MISTAKES) >= 120
    assert f"compared with {len(MISTAKES)} known mistakes" in README
    assert all(8 <= len(station.mistakes) <= 20 for station in STATIONS.values())


@each_station
def test_the_solution_passes_up_to_the_trained_model(station):
    report = checking.check(station, station.solution)
    assert not report.failed, report
    assert report.transplanted


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{name}-{own.name[:40]}" for name, own in MISTAKES])
def test_each_mistake_is_caught_under_its_own_name(name, mistake, untransplanted):
    report = checking.check(STATIONS[name], mistake.answer(STATIONS[name].solution))
    assert report.failed in ("contract", "properties", "comparison")
    assert (report.mistake, report.question) == (mistake.name, mistake.question)


@each_station
def test_no_two_mistakes_look_alike(station):
    answers = [mistake.answer(station.solution) for mistake in station.mistakes]
    seen = [[observed(station.observe, answer, seed) for seed in checking.SEEDS] for answer in answers]
    for first in range(len(seen)):
        for second in range(first):
            assert not all(map(checking.alike, seen[first], seen[second])), (
                station.mistakes[first].name,
                station.mistakes[second].name,
            )


def together() -> list[tuple[str, Mistake, Mistake]]:
    """Pairs of mistakes in different definitions, a few of each station."""
    drawn = random.Random(0)
    found = []
    for name, station in STATIONS.items():
        pairs = [pair for pair in combinations(station.mistakes, 2) if not set(pair[0].instead) & set(pair[1].instead)]
        found += [(name, *pair) for pair in drawn.sample(pairs, min(5, len(pairs)))]
    return found


@pytest.mark.parametrize(("name", "one", "other"), together())
def test_of_two_mistakes_one_is_named_and_that_there_is_more_is_said(name, one, other, untransplanted):
    both = Mistake("Both.", "Which?", {**one.instead, **other.instead})
    report = checking.check(STATIONS[name], both.answer(STATIONS[name].solution))
    named = report.mistake.removesuffix(f" {checking.BESIDE}")
    assert named in (one.name, other.name)
    assert report.question == (one if named == one.name else other).question


@each_station
def test_texts_are_there(station):
    assert station.prediction.right in ("a", "b", "c") and station.prediction.why.endswith(".")
    assert 1 <= station.difficulty <= 5 and 5 <= station.minutes <= 60
    assert len(set(station.hints)) == 3
    text = solution_text(station.name)
    assert text.startswith(f'"""Station {station.number}: ')
    assert "Before you write:" in text and all(f" {letter}  " in text for letter in "abc")
    for mistake in station.mistakes:
        assert mistake.name.endswith(".") and mistake.question.endswith("?"), mistake.name


@each_station
def test_the_start_file_is_the_solution_without_its_bodies(station, tmp_path):
    for other in needed(station.name):
        (tmp_path / f"{other}.py").write_text(solution_text(other))
    path = tmp_path / f"{station.name}.py"
    path.write_text(start_text(station.name))
    report = read(station.name, path)
    assert report is not None and report.failed == "file" and "Begin at line" in report.said
    line = int(re.search(r"line (\d+)", report.said)[1])
    assert path.read_text().splitlines()[line - 1].lstrip().startswith("# TODO: ")
    path.write_text(solution_text(station.name))
    assert read(station.name, path) is None
    assert path.read_text().count("# Yours: ") == start_text(station.name).count("raise NotImplementedError")


def test_start_files_define_what_solutions_define():
    import ast

    for name in STATIONS:
        start, solution = (definitions(ast.parse(text(name))) for text in (start_text, solution_text))
        assert list(start) == list(solution)
