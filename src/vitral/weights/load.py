"""`vitral.load`: one function for every kind of model that a MODEL can name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitral.base.errors import ConfigError, UnknownName, VitralError
from vitral.base.record import attach_record
from vitral.store.classifier import Classifier
from vitral.weights.reading.checkpoint_folder import SUFFIXES
from vitral.weights.spec import CheckpointSpec, parse_checkpoint_spec


def load(spec: str | Path, code: str | None = None, **overrides: Any) -> Classifier:
    """The model that `spec` names, in eval mode, with `record`, `classes` and `preprocessing`.

        runs/shapes-1                     a run folder, a Vitral file, or a training checkpoint of a run
        exported                          a folder of `vitral.export` (needs the `export` extra)
        deit.pth,source=deit              a published file or folder, with options after commas
        hf:OWNER/NAME@REVISION            a checkpoint on the Hugging Face hub (needs the `hub` extra)
        timm:NAME[,pretrained=false]      a model of timm (needs timm)
        file.py:Name                      the reader's own module, as its constructor makes it

    `overrides` are those options by name, and settings of the model such as `img_size` and `num_classes`; see
    `vitral.weights.published.load_published`. `code` ("file.py:Name") builds a run of the reader's own model whose file
    has moved. What was assumed, changed or dropped is in `model.record.provenance`, and in lines for a person in
    `model.record.notes`.

    A folder that transformers wrote and that no source of ours reads is read by transformers; the notes say so.

    Raises `UsageError` for what is not a text or path, `UnknownName` for a model that does not exist, `ConfigError` for
    options that do not fit it or a library that is missing, `StoreError` for a file that is damaged or ambiguous.

    >>> import tempfile, vitral
    >>> from vitral.weights.convert import write
    >>> from vitral.base.record import ModelRecord, attach_record
    >>> folder = Path(tempfile.mkdtemp()) / "saved"
    >>> model = vitral.create("vit_nano_patch8_48", num_classes=2)
    >>> record = ModelRecord(classes=("cat", "dog"), preprocessing=model.preprocessing)
    >>> files, notes = write(attach_record(model, record), folder, "timm")
    >>> loaded = vitral.load(folder)
    >>> loaded.classes, loaded.record.grid
    (('cat', 'dog'), (6, 6))
    """
    parsed = parse_checkpoint_spec(spec)
    options = parsed.options | overrides
    if code is not None and parsed.kind not in ("run", "training checkpoint"):
        raise ConfigError(f"--code applies only to runs of your own module, and {spec} is not a run: leave --code out.")
    match parsed.kind:
        case "timm":
            from vitral.weights.peers import load_timm

            return load_timm(parsed.location, **options)
        case "code":
            from vitral.weights.own_module import load_own_module

            return load_own_module(parsed.location, **options)
        case "hub":
            from vitral.weights.hub import fetch

            model = load_folder(fetch(parsed.location), options)
            provenance = {**model.provenance, "file": parsed.location}  # the cache's path means nothing to anyone else
            return attach_record(model, replace(model.record, provenance=provenance))
        case "published":
            return load_folder(Path(parsed.location), options)
        case _:
            return load_run(parsed, options, code)


def load_folder(path: Path, options: Mapping[str, Any]) -> Classifier:
    """A published file or folder, by one of our sources, else by transformers if it wrote the folder."""
    from vitral.weights.published import load_published

    if "pretrained" in options:
        raise ConfigError(f"pretrained applies to timm:NAME only, not to {path}.")
    try:
        return load_published(path, **options)
    except VitralError as error:
        from vitral.weights.peers import is_hugging_face, load_transformers

        # Options are for our reader: with them, its refusal is the answer.
        if options or not is_hugging_face(path):
            raise
        return load_transformers(path, str(error))


def load_run(parsed: CheckpointSpec, options: Mapping[str, Any], code: str | None) -> Classifier:
    """A run as it was trained, or with the weights of one of its training checkpoints."""
    from vitral.store.model import load_checkpoint_weights, load_model
    from vitral.weights.artifact import is_artifact, load_artifact

    path = Path(parsed.location)
    if is_artifact(path):
        if options:
            raise ConfigError(
                f"{path} is an exported model, which is as it was exported: {', '.join(options)} cannot be changed."
            )
        return load_artifact(path)
    if not path.exists():
        if path.suffix in SUFFIXES:  # of checkpoints: it was not meant as a run
            raise UnknownName(f"There is no file {path}.")
        from vitral.nn.zoo import MODELS

        if parsed.location in MODELS:
            raise UnknownName(
                f"{path} is an architecture without weights. To build it untrained: vitral.create({str(path)!r}). To "
                f"load weights, name a run, a file, hf:OWNER/NAME or timm:{path}."
            )
    elif options:
        raise ConfigError(
            f"{path} is a run, which is loaded as it was trained: {', '.join(options)} cannot be changed."
        )
    if parsed.kind == "training checkpoint":
        return load_checkpoint_weights(load_model(path.parent.parent, code), path)
    return load_model(path, code)
