"""How a checkpoint's images are prepared: every file that states it, in one order, and where they disagree.

    1. an option of the caller       `mean=...`, `img_size=...`
    2. the image processor's file    `preprocessor_config.json`, under any of its names
    3. training arguments            in the checkpoint, as its script saved them
    4. `config.json`                 beside the checkpoint
    5. the format's own way          as the authors of the format prepare images

For each value the first that states it counts; two files that state different values are reported with both.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from vitral.base.errors import StoreError
from vitral.base.preprocessing import CropMode, Interpolation
from vitral.weights.image_processor import is_number, is_side, preprocessing_from_processor, unstated_values
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.reading.checkpoint_folder import read_json

# Files of image processors: transformers 5 nests its own in the first; the others are of other ages and libraries.
NESTED = "processor_config.json"
FLAT = ("preprocessor_config.json", "image_processor_config.json", "feature_extractor_config.json")
PLAIN = ("preprocess.json", "preprocessing.json", "preprocess_config.json", "preprocess_cfg.json")
OPEN_CLIP = "open_clip_config.json"
PROCESSOR_FILES = (NESTED, *FLAT, OPEN_CLIP, *PLAIN)
INSIDE = ("image_processor", "feature_extractor", "preprocess_cfg")

# Words of training scripts and of plain files for our values, in the order in which they are looked for.
WORDS: dict[str, tuple[str, ...]] = dict(
    size=("input_size", "img_size", "image_size", "imgsz", "resolution", "val_crop_size", "crop_size", "size"),
    mean=("mean", "image_mean", "img_mean", "pixel_mean", "norm_mean"),
    std=("std", "image_std", "img_std", "pixel_std", "norm_std"),
    crop=("crop_pct", "eval_crop_ratio", "crop_ratio"),
    crop_mode=("crop_mode", "resize_mode"),
    interpolation=("interpolation", "resample"),
)
RESIZED = ("val_resize_size", "resize_size")  # torchvision's words for the shorter side before the crop
MODES = {"shortest": "center"}  # open_clip's word -> ours
WHITE, LARGEST_STD = 255, 2  # the largest pixel; and a deviation that only pixels from 0 to 255 have
ABSENT = object()
PIXELS = ("mean", "std", "crop", "crop_mode", "interpolation")


@dataclass(frozen=True)
class Statement:
    """The values that one `origin` states, under the names of `Preprocessing`; and in words, what it leaves open.

    What a file states that is for nothing else `is_certain`; a script's arguments are named as its author liked.
    """

    origin: str
    values: Mapping[str, Any]
    assumed: tuple[str, ...] = ()
    is_certain: bool = True


@dataclass(frozen=True)
class StatedPixels:
    """The first value that any file states, by name, and in words what was assumed, or stated otherwise elsewhere."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_processor(folder: Path, side: tuple[int, int] | None, channels: int, model_type: str) -> list[Statement]:
    """A statement per processor file in a folder. Raises `StoreError` for what `Preprocessing` cannot express."""
    found = []
    for name in PROCESSOR_FILES:
        content = read_json(folder / name)
        inner = next((content[key] for key in INSIDE if isinstance(content.get(key), Mapping)), None)
        if inner is None and (not content or name in (NESTED, OPEN_CLIP)):
            continue  # of a processor for several kinds of input, which states images elsewhere
        stated = content if inner is None else inner
        if is_of_transformers(name, stated):
            prepared = asdict(preprocessing_from_processor(stated, side, channels, model_type))
            found.append(Statement(name, prepared, unstated_values(stated, model_type)))
        else:
            check_plain(stated, name)
            found.append(plain_statement(stated, name))
    return found


def read_arguments(checkpoint: Checkpoint) -> list[Statement]:
    """A statement per mapping of training arguments in a checkpoint that says how images are prepared."""
    found = [plain_statement(content, origin) for origin, content in checkpoint.arguments.items()]
    is_certain = is_of_timms_script(checkpoint.arguments)
    return [replace(statement, is_certain=is_certain) for statement in found if statement.values]


def read_files(checkpoint: Checkpoint, side: tuple[int, int] | None, channels: int = 3) -> list[Statement]:
    """What processor files beside a checkpoint, then its training arguments, state."""
    model_type = str(checkpoint.config.get("model_type"))
    return [*read_processor(checkpoint.folder, side, channels, model_type), *read_arguments(checkpoint)]


def is_of_timms_script(arguments: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether timm's training script saved a checkpoint: with the model's name, and its own options for images."""
    saved = arguments.get("the checkpoint", {}), arguments.get("the checkpoint's args", {})
    return isinstance(saved[0].get("arch"), str) and {"mean", "std", "crop_pct"} <= saved[1].keys()


def is_of_transformers(name: str, content: Mapping[str, Any]) -> bool:
    """Whether a file has the words of a processor of transformers."""
    own = any(key.startswith(("do_", "image_", "rescale_")) or key.endswith("_type") for key in content)
    return own or (name in (NESTED, *FLAT) and not {"mean", "std"} & content.keys())


def plain_statement(content: Mapping[str, Any], origin: str) -> Statement:
    """Our values from the words of training scripts and plain files; what is None, empty or of another kind is left.

    Statistics of whole pixels are divided by 255.
    """
    found: dict[str, Any] = {}
    content = {key.lower(): value for key, value in content.items()}
    for name, words in WORDS.items():
        values = (PARSE.get(name, parse_word)(content.get(word)) for word in words)
        if (value := next((value for value in values if value is not None), None)) is not None:
            found[name] = value
    resized = next((content[word] for word in RESIZED if is_side(content.get(word))), None)
    if resized is not None and "size" in found and "crop" not in found:
        found["crop"] = min(found["size"]) / resized
    if max(found.get("std", (0,))) <= LARGEST_STD:
        return Statement(origin, found)
    found |= {name: tuple(value / WHITE for value in found[name]) for name in ("mean", "std") if name in found}
    return Statement(origin, found, ("mean and std are of pixels from 0 to 255",))


def check_plain(content: Mapping[str, Any], origin: str) -> None:
    """Raise `StoreError` for a value of another kind than `plain_statement` reads, in a file that is for nothing else.

    Only how images are cropped and resampled may be left open, as None.
    """
    for name, words in WORDS.items():
        for word in words:
            value = content.get(word, ABSENT)
            may_be_none = name not in ("mean", "std", "size")
            if value is ABSENT or (value is None and may_be_none):
                continue
            if PARSE.get(name, parse_word)(value) is None:
                raise StoreError(f"{origin} has {word}={value!r}; it must be {EXPECTED[name]}. Correct the file.")


def parse_side(value: Any) -> tuple[int, int] | None:
    """(height, width) from one number, two, or channels before two."""
    if is_side(value):
        return value, value
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge")
        value = (value.get("height", edge), value.get("width", edge))
    if isinstance(value, list | tuple) and len(value) in (2, 3) and all(map(is_side, value)):
        return tuple(value[-2:])
    return None


def parse_channels(value: Any) -> tuple[float, ...] | None:
    if isinstance(value, list | tuple) and value and all(map(is_number, value)):
        return tuple(map(float, value))
    return None


def parse_crop(value: Any) -> float | None:
    return float(value) if is_number(value) and value > 0 else None


def parse_word(value: Any) -> str | None:
    """`bicubic` of "bicubic", "BICUBIC" or "InterpolationMode.BICUBIC"."""
    if not isinstance(value, str) or not value:
        return None
    word = value.rpartition(".")[2].lower()
    return MODES.get(word, word)


PARSE: dict[str, Callable[[Any], Any]] = dict(size=parse_side, mean=parse_channels, std=parse_channels, crop=parse_crop)
EXPECTED = dict(size="one whole number, or two", mean="one number per channel", std="one number per channel")
EXPECTED |= dict(crop="a number above zero", crop_mode="a word", interpolation="a word")


def stated_pixels(statements: Sequence[Statement]) -> StatedPixels:
    """The first value of each name, and the disagreements. Raises `StoreError` for one that is not supported."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    notes: list[str] = []
    for statement in statements:
        for name, value in statement.values.items():
            if name not in values:
                values[name], origins[name] = value, statement.origin
            elif not agree(name, values[name], value):
                both = f"{name} {say(values[name])}, as {origins[name]} states"
                notes.append(f"{both}; {statement.origin} states {say(value)}")
        notes += [f"{statement.origin}: {words}" for words in statement.assumed]
    return StatedPixels(values, tuple(notes))


def agree(name: str, one: Any, other: Any) -> bool:
    """Whether two values are the same; a crop may differ by the rounding of one pixel."""
    if name == "crop":
        return math.isclose(one, other, abs_tol=0.005)
    if name in ("mean", "std"):
        # One value stands for every channel.
        count = max(len(one), len(other))
        widened = (values * count if len(values) == 1 else values for values in (one, other))
        return all(math.isclose(*pair, abs_tol=1e-3) for pair in zip(*widened, strict=False))
    return bool(one == other)


def say(value: Any) -> str:
    """A value as a note has it: `224 x 224`, or `0.5/0.4/0.3` per channel."""
    if isinstance(value, tuple):
        whole = all(isinstance(each, int) for each in value)
        return (" x " if whole else "/").join(f"{each:.6g}" for each in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def check_supported(values: Mapping[str, Any]) -> None:
    """Raise `StoreError` for an interpolation or crop mode that `Preprocessing` does not have."""
    for name, supported in (("interpolation", get_args(Interpolation)), ("crop_mode", get_args(CropMode))):
        if name in values and values[name] not in supported:
            raise StoreError(
                f"The checkpoint's images are prepared with {name}={values[name]!r}; supported: "
                f"{', '.join(supported)}. Specify the nearest: {name}={supported[-1]!r}."
            )
    if not 0 < values.get("crop", 1) <= 1:
        raise StoreError(
            f"The checkpoint's images are prepared with crop={values['crop']}, which pads them; supported: above 0 to "
            "1. Specify the nearest: crop=1.0."
        )
