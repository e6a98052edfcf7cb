"""ONNX Runtime, in float32, and in int8 with the layers that hold weights quantised."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vitral.exporting.graphs import Answering, output_name
from vitral.exporting.speed.way import Conditions, Forward, Job, Way
from vitral.exporting.to_onnx import ANY, write_graph
from vitral.store.artifact import INPUT, LOGITS
from vitral.store.runtimes.onnx import OnnxSession
from vitral.store.runtimes.session import Session

FILE, QUANTISED = "model.onnx", "model.int8.onnx"
MULTIPLY = ("MatMul", "Gemm", "Conv")


def write(job: Job) -> None:
    """Write the graph of the model, unless another way has."""
    file = job.folder / FILE
    if file.exists():
        return
    assert job.model is not None
    example = torch.from_numpy(job.images[:1]).repeat(2, 1, 1, 1)  # a number of 1 would be taken for a constant
    outputs = [output_name(job.model.record), LOGITS]
    write_graph(Answering(job.model), example, {0: ANY}, file, [INPUT], outputs)


def write_int8(job: Job) -> None:
    """Quantise the layers that hold weights, but for the first and the last, calibrated on the images."""
    from onnxruntime.quantization import quantize_static

    write(job)
    layers = layers_with_weights(job.folder / FILE)
    quantize_static(
        job.folder / FILE,
        job.folder / QUANTISED,
        Calibration(job.images),
        nodes_to_quantize=layers[1:-1] or layers,
        per_channel=True,
    )


def layers_with_weights(file: Path) -> list[str]:
    """The names of the nodes that multiply by a constant, in order: not products of queries and keys."""
    from onnx import load

    graph = load(file).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in MULTIPLY and node.input[1] in constants]


class Calibration:
    """The images one by one, as ONNX Runtime's quantiser takes them."""

    def __init__(self, images: Float[np.ndarray, "n c h w"]):
        self.rest: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.rest, None)
        return None if image is None else {INPUT: image[None]}


def in_float32(job: Job) -> Forward:
    return forward_of(OnnxSession(job.folder / FILE))


def in_int8(job: Job) -> Forward:
    return forward_of(OnnxSession(job.folder / QUANTISED))


def forward_of(session: Session) -> Forward:
    """A session as a function of images, which gives logits."""

    def forward(images: torch.Tensor) -> Any:
        return torch.from_numpy(session.run({INPUT: images.numpy()}, [LOGITS])[LOGITS])

    return forward


def without_images(conditions: Conditions) -> str:
    return "" if conditions.has_images else "int8 is calibrated on images: --images FOLDER"


LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
onnx = (
    Way("onnx", "ONNX Runtime", "float32", in_float32, write, libraries=LIBRARIES, extra="export", reopens=True),
    Way(
        "onnx-int8",
        "ONNX Runtime",
        "int8",
        in_int8,
        write_int8,
        libraries=LIBRARIES,
        extra="export",
        refuses=without_images,
        reopens=True,
    ),
)
