"""Command lines from settings dataclasses: tyro reads them, our `Option` says what each means and its range."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import tyro

from vitral.base.config import Option, options

Settings = TypeVar("Settings")
Defaults = Callable[[Sequence[str]], dict[str, Any]]


def parse(
    settings: type[Settings], arguments: Sequence[str], program: str, description: str, defaults: Defaults | None
) -> Settings:
    """The settings that a command line gives; a wrong one ends the program with code 2 and a sentence.

    `defaults`, if a verb has them, looks at the command line first for what its defaults depend on.
    """
    given = defaults(arguments) if defaults else {}
    fields = []
    for name, (kind, option) in options(settings).items():
        default = given.get(name, getattr(settings, name, dataclasses.MISSING))
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        shown = name.upper() if option.positional else f"{{{','.join(choices)}}}" if choices else None
        annotation = Annotated[
            str if choices else kind,  # the settings' own check knows the nearest choice, tyro does not
            tyro.conf.arg(help=described(option), metavar=shown),
        ]
        if option.positional:
            annotation = tyro.conf.Positional[annotation]
        field = dataclasses.field() if default is dataclasses.MISSING else dataclasses.field(default=default)
        fields.append((name, annotation, field))
    made = dataclasses.make_dataclass(settings.__name__, fields, frozen=True, kw_only=True)
    parsed: Any = tyro.cli(
        made, args=list(arguments), prog=program, description=description, config=(tyro.conf.FlagCreatePairsOff,)
    )
    return settings(**{name: getattr(parsed, name) for name, _, _ in fields})


def described(option: Option) -> str:
    return f"{option.sentence} Range: {option.range}." if option.range else option.sentence


def value_of(arguments: Sequence[str], name: str) -> str | None:
    """What a command line gives for an option, before it is parsed: `--name value` or `--name=value`, the last one."""
    found = None
    for place, word in enumerate(arguments):
        if word == name and place + 1 < len(arguments):
            found = arguments[place + 1]
        if word.startswith(f"{name}="):
            found = word.removeprefix(f"{name}=")
    return found
