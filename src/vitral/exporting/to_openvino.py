"""Write the three graphs for OpenVINO: read from their ONNX files, with all weights in float32."""

from pathlib import Path
from typing import Any

from vitral.base.errors import ConfigError
from vitral.store.artifact import INPUT
from vitral.store.runtimes.graphs import GRAPHS, MODEL, PREPROCESS, WHOLE, graph_files
from vitral.store.runtimes.openvino import import_quietly


def convert(onnx: Path, folder: Path) -> None:
    """Write the ONNX graphs of one folder into another, as OpenVINO's .xml and .bin."""
    for graph in GRAPHS:
        save(read(onnx, graph), folder, graph)


def read(onnx: Path, graph: str) -> Any:
    """An ONNX graph as OpenVINO's model. Raises `ConfigError` for one that OpenVINO does not take."""
    openvino = import_quietly("openvino", "Exporting for OpenVINO")
    try:
        return openvino.Core().read_model(str(onnx / f"{graph}.onnx"))
    except RuntimeError as error:
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "no reason given")
        raise ConfigError(
            f"OpenVINO does not take the graph {graph!r} of this model: {reason} Try --to onnx."
        ) from error


def save(model: Any, folder: Path, graph: str) -> None:
    openvino = import_quietly("openvino", "Exporting for OpenVINO")
    file = folder / graph_files(graph, "openvino")[0]
    openvino.save_model(model, str(file), compress_to_fp16=False)  # by default it halves the weights


def save_with_preprocessing(onnx: Path, model: Any, folder: Path) -> None:
    """Write `preprocess` from ONNX, `model` as it is given, and `whole`: the two in one."""
    openvino = import_quietly("openvino", "Exporting for OpenVINO")
    preprocess = read(onnx, PREPROCESS)
    save(preprocess, folder, PREPROCESS)
    save(model, folder, MODEL)
    source = preprocess.output(INPUT).get_node().input_value(0)
    for target in model.input(INPUT).get_target_inputs():
        target.replace_source_output(source)
    save(openvino.Model(model.get_results(), preprocess.get_parameters(), WHOLE), folder, WHOLE)
