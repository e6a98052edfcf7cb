"""How a study's figure is made from its results: a few kinds, chosen by a study's value."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

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
    measure: str, label: str, across: str, at: dict[str, float], caption: str, log: bool = True, percent: bool = True
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
