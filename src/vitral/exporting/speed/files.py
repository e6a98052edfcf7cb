"""The files that ONNX Runtime and OpenVINO run, each written once, as `vitral export` writes them."""

from functools import partial
from pathlib import Path

import PIL
import torch

from vitral.exporting.graphs import Answering, Preprocess, output_name
from vitral.exporting.quantise import MEASURED, quantise
from vitral.exporting.speed.agreement import ENOUGH
from vitral.exporting.speed.way import Conditions, Forward, Job
from vitral.exporting.to_onnx import ANY, EXAMPLE, write_graph
from vitral.exporting.to_openvino import read, save
from vitral.exporting.weighted_layers import weighted_layers
from vitral.exporting.write import is_good
from vitral.store.artifact import IMAGE, INPUT, LOGITS
from vitral.store.runtimes.graphs import MODEL, PREPROCESS, open_graph
from vitral.store.runtimes.session import Precision, Runtime

FEWEST = 32  # images that calibrate int8


def home(job: Job, runtime: Runtime, precision: Precision) -> Path:
    """The folder of the files; OpenVINO computes in both float precisions from the same."""
    return job.folder / (f"{runtime}-int8" if precision == "int8" else runtime)


def write_onnx(job: Job) -> None:
    """Write the model's graph, and the one of its preprocessing, which quantisers read."""
    folder = home(job, "onnx", "fp32")
    if folder.exists():
        return
    assert job.model is not None
    folder.mkdir()
    preprocess = Preprocess(job.model.preprocessing, int(PIL.__version__.split(".")[0]))
    image = torch.zeros(1, *EXAMPLE, 3, dtype=torch.uint8)
    write_graph(preprocess, image, {1: ANY, 2: ANY}, folder / f"{PREPROCESS}.onnx", [IMAGE], [INPUT])
    example = torch.from_numpy(job.images[:1]).repeat(2, 1, 1, 1)  # a number of 1 would be taken for a constant
    outputs = [output_name(job.model.record), LOGITS]
    write_graph(Answering(job.model), example, {0: ANY}, folder / f"{MODEL}.onnx", [INPUT], outputs)


def write_openvino(job: Job) -> None:
    """Write the model's graph for OpenVINO."""
    write_onnx(job)
    folder = home(job, "openvino", "fp32")
    if not folder.exists():
        folder.mkdir()
        save(read(home(job, "onnx", "fp32"), MODEL), folder, MODEL)


def write_int8(runtime: Runtime, job: Job) -> None:
    """Quantise the model's graph on the calibrating images, as `vitral export --precision int8` does."""
    write_onnx(job)
    assert job.model is not None and job.calibrating is not None
    source, folder = home(job, "onnx", "fp32"), home(job, runtime, "int8")
    folder.mkdir()
    images, pixels = job.calibrating
    layers = weighted_layers(source / f"{MODEL}.onnx", images[:MEASURED])
    good = partial(is_good, job.model, folder, runtime, pixels, 1 - (1 - ENOUGH) / 2)
    quantise(source, folder, runtime, images, layers, good)


def open_files(runtime: Runtime, precision: Precision, job: Job) -> Forward:
    """The model's graph as a function of images, which gives logits."""
    session = open_graph(home(job, runtime, precision), MODEL, runtime, precision)

    def forward(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run({INPUT: images.numpy()}, [LOGITS])[LOGITS])

    return forward


def without_calibration(conditions: Conditions) -> str:
    """The reason of a way in int8, where there are too few images to calibrate it."""
    if conditions.calibrating is None:
        return "int8 is calibrated on images: --images FOLDER"
    if conditions.calibrating < FEWEST:
        return (
            f"int8 is calibrated on half of --images, of which it takes at least {FEWEST}; found "
            f"{conditions.calibrating}"
        )
    return ""
