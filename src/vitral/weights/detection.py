"""Find the one source whose format a checkpoint is in, and read the checkpoint's tensors in its names."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from vitral.base.errors import ConfigError, StoreError, VitralError
from vitral.base.lookup import find, names
from vitral.base.preprocessing import Preprocessing
from vitral.nn.patch import pair
from vitral.weights.config_check import check_against_tensors, settings_in_tensors
from vitral.weights.head_layer import rename_head
from vitral.weights.pixels import is_of_timms_script, read_files
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import match_names, rename_to_ours
from vitral.weights.source import CheckpointMetadata, Source
from vitral.weights.vit import explaining_size, require_tensor
from vitral.weights.wrapper import accounts_for, unplaced_names, unwrap

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


def detect_source(checkpoint: Checkpoint, name: str | None) -> tuple[Checkpoint, Source]:
    """The source called `name`, or the only one that recognises the checkpoint; and the checkpoint out of its wrapper.

    Raises `UnknownName` for a name that does not exist, `StoreError` if no source or several recognise the checkpoint.
    """
    every = names("weights.sources")
    sources: list[Source] = [find("weights.sources", each, "source") for each in (every if name is None else [name])]
    candidates = recognising(checkpoint, sources, name)
    if not any(accounts_for(source, checkpoint, True) for source in candidates):
        checkpoint = unwrap(checkpoint, sources, name is not None)
        candidates = recognising(checkpoint, sources, name)
    if not candidates:
        some = ", ".join(sorted(checkpoint.tensors)[:5])
        raise StoreError(
            f"{checkpoint.path} is not in a format that Vitral reads ({', '.join(every)}). First tensors: {some}. Save "
            "the state_dict of the model alone, or build the model in a file.py:Name that loads it."
        )
    if len(candidates) > 1 and (chosen := choose_by_pixels(checkpoint, candidates)) is not None:
        return checkpoint, chosen
    if len(candidates) > 1:
        # The same names are the same function, but the wrong preprocessing makes answers worse without a sign of it.
        raise StoreError(
            f"{checkpoint.path} matches several formats ({', '.join(one.name for one in candidates)}) that differ in "
            f"preprocessing; specify source=..., such as {checkpoint.path.name},source={candidates[0].name} on the "
            f"command line or source={candidates[0].name!r} in Python."
        )
    return checkpoint, candidates[0]


def recognising(checkpoint: Checkpoint, sources: Sequence[Source], name: str | None) -> list[Source]:
    """The sources that recognise a checkpoint; the one that is named, whatever is in the file."""
    if name is not None:
        return list(sources)
    return [one for one in sources if one.may_match(checkpoint) and one.recognises(checkpoint)]


def choose_by_pixels(checkpoint: Checkpoint, candidates: Sequence[Source]) -> Source | None:
    """One of several sources, if files state all in which they differ, or timm's own script wrote the checkpoint."""
    theirs = next((one for one in candidates if one.name.endswith("timm")), None)
    if theirs is not None and is_of_timms_script(checkpoint.arguments):
        return theirs
    ways = [asdict(Preprocessing(**metadata_from(one, checkpoint).preprocessing)) for one in candidates]
    stated = {name for statement in read_files(checkpoint, (1, 1)) for name in statement.values}
    open_names = {name for name in ways[0] if len({str(way[name]) for way in ways}) > 1} - stated
    return None if open_names else theirs or candidates[0]


def read_as_source(
    checkpoint: Checkpoint, source: Source, given: Mapping[str, Any], sizes: Sequence[tuple[int, int]] = ()
) -> Reading:
    """The checkpoint in our names, with the settings of the model that its tensors are of.

    `given` are the caller's settings; they come before those that the config or the format states, and must agree with
    the tensors. Of `sizes`, for which the model may have been trained, the first that explains the table of positions
    exactly counts where nothing states one. Raises `StoreError` for tensors that have no place in the model,
    `ConfigError` for a contradiction.
    """
    metadata = metadata_from(source, checkpoint)
    theirs = source.prepare(checkpoint.tensors)
    is_replaced = given.get("num_classes") is not None
    theirs, assumed, dropped = rename_head(theirs, source.rules(theirs), unplaced_names(source, theirs), is_replaced)
    ours, used = rename_to_ours(source.rules(theirs), theirs)
    unused = [name for name in theirs if name not in used]
    dropped |= {
        name: reason for name in unused for template, reason in source.dropped.items() if match_names(template, [name])
    }
    if unknown := [name for name in unused if name not in dropped]:
        raise StoreError(
            f"{checkpoint.path}, read as {source.name}, has tensors that have no place in the model: "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}. Save the state_dict of the model alone, "
            "or build the model in a file.py:Name that loads it."
        )
    given = {name: value for name, value in given.items() if name != "num_classes"}
    given = with_grid(given, ours)
    stated = metadata.settings | given
    check_contradictions(metadata.settings, given)
    if "img_size" not in stated and (size := explaining_size(ours, sizes)) is not None:
        stated["img_size"] = size
        assumed.append(
            f"the positions are for images of {size[0]} x {size[1]}, whose number of patches fits; if that is wrong, "
            "specify trained_at=..."
        )
    complete = source.complete(ours, stated)
    # First without the caller's settings: what the tensors show must not be hidden by what it is compared with.
    check_contradictions(
        source.settings(complete, {key: stated[key] for key in NOT_IN_TENSORS if key in stated}), given
    )
    settings = source.settings(complete, stated)
    check_against_tensors(metadata.stated, settings_in_tensors(complete, settings))
    words = DEDUCED[source.family]
    assumed += [line.format(settings[key]) for key, line in words.items() if key not in stated and key in settings]
    assumed += [PADDED_TABLES] if any(complete[name].shape != tensor.shape for name, tensor in ours.items()) else []
    metadata = replace(metadata, assumed=(*metadata.assumed, *assumed))
    return Reading(source, complete, settings, metadata, dropped)


def with_grid(given: Mapping[str, Any], ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings with the image size of a `grid` in its place. Raises `ConfigError` for another size beside it."""
    settings = dict(given)
    if (grid := settings.pop("grid", None)) is None:
        return settings
    rows, columns = pair(grid)
    patch = require_tensor(ours, "patch_embed.proj.weight").shape[2:]
    size = (rows * patch[0], columns * patch[1])
    trained_at = settings.setdefault("img_size", size)
    if (trained_at[0] // patch[0], trained_at[1] // patch[1]) != (rows, columns):
        raise ConfigError(
            f"grid={rows}x{columns} is for images of {size[0]} x {size[1]}, with patches of {patch[0]} x {patch[1]}, "
            f"but trained_at={trained_at[0]}x{trained_at[1]}. Specify one of the two."
        )
    return settings


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
