"""Panels share one vertical axis and one legend, and show the marked positions."""

import numpy as np

from vitral.report.studies import panels_figure

LINE = np.array([[0, 0.5, 0.4, 0.6], [8, 0.75, 0.7, 0.8]])


def test_panels_share_their_height_and_a_series_its_colour():
    figure = panels_figure({"one": {"a": LINE, "b": LINE}, "two": {"b": LINE}}, "share", "shift", marked=(0, 8))
    one, two = figure.axes
    assert one.get_ylim() == two.get_ylim()
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    (own,) = (line for line in two.lines if line.get_label() == "b")
    assert own.get_color() == next(line for line in one.lines if line.get_label() == "b").get_color()
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["a", "b"]
    marked = [line.get_xdata()[0] for line in one.lines if line.get_linestyle() == "--"]
    assert marked == [0, 8]


def test_numbers_of_images_are_written_out():
    many = LINE * [[1, 1, 1, 1]] + [[256, 0, 0, 0]]
    (axis,) = panels_figure({"new images": {"a": many}}, "accuracy", "images", log=True).axes
    assert axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["256", "264"]
