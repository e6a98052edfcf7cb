"""Find the one source whose format a checkpoint is in, and read the checkpoint's tensors in its names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vitral.base.errors import ConfigError, StoreError, VitralError
from vitral.base.lookup import find, names
from vitral.weights.checkpoint_file import Checkpoint
from vitral.weights.config_check import check_against_tensors, settings_in_tensors
from vitral.weights.rules import match_names, rename_to_ours
from vitral.weights.source import CheckpointMetadata, Source

# What is deduced from the tensors' shapes where nothing states it, and could have been otherwise.
DEDUCED = {
    "vit": {
        "num_heads": "{} heads, as in the published model of this width and depth",
        "img_size": "images of {}, for a square grid of patches",
    },
    "swin": {"img_size": "images of {}, the smallest with whole windows in all stages; img_size sets another size"},
}
PADDED_TABLES = "bias tables of windows reduced to their feature map are zero-padded: exact at the trained size only"
ADJUSTABLE = ("img_size", "num_classes", "in_channels", "drop_path_rate")  # settings that may differ from the file's
NOT_IN_TENSORS = ("num_heads", "img_size", "position", "pool")  # no tensor shows them, yet the sizes depend on them


@dataclass(frozen=True)
class Reading:
    """A checkpoint as one source reads it: our tensors, the model's settings, what was stated, and what was dropped."""

    source: Source
    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    metadata: CheckpointMetadata
    dropped: dict[str, str]


def detect_source(checkpoint: Checkpoint, name: str | None) -> Source:
    """The source called `name`, or the only one that recognises the checkpoint.

    Raises `UnknownName` for a name that does not exist, `StoreError` if no source or several recognise the checkpoint.
    """
    available = names("weights.sources")
    if name is not None:
        return find("weights.sources", name, "source")
    sources: list[Source] = [find("weights.sources", each, "source") for each in available]
    candidates = [one for one in sources if one.may_match(checkpoint) and one.recognises(checkpoint)]
    if not candidates:
        some = ", ".join(sorted(checkpoint.tensors)[:5])
        raise StoreError(
            f"{checkpoint.path} is not in a format that Vitral reads ({', '.join(available)}). First tensors: {some}."
        )
    if len(candidates) > 1:
        # The same names are the same function, but the wrong preprocessing makes answers worse without a sign of it.
        raise StoreError(
            f"{checkpoint.path} matches several formats ({', '.join(one.name for one in candidates)}) that differ in "
            f"preprocessing; specify source=..., such as {checkpoint.path.name},source={candidates[0].name} on the "
            f"command line or source={candidates[0].name!r} in Python."
        )
    return candidates[0]


def read_as_source(checkpoint: Checkpoint, source: Source, given: Mapping[str, Any]) -> Reading:
    """The checkpoint in our names, with the settings of the model that its tensors are of.

    `given` are the caller's settings; they come before those that the config or the format states, and must agree with
    the tensors. Raises `StoreError` for tensors that have no place in the model, `ConfigError` for a contradiction.
    """
    metadata = metadata_from(source, checkpoint)
    theirs = source.prepare(checkpoint.tensors)
    ours, used = rename_to_ours(source.rules(theirs), theirs)
    unused = [name for name in theirs if name not in used]
    dropped = {
        name: reason for name in unused for template, reason in source.dropped.items() if match_names(template, [name])
    }
    if unknown := [name for name in unused if name not in dropped]:
        raise StoreError(
            f"{checkpoint.path}, read as {source.name}, has tensors that have no place in the model: "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}."
        )
    stated = metadata.settings | dict(given)
    check_contradictions(metadata.settings, given)
    complete = source.complete(ours, stated)
    # First without the caller's settings: what the tensors show must not be hidden by what it is compared with.
    check_contradictions(
        source.settings(complete, {key: stated[key] for key in NOT_IN_TENSORS if key in stated}), given
    )
    settings = source.settings(complete, stated)
    check_against_tensors(metadata.stated, settings_in_tensors(complete, settings))
    words = DEDUCED[source.family]
    assumed = [line.format(settings[key]) for key, line in words.items() if key not in stated and key in settings]
    assumed += [PADDED_TABLES] if any(complete[name].shape != tensor.shape for name, tensor in ours.items()) else []
    metadata = replace(metadata, assumed=(*metadata.assumed, *assumed))
    return Reading(source, complete, settings, metadata, dropped)


def metadata_from(source: Source, checkpoint: Checkpoint) -> CheckpointMetadata:
    """The source's metadata. Raises `StoreError` for a config whose values are of other types than the source reads."""
    try:
        return source.metadata(checkpoint)
    except VitralError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise StoreError(
            f"The config beside {checkpoint.path} does not have the format of {source.name}: {error}."
        ) from error


def check_contradictions(settings: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a requested setting that contradicts the checkpoint, with both values."""
    for name, value in requested.items():
        found = settings.get(name)
        # A part's class is not compared: the caller may name the exact one where the tensors only show its shape.
        if name not in ADJUSTABLE and found is not None and found != value and not callable(found):
            raise ConfigError(f"{name}={value} was requested, but the checkpoint has {name}={found}.")
