"""Things are found by name; the folder is the registry."""

import pytest

from vitral.base.errors import UnknownName
from vitral.base.lookup import check_name, find, import_object, names, nearest, object_path
from vitral.explain.methods.attention import attention


def test_a_folder_offers_its_files_sorted():
    found = names("explain.methods")
    assert "attention" in found
    assert found == sorted(found)
    assert not any(name.startswith("_") for name in found)


def test_a_file_defines_what_it_is_named_after():
    assert find("explain.methods", "attention", "method") is attention


@pytest.mark.parametrize("name", ["attenttion", "attentions", "ATTENTION"])
def test_an_unknown_name_gives_the_nearest(name):
    with pytest.raises(UnknownName) as caught:
        find("explain.methods", name, "method")
    message = str(caught.value)
    assert message.startswith(f"There is no method {name!r}. Did you mean 'attention'?")
    assert "Available: " in message


def test_when_nothing_is_near_nothing_is_suggested():
    with pytest.raises(UnknownName) as caught:
        check_name("zzzz", ["rollout", "attention"], "method")
    assert str(caught.value) == "There is no method 'zzzz'. Available: attention, rollout."


def test_a_known_name_passes():
    check_name("rollout", ["rollout"], "method")


@pytest.mark.parametrize(
    ("name", "words"), [("rolout", " Did you mean 'rollout'?"), ("Rollout", " Did you mean 'rollout'?"), ("q", "")]
)
def test_the_nearest_name_is_a_question(name, words):
    assert nearest(name, ["rollout", "attention"]) == words


def test_the_path_of_a_part_is_where_it_is_defined():
    assert object_path(attention) == "explain.methods.attention:attention"
    assert object_path(int) == "builtins:int"
    assert object_path(3).endswith(":3")


@pytest.mark.parametrize(
    "path", ["explain.methods.attention:attention", "os:system", "nn.vit:Attention", "nn.vit:F", "x"]
)
def test_only_what_a_file_within_the_folder_defines_is_found(path):
    with pytest.raises(UnknownName, match="is not a part of Vitral"):
        import_object(path, within="nn")
