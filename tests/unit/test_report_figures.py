"""The other figures of a report show the numbers they are given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from vitral.report.contact import MAX_CLASSES, contact_figure
from vitral.report.similarity import cosine_similarity, mosaic, similarity_figure
from vitral.report.style import png
from vitral.report.training import MAX_NUMBERED, confusion_figure, curves_figure, tokens_figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_confusion_matrix_shows_counts_as_numbers_and_shares_as_colours():
    matrix = np.array([[7, 0, 2], [0, 0, 0], [1, 3, 0]])
    figure = confusion_figure(matrix, ["a", "b", "c"])
    (axes,) = figure.axes
    assert isinstance(figure, Figure)
    share = np.array([[7 / 9, 0, 2 / 9], [0, 0, 0], [0.25, 0.75, 0]])
    np.testing.assert_allclose(axes.images[0].get_array(), np.sqrt(share))
    assert axes.images[0].get_clim() == (0, 1)
    written = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "7", (0, 2): "2", (2, 0): "1", (2, 1): "3"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_many_classes_get_colours_only():
    count = MAX_NUMBERED + 1
    (axes,) = confusion_figure(np.eye(count, dtype=int), [f"class {i}" for i in range(count)]).axes
    assert not axes.texts


@pytest.mark.parametrize("name", ["$\\frac$", "a$b", "$x$", "50% {b}", "\\alpha", "_^_"])
def test_a_class_may_be_called_anything(name):
    figure = confusion_figure(np.eye(2, dtype=int), [name, "b"])
    assert figure.axes[0].get_yticklabels()[0].get_text() == name
    assert png(figure, dpi=40)


def test_a_contact_sheet_has_a_row_of_its_own_images_for_each_class():
    labels = np.array([1, 0, 1, 1, 0])
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 4, 3), dtype=np.uint8)
    masks = np.zeros((5, 4, 4), dtype=bool)
    masks[:, 1:3, 1:3] = True
    figure = contact_figure(
        pixels, {"a": np.flatnonzero(labels == 0), "b": np.flatnonzero(labels == 1)}, masks, "shapes", columns=3
    )
    shown = [
        [int(axes.images[0].get_array()[0, 0, 0]) if axes.images else None for axes in figure.axes[row : row + 3]]
        for row in (0, 3)
    ]
    assert shown == [[1, 4, None], [0, 2, 3]]
    assert [bool(axes.collections) for axes in figure.axes] == [False, False, False, False, False, True]
    assert figure.get_suptitle() == "shapes; last column: outline of the exact mask"
    assert [figure.axes[0].get_ylabel(), figure.axes[3].get_ylabel()] == ["a", "b"]


def test_a_contact_sheet_says_how_many_classes_it_leaves_out():
    count = MAX_CLASSES + 3
    pixels, names = np.zeros((count, 2, 2, 3), dtype=np.uint8), [str(i) for i in range(count)]
    figure = contact_figure(pixels, {name: np.array([n]) for n, name in enumerate(names)}, None, "set", columns=1)
    assert len(figure.axes) == MAX_CLASSES
    assert figure.get_suptitle() == "set; 3 more classes not shown"


def test_curves_are_the_records():
    records = [
        dict(step=0, loss=2.0, accuracy=0.1, best=0.1),
        dict(step=20, train_loss=1.5, train_accuracy=0.4),
        dict(step=40, train_loss=0.5, train_accuracy=0.8),
        dict(step=40, loss=0.7, accuracy=0.75, best=0.75),
    ]
    loss, accuracy = curves_figure(records, "accuracy", 1 / 8).axes
    for axes, training, validation in ((loss, [1.5, 0.5], [2.0, 0.7]), (accuracy, [0.4, 0.8], [0.1, 0.75])):
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_array_equal(lines["training"].get_xydata(), np.transpose([[20, 40], training]))
        np.testing.assert_array_equal(lines["validation"].get_xydata(), np.transpose([[0, 40], validation]))
    assert any(list(line.get_ydata()) == [1 / 8, 1 / 8] for line in accuracy.lines)


def test_curves_of_a_run_too_short_to_have_any_are_drawn():
    assert png(curves_figure([dict(step=1, loss=2.0, accuracy=0.1, best=0.1)], "accuracy", 0.5), dpi=40)


def test_positions_are_compared_by_cosine_with_their_mean_taken_out():
    table = np.random.default_rng(0).normal(size=(2, 3, 8)) + 5
    found = cosine_similarity(table)
    flat = table.reshape(6, 8) - table.reshape(6, 8).mean(0)
    for i in range(6):
        for j in range(6):
            cosine = flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])
            assert found[i // 3, i % 3, j // 3, j % 3] == pytest.approx(cosine)
    assert found.min() < 0 < 1 == pytest.approx(found.max())


def test_the_similarity_figure_has_one_panel_per_table_with_a_map_at_each_patch():
    before, after = np.random.default_rng(0).normal(size=(2, 2, 3, 8))
    tables = {"before training": cosine_similarity(before), "after training": cosine_similarity(after)}
    panels = [axes for axes in similarity_figure(tables).axes if axes.images]
    assert [axes.get_title() for axes in panels] == list(tables)
    for axes, similarities in zip(panels, tables.values()):
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown, mosaic(similarities))
        assert axes.images[0].get_clim() == (-1, 1)
        for row in range(2):
            for column in range(3):
                top, left = row * 3, column * 4  # a map has 2 x 3 cells, and the line to the next is one cell wide
                own = shown[top : top + 2, left : left + 3]
                np.testing.assert_allclose(own, similarities[row, column])
                assert own[row, column] == pytest.approx(1)


def test_positions_that_are_all_alike_have_no_similarity_to_show():
    assert np.array_equal(cosine_similarity(np.ones((2, 2, 4))), np.zeros((2, 2, 2, 2)))


@pytest.mark.parametrize(("size", "patch"), [((8, 18), (4, 6)), ((48, 48), (8, 8)), ((8, 8), (2, 2)), ((8, 8), (4, 4))])
@pytest.mark.parametrize("prefix", [1, 3])
def test_the_tokens_figure_shows_the_image_its_patches_and_tokens_that_exist(size, patch, prefix):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    figure = tokens_figure(pixels, patch, prefix, 16)
    image, apart, sequence = figure.axes
    rows, columns = size[0] // patch[0], size[1] // patch[1]
    np.testing.assert_array_equal(image.images[0].get_array(), pixels)
    assert f"{rows} × {columns} = {rows * columns} patches" in apart.get_title()
    assert f"{rows * columns + prefix} tokens of 16 numbers" in sequence.get_title()
    pieces = [
        pixels[y * patch[0] : (y + 1) * patch[0], x * patch[1] : (x + 1) * patch[1]]
        for y in range(rows)
        for x in range(columns)
    ]
    positions = [int(text.removeprefix("+ p")) for text in texts(sequence) if text.startswith("+ p")]
    assert positions[:prefix] == list(range(prefix))
    assert texts(sequence).count("CLS") == 1
    assert max(positions) < rows * columns + prefix
    assert len(positions) == prefix + len(sequence.images)
    for picture, position in zip(sequence.images, positions[prefix:], strict=True):
        np.testing.assert_array_equal(picture.get_array(), pieces[position - prefix])
    assert png(figure, dpi=40)
