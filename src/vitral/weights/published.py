"""Load a published checkpoint as one of our models, with every tensor accounted for and every assumption recorded.

What the tensors do not show comes, in this order, from the caller's settings, the config beside the file, the table of
published sizes, and the source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record, number_classes, reading_notes
from vitral.nn.families import construct
from vitral.nn.patch import Size, pair
from vitral.store.classifier import Classifier
from vitral.weights.checkpoint_file import read_checkpoint
from vitral.weights.detection import ADJUSTABLE, Reading, check_contradictions, detect_source, read_as_source
from vitral.weights.fill import copy_weights

PIXELS = ("mean", "std", "crop", "crop_mode", "interpolation")


def load_published(
    path: str | Path,
    *,
    source: str | None = None,
    weights: str | None = None,
    sha256: str | None = None,
    resampling: str | None = None,
    trained_at: Size | None = None,
    any_size: bool = False,
    **overrides: Any,
) -> Classifier:
    """The model in a published file or folder, in eval mode, with its record.

    `source` names the format where several match, `weights` the set where a training script saved several, `sha256` the
    hash that the file must have. `trained_at` is the image size that the file's positions are for; `img_size` resamples
    them to another, by `resampling` or the source's own way; `any_size` does so for every image as it comes.
    `num_classes` gives a new head, or none with 0; `in_channels` folds or spreads the first kernel. `mean`, `std`,
    `crop`, `crop_mode` and `interpolation` replace the source's preprocessing. Any other setting must be the
    checkpoint's own, where its tensors or config show it.

    Raises `UnknownName` if there is no such file, `StoreError` if it is damaged, not a checkpoint, or matches several
    formats, `ConfigError` for settings that contradict it.
    """
    checkpoint = read_checkpoint(Path(path), sha256, weights)
    given = {key: value for key, value in overrides.items() if key not in (*PIXELS, *ADJUSTABLE)}
    given |= {} if trained_at is None else {"img_size": pair(trained_at)}
    reading = read_as_source(checkpoint, detect_source(checkpoint, source), given)
    requested = {key: value for key, value in overrides.items() if key not in PIXELS}
    check_contradictions(reading.settings, requested)

    family, settings = reading.source.family, reading.settings | requested
    resampling = resampling or reading.metadata.resampling
    tensors = reading.tensors
    changes: list[str] = []
    if any(
        settings[key] != reading.settings[key] for key in requested if key in ADJUSTABLE and key in reading.settings
    ):
        from vitral.weights.resize import adapt_tensors

        tensors, changes = adapt_tensors(tensors, reading.settings, requested, resampling)
    any_size = any_size and family == "vit"
    model = construct("any_size", **settings, resampling=resampling) if any_size else construct(family, **settings)
    copy_weights(model, tensors, reading.source.name)

    size, config = pair(model.config["img_size"]), model.config
    stated = reading.metadata.preprocessing | {key: overrides[key] for key in PIXELS if key in overrides}
    preprocessing, channel_changes = complete_preprocessing(size, config["in_channels"], stated)
    classes, assumed_classes = name_classes(reading, config["num_classes"])
    is_resized = size != pair(reading.settings["img_size"])
    assumed = (
        *checkpoint.assumed,
        *reading.metadata.assumed,
        *assumed_classes,
        *changes,
        *channel_changes,
        *reading.source.known_discrepancies(config),
        *(reading.source.export_notes(config) if is_resized else ()),
    )
    provenance = {
        "source": reading.source.name,
        "file": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "resampling": resampling,
        "assumed": list(assumed),
        "dropped": checkpoint.dropped | reading.dropped,
    }
    notes = reading_notes(reading.source.name, assumed, checkpoint.dropped | reading.dropped)
    return attach_record(model, ModelRecord(classes, preprocessing, provenance=provenance, notes=notes)).eval()


def name_classes(reading: Reading, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the model's classes, from the config, ImageNet's 1,000, or by number; and what was assumed for it."""
    stated = reading.metadata.classes
    if len(stated) == count and stated != tuple(f"LABEL_{index}" for index in range(count)):  # transformers' default
        return stated, ()
    from vitral.weights.imagenet import ASSUMED, COUNT, imagenet_classes

    if count == COUNT == reading.settings["num_classes"]:
        return imagenet_classes(), (ASSUMED,)
    return number_classes(count), ()


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
