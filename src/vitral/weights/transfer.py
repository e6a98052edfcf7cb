"""Start a model from the weights of a trained one: other classes, another image size; the head only if it fits.

Kornblith, Shlens & Le 2019, "Do Better ImageNet Models Transfer Better?", shows what to expect of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vitral.base.errors import ConfigError
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.families import build
from vitral.nn.family.segmenter import Segmenter
from vitral.nn.parts import Part, record_part
from vitral.store.classifier import Classifier
from vitral.store.numbers_head import without_numbers_head
from vitral.weights.resize import adapt_tensors

PROVENANCE_KEPT = ("source", "file", "sha256", "assumed", "dropped")  # of the trained model's


@torch.no_grad()
def transfer_weights(
    trained: Classifier, classes: Sequence[str], img_size: tuple[int, int] | None, keeps_head: bool | None = None
) -> tuple[Classifier, list[str]]:
    """A model with the weights of `trained`, for these classes and images of (height, width); and each change in words.

    Positions are resampled as the checkpoint's own library does. The head is kept if the classes are the same, or as
    `keeps_head` says; else it is new, and its last linear layer zero. Raises `ConfigError` for a model that is not
    Vitral's, and for sizes that do not fit.
    """
    config = own_config(trained)
    size = img_size or trained.preprocessing.size
    keeps_head = tuple(classes) == tuple(trained.classes) if keeps_head is None else keeps_head
    keeps_head = keeps_head and config["num_classes"] == len(classes)
    trained = without_numbers_head(trained)  # the scale is that of other data
    if config.get("family") == "segmenter":
        raise ConfigError("A segmentation model is not fine-tuned for another task. Start from a classifier instead.")
    requested = {"img_size": size, "num_classes": len(classes)}
    model = build(config | requested)
    resampling = trained.provenance.get("resampling", "timm")
    # A count of None differs from any: the head goes even where the old and the new classes are equally many.
    settings = config if keeps_head else config | {"num_classes": None}
    tensors, changes = adapt_tensors(trained.state_dict(), settings, requested, resampling)
    left = model.load_state_dict(tensors, strict=False)
    if wrong := [name for name in left.missing_keys if not name.startswith("head.")] + left.unexpected_keys:
        raise ConfigError(f"The checkpoint's {wrong[0]} has no place in the model for images of {size[0]}x{size[1]}.")
    preprocessing = replace(trained.preprocessing, size=size)
    provenance = {key: trained.provenance[key] for key in PROVENANCE_KEPT if key in trained.provenance}
    provenance |= {"resampling": resampling}
    return attach_record(model, ModelRecord(tuple(classes), preprocessing, provenance=provenance)), changes


@torch.no_grad()
def transfer_encoder(
    trained: Classifier, classes: Sequence[str], img_size: tuple[int, int] | None, decoder: Part
) -> tuple[Classifier, list[str]]:
    """A segmenter whose encoder has the weights of `trained`, for these classes and images of (height, width).

    A segmenter's own decoder is kept if it is of the same kind, for the same classes; else the decoder is new. Raises
    what `transfer_weights` raises.
    """
    config: dict[str, Any] = own_config(trained)
    size = img_size or trained.preprocessing.size
    tensors = trained.state_dict()
    kept = ""
    if config.get("family") == "segmenter":
        same = tuple(classes) == tuple(trained.classes) and config["decoder"] == record_part(decoder)
        kept = "decoder." if same else ""
        config = config["encoder"]
    encoder = build(config | {"img_size": size, "num_classes": 0})
    resampling = trained.provenance.get("resampling", "timm")
    inner = {
        name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if not name.startswith("decoder.")
    }
    adapted, changes = adapt_tensors(inner, config, {"img_size": size}, resampling)
    model = Segmenter(encoder, len(classes), decoder)
    wanted = model.encoder.state_dict()
    if lacking := [name for name in wanted if name not in adapted]:
        raise ConfigError(
            f"The checkpoint lacks {lacking[0]}, which the encoder for images of {size[0]}x{size[1]} needs."
        )
    model.encoder.load_state_dict({name: adapted[name] for name in wanted})
    if kept:
        own = {name.removeprefix(kept): tensor for name, tensor in tensors.items() if name.startswith(kept)}
        model.decoder.load_state_dict(own)
    else:
        changes.append(f"a new {type(model.decoder).__name__} for {len(classes)} classes, untrained")
    preprocessing = replace(trained.preprocessing, size=size)
    provenance = {key: trained.provenance[key] for key in PROVENANCE_KEPT if key in trained.provenance}
    provenance |= {"resampling": resampling}
    record = ModelRecord(tuple(classes), preprocessing, "segmentation", provenance=provenance)
    return attach_record(model, record), changes


def own_config(trained: Classifier) -> dict[str, Any]:
    """The config of one of Vitral's models. Raises `ConfigError` for any other."""
    config: Any = getattr(trained, "config", {})
    if not isinstance(config, dict) or not config:
        raise ConfigError(
            f"{type(trained).__name__} is not one of Vitral's models: --init takes a run of such a model, or a "
            "published checkpoint. Your own module can load weights in its constructor."
        )
    return config
