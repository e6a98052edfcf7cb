"""Settings are frozen dataclasses; a file of settings is the same dataclass as YAML.

Each field says what it means and which values it takes where it is declared:

    epochs: Annotated[int, Option("Passes over the training images.", low=1)] = 12

and the command line, the checks and the files are all read from there.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vitral.base.errors import ConfigError, StoreError
from vitral.base.lookup import nearest


@dataclass(frozen=True)
class Option:
    """One sentence on a setting, and its range (both ends included); `positional` if it is typed without its name."""

    sentence: str
    low: int | float | None = None
    high: int | float | None = None
    positional: bool = False

    @property
    def range(self) -> str:
        """The range in words; empty where any value goes."""
        match self.low, self.high:
            case None, None:
                return ""
            case low, None:
                return f"at least {low:,}"
            case None, high:
                return f"at most {high:,}"
            case low, high:
                return f"{low:,} to {high:,}"

    def contains(self, value: int | float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def options(settings: type) -> dict[str, tuple[Any, Option]]:
    """Field name -> (type, `Option`) of a settings class, in order."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: get_args(hints[field.name]) for field in fields(settings)}


def check(settings: Any) -> None:
    """Raise `ConfigError` for a value of the wrong type or outside its range; call it from `__post_init__`."""
    for name, (kind, option) in options(type(settings)).items():
        check_value(name, getattr(settings, name), kind, option)


def check_value(name: str, value: Any, kind: Any, option: Option) -> None:
    """Raise `ConfigError` unless a setting of this type and range may have the value."""
    if value is None and type(None) in get_args(kind):
        return
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            close = nearest(str(value), get_args(kind))
            raise ConfigError(f"{name}={value!r} does not fit: it takes one of {', '.join(get_args(kind))}.{close}")
        return
    wanted = [part for part in get_args(kind) if part is not type(None)]
    plain = wanted[0] if wanted and get_origin(kind) is not tuple else kind
    if not _is(value, get_origin(plain) or plain):
        raise ConfigError(
            f"{name}={value!r} does not fit: it takes a value of type {getattr(plain, '__name__', plain)}."
        )
    if isinstance(value, int | float) and not option.contains(value):
        raise ConfigError(f"{name}={value} is out of range: it takes {option.range}.")


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def read_settings(path: Path, settings: type) -> dict[str, Any]:
    """The settings a YAML file gives, by name.

    Raises `StoreError` if it cannot be read, `ConfigError` for a key that `settings` does not have or a value that it
    does not take.
    """
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(given, dict):
        raise StoreError(f"{path} holds no settings: it should have lines like 'epochs: 10'.")
    known = options(settings)
    for key in given:
        if key not in known:
            raise ConfigError(f"{path} sets {key!r}, which is no setting.{nearest(str(key), known)}")
        kind, option = known[key]
        if kind is float and isinstance(given[key], str):
            given[key] = number(given[key])
        if get_origin(kind) is tuple and isinstance(given[key], list):
            given[key] = tuple(given[key])
        try:
            check_value(key, given[key], kind, option)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return given


def number(text: str) -> float | str:
    """YAML 1.1 takes 1e-3, without a point, for text; people do not."""
    try:
        return float(text)
    except ValueError:
        return text


def to_yaml(settings: Any) -> str:
    """The settings as YAML, in the order they are declared."""
    import yaml

    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    return yaml.safe_dump(plain, sort_keys=False)
