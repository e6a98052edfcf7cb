"""The products with weights in an ONNX graph, and how far 8 bits change the output of each.

Axes:  n images   m rows of one product   i inputs   o outputs
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import conv1d, conv2d

from vitral.store.artifact import INPUT

PRODUCTS = ("MatMul", "Gemm", "Conv")
ROWS = 2048  # of a product, drawn at random, on which its error is measured
SCOPES = "pkg.torch.onnx.name_scopes"  # where PyTorch's exporter writes the module of a node


@dataclass(frozen=True)
class WeightedLayer:
    """`node` is its name in the graph, `name` that of its module; `error` is the relative change of its output when
    its inputs and weights have 8 bits. `is_end` marks the first and the last, which stay in float."""

    node: str
    name: str
    error: float
    is_end: bool


def weighted_layers(file: Path, images: Float[np.ndarray, "n c h w"]) -> list[WeightedLayer]:
    """All products with weights, in the order of the graph, measured on these images."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file)
    weights = {one.name: one for one in graph.graph.initializer}
    nodes = [node for node in graph.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]
    inputs = activations(graph, list(dict.fromkeys(node.input[0] for node in nodes)), images)
    ends = first_and_last(graph.graph.node, nodes)
    return [
        WeightedLayer(
            node.name,
            module_of(node),
            output_error(node, inputs[node.input[0]], numpy_helper.to_array(weights[node.input[1]])),
            node.name in ends,
        )
        for node in nodes
    ]


def activations(graph: Any, names: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """The values with these names in the graph."""
    import onnx
    import onnxruntime

    known = {one.name for one in graph.graph.output} | {INPUT}
    widened = onnx.ModelProto()
    widened.CopyFrom(graph)
    widened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(widened.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    wanted = [name for name in names if name != INPUT]
    return {INPUT: images} | dict(zip(wanted, session.run(wanted, {INPUT: images}), strict=True))


def first_and_last(every: Iterable[Any], nodes: list[Any]) -> set[str]:
    """The products that no other comes before, and those that no other comes after."""
    names = {node.name for node in nodes}
    before = dict[str, set[str]]()  # value -> the products that it depends on
    firsts, followed = set(), set()
    for node in every:  # a graph lists its nodes in order
        above = set().union(*(before.get(value, set()) for value in node.input))
        if node.name in names:
            followed |= above
            firsts |= set() if above else {node.name}
            above = {node.name}  # what is above it, it follows
        before.update(dict.fromkeys(node.output, above))
    return firsts | (names - followed)


def module_of(node: Any) -> str:
    """The name of a node's module; of one that the exporter did not name, the node's own."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            scopes = [part.strip("'\" ") for part in entry.value.strip("[]").split(",")]
            if len(scopes) > 1 and scopes[-2]:
                return scopes[-2].removeprefix("model.")
    return str(node.name)


def output_error(node: Any, inputs: np.ndarray, weights: np.ndarray) -> float:
    """|Q(x) Q(w) - x w| over |x w|: one scale for the inputs, one per output channel for the weights."""
    rounded_inputs = in_8_bits(inputs, None)
    if node.op_type == "Conv":
        rounded = in_8_bits(weights, tuple(range(1, weights.ndim)))
        own, found = convolved(node, inputs, weights), convolved(node, rounded_inputs, rounded)
    else:
        attributes = {one.name: one.i for one in node.attribute}
        weights = weights.T if attributes.get("transB") else weights
        rows = np.random.default_rng(0).permutation(inputs.size // inputs.shape[-1])[:ROWS]
        own = inputs.reshape(-1, inputs.shape[-1])[rows] @ weights
        found = rounded_inputs.reshape(-1, inputs.shape[-1])[rows] @ in_8_bits(weights, (0,))
    size = float(np.linalg.norm(own))
    return float(np.linalg.norm(found - own)) / size if size else 0.0


def in_8_bits(values: np.ndarray, sides: tuple[int, ...] | None) -> np.ndarray:
    """The values rounded to 255 steps between plus and minus the largest, which is that along `sides`."""
    step = np.abs(values).max(axis=sides, keepdims=True) / 127
    rounded: np.ndarray = np.round(values / np.where(step, step, 1)) * step
    return rounded


def convolved(node: Any, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What a convolution gives, without padding, which does not change how 8 bits round."""
    attributes: dict[str, Any] = {one.name: list(one.ints) or one.i for one in node.attribute}
    act = conv1d if weights.ndim == 3 else conv2d
    options: dict[str, Any] = {"stride": attributes.get("strides", 1), "dilation": attributes.get("dilations", 1)}
    made = act(torch.tensor(inputs), torch.tensor(weights), groups=attributes.get("group", 1), **options)
    return made.numpy()
