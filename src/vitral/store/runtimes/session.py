"""What every runtime gives: a session, which runs one graph."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

Runtime = Literal["onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]


@runtime_checkable
class Session(Protocol):
    """One graph, ready to run on the CPU."""

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """These outputs of the graph by name, or all of them, for inputs by name."""
        ...
