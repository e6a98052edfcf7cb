"""Which way to adapt a few trials speak for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vitral
from vitral.base.answers.numbers import NumberFigures
from vitral.base.answers.one_class import ClassFigures
from vitral.base.answers.several_classes import LabelFigures
from vitral.base.numerics import choose
from vitral.base.record import ModelRecord, attach_record
from vitral.data.spec import find_data
from vitral.training.feature_statistics import draw
from vitral.training.recipe import Recipe
from vitral.training.trial import choose_way, difference, take_trial

LABELS = np.zeros(400, np.int64)


def right(share, first=0):
    """Figures of 400 images, of which so large a share is answered correctly, from number `first` on."""
    is_right = np.roll(np.arange(400) < round(share * 400), first)
    return ClassFigures(np.where(is_right[:, None], [0.9, 0.1], [0.1, 0.9]), LABELS)


def test_the_best_is_chosen_if_it_is_better_by_more_than_the_noise():
    way, why = choose_way({"probe": right(0.5), "lora": right(0.7), "full": right(0.6)}, 400)
    assert way == "lora" and why.startswith("lora: better than probe by 0.200 ± 0.0") and "than full by 0.100" in why


def test_the_cheapest_is_chosen_of_those_within_the_noise():
    close = {"probe": right(0.5), "lora": right(0.695, first=200), "full": right(0.7)}
    way, why = choose_way(close, 400)
    assert way == "lora" and "full is better by only 0.005, within the noise of ±0.0" in why
    way, why = choose_way({"probe": right(0.7), "full": right(0.7)}, 400)
    assert way == "probe" and why.startswith("probe: better than full by 0.000 ± 0.000, which is within the noise")
    assert choose_way({"full": right(0.5)}, 400) == ("full", "full: the only one that could be tried")


def test_the_noise_is_that_of_the_same_images():
    """Two ways that fail on the same images differ by less noise than two that fail on different ones."""
    gap, paired = difference(right(0.8), right(0.75), 400)
    other, unpaired = difference(right(0.8), right(0.75, first=100), 400)
    assert gap == other == pytest.approx(0.05)
    assert paired == pytest.approx((0.05 * 0.95 / 400) ** 0.5, rel=0.15)  # 20 images of 400 decide
    assert unpaired > 2 * paired


def test_a_single_image_tells_nothing():
    one = ClassFigures(np.array([[0.9, 0.1]]), LABELS[:1])
    two = ClassFigures(np.array([[0.1, 0.9]]), LABELS[:1])
    assert choose_way({"probe": two, "full": one}, 1)[0] == "probe"


def test_the_figure_on_some_images_is_that_of_those_images():
    rng = np.random.default_rng(0)
    values, some = rng.random((30, 3)), rng.integers(30, size=20)
    labels = rng.integers(3, size=30)
    for figures, own in (
        (ClassFigures(values, labels), ClassFigures(values[some], labels[some])),
        (NumberFigures(values, values**2), NumberFigures(values[some], values[some] ** 2)),
        (
            LabelFigures(values, values.round() > 0, (0.5,) * 3),
            LabelFigures(values[some], values[some].round() > 0, (0.5,) * 3),
        ),
    ):
        assert figures.value_on(some) == pytest.approx(own.value)
        assert figures.value_on(np.arange(30)) == pytest.approx(figures.value)


@pytest.mark.parametrize("adapt", ["probe", "lora", "full"])
def test_a_trial_leaves_no_trace_and_is_the_same_each_time(adapt):
    whole = find_data("shapes:n=32,size=16")
    data = replace(whole, read=lambda name: draw(whole.split(name), 20))
    model = vitral.create("vit_nano_patch8_48", img_size=16, num_classes=len(data.classes))
    attach_record(model, ModelRecord(data.classes, data.preprocessing))
    recipe = Recipe(data="shapes", init="run", adapt=adapt, batch_size=16)
    numerics = choose("float32", "never", 64, 0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random, modules = torch.get_rng_state(), list(model.modules())
    first, second = (take_trial(model, data, recipe, numerics, 3) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    assert torch.equal(torch.get_rng_state(), random) and list(model.modules()) == modules
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    untrained = take_trial(model, data, recipe, numerics, 0)
    assert not np.array_equal(untrained.values, first.values)
