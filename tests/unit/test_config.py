"""Settings are checked where they are declared, and a file of them is the same settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.config import Option, check, options, read_settings, to_yaml
from vitral.base.errors import ConfigError, StoreError


@dataclass(frozen=True)
class Settings:
    epochs: Annotated[int, Option("Passes.", low=1, high=9)] = 2
    rate: Annotated[float, Option("Speed.", low=0)] = 0.5
    name: Annotated[str, Option("What it is called.")] = "x"
    kind: Annotated[Literal["fast", "yes", "slow"], Option("How.")] = "fast"
    size: Annotated[int | None, Option("Side.", high=100)] = None
    layers: Annotated[tuple[int, ...], Option("Which.")] = ()
    on: Annotated[bool, Option("Whether.")] = False
    place: Annotated[Path | None, Option("Where.")] = None

    def __post_init__(self):
        check(self)


@pytest.mark.parametrize(
    "given",
    [
        dict(epochs=1),
        dict(epochs=9),
        dict(rate=0),
        dict(rate=1e9),
        dict(kind="slow"),
        dict(size=None),
        dict(size=100),
        dict(size=-5),
        dict(layers=(1, 2)),
        dict(on=True),
        dict(place=Path("a")),
    ],
    ids=str,
)
def test_values_inside_the_range_are_taken(given):
    settings = Settings(**given)
    assert all(getattr(settings, name) == value for name, value in given.items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(epochs=0), "epochs=0 is out of range: it must be 1 to 9."),
        (dict(epochs=10), "epochs=10 is out of range: it must be 1 to 9."),
        (dict(rate=-0.1), "rate=-0.1 is out of range: it must be at least 0."),
        (dict(rate=float("nan")), "rate=nan is out of range: it must be at least 0."),
        (dict(size=101), "size=101 is out of range: it must be at most 100."),
        (dict(epochs=1.5), "epochs=1.5 is not valid: it must be of type int."),
        (dict(epochs="2"), "epochs='2' is not valid: it must be of type int."),
        (dict(epochs=True), "epochs=True is not valid: it must be of type int."),
        (dict(epochs=None), "epochs=None is not valid: it must be of type int."),
        (dict(rate="fast"), "rate='fast' is not valid: it must be of type float."),
        (dict(rate=True), "rate=True is not valid: it must be of type float."),
        (dict(kind="medium"), "kind='medium' is not valid: it must be one of fast, yes, slow."),
        (dict(kind=True), "kind=True is not valid: it must be one of fast, yes, slow."),
        (dict(size="big"), "size='big' is not valid: it must be of type int."),
        (dict(on=1), "on=1 is not valid: it must be of type bool."),
        (dict(name=3), "name=3 is not valid: it must be of type str."),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused_with_what_does(given, message):
    with pytest.raises(ConfigError) as caught:
        Settings(**given)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (Option("x"), ""),
        (Option("x", low=1), "at least 1"),
        (Option("x", high=0.5), "at most 0.5"),
        (Option("x", low=0, high=1_000_000), "0 to 1,000,000"),
    ],
)
def test_a_range_is_said_in_words(option, words):
    assert option.range == words


@given(value=st.floats(-10, 10), low=st.none() | st.integers(-5, 0), high=st.none() | st.integers(1, 5))
def test_both_ends_belong_to_the_range(value, low, high):
    option = Option("x", low=low, high=high)
    inside = (low is None or low <= value) and (high is None or value <= high)
    assert option.contains(value) is inside
    assert all(option.contains(end) for end in (low, high) if end is not None)


def test_options_are_read_from_the_declarations_in_order():
    found = options(Settings)
    assert list(found) == ["epochs", "rate", "name", "kind", "size", "layers", "on", "place"]
    assert found["epochs"] == (int, Option("Passes.", low=1, high=9))


@given(
    settings=st.builds(
        Settings,
        epochs=st.integers(1, 9),
        rate=st.floats(0, 1e6),
        name=st.text("abcdefyesno: #-'\"\n0.", max_size=12),
        kind=st.sampled_from(["fast", "yes", "slow"]),
        size=st.none() | st.integers(-100, 100),
        on=st.booleans(),
    )
)
def test_settings_come_back_from_yaml_as_they_went(settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "settings.yaml"
    path.write_text(to_yaml(settings), encoding="utf-8")
    given = read_settings(path, Settings)
    assert list(given) == list(options(Settings))
    assert Settings(**given) == settings


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (to_yaml(Settings(layers=(3, 1))), Settings(layers=(3, 1))),
        ("rate: 1e-3\n", Settings(rate=0.001)),
        ("# nothing yet\n", Settings()),
    ],
    ids=["tuples", "a number as people write it", "nothing"],
)
def test_a_file_may_hold_also(tmp_path, content, settings):
    (tmp_path / "s.yaml").write_text(content)
    found = read_settings(tmp_path / "s.yaml", Settings)
    assert Settings(**found) == settings and (found == {}) == (settings == Settings())


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("epohcs: 3", ConfigError, "sets 'epohcs', which is not a setting. Did you mean 'epochs'?"),
        ("12: 3", ConfigError, "sets 12, which is not a setting"),
        ("epochs: 12", ConfigError, "epochs=12 is out of range: it must be 1 to 9"),
        ("epochs: many", ConfigError, "epochs='many' is not valid: it must be of type int"),
        ("rate: fast", ConfigError, "rate='fast' is not valid"),
        ("kind: slwo", ConfigError, "must be one of fast, yes, slow. Did you mean 'slow'?"),
        ("- a\n- b", StoreError, "contains no settings. Write lines such as 'epochs: 10'"),
        ("just words", StoreError, "contains no settings"),
        ("a: [1", StoreError, "is not YAML"),
        ("a: !!python/object/apply:os.system ['true']", StoreError, "is not YAML"),
    ],
)
def test_a_file_that_is_no_settings_is_refused(tmp_path, content, error, message):
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(error) as caught:
        read_settings(path, Settings)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"none\.yaml cannot be read: No such file"):
        read_settings(tmp_path / "none.yaml", Settings)
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        read_settings(tmp_path, Settings)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(StoreError, match="is not YAML"):
        read_settings(tmp_path / "b.yaml", Settings)
