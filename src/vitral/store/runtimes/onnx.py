"""ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitral.base.errors import ConfigError


class OnnxSession:
    """An ONNX file in ONNX Runtime, with as many threads as PyTorch has."""

    def __init__(self, file: Path):
        onnxruntime = import_onnxruntime(file)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors
        settings.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.only_wanted = onnxruntime.RunOptions()
        self.only_wanted.only_execute_path_to_fetches = True  # rows of attention cost time where nobody asked for them

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        names = outputs or self.names
        return dict(zip(names, self.session.run(list(names), dict(inputs), self.only_wanted), strict=True))


def import_onnxruntime(file: Path) -> Any:
    """The library. Raises `ConfigError`, which names the file, if it is missing or cannot be imported."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ConfigError(f"{file} runs in ONNX Runtime: pip install 'vitral[export]'.") from error
    except ImportError as error:
        raise ConfigError(f"ONNX Runtime is installed, but cannot be imported: {error}") from error
    return onnxruntime
