"""How a study's figure is made from its results: a few kinds, chosen by a study's value."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vitral.report.panels import panels_figure
from vitral.report.scaling import scaling_figure
from vitral.report.studies import Row, dots_figure, lines_figure
from vitral.studies.results import Results, interval_of

Draw = Callable[[Results], tuple[Figure, str]]


def dots(measure: str, label: str, caption: str, arms: Sequence[str] = (), percent: bool = True) -> Draw:
    """Each arm a row, each condition a column: a dot a seed, and the mean with its interval."""

    def draw(results: Results) -> tuple[Figure, str]:
        panels = {
            condition: [
                Row(arm, values, interval_of(values))
                for arm in arms or results.arms
                if len(values := results.values(measure, arm, condition))
            ]
            for condition in results.conditions
        }
        return dots_figure(panels, label, percent), caption

    return draw


def lines(
    measure: str,
    label: str,
    across: str,
    at: Mapping[str, int | float],
    caption: str,
    log: bool = True,
    percent: bool = True,
) -> Draw:
    """Each arm a line over conditions that are numbers, `at` their places, with the interval of each point."""

    def draw(results: Results) -> tuple[Figure, str]:
        found = {}
        for arm in results.arms:
            points = [
                (place, *interval_of(values))
                for condition, place in at.items()
                if len(values := results.values(measure, arm, condition))
            ]
            if points:
                found[arm] = np.array(points)
        return lines_figure(found, label, across, log, percent), caption

    return draw


def series(results: Results, measure: str) -> dict[str, np.ndarray]:
    """A measure that is a list, by condition where there is one arm, else by arm and condition; seeds come first."""
    found = {}
    for arm in results.arms:
        for condition in results.conditions:
            words = [name for name, every in ((arm, results.arms), (condition, results.conditions)) if len(every) > 1]
            if len(values := results.values(measure, arm, condition)):
                found[", ".join(words) or arm] = values
    return found


def points(places: Sequence[int | float], values: np.ndarray) -> np.ndarray:
    """Place, mean, low and high of each entry of lists (seeds first)."""
    return np.array([(place, *interval_of(each)) for place, each in zip(places, values.T)])


def scaling(places: Sequence[int | float], labels: Mapping[str, tuple[str, str]], across: str, caption: str) -> Draw:
    """Measures that are positive lists over `places`, a panel each, by (label, unit); all axes logarithmic."""

    def draw(results: Results) -> tuple[Figure, str]:
        panels = {
            label: {name: growing(places, values) for name, values in series(results, measure).items()}
            for measure, label in labels.items()
        }
        return scaling_figure(panels, across), caption

    return draw


def growing(places: Sequence[int | float], values: np.ndarray) -> np.ndarray:
    """As `points`, of logarithms: the geometric mean and its interval."""
    found = points(places, np.log(values))
    return np.concatenate([found[:, :1], np.exp(found[:, 1:])], axis=1)


def curves(
    panels: Mapping[str, tuple[str, Sequence[int | float]]],
    condition: str,
    label: str,
    across: str,
    caption: str,
    marked: Sequence[int | float] = (),
) -> Draw:
    """Measures that are lists, of one condition: a panel each, of (measure, places), and in it a line an arm."""

    def draw(results: Results) -> tuple[Figure, str]:
        found = {
            title: {
                arm: points(places, values)
                for arm in results.arms
                if len(values := results.values(measure, arm, condition))
            }
            for title, (measure, places) in panels.items()
        }
        return panels_figure(found, label, across, marked=marked), caption

    return draw


def growth(panels: Mapping[str, str], label: str, across: str, at: Mapping[str, int | float], caption: str) -> Draw:
    """Measures over conditions that are numbers, `at` their places: a panel each, and in it a line an arm."""

    def draw(results: Results) -> tuple[Figure, str]:
        found = {}
        for title, measure in panels.items():
            each = {
                arm: [
                    (place, *interval_of(values))
                    for condition, place in at.items()
                    if len(values := results.values(measure, arm, condition))
                ]
                for arm in results.arms
            }
            found[title] = {arm: np.array(places) for arm, places in each.items() if places}
        return panels_figure(found, label, across, log=True), caption

    return draw


def contrasted(panels: Mapping[str, str], condition: str, label: str, caption: str) -> Draw:
    """Measures of one condition, a panel each: each arm a row, with a dot a seed and the mean with its interval."""

    def draw(results: Results) -> tuple[Figure, str]:
        found = {
            title: [
                Row(arm, values, interval_of(values))
                for arm in results.arms
                if len(values := results.values(measure, arm, condition))
            ]
            for title, measure in panels.items()
        }
        return dots_figure(found, label), caption

    return draw
