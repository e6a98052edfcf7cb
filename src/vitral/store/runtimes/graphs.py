"""The graphs of an exported model: their names, their files in each format, and a session of one."""

from pathlib import Path

from vitral.store.runtimes.session import Precision, Runtime, Session

PREPROCESS, MODEL, WHOLE = "preprocess", "model", "whole"
GRAPHS = (PREPROCESS, MODEL, WHOLE)
SUFFIXES: dict[Runtime, tuple[str, ...]] = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}  # the first is opened


def graph_files(graph: str, runtime: Runtime) -> tuple[str, ...]:
    """The names of a graph's files; OpenVINO keeps the weights in one of their own.

    >>> graph_files("model", "openvino")
    ('model.xml', 'model.bin')
    """
    return tuple(graph + suffix for suffix in SUFFIXES[runtime])


def settings(graph: str, runtime: Runtime, precision: Precision) -> dict[str, str]:
    """What a runtime must be told when it loads a graph, so that it computes as it was compared.

    OpenVINO computes in bfloat16 on a CPU that can, unless it is told not to. A graph has one precision, and in
    bfloat16 preprocessing is off by up to 2 grey levels: so only `model` computes in it, and `whole` does not.

    >>> settings("model", "openvino", "bf16")
    {'INFERENCE_PRECISION_HINT': 'bf16'}
    """
    if runtime == "onnx":
        return {}
    return {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" and graph == MODEL else "f32"}


def open_graph(folder: Path, graph: str, runtime: Runtime, precision: Precision) -> Session:
    """The graph in its runtime. Raises `ConfigError` if the library is missing or cannot be imported."""
    file = folder / graph_files(graph, runtime)[0]
    if runtime == "openvino":
        from vitral.store.runtimes.openvino import OpenVinoSession

        return OpenVinoSession(file, settings(graph, runtime, precision))
    from vitral.store.runtimes.onnx import OnnxSession

    return OnnxSession(file)
