"""Figures of a study, drawn from its results: a few kinds, chosen and configured in the study's file."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vitral.report.studies import Row, dots_figure, panels_figure, scaling_figure
from vitral.studies.statistics import mean_interval
from vitral.studies.study import DrawFigure, RunValues


def measured_arms(
    results: RunValues, measure: str, condition: str, arms: Sequence[str] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """Each arm that has a measure on a condition, with its values."""
    for arm in arms or results.arms:
        if len(values := results.values(measure, arm, condition)):
            yield arm, values


def rows(results: RunValues, measure: str, condition: str, arms: Sequence[str] = ()) -> list[Row]:
    return [Row(arm, values, mean_interval(values)) for arm, values in measured_arms(results, measure, condition, arms)]


def points(places: Sequence[int | float], values: np.ndarray) -> np.ndarray:
    """(place, mean, low, high) for each entry of a measure that is a list; `values` has one row per seed."""
    return np.array([(place, *mean_interval(column)) for place, column in zip(places, values.T)])


def log_points(places: Sequence[int | float], values: np.ndarray) -> np.ndarray:
    """As `points`, in logarithms: the geometric mean and its interval."""
    found = points(places, np.log(values))
    return np.concatenate([found[:, :1], np.exp(found[:, 1:])], axis=1)


def dots(
    measure: str,
    label: str,
    caption: str,
    arms: Sequence[str] = (),
    percent: bool = True,
    conditions: Sequence[str] = (),
) -> DrawFigure:
    """One measure, with one panel per condition (all by default) and one row per arm: a dot per seed, and the mean with
    its interval."""

    def draw(results: RunValues) -> tuple[Figure, str]:
        panels = {condition: rows(results, measure, condition, arms) for condition in conditions or results.conditions}
        return dots_figure(panels, label, percent), caption

    return draw


def measures_side_by_side(
    panels: Mapping[str, str], condition: str, label: str, caption: str, percent: bool = True
) -> DrawFigure:
    """Several measures on one condition, with one panel per measure (title: measure) and one row per arm."""

    def draw(results: RunValues) -> tuple[Figure, str]:
        return dots_figure(
            {title: rows(results, measure, condition) for title, measure in panels.items()}, label, percent
        ), caption

    return draw


def list_curves(
    panels: Mapping[str, tuple[str, Sequence[int | float]]],
    condition: str,
    label: str,
    across: str,
    caption: str,
    marked: Sequence[int | float] = (),
) -> DrawFigure:
    """Measures that are lists, on one condition: one panel per (measure, places), one line per arm."""

    def draw(results: RunValues) -> tuple[Figure, str]:
        found = {
            title: {arm: points(places, values) for arm, values in measured_arms(results, measure, condition)}
            for title, (measure, places) in panels.items()
        }
        return panels_figure(found, label, across, marked=marked), caption

    return draw


def curves_over_conditions(
    panels: Mapping[str, str], label: str, across: str, places: Mapping[str, int | float], caption: str
) -> DrawFigure:
    """Measures over conditions that stand for numbers, `places`: one panel per measure, one line per arm."""

    def draw(results: RunValues) -> tuple[Figure, str]:
        found: dict[str, dict[str, np.ndarray]] = {}
        for title, measure in panels.items():
            lines: dict[str, list[tuple[float, ...]]] = {arm: [] for arm in results.arms}
            for condition, place in places.items():
                for arm, values in measured_arms(results, measure, condition):
                    lines[arm].append((place, *mean_interval(values)))
            found[title] = {arm: np.array(line) for arm, line in lines.items() if line}
        return panels_figure(found, label, across, log=True), caption

    return draw


def scaling(
    places: Sequence[int | float], labels: Mapping[str, tuple[str, str]], across: str, caption: str
) -> DrawFigure:
    """Measures that are positive lists over `places`, one panel each, by (label, unit); all axes are logarithmic."""

    def draw(results: RunValues) -> tuple[Figure, str]:
        panels = {
            label: {name: log_points(places, values) for name, values in labelled_values(results, measure)}
            for measure, label in labels.items()
        }
        return scaling_figure(panels, across), caption

    return draw


def labelled_values(results: RunValues, measure: str) -> Iterator[tuple[str, np.ndarray]]:
    """A measure for each arm and condition, named by whichever of the two varies."""
    for arm in results.arms:
        for condition in results.conditions:
            names = [name for name, every in ((arm, results.arms), (condition, results.conditions)) if len(every) > 1]
            if len(values := results.values(measure, arm, condition)):
                yield ", ".join(names) or arm, values
