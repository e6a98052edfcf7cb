"""Write the three graphs of a model in a format and a precision."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vitral.base.errors import ConfigError
from vitral.base.preprocessing import Preprocessing
from vitral.base.provenance import cpu_name
from vitral.data.preprocess import normalise
from vitral.exporting.drift import measure_drift
from vitral.exporting.quantise import MEASURED, quantise
from vitral.exporting.to_onnx import write_graphs
from vitral.exporting.to_openvino import convert
from vitral.exporting.weighted_layers import weighted_layers
from vitral.store.classifier import Classifier
from vitral.store.runtimes.graphs import MODEL, open_graph
from vitral.store.runtimes.openvino import import_quietly
from vitral.store.runtimes.session import Precision, Runtime

NEEDS: dict[tuple[Runtime, Precision], str] = {
    ("onnx", "fp32"): "ONNX Runtime.",
    ("onnx", "int8"): "ONNX Runtime. It was compared on {cpu}; on a CPU without VNNI, sums in 8 bits may saturate: "
    "compare it there.",
    ("openvino", "fp32"): "OpenVINO, told INFERENCE_PRECISION_HINT f32: on a CPU that computes in bf16, it does so "
    "unless it is told not to.",
    ("openvino", "bf16"): "OpenVINO, told INFERENCE_PRECISION_HINT bf16 for model, and f32 for preprocess and whole: "
    "bf16 would change prepared images by up to 2 grey levels. It was compared on {cpu}; a CPU without bf16 computes "
    "in another precision, and is not faster.",
    ("openvino", "int8"): "OpenVINO, told INFERENCE_PRECISION_HINT f32 for what is not in int8. It was compared on "
    "{cpu}.",
}


@dataclass(frozen=True)
class FloatLayers:
    """The names of the layers with weights that stay in float, of `layers` in all."""

    kept: tuple[str, ...]
    layers: int


def needs(runtime: Runtime, precision: Precision) -> str:
    """What whoever runs the files needs, in words."""
    return NEEDS[runtime, precision].format(cpu=cpu_name())


def check_exact(preprocessing: Preprocessing, runtime: Runtime) -> None:
    """Raise `ConfigError` for preprocessing that a runtime does not compute as Vitral does."""
    if runtime == "openvino" and preprocessing.interpolation == "nearest":
        raise ConfigError(
            "The model's images are resized to the nearest pixel, which takes double precision, and OpenVINO has none "
            "on a CPU: it would take other pixels. Specify --to onnx."
        )


def check_precision(runtime: Runtime, precision: Precision) -> None:
    """Raise `ConfigError` for bf16 where nothing computes in it: what was compared would be something else."""
    if precision != "bf16":
        return
    if runtime == "onnx":
        raise ConfigError(
            "ONNX Runtime does not compute in bf16 on a CPU. Specify --to openvino for bf16, or --precision fp32 or "
            "int8."
        )
    openvino = import_quietly("openvino", "--to openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError(
            f"This CPU ({cpu_name()}) does not compute in bf16, so the files could not be compared with the model. "
            "Specify --precision fp32 or int8, or export on a CPU with AVX512-BF16 or AMX."
        )


def write_precision(
    model: Classifier,
    folder: Path,
    output: str,
    pillow: int,
    runtime: Runtime,
    precision: Precision,
    calibrating: UInt8[np.ndarray, "n y x 3"] | None = None,
    least: float = 1.0,
) -> FloatLayers | None:
    """Write the files into `folder`; of int8, say which layers stay in float.

    `calibrating` are images in the model's size. Layers are added to those in float until answers for these images are
    the same for a share half as far from 1 as `least`: the images that judge are others.
    """
    if runtime == "onnx" and precision == "fp32":
        write_graphs(model, folder, output, pillow)
        return None
    with TemporaryDirectory(prefix="vitral-export-") as home:
        source = Path(home)
        write_graphs(model, source, output, pillow)
        if precision != "int8":
            convert(source, folder)
            return None
        assert calibrating is not None
        images = normalise(torch.from_numpy(calibrating), model.preprocessing).numpy()
        layers = weighted_layers(source / f"{MODEL}.onnx", images[:MEASURED])
        good = partial(is_good, model, folder, runtime, calibrating, 1 - (1 - least) / 2)
        kept = quantise(source, folder, runtime, images, layers, good)
        return FloatLayers(tuple(layer.name for layer in kept), len(layers))


def is_good(model: Classifier, folder: Path, runtime: Runtime, images: Any, least: float) -> bool:
    return measure_drift(model, open_graph(folder, MODEL, runtime, "int8"), images).agreement >= least
