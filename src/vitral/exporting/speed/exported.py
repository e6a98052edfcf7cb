"""An exported model runs in one way: its own files, in the runtime that they were written for."""

from pathlib import Path
from typing import Literal

from vitral.exporting.speed.way import Forward, Job, Way
from vitral.store.artifact import Artifact
from vitral.store.runtimes.session import Precision
from vitral.weights.artifact import load_artifact

NAME = "exported"
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
PRECISIONS: dict[Precision, Literal["float32", "bfloat16", "int8"]] = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "int8": "int8",
}


def its_own_files(job: Job) -> Forward:
    return load_artifact(Path(job.spec))


def exported_way(card: Artifact) -> Way:
    """The way of the files that a card describes."""
    return Way(NAME, RUNTIMES[card.runtime], PRECISIONS[card.precision], its_own_files, reopens=True)
