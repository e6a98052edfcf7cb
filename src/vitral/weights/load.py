"""A published checkpoint as a model of ours, with every tensor accounted for and every assumption said.

What the tensors do not say comes, in this order, from the user's own settings, the config beside the file, the table of
published sizes, and the source. Two readings that both fit are not chosen between.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitral.base.errors import ConfigError, StoreError, UnknownName, VitralError
from vitral.base.lookup import check_name, find, names, nearest
from vitral.nn.family.resample import resample_positions
from vitral.nn.patch import Size, pair
from vitral.nn.zoo import construct
from vitral.store.classifier import Classifier
from vitral.store.model import dress
from vitral.store.model import load as load_run
from vitral.weights.architecture import Known, preprocessing_of
from vitral.weights.claims import check_claims, seen
from vitral.weights.hub import fetched, is_hub
from vitral.weights.imagenet import ASSUMED, COUNT, imagenet
from vitral.weights.reading import Contents, read
from vitral.weights.rules import inward, matched
from vitral.weights.source import Source

# What is taken from the tensors' shapes where nothing says it, and could have been otherwise.
DEDUCED = {
    "vit": {
        "num_heads": "{} heads, as the published model of this width and depth",
        "img_size": "images of {}, for a square grid of patches",
    },
    "swin": {"img_size": "images of {}, the least whose maps are whole windows: trained_at says another size"},
}
CUT = "tables of biases of windows that were cut to their maps have zeros for what lies beyond: exact as trained only"
FREE = ("img_size", "num_classes", "in_channels", "drop_path_rate")  # what may differ from the checkpoint
UNSEEN = ("num_heads", "img_size", "position", "pool")  # what no tensor says, and without which sizes cannot be read
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")  # of checkpoints, by which a missing one is told from a run
PIXELS = ("mean", "std", "crop", "crop_mode", "interpolation")


@dataclass(frozen=True)
class Reading:
    """A checkpoint read as one source's: our tensors, settings, and what was said, assumed and left out."""

    source: Source
    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    known: Known
    dropped: dict[str, str]


def load(path: str | Path, code: str | None = None, **overrides: Any) -> Classifier:
    """A run folder or a checkpoint in it as it is, or a published checkpoint as `published` reads it, in eval mode.

    `hf:OWNER/NAME@REVISION` is one on the hub. What a published file does not say can be said behind its path:
    `deit.pth,source=deit,trained_at=224`. Raises what `store.model.load`, `fetched` and `published` raise, and
    `ConfigError` for overrides of a run.
    """
    path, said = told(path)
    overrides = said | overrides
    if is_hub(str(path)):
        model = published(fetched(str(path)), **overrides)
        model.provenance["file"] = str(path)
        return model
    if is_published(path):
        return published(path, **overrides)
    if not Path(path).exists() and Path(path).suffix in SUFFIXES:
        raise UnknownName(f"There is no file {path}.")
    if overrides and Path(path).exists():
        raise ConfigError(
            f"{path} is a run of Vitral's, which is loaded as it was trained: {', '.join(overrides)} cannot be changed."
        )
    return load_run(path, code)


def told(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """A path, and what is said after it: `PATH,source=NAME,num_heads=N,trained_at=HEIGHTxWIDTH`.

    Raises `ConfigError` for what cannot be said so.
    """
    text = str(path)
    name, *rest = text.split(",")
    if not rest or Path(text).exists():
        return Path(path), {}
    said: dict[str, Any] = {}
    for item in rest:
        key, _, value = item.partition("=")
        if key not in SAID:
            raise ConfigError(
                f"{item!r} says nothing about a checkpoint.{nearest(key, SAID)} Known: {', '.join(SAID)}."
            )
        try:
            said[key] = SAID[key](value)
        except ValueError as error:
            raise ConfigError(f"{key}={value!r} is not understood: as in {EXAMPLES[key]}.") from error
    return Path(name), said


def size_of(text: str) -> tuple[int, int]:
    """`224`, or `224x320`: height and width."""
    height, across, width = text.partition("x")
    return int(height), int(width) if across else int(height)


SAID: dict[str, Callable[[str], Any]] = dict(
    source=str, weights=str, num_heads=int, trained_at=size_of, img_size=size_of, resampling=str, sha256=str
)
EXAMPLES = dict(num_heads="num_heads=12", trained_at="trained_at=224x320", img_size="img_size=384")


def sources() -> list[Source]:
    return [find("weights.sources", name, "source") for name in names("weights.sources")]


def published(
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
    """The model in a published file or folder, in eval mode, with classes, preprocessing and provenance.

    `img_size` makes its positions fit another size than the one it was `trained_at`, by `resampling` or the source's
    own way; with `any_size` that is done for every image as it comes. `num_classes` gives it a new head, or none with
    0; `in_channels` folds or spreads its first kernel. Other settings must be the checkpoint's own, where the tensors
    or a config say it. `weights` says which are meant, where a training script saved several. `mean`, `std`, `crop`,
    `crop_mode` and `interpolation` say how its pixels were prepared.

    Raises `UnknownName` if there is no such file, `StoreError` if it is damaged, no checkpoint, or could be read in two
    ways, `ConfigError` for settings that contradict it.
    """
    contents = read(Path(path), sha256, weights)
    own = {key: value for key, value in overrides.items() if key not in (*PIXELS, *FREE)}
    own |= {} if trained_at is None else {"img_size": pair(trained_at)}
    reading = only_reading(contents, source, own)
    settings = dict(reading.settings)
    wanted = {key: value for key, value in overrides.items() if key not in PIXELS}
    contradicted(settings, wanted)
    how = resampling or reading.known.resampling
    tensors, changes = fitted(reading.tensors, settings, wanted, how)
    as_they_come: dict[str, Any] = dict(resampling=how) if any_size and reading.source.family == "vit" else {}
    model = construct("any_size" if as_they_come else reading.source.family, **(settings | wanted | as_they_come))
    filled(model, tensors, reading)
    said = reading.known.preprocessing | {key: overrides[key] for key in PIXELS if key in overrides}
    preprocessing, as_channels = preprocessing_of(pair(model.config["img_size"]), model.config["in_channels"], said)
    count = model.config["num_classes"]
    classes, assumed = classes_of(reading, count)
    resized = pair(model.config["img_size"]) != pair(settings["img_size"])
    provenance = {
        "source": reading.source.name,
        "file": contents.path.name,
        "sha256": contents.sha256,
        "resampling": how,
        "assumed": [
            *contents.assumed,
            *reading.known.assumed,
            *assumed,
            *changes,
            *as_channels,
            *reading.source.unlike(model.config),
            *(reading.source.told(model.config) if resized else ()),
        ],
        "dropped": contents.dropped | reading.dropped,
    }
    return dress(model, classes, preprocessing, provenance).eval()


def classes_of(reading: Reading, count: int) -> tuple[list[str], list[str]]:
    """What the answers are called: as a config says, as of ImageNet, or by number; and what was assumed."""
    said = list(reading.known.classes)
    if len(said) == count and said != [f"LABEL_{k}" for k in range(count)]:
        return said, []
    if count == COUNT == reading.settings["num_classes"]:
        return list(imagenet()), [ASSUMED]
    return [f"class {k}" for k in range(count)], []


def only_reading(contents: Contents, source: str | None, overrides: Mapping[str, Any]) -> Reading:
    """The checkpoint as the one source that it fits. Raises `StoreError` if it is none's, or several'."""
    if source is not None:
        check_name(source, names("weights.sources"), "source")
        candidates = [find("weights.sources", source, "source")]
    else:
        candidates = [one for one in sources() if one.recognises(contents)]
    if not candidates:
        some = ", ".join(sorted(contents.tensors)[:5])
        raise StoreError(
            f"{contents.path} is no checkpoint of a ViT that Vitral knows (of {', '.join(names('weights.sources'))}). "
            f"Its first tensors: {some}."
        )
    if len(candidates) > 1:
        raise StoreError(
            f"{contents.path} fits the names of {', '.join(one.name for one in candidates)}, which differ in how "
            f"pixels are prepared. Say whose it is: {contents.path.name},source={candidates[0].name} on the command "
            f"line, source={candidates[0].name!r} in Python."
        )
    return as_of(contents, candidates[0], overrides)


def as_of(contents: Contents, source: Source, overrides: Mapping[str, Any]) -> Reading:
    """A checkpoint in the names of one source. Raises `StoreError` for tensors that have no place."""
    known = known_of(source, contents)
    theirs = source.prepare(contents.tensors)
    ours, used = inward(source.rules(theirs), theirs)
    left = [name for name in theirs if name not in used]
    dropped = {
        name: reason for name in left for template, reason in source.dropped.items() if matched(template, [name])
    }
    if unknown := [name for name in left if name not in dropped]:
        raise StoreError(
            f"{contents.path}, read as of {source.name}, has tensors that have no place in the model: "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}."
        )
    said = known.settings | dict(overrides)
    contradicted(known.settings, overrides)
    whole = source.sized(ours, said)
    contradicted(source.settings(whole, {key: said[key] for key in UNSEEN if key in said}), overrides)
    settings = source.settings(whole, said)
    check_claims(known.claims, seen(whole, settings))
    words = DEDUCED[source.family]
    deduced = [line.format(settings[key]) for key, line in words.items() if key not in said and key in settings]
    deduced += [CUT] if any(whole[name].shape != tensor.shape for name, tensor in ours.items()) else []
    return Reading(source, whole, settings, replace(known, assumed=(*known.assumed, *deduced)), dropped)


def known_of(source: Source, contents: Contents) -> Known:
    """What a source tells. Raises `StoreError` for a config in which it finds other kinds of things than it takes."""
    try:
        return source.known(contents)
    except VitralError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise StoreError(f"The config beside {contents.path} is not as {source.name} writes it: {error}.") from error


def contradicted(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a setting that the checkpoint contradicts, with both values."""
    for name, value in wanted.items():
        found = settings.get(name)
        if name not in FREE and found is not None and found != value and not callable(found):
            raise ConfigError(f"{name}={value} was asked for, but the checkpoint is of {name}={found}.")


def fitted(
    ours: Mapping[str, Tensor], settings: Mapping[str, Any], wanted: Mapping[str, Any], how: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Our tensors for the image size, classes and channels asked for, and what was done to them in words."""
    tensors, done = dict(ours), []
    old, new = pair(settings["img_size"]), pair(wanted.get("img_size", settings["img_size"]))
    if old != new and "pos_embed" in tensors:
        patch = pair(settings["patch_size"])
        if any(side < 1 or side % own for side, own in zip(new, patch)):
            raise ConfigError(f"Images of {new[0]} x {new[1]} cannot be cut into patches of {patch[0]} x {patch[1]}.")
        grids = [(size[0] // patch[0], size[1] // patch[1]) for size in (old, new)]
        tensors["pos_embed"] = resample_positions(tensors["pos_embed"], grids[0], grids[1], how)
        done.append(
            f"positions of {grids[0][0]} x {grids[0][1]} patches resampled to {grids[1][0]} x {grids[1][1]} by {how}"
        )
    classes = wanted.get("num_classes", settings["num_classes"])
    if classes != settings["num_classes"]:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        done.append(f"a new head for {classes} classes, untrained" if classes else "the head left out")
    channels, kernel = wanted.get("in_channels", settings["in_channels"]), tensors["patch_embed.proj.weight"]
    if channels != kernel.shape[1]:
        tensors["patch_embed.proj.weight"] = spread(kernel, channels)
        done.append(f"the first kernel's {kernel.shape[1]} channels made {channels}: {SPREADING}")
    return tensors, done


SPREADING = "summed for one channel, else repeated and scaled so that equal channels give the same"


def spread(kernel: Tensor, channels: int) -> Tensor:
    """A kernel for other channels: summed for one (a grey image as three equal channels), else repeated in turn."""
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    repeated = kernel[:, [channel % kernel.shape[1] for channel in range(channels)]]
    return repeated * (kernel.shape[1] / channels)


@torch.no_grad()
def filled(model: nn.Module, tensors: Mapping[str, Tensor], reading: Reading) -> None:
    """Put the tensors into the model, all of them and into every place but a new head's.

    Raises `StoreError` for what is missing, has another shape, or was not used.
    """
    own = model.state_dict()
    biases = {name for name in own if name.endswith("attn.qkv.bias") and name not in tensors}
    new_head = {
        name for name in own if name.startswith("head.") and not any(key.startswith("head.") for key in tensors)
    }
    missing = [name for name in own if name not in tensors and name not in biases | new_head]
    extra = [name for name in tensors if name not in own]
    wrong = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if odd := [name for name in tensors if not tensors[name].is_floating_point()]:
        raise StoreError(f"{odd[0]} is of {tensors[odd[0]].dtype}, and weights are real numbers: it is quantised.")
    if missing or extra:
        raise StoreError(
            f"Read as of {reading.source.name}, the checkpoint "
            + " and ".join(
                f"{word} {', '.join(some[:4])}{', ...' if len(some) > 4 else ''}"
                for word, some in (("lacks", missing), ("has no use for", extra))
                if some
            )
            + "."
        )
    if wrong:
        first = wrong[0]
        raise StoreError(
            f"{first} has shape {tuple(tensors[first].shape)} in the checkpoint, where the model it seems to be of has "
            f"{tuple(own[first].shape)}."
        )
    for name in biases:
        own[name].zero_()
    if all(tensor.dtype == torch.float64 for tensor in tensors.values() if tensor.is_floating_point()):
        model.double()
    try:
        model.load_state_dict({**own, **tensors}, strict=True)
    except RuntimeError as error:
        raise StoreError(f"The checkpoint does not fit its own model: {str(error).splitlines()[-1].strip()}") from error


def is_published(path: str | Path) -> bool:
    """Whether a path is a file or folder that holds no run of Vitral's but may hold a checkpoint, or one on the hub."""
    own = Path(path)
    if is_hub(str(path)):
        return True
    if own.is_dir():
        files = (
            "model.safetensors",
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "pytorch_model.bin.index.json",
        )
        return not (own / "model.json").is_file() and any((own / name).is_file() for name in files)
    return own.is_file() and not (own.parent / "model.json").is_file()
