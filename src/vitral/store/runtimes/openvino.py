"""OpenVINO, whose telemetry stays off."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitral.base.errors import ConfigError

TELEMETRY = "openvino_telemetry"


class OpenVinoSession:
    """An OpenVINO file on the CPU, with as many threads as PyTorch has; `settings` are those of its precision."""

    def __init__(self, file: Path, settings: Mapping[str, str]):
        all_settings = {**settings, "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
        self.compiled = import_quietly("openvino", str(file)).Core().compile_model(str(file), "CPU", all_settings)
        self.names = [output.any_name for output in self.compiled.outputs]

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        found = self.compiled(dict(inputs))
        return {name: found[name] for name in outputs or self.names}


def import_quietly(name: str, what: str) -> Any:
    """Import `openvino` or `nncf` for `what`, without the library that reports their use.

    Raises `ConfigError` if it is missing or cannot be imported.
    """
    with without_telemetry():
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{what} needs {error.name}: pip install 'vitral[openvino]'.") from error
        except ImportError as error:
            raise ConfigError(f"{name} is installed, but cannot be imported: {error}") from error


@contextmanager
def without_telemetry() -> Iterator[None]:
    """As if `openvino-telemetry` were not installed: both libraries then put a stub in its place.

    On import they report their use and write to the home folder, unless a file in the home folder forbids it. Whoever
    has imported `openvino` before has decided on that.
    """
    if TELEMETRY in sys.modules:
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # Python's own way to make an import fail
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
