"""`training_images.safetensors`: the statistics of a model's training images, beside its weights."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from vitral.base.feature_statistics import FeatureStatistics
from vitral.base.files import sha256, write_file
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import attach_record

STATISTICS = "training_images.safetensors"
OF = "vitral"  # the one key of the file's metadata, since safetensors writes several in any order
BELONGS_TO = "weights_sha256"  # features of other weights are other numbers
PREPARED = "preprocessing"  # and so are those of images that are prepared in another way


def save_statistics(statistics: FeatureStatistics, preprocessing: Preprocessing, weights: Path) -> Path:
    """Write the statistics beside the weights, with which and with this preprocessing they hold; the file's path."""
    path = weights.parent / STATISTICS
    arrays = {name: np.ascontiguousarray(array) for name, array in statistics.arrays.items()}
    of = {BELONGS_TO: sha256(weights), PREPARED: prepared(preprocessing)}
    write_file(path, save(arrays, metadata={OF: json.dumps(of, sort_keys=True)}))
    return path


def attach_statistics(model: Any, folder: Path, weights_sha256: str) -> Any:
    """The model with the statistics beside its weights in its record, or with the reason why it has none."""
    path = folder / STATISTICS
    if not path.is_file():
        return model
    try:
        with safe_open(path, "numpy") as file:
            of = json.loads((file.metadata() or {})[OF])
        statistics = FeatureStatistics.from_arrays(load_file(path))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        return without_statistics(model, f"{path} is damaged: {error}")
    if of.get(BELONGS_TO) != weights_sha256:
        return without_statistics(model, f"{path} belongs to other weights than those beside it")
    if of.get(PREPARED) != prepared(model.preprocessing):
        return without_statistics(model, f"{path} belongs to images that were prepared in another way")
    return attach_record(model, replace(model.record, feature_statistics=statistics))


def prepared(preprocessing: Preprocessing) -> str:
    """The preprocessing as one text, in which equal ones are equal."""
    return json.dumps(asdict(preprocessing), sort_keys=True)


def without_statistics(model: Any, reason: str) -> Any:
    """The model without statistics of its training images, and the reason."""
    return attach_record(model, replace(model.record, feature_statistics=None, why_unknown=reason))
