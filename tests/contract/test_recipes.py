"""Every named recipe: settings that a run can have, which options override, and which the guide explains."""

from pathlib import Path

import pytest

from vitral.base.errors import ConfigError, UnknownName
from vitral.nn.zoo import MODELS
from vitral.tasks.plan_run import make_recipe
from vitral.training.recipe import PRESETS, find_recipe, recipe_names

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "recipes.md").read_text(encoding="utf-8")


@pytest.fixture(params=recipe_names())
def name(request):
    return request.param


def made(name, **settings):
    start = {"init": "run"} if "adapt" in find_recipe(name) else {}
    return make_recipe(name, data="photos", **start, **settings)


def test_it_stands_above_the_data_and_below_what_is_given(name):
    settings = find_recipe(name)
    found = made(name)
    assert {key: getattr(found, key) for key in settings} == settings
    assert made(name, epochs=3, lr=0.5).epochs == 3 and made(name, lr=0.5).lr == 0.5
    others = PRESETS["folder"].keys() - settings.keys() - {"model"}
    assert all(getattr(found, key) == PRESETS["folder"][key] for key in others)


def test_its_model_exists(name):
    assert find_recipe(name).get("model", "vit_nano_patch8_48") in MODELS


def test_the_guide_has_its_settings(name):
    """Each with its value, as it is typed."""
    _, found, section = PAGE.partition(f"\n## `{name}`\n")
    assert found
    section = section.partition("\n## ")[0]
    for key, value in find_recipe(name).items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        assert f"`--{key.replace('_', '-')} {shown}`" in section, key


def test_one_that_adapts_needs_a_start():
    with pytest.raises(ConfigError, match="--recipe fine-tune adapts a trained model"):
        make_recipe("fine-tune", data="photos")


@pytest.mark.parametrize("new", [name for name in recipe_names() if "model" in find_recipe(name)])
def test_one_that_trains_a_new_model_takes_no_start(new):
    """Its learning rate would undo what the model has learned."""
    with pytest.raises(ConfigError, match=f"--recipe {new} trains a new model"):
        make_recipe(new, data="photos", init="run")


def test_a_name_that_does_not_exist():
    with pytest.raises(UnknownName, match="Did you mean 'small'"):
        make_recipe("smalls")
