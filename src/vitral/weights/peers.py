"""Models of peer libraries: `timm:NAME`, and folders that only Hugging Face's transformers can read.

Neither library is needed for anything else.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from vitral.base.errors import ConfigError, StoreError, UnknownName, VitralError
from vitral.base.lookup import nearest
from vitral.base.preprocessing import CropMode, Interpolation, Preprocessing
from vitral.base.record import ModelRecord, attach_record, number_classes, reading_notes
from vitral.store.classifier import Classifier
from vitral.weights.image_processor import PROCESSOR
from vitral.weights.pixels import Statement, check_supported, read_processor, stated_pixels
from vitral.weights.problem_type import task_of_config
from vitral.weights.reading.checkpoint_folder import read_json


def is_hugging_face(folder: Path) -> bool:
    """Whether transformers wrote a folder: its `config.json` names a `model_type`, which timm's does not."""
    try:
        return "model_type" in read_json(folder / "config.json")
    except StoreError:
        return False


def load_timm(name: str, pretrained: bool = True, **options: Any) -> Classifier:
    """A model of timm in eval mode, with timm's weights if `pretrained`, and its record.

    Raises `ConfigError` for other options or if timm cannot be imported, `UnknownName` for a name that timm does not
    have, `StoreError` if the weights cannot be fetched or images cannot be prepared as timm does.
    """
    if options:
        raise ConfigError(f"timm:{name} takes the option pretrained=false, not {', '.join(options)}.")
    timm = import_peer("timm")
    if not timm.is_model(name):
        raise UnknownName(f"timm has no model {name!r}.{nearest(name, timm.list_models())}")
    try:
        model = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # whatever the download raises
        raise StoreError(
            f"timm could not load the weights of {name}: {first_line(error)} Without weights: "
            f"timm:{name},pretrained=false."
        ) from error
    preprocessing = preprocessing_from_timm(name, timm.data.resolve_model_data_config(model))
    assumed = [] if pretrained else ["random weights: the model is untrained"]
    provenance = {"source": "timm", "file": f"timm:{name}", "timm": version("timm"), "assumed": assumed}
    notes = reading_notes(f"timm's own {name}", assumed, {})
    record = ModelRecord(
        number_classes(model.num_classes), preprocessing, grid=timm_grid(model), provenance=provenance, notes=notes
    )
    return attach_record(model, record).eval()


def timm_grid(model: Any) -> tuple[int, int] | None:
    """Rows and columns of patches where timm's model keeps its patches as they are; a pyramid ends with fewer."""
    is_plain = hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens")
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return (int(grid[0]), int(grid[1])) if is_plain and grid else None


def preprocessing_from_timm(name: str, config: Mapping[str, Any]) -> Preprocessing:
    """How timm prepares a model's images. Raises `StoreError` for what `Preprocessing` cannot express."""
    crop, mode, interpolation = config["crop_pct"], config["crop_mode"], config["interpolation"]
    for key, value, is_supported, supported in (
        ("crop_pct", crop, 0 < crop <= 1, "at most 1"),
        ("crop_mode", mode, mode in get_args(CropMode), "center or squash"),
        ("interpolation", interpolation, interpolation in get_args(Interpolation), "nearest, bilinear or bicubic"),
    ):
        if not is_supported:
            raise StoreError(f"timm prepares the images of {name} with {key}={value}; Vitral supports {supported}.")
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(tuple(config["input_size"][1:]), crop, interpolation, mean, std, mode)


def load_transformers(folder: Path, reason: str) -> Classifier:
    """The image classifier in a folder, built by transformers; `reason` says why no source of ours reads it.

    Raises `ConfigError` if transformers cannot be imported, `StoreError` for a folder that it cannot read, that lacks
    weights, or whose images cannot be prepared. Each error repeats `reason`.
    """
    try:
        return from_transformers(folder, reason)
    except VitralError as error:
        raise type(error)(f"{error} Vitral's own reader: {reason}") from error


def from_transformers(folder: Path, reason: str) -> Classifier:
    transformers = import_peer("transformers")
    try:
        model, loaded = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except ImportError as error:
        raise import_refusal("transformers", error) from error
    except Exception as error:  # whatever the library raises for a folder it cannot read
        raise StoreError(
            f"{folder} is not an image classifier that transformers can read: {first_line(error)}"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        architecture = ", ".join(read_json(folder / "config.json").get("architectures") or ["model of another kind"])
        raise StoreError(
            f"{folder} has no weights for {', '.join(missing[:6])}{' ...' if len(missing) > 6 else ''}; transformers "
            "would initialise them at random, and predictions would be no better than chance. It was saved from a "
            f"{architecture}: save a model with its classifier, a ...ForImageClassification."
        )
    config: Any = model.config
    size = getattr(config, "image_size", None)
    size = (size, size) if isinstance(size, int) else None if size is None else (size[0], size[1])
    pixels = stated_pixels(
        [
            *read_processor(folder, size, getattr(config, "num_channels", 3), config.model_type),
            *([Statement("config.json", {"size": size})] if size is not None else []),
        ]
    )
    check_supported(pixels.values)
    if "size" not in pixels.values:
        raise StoreError(
            f"{folder} does not state the size of the model's images. Save its image processor beside it: "
            f"processor.save_pretrained writes {PROCESSOR}."
        )
    preprocessing = Preprocessing(**pixels.values)
    task, assumed_task = task_of_config(read_json(folder / "config.json"), config.num_labels, None)
    classes = tuple(config.id2label[index] for index in range(config.num_labels))
    if task == "numbers" and classes == tuple(f"LABEL_{index}" for index in range(len(classes))):
        classes = number_classes(len(classes), task)  # transformers' default says nothing
    assumed = [f"read by transformers, since Vitral's own reader refuses: {reason}", *assumed_task, *pixels.notes]
    assumed += [] if "mean" in pixels.values else [f"preprocessing: mean and std 0.5, bicubic: there is no {PROCESSOR}"]
    dropped = dict.fromkeys(sorted(loaded["unexpected_keys"]), f"{type(model).__name__} has no such tensor")
    provenance = {"source": "transformers", "file": folder.name, "assumed": assumed, "dropped": dropped}
    notes = reading_notes("transformers", assumed, dropped)
    return attach_record(model, ModelRecord(classes, preprocessing, task, provenance=provenance, notes=notes)).eval()


def import_peer(library: str) -> Any:
    """A peer library. Raises `ConfigError`: that it is missing, or why it cannot be imported, and what to do."""
    try:
        return import_module(library)
    except Exception as error:  # whatever a library raises while it is imported
        raise import_refusal(library, error) from error


def import_refusal(library: str, error: BaseException) -> ConfigError:
    """What to say of a library that raises this error while it, or a part of it, is imported."""
    while error.__cause__ is not None:  # transformers, which imports its parts late, hides the cause
        error = error.__cause__
    needs = f"This model needs {library}, which is"
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return ConfigError(f"{needs} not installed. Install it: pip install -c constraints.txt {library}.")
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        remedy = f"Install that: pip install -c constraints.txt {package}."
        return ConfigError(f"{needs} installed, but it needs {package}, which is not installed. {remedy}")
    found = f"{type(error).__name__}: {first_line(error)}"
    if "torchvision" in found or "libcud" in found:
        # torchvision's compiled operators fit one build of PyTorch: those of a CUDA build do not load beside a CPU one.
        remedy = (
            f"The installed torchvision was not built for the installed PyTorch ({version('torch')}), and {library} "
            "imports it: install both with the one command that PyTorch's install selector gives for your system."
        )
    else:
        remedy = f"Reinstall it: pip install --force-reinstall -c constraints.txt {library}."
    return ConfigError(f"{needs} installed but cannot be imported: {found} {remedy}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, as a sentence."""
    line = next(iter(str(error).strip().splitlines()), "no message").strip()
    return line if line.endswith((".", "!", "?")) else f"{line}."
