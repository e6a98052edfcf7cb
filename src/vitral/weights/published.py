"""Load a published checkpoint as one of our models, with every tensor accounted for and every assumption recorded.

What the tensors do not show comes, in this order, from the caller's settings, the config beside the file, the table of
published sizes, and the source. How images are prepared has an order of its own: `vitral.weights.pixels`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from vitral.base.errors import ConfigError, StoreError
from vitral.base.lookup import find
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, Task, attach_record, number_classes, reading_notes
from vitral.nn.families import construct
from vitral.nn.patch import Size, pair
from vitral.store.classifier import Classifier
from vitral.store.training_images import attach_statistics
from vitral.weights.adapter import read_adapter
from vitral.weights.detection import ADJUSTABLE, Reading, check_contradictions, detect_source, read_as_source
from vitral.weights.pixels import (
    PIXELS,
    StatedPixels,
    Statement,
    check_supported,
    read_arguments,
    read_files,
    say,
    stated_pixels,
)
from vitral.weights.problem_type import task_of_config
from vitral.weights.reading.checkpoint_file import Checkpoint, read_checkpoint
from vitral.weights.reading.checkpoint_folder import is_adapter
from vitral.weights.reading.quantised import WAY_OUT
from vitral.weights.resize import adapt_tensors
from vitral.weights.vit import explaining_size

IMAGENET_CLASSES = 1000
ASSUMED_CLASSES = "the 1,000 classes are those of ImageNet-1k, in its order"


def load_published(
    path: str | Path,
    *,
    source: str | None = None,
    weights: str | None = None,
    base: str | None = None,
    sha256: str | None = None,
    resampling: str | None = None,
    trained_at: Size | None = None,
    grid: Size | None = None,
    any_size: bool = False,
    task: str | None = None,
    **overrides: Any,
) -> Classifier:
    """The model in a published file or folder, in eval mode, with its record.

    `source` names the format where several match, `weights` the set where a training script saved several, `base` the
    checkpoint that a LoRA adapter changes (its own config's by default), `sha256` the hash that the file must have.
    `trained_at` is the image size that the file's positions are for, `grid` that size in patches; `img_size` resamples
    them to another, by `resampling` or the source's own way; `any_size` does so for every image as it comes. An
    `img_size` that explains a table of positions exactly is the size that it is for, unless another is stated.
    `num_classes` gives a new head, or none with 0; `in_channels` folds or spreads the first kernel. `mean`, `std`,
    `crop`, `crop_mode` and `interpolation` replace the preprocessing that files state. `task` says what the outputs
    are, by default what the config's `problem_type` says: "one_class", "several_classes" or "numbers". Any other
    setting must be the checkpoint's own, where its tensors or config show it.

    Raises `UnknownName` if there is no such file, `StoreError` if it is damaged, not a checkpoint, or matches several
    formats, `ConfigError` for settings that contradict it.
    """
    checkpoint, found_source = detect_source(open_checkpoint(Path(path), base, sha256, weights), source)
    # The architecture is read at the size and number of classes that the file has; what may change, changes afterwards.
    given = {key: value for key, value in overrides.items() if key not in (*PIXELS, *ADJUSTABLE)}
    given |= {} if trained_at is None else {"img_size": pair(trained_at)}
    given |= {} if grid is None else {"grid": pair(grid)}
    given |= {"num_classes": overrides["num_classes"]} if "num_classes" in overrides else {}
    sizes = [pair(overrides["img_size"])] if "img_size" in overrides else []
    sizes += [statement.values["size"] for statement in read_arguments(checkpoint) if "size" in statement.values]
    reading = read_as_source(checkpoint, found_source, given, sizes)
    requested = {key: value for key, value in overrides.items() if key not in PIXELS}
    check_contradictions(reading.settings, requested)

    own_size = pair(reading.settings["img_size"])
    pixels = state_pixels(checkpoint, reading, {key: overrides[key] for key in PIXELS if key in overrides})
    requested.setdefault("img_size", pixels.values.get("size", own_size))
    family, settings = reading.source.family, reading.settings | requested
    resampling = resampling or reading.metadata.resampling
    tensors, changes = adapt_tensors(reading.tensors, reading.settings, requested, resampling)
    any_size = any_size and family == "vit"
    # A Swin takes any size as it is.
    model = construct("any_size", **settings, resampling=resampling) if any_size else construct(family, **settings)
    copy_weights(model, tensors, reading.source.name)

    size, config = pair(model.config["img_size"]), model.config
    stated = {key: value for key, value in pixels.values.items() if key != "size"}
    preprocessing, channel_changes = complete_preprocessing(size, config["in_channels"], stated)
    task_read, assumed_task = task_of_config(checkpoint.config, config["num_classes"], task)
    classes, assumed_classes = name_classes(reading, config["num_classes"], task_read)
    # What the publisher's code does to another size is news only where the size is not the trained one.
    is_resized = size != own_size
    assumed = (
        *checkpoint.assumed,
        *reading.metadata.assumed,
        *pixels.notes,
        *assumed_task,
        *assumed_classes,
        *changes,
        *channel_changes,
        *reading.source.known_discrepancies(config),
        *(reading.source.export_notes(config) if is_resized else ()),
    )
    dropped = checkpoint.dropped | reading.dropped
    provenance = {
        "source": reading.source.name,
        "file": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "resampling": resampling,
        "assumed": list(assumed),
        "dropped": dropped,
    }
    notes = reading_notes(reading.source.name, assumed, dropped)
    record = ModelRecord(classes, preprocessing, task_read, provenance=provenance, notes=notes)
    return attach_statistics(attach_record(model, record), checkpoint.folder, checkpoint.sha256).eval()


def open_checkpoint(path: Path, base: str | None, sha256: str | None, weights: str | None) -> Checkpoint:
    """A checkpoint's file or folder; a LoRA adapter merged into its base.

    Raises `ConfigError` for a base of what is not an adapter.
    """
    if is_adapter(path):
        from vitral.weights.hub import fetch

        rules: Any = find("weights.sources", "hugging_face", "source").rules
        return read_adapter(path, base, fetch, rules)
    if base is not None:
        raise ConfigError(f"base={base} applies to LoRA adapters only, and {path} is not one: leave it out.")
    return read_checkpoint(path, sha256, weights)


def trusted_size(statement: Statement, reading: Reading) -> Statement:
    """The statement; without its size if it is a guess at what a script's argument means, and fits no positions.

    Arguments such as `input_size` may be of another part of the model than its images.
    """
    size = statement.values.get("size")
    if size is None or statement.is_certain or "pos_embed" not in reading.tensors:
        return statement
    if explaining_size(reading.tensors, [size]) is not None:
        return statement
    rows = reading.tensors["pos_embed"].shape[1]
    option = f"specify img_size={size[0]}x{size[1]} if images have that size"
    words = f"size {say(size)} does not fit {rows} positions and is not used; {option}"
    values = {name: value for name, value in statement.values.items() if name != "size"}
    return replace(statement, values=values, assumed=(*statement.assumed, words))


def state_pixels(checkpoint: Checkpoint, reading: Reading, options: Mapping[str, Any]) -> StatedPixels:
    """How images are prepared: the caller's `options`, what files state, and the format's own way for the rest.

    Raises `StoreError` for what `Preprocessing` cannot express.
    """
    metadata, size = reading.metadata, pair(reading.settings["img_size"])
    files = [trusted_size(each, reading) for each in read_files(checkpoint, size, reading.settings["in_channels"])]
    found = stated_pixels([*files, Statement("config.json", metadata.pixels)])
    unstated = [name for name in PIXELS if name not in found.values and name not in options]
    defaults = {name: getattr(Preprocessing(**metadata.preprocessing), name) for name in unstated}
    values = found.values | dict(options) | defaults
    check_supported(values)
    if not unstated:
        return StatedPixels(values, found.notes)
    listed = ", ".join(f"{name} {say(defaults[name])}" for name in unstated)
    words = f"preprocessing that no file or option states: {listed}, {metadata.preprocessing_words}"
    return StatedPixels(values, (*found.notes, words))


@torch.no_grad()
def copy_weights(model: nn.Module, tensors: Mapping[str, Tensor], format: str) -> None:
    """Put all tensors into the model, and account for every tensor and every parameter but those of a new head.

    Raises `StoreError`, naming the source's `format`, for a tensor that is missing, left over, of another shape, or not
    of real numbers.
    """
    own = model.state_dict()
    # Models without a qkv bias (qkv_bias=False) are ours with a bias of zero: the same function.
    zero_biases = {name for name in own if name.endswith("attn.qkv.bias") and name not in tensors}
    has_head = any(name.startswith("head.") for name in tensors)
    new_head = set() if has_head else {name for name in own if name.startswith("head.")}
    missing = [name for name in own if name not in tensors and name not in zero_biases | new_head]
    extra = [name for name in tensors if name not in own]
    if quantised := [tensor.dtype for tensor in tensors.values() if not tensor.is_floating_point()]:
        kind = str(quantised[0]).removeprefix("torch.")
        raise StoreError(f"The checkpoint is quantised: it has weights of dtype {kind} without scales. {WAY_OUT}")
    if missing or extra:
        problems = (("lacks", missing), ("has the unused tensors", extra))
        listed = " and ".join(
            f"{verb} {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}" for verb, found in problems if found
        )
        raise StoreError(f"Read as {format}, the checkpoint {listed}.")
    if wrong := next((name for name in tensors if own[name].shape != tensors[name].shape), None):
        raise StoreError(
            f"{wrong} has shape {tuple(tensors[wrong].shape)} in the checkpoint; the model that the other tensors "
            f"describe has {tuple(own[wrong].shape)}."
        )
    for name in zero_biases:
        own[name].zero_()
    if all(tensor.dtype == torch.float64 for tensor in tensors.values()):
        model.double()  # as it was saved: rounding to single precision would change its outputs
    try:
        model.load_state_dict({**own, **tensors}, strict=True)
    except RuntimeError as error:
        raise StoreError(
            f"The tensors do not fit the model that was built from their shapes: {str(error).splitlines()[-1].strip()}"
        ) from error


def name_classes(reading: Reading, count: int, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the model's classes, from the config, ImageNet's 1,000, or by number; and what was assumed for it."""
    stated = reading.metadata.classes
    if len(stated) == count and stated != tuple(f"LABEL_{index}" for index in range(count)):  # transformers' default
        return stated, ()
    if count == IMAGENET_CLASSES == reading.settings["num_classes"] and task == "one class":
        return imagenet_classes(), (ASSUMED_CLASSES,)
    return number_classes(count, task), ()


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The classes of ImageNet-1k in the order of their WordNet numbers, as every published head has: tench, ...

    Russakovsky et al. 2015, §3.1. A class's name is the first lemma of its synset in WordNet 3.0 (Princeton University
    2006), or one more where two synsets share it.
    """
    return tuple(files("vitral.weights").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines())


def complete_preprocessing(
    size: tuple[int, int], channels: int, stated: Mapping[str, Any]
) -> tuple[Preprocessing, tuple[str, ...]]:
    """How images are prepared for a model of so many channels, and what was done for that, in words.

    Raises `StoreError` for a mean or a standard deviation that pixels cannot have.
    """
    for name in ("mean", "std"):
        values = stated.get(name, (0.5,))
        if not all(isinstance(value, int | float) for value in values) or (name == "std" and min(values) <= 0):
            raise StoreError(
                f"{name}={values} is not valid: it needs one number per channel, and std must be above zero."
            )
    given: dict[str, Any] = {"size": size} | {key: value for key, value in stated.items() if value is not None}
    found = Preprocessing(**given)
    changes: tuple[str, ...] = ("images are converted to luminance, for the one channel",) if channels == 1 else ()
    if (count := len(found.mean)) != channels:
        changes += (
            f"mean and std of {count} channels converted to {channels}: averaged for one channel, otherwise repeated",
        )
    mean, std = (match_channels(values, channels) for values in (found.mean, found.std))
    return replace(found, mean=mean, std=std), changes


def match_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value per channel: averaged for a single one, else repeated in turn."""
    if channels == 1 < len(values):
        return (fmean(values),)
    return tuple(values[channel % len(values)] for channel in range(channels))
