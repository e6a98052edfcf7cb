"""Data is named the same everywhere, and a wrong name gets the nearest right one."""

from pathlib import Path

import pytest

from vitral.base.errors import ConfigError, UnknownName
from vitral.data import BUILT_IN
from vitral.data.dataset import Dataset
from vitral.data.folder import ImageFolder
from vitral.data.spec import built_in_sets, find_data


def test_the_help_texts_list_every_built_in_set():
    assert set(BUILT_IN) == set(built_in_sets())


@pytest.mark.parametrize("spec", ["shapes", "digits", "shapes:", "shapes:n=8", "shapes:size=64,n=100,noise=0.1"])
def test_a_built_in_set_is_named_with_its_options(spec):
    assert isinstance(find_data(spec), Dataset)


def test_options_reach_the_data():
    data = find_data("shapes:size=24,n=16")
    assert data.preprocessing.size == (24, 24)
    assert data.train.pixels.shape == (16, 24, 24, 3)


def test_a_folder_is_its_path(tmp_path):
    assert find_data(str(tmp_path)) == ImageFolder(tmp_path)


def test_a_folder_and_a_table_take_options_for_labels(tmp_path):
    table = tmp_path / "labels.csv"
    table.touch()
    folder = find_data(f"{tmp_path}:task=several_classes,label=cat+dog,separator=semicolon")
    assert folder == ImageFolder(tmp_path, None, "several classes", ("cat", "dog"), ";")
    assert find_data(str(table)) == ImageFolder(tmp_path, table)
    assert find_data(f"{table}:task=numbers") == ImageFolder(tmp_path, table, "numbers")
    with pytest.raises(ConfigError, match=r"A folder has no option 'tasks'\. Did you mean 'task'"):
        find_data(f"{tmp_path}:tasks=numbers")
    with pytest.raises(
        ConfigError, match="task=counting is not a task: it must be one of one_class, several_classes, num"
    ):
        find_data(f"{tmp_path}:task=counting")


def test_a_folder_whose_name_has_a_colon_is_itself(tmp_path):
    (tmp_path / "a:task=numbers").mkdir()
    assert find_data(str(tmp_path / "a:task=numbers")) == ImageFolder(tmp_path / "a:task=numbers")


def test_a_folder_with_the_name_of_a_built_in_set_is_named_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shapes").mkdir()
    assert isinstance(find_data("shapes"), Dataset)
    assert find_data("./shapes") == ImageFolder(Path("shapes"))


@pytest.mark.parametrize(
    ("wrong", "right"), [("shape", "shapes"), ("Shapes", "shapes"), ("digit", "digits"), ("digtis:seed=1", "digits")]
)
def test_a_wrong_name_gets_the_nearest_right_one(wrong, right):
    message = f"There is no data set or folder '{wrong}'. Did you mean '{right}'"
    with pytest.raises(UnknownName, match=message) as caught:
        find_data(wrong)
    assert "shapes" in str(caught.value) and "digits" in str(caught.value)


def test_a_file_is_no_data_set(tmp_path):
    file = tmp_path / "table.txt"
    file.touch()
    with pytest.raises(UnknownName, match=r"is a file, not a data set\. Specify a folder"):
        find_data(str(file))


@pytest.mark.parametrize(("wrong", "right"), [("sizes=4", "size"), ("nois=0.1", "noise"), ("rotate=3", "rotation")])
def test_a_wrong_option_gets_the_nearest_right_one(wrong, right):
    with pytest.raises(ConfigError, match=rf"shapes has no option .* Did you mean '{right}'\?.*contrast"):
        find_data(f"shapes:{wrong}")


@pytest.mark.parametrize("item", ["n=many", "n=1.5", "n", "n=", "noise=loud", "seed=0x"])
def test_an_option_of_the_wrong_type_is_refused_with_an_example(item):
    with pytest.raises(ConfigError, match=rf"must be of type (int|float), as in shapes:.*; found '{item}'"):
        find_data(f"shapes:{item}")


def test_an_option_given_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        find_data("shapes:n=8,n=16")
