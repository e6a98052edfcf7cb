"""The grammar of MODEL: one string that names a model, wherever it comes from.

runs/shapes-1                          a run folder, or a Vitral file in any folder
runs/shapes-1/checkpoints/step-000200  a training checkpoint of a run
exported                               a folder that `vitral export` wrote
deit.pth,source=deit,trained_at=224    a published file or folder, with options after commas
hf:google/vit-base-patch16-224@main    a checkpoint on the Hugging Face hub, perhaps at a revision
timm:vit_tiny_patch16_224              a model of timm, with its weights; ,pretrained=false without
net.py:Net                             the reader's own module
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vitral.base.errors import ConfigError, UnknownName, UsageError
from vitral.base.lookup import nearest
from vitral.base.record import parse_task
from vitral.store import ARTIFACT, CHECKPOINT_PREFIX, CHECKPOINT_WEIGHTS
from vitral.store.code import is_code
from vitral.weights.reading.checkpoint_folder import holds_one, is_adapter, list_checkpoints

TIMM, HUB = "timm:", "hf:"
Kind = Literal["run", "training checkpoint", "published", "hub", "timm", "code"]


@dataclass(frozen=True)
class CheckpointSpec:
    """A parsed MODEL: what kind it is, where it is (a path, or a name after `timm:`), and its options by name."""

    kind: Kind
    location: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_published(self) -> bool:
        """Whether it is a checkpoint that someone published, as a file or on the hub, rather than a run."""
        return self.kind in ("published", "hub")


def parse_checkpoint_spec(spec: str | Path) -> CheckpointSpec:
    """Split a MODEL into its kind, location and options. A path that exists is never split at its commas.

    Raises `UsageError` for what is not a text or path, or is empty, `UnknownName` for a path that cannot exist,
    `ConfigError` for an option that does not exist, or a value that it does not take.

    >>> parse_checkpoint_spec("timm:vit_tiny_patch16_224,pretrained=false")
    CheckpointSpec(kind='timm', location='vit_tiny_patch16_224', options={'pretrained': False})
    """
    check_spec(spec)
    location, *items = [str(spec)] if Path(spec).exists() else str(spec).split(",")
    kind = kind_of(location)
    return CheckpointSpec(kind, location.removeprefix(TIMM), dict(map(parse_option, items)))


def check_spec(spec: object) -> None:
    """Raise `UsageError` for what names no model, whatever it is meant to be."""
    wanted = "Specify a run folder, a file, hf:OWNER/NAME, timm:NAME or file.py:Name."
    if not isinstance(spec, str | Path):
        raise UsageError(f"A model is specified by a string or a path, not by {named(spec)}. {wanted}")
    if not str(spec).strip():
        raise UsageError(f"{str(spec)!r} does not name a model. {wanted}")
    try:
        Path(spec).exists()
    except OSError as error:  # of a name that no file can have
        raise UnknownName(f"There is no model {str(spec)[:40]!r}...: {error.strerror}. {wanted}") from error


def named(value: object) -> str:
    """A value as a message calls it: None, 3, or the type of anything longer."""
    return repr(value) if value is None or isinstance(value, int | float) else f"a {type(value).__name__}"


def parse_option(item: str) -> tuple[str, Any]:
    """`num_heads=12` -> ("num_heads", 12)."""
    key, _, value = item.partition("=")
    if key not in OPTIONS:
        raise ConfigError(f"Unknown checkpoint option {key!r}.{nearest(key, OPTIONS)} Options: {', '.join(OPTIONS)}.")
    parse, example = OPTIONS[key]
    try:
        return key, parse(value)
    except ConfigError:
        raise
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{key}={value!r} cannot be parsed. Example: {key}={example}.") from error


def parse_size(text: str) -> tuple[int, int]:
    """`224`, or `224x320`: height and width."""
    height, across, width = text.partition("x")
    return int(height), int(width) if across else int(height)


def parse_numbers(text: str) -> tuple[float, ...]:
    """`0.5/0.4/0.3`: one number per channel."""
    return tuple(map(float, text.split("/")))


def parse_blocks(text: str) -> tuple[int, ...]:
    """`2/5/8/11`: one number per block."""
    return tuple(map(int, text.split("/")))


# How each option's value is parsed, and an example of one.
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = dict(
    source=(str, "deit"),
    base=(str, "hf:OWNER/NAME"),
    weights=(str, "state_dict_ema"),
    num_heads=(int, "12"),
    trained_at=(parse_size, "224x320"),
    grid=(parse_size, "14x20"),
    img_size=(parse_size, "384"),
    resampling=(str, "timm"),
    num_classes=(int, "0"),
    mean=(parse_numbers, "0.485/0.456/0.406"),
    std=(parse_numbers, "0.229/0.224/0.225"),
    crop=(float, "0.875"),
    crop_mode=(str, "center"),
    interpolation=(str, "bicubic"),
    sha256=(str, "HASH"),
    task=(parse_task, "several_classes"),
    window_size=(int, "14"),
    global_blocks=(parse_blocks, "2/5/8/11"),
    pretrained=({"true": True, "false": False}.__getitem__, "false"),
)


def kind_of(location: str) -> Kind:
    """Which kind of model a location names. What is none of the others is taken for a run, which may not exist."""
    if location.startswith(TIMM):
        return "timm"
    if location.startswith(HUB):
        return "hub"
    path = Path(location)
    if not path.is_dir() and is_code(location):
        return "code"
    if path.name.startswith(CHECKPOINT_PREFIX) and (path / CHECKPOINT_WEIGHTS).is_file():
        return "training checkpoint"
    return "published" if may_hold_checkpoint(path) else "run"


def may_hold_checkpoint(path: Path) -> bool:
    """Whether a path is a file or folder that may hold a published checkpoint, and is not a run of Vitral's."""
    if path.is_dir():
        is_run = any((path / name).is_file() for name in ("model.json", "config.yaml", ARTIFACT))
        return not is_run and (is_adapter(path) or holds_one(path) or bool(list_checkpoints(path)))
    return path.is_file() and not (path.parent / "model.json").is_file()
