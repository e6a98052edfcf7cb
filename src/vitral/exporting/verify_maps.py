"""Compare the rows of attention that an exported model gives with those that `vitral.watch` shows of the model.

Axes:  b images   c channels   y x pixels   l layers   h heads   n tokens
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.base.errors import StoreError
from vitral.base.modes import evaluating
from vitral.exporting.maps import ROWS_APART, watched_row
from vitral.exporting.verify import BATCHES
from vitral.recording.intercept import watch
from vitral.store.artifact import IMAGE, INPUT
from vitral.store.artifact_maps import ArtifactMaps
from vitral.store.classifier import Classifier
from vitral.store.runtimes.graphs import MODEL, PREPROCESS, WHOLE, open_graph
from vitral.store.runtimes.session import Precision, Runtime

# In bf16 and int8 rows move with what the layers before them compute. How far is stated, and each row must still
# reproduce what the attention beside it returned.
ROWS_MOST: dict[Precision, float] = {"fp32": ROWS_APART, "bf16": 1.0, "int8": 1.0}
RESIDUAL_MOST: dict[Precision, float] = {"fp32": 1e-5, "bf16": 0.05, "int8": 0.05}


@dataclass(frozen=True)
class MapAgreement:
    """The largest difference of a weight from the model's, the largest residual, and on which images."""

    images: int
    rows: float
    residual: float
    worst: str

    @property
    def text(self) -> str:
        return (
            f"rows of attention differ from those of the model by {self.rows:.1e} at most, on {self.images:,} images; "
            f"rows · v reproduces the attention's output to {self.residual:.1e}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify_maps(
    model: Classifier,
    folder: Path,
    maps: ArtifactMaps,
    images: Iterable[tuple[str, UInt8[np.ndarray, "_ _ 3"]]],
    runtime: Runtime,
    precision: Precision,
    count: Callable[[int], None] = lambda done: None,
) -> MapAgreement:
    """Compare the rows of `whole` for these images, and of `model` for random inputs in batches of 1, 2 and 7.

    The model is watched on what `preprocess` makes of an image, so that a grey level which rounds the other way is
    not counted twice. Raises `StoreError` for a difference beyond what the precision allows.
    """
    prepared, whole, model_file = (
        open_graph(folder, graph, runtime, precision) for graph in (PREPROCESS, WHOLE, MODEL)
    )
    worst, rows, residual, number = "", 0.0, 0.0, 0
    for number, (name, pixels) in enumerate(images, 1):
        own = torch.from_numpy(prepared.run({IMAGE: pixels[None]})[INPUT])
        apart, off = compare(model, maps, own, whole.run({IMAGE: pixels[None]}, maps.names))
        worst = name if max(apart, off) >= max(rows, residual) else worst
        rows, residual = larger(rows, apart), larger(residual, off)
        count(number)
    generator = torch.Generator().manual_seed(1)
    for batch in BATCHES:
        inputs = torch.randn(batch, len(model.preprocessing.mean), *model.preprocessing.size, generator=generator)
        found = model_file.run({INPUT: inputs.numpy()}, maps.names)
        apart, off = compare(model, maps, inputs, found)
        worst = f"{batch} random inputs" if max(apart, off) >= max(rows, residual) else worst
        rows, residual = larger(rows, apart), larger(residual, off)
    agreement = MapAgreement(number, rows, residual, worst)
    if not (rows <= ROWS_MOST[precision] and residual <= RESIDUAL_MOST[precision]):  # also refuses what is not a number
        raise StoreError(
            f"The exported files do not give the model's rows of attention: {agreement.text} ({worst}). Allowed are "
            f"{ROWS_MOST[precision]:g} and {RESIDUAL_MOST[precision]:g}. Nothing was written. Without --maps the model "
            "is exported."
        )
    return agreement


def compare(
    model: Classifier, maps: ArtifactMaps, inputs: Float[Tensor, "b c y x"], outputs: dict[str, np.ndarray]
) -> tuple[float, float]:
    """The largest difference of a weight, and the largest residual; `outputs` are those that `maps` names."""
    with evaluating(model), torch.no_grad(), watch(model, "all") as seen:
        model(inputs)
    apart = [
        np.abs(watched_row(own, layer.queries).numpy() - outputs[layer.output][:, layer.index]).max()
        for layer, own in zip(maps.layers, seen.layers, strict=True)
    ]
    return float(np.max(apart)), float(outputs[maps.residual].max())


def larger(one: float, other: float) -> float:
    """The larger of two; not a number if one is none, which `max` would lose."""
    return float(np.maximum(one, other))
