"""Command lines to settings dataclasses and back: tyro reads them, `Option` has each one's sentence and range."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, TypeVar, get_args, get_origin

import tyro

from vitral.base.config import Option, check, options
from vitral.base.errors import UsageError
from vitral.base.lookup import nearest

Settings = TypeVar("Settings")
Defaults = Callable[[Mapping[str, Any]], dict[str, Any]]
HELP = ("-h", "--help")
# What other programs call an option, and what it is here: an option's name, or a sentence where there is none.
CALLED = {
    **dict.fromkeys(("learning-rate", "base-lr"), "lr"),
    **dict.fromkeys(("batch", "bs", "train-batch-size"), "batch-size"),
    **dict.fromkeys(("image-size", "imgsz", "input-size", "resolution"), "img-size"),
    **dict.fromkeys(("output", "output-dir", "save-dir", "project", "name"), "out"),
    **dict.fromkeys(("num-epochs", "num-train-epochs", "max-epochs"), "epochs"),
    **dict.fromkeys(("pretrained", "weights", "checkpoint", "finetune"), "init"),
    **dict.fromkeys(("data-dir", "data-path", "dataset", "train-dir"), "data"),
    **dict.fromkeys(("amp", "fp16", "bf16", "dtype"), "precision"),
    **dict.fromkeys(("workers", "num-workers", "threads"), "Images are read by threads, one per core."),
    **dict.fromkeys(("early-stopping", "early-stopping-patience"), "patience"),
    **dict.fromkeys(("model-ema", "model-ema-decay", "ema-decay"), "ema"),
    **dict.fromkeys(
        ("accum-iter", "grad-accum-steps", "gradient-accumulation-steps", "accumulate-grad-batches"), "accumulate"
    ),
    **dict.fromkeys(("time", "time-limit", "max-time"), "minutes"),
    **dict.fromkeys(("device", "gpu", "gpus", "cuda", "cpu"), "The GPU is used if PyTorch finds one."),
}


def parse(
    settings: type[Settings], arguments: Sequence[str], program: str, description: str, defaults: Defaults | None
) -> Settings:
    """The settings that a command line gives, checked; a wrong one ends the program with code 2 and a sentence.

    `defaults`, if a verb has it, gives the defaults that depend on the options given, which are read first then.
    """
    check_names(arguments, [name for name, (_, option) in options(settings).items() if not option.positional])
    if defaults is None and set(HELP) & set(arguments):
        read(dataclass_of(settings, {}), HELP[1:], program, description)  # with all words, tyro leaves out those given
    if defaults is None:
        values = vars(read(dataclass_of(settings, {}), arguments, program, description))
    else:
        # A TypedDict without totality holds only what was typed, so that presets can fill in the rest.
        typed: Any = TypedDict("Given", {name: kind for name, (kind, _) in fields(settings).items()}, total=False)
        off = {name: False for name, (kind, _) in options(settings).items() if kind is bool}  # or tyro offers --no-
        words = [word for word in arguments if word not in HELP]
        given = read(typed, words, program, description, off)
        values = defaults(given) | given
        if len(arguments) != len(words):
            read(dataclass_of(settings, values), HELP[1:], program, description)
    made = settings(**values)
    check(made)
    return made


def check_names(arguments: Sequence[str], known: Sequence[str]) -> None:
    """Raise `UsageError` for an option that does not exist, with what it is called here, or the nearest name."""
    names = [name.replace("_", "-") for name in known]
    for word in arguments:
        given = word.partition("=")[0].removeprefix("--").replace("_", "-")
        if not word.startswith("--") or word in ("--", *HELP) or given in names:
            continue
        meant = CALLED.get(given.lower(), "")
        if meant in names:
            advice = f" Did you mean --{meant}?"
        elif meant.endswith("."):
            advice = f" {meant}"
        else:
            advice = nearest(given, names).replace("'", "--", 1).replace("'", "")
        raise UsageError(f"There is no option --{given}.{advice}")


def read(kind: Any, arguments: Sequence[str], program: str, description: str, default: Any = None) -> Any:
    """What tyro reads for a type."""
    config, more = (tyro.conf.FlagCreatePairsOff,), {} if default is None else {"default": default}
    return tyro.cli(kind, args=list(arguments), prog=program, description=description, config=config, **more)


def dataclass_of(settings: type, given: Mapping[str, Any]) -> type:
    """A dataclass for tyro, with `given` as defaults before those of the settings."""
    made = []
    for name, (annotation, default) in fields(settings).items():
        default = given.get(name, default)
        field = dataclasses.field() if default is dataclasses.MISSING else dataclasses.field(default=default)
        made.append((name, annotation, field))
    return dataclasses.make_dataclass(settings.__name__, made, frozen=True, kw_only=True)


def fields(settings: type) -> dict[str, tuple[Any, Any]]:
    """Name -> (annotation for tyro, default) of each setting."""
    found = {}
    for name, (kind, option) in options(settings).items():
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        metavar = name.upper() if option.positional else f"{{{','.join(choices)}}}" if choices else None
        annotation = Annotated[
            str if choices else kind,  # the settings' own check knows the nearest choice, tyro does not
            tyro.conf.arg(help=help_of(option), metavar=metavar, help_behavior_hint=hint_of(option)),
        ]
        if option.positional:
            annotation = tyro.conf.Positional[annotation]
        found[name] = annotation, getattr(settings, name, dataclasses.MISSING)
    return found


def help_of(option: Option) -> str:
    return f"{option.sentence} Range: {option.range}." if option.range else option.sentence


def hint_of(option: Option) -> Callable[[str], str]:
    """What follows the sentence: the default, unless that is no value and the sentence states what happens then."""
    nothing = "" if "by default" in option.sentence else "(default: none)"
    return lambda label: nothing if label in ("", "None") else f"(default: {label})"


def command_line(verb: str, settings: Any) -> str:
    """The command that gives these settings, every option that is not at its default; `--json` is left out."""
    words, more = [], []
    for name, (_, option) in options(type(settings)).items():
        value = getattr(settings, name)
        values = [str(part) for part in value] if isinstance(value, tuple) else [] if value is True else [str(value)]
        if option.positional:
            words += values
        elif name != "json" and value != getattr(type(settings), name, dataclasses.MISSING):
            more += [f"--{name.replace('_', '-')}", *values]
    return shlex.join(["vitral", verb, *words, *more])
