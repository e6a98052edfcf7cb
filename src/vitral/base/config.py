"""Settings are frozen dataclasses; a settings file is the same dataclass as YAML.

Each field is declared with its meaning and its range, from which the command line, the checks and the files are made:

    epochs: Annotated[int, Option("Passes over the training images.", low=1)] = 12
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vitral.base.errors import ConfigError, StoreError
from vitral.base.lookup import nearest


@dataclass(frozen=True)
class Option:
    """A sentence about a setting, and its range (both ends included); a `positional` one is typed without its name.

    >>> Option("Passes over the training images.", low=1, high=100_000).range
    '1 to 100,000'
    """

    sentence: str
    low: int | float | None = None
    high: int | float | None = None
    positional: bool = False

    @property
    def range(self) -> str:
        """The range in words; empty where every value is allowed."""
        if self.low is not None and self.high is not None:
            return f"{self.low:,} to {self.high:,}"
        if self.low is not None:
            return f"at least {self.low:,}"
        return "" if self.high is None else f"at most {self.high:,}"

    def contains(self, value: int | float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def options(settings: type) -> dict[str, tuple[Any, Option]]:
    """Field name -> (type, `Option`) of a settings class, in the order of declaration."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: get_args(hints[field.name]) for field in fields(settings)}


def check(settings: Any) -> None:
    """Raise `ConfigError` for a value of the wrong type or out of range; call it from `__post_init__`.

    >>> from typing import Annotated
    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     epochs: Annotated[int, Option("Passes over the training images.", low=1)] = 12
    ...     def __post_init__(self) -> None:
    ...         check(self)
    >>> Settings(epochs=0)
    Traceback (most recent call last):
    vitral.base.errors.ConfigError: epochs=0 is out of range: it must be at least 1.
    """
    for name, (kind, option) in options(type(settings)).items():
        check_value(name, getattr(settings, name), kind, option)


def check_value(name: str, value: Any, kind: Any, option: Option) -> None:
    """Raise `ConfigError` unless the value has this type and lies in the option's range."""
    if value is None and type(None) in get_args(kind):
        return
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            close = nearest(str(value), get_args(kind))
            raise ConfigError(f"{name}={value!r} is not valid: it must be one of {', '.join(get_args(kind))}.{close}")
        return
    # The type without None: `int | None` is checked as int; the arguments of tuple[int, ...] are not alternatives.
    alternatives = [part for part in get_args(kind) if part is not type(None)]
    required = alternatives[0] if alternatives and get_origin(kind) is not tuple else kind
    if not has_type(value, get_origin(required) or required):
        raise ConfigError(
            f"{name}={value!r} is not valid: it must be of type {getattr(required, '__name__', required)}."
        )
    if isinstance(value, int | float) and not option.contains(value):
        raise ConfigError(f"{name}={value} is out of range: it must be {option.range}.")


def has_type(value: Any, kind: type) -> bool:
    """`isinstance`, except that an int is a float, and a bool is not a number."""
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def read_settings(path: Path, settings: type) -> dict[str, Any]:
    """Read the settings in a YAML file, by name; those that it leaves out are not in the result.

    Raises `StoreError` if the file cannot be read, `ConfigError` for a key that `settings` does not have, or a value
    that is not valid for it.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(values, dict):
        raise StoreError(f"{path} contains no settings. Write lines such as 'epochs: 10'.")
    known = options(settings)
    for key in values:
        if key not in known:
            raise ConfigError(f"{path} sets {key!r}, which is not a setting.{nearest(str(key), known)}")
        kind, option = known[key]
        if kind is float and isinstance(values[key], str):
            values[key] = parse_number(values[key])
        if get_origin(kind) is tuple and isinstance(values[key], list):
            values[key] = tuple(values[key])
        try:
            check_value(key, values[key], kind, option)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return values


def parse_number(text: str) -> float | str:
    """The number that a text spells, or the text: YAML 1.1 reads 1e-3, which has no point, as text."""
    try:
        return float(text)
    except ValueError:
        return text


def to_yaml(settings: Any) -> str:
    """The settings as YAML, in the order of declaration."""
    import yaml

    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    return yaml.safe_dump(plain, sort_keys=False)
