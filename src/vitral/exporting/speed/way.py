"""A way of running a model: by which library, in which precision, and what it needs.

`exporting/speed/ways/NAME.py` defines a tuple of them; a new file there is a new row of `vitral bench`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from vitral.base.lookup import find, names
from vitral.base.numerics import computes_in_bfloat16
from vitral.store.classifier import Classifier

FOLDER = "exporting.speed.ways"
# The order of the table: what needs nothing first.
ORDER = ("eager", "packed", "compiled", "onnx", "openvino")
Device = Literal["cpu", "cuda"]
Forward = Callable[[Any], Any]  # images (b, c, h, w) -> what the model returns


@dataclass(frozen=True)
class Job:
    """What a way is opened with: the model, or the files that were written of it into `folder`.

    `images` (n, c, h, w) are prepared for the model; `calibrating` are others, prepared and in bytes, or None. `spec`
    is the path of an exported model.
    """

    model: Classifier | None
    folder: Path
    device: Device
    images: Float[np.ndarray, "n c h w"]
    calibrating: tuple[Float[np.ndarray, "m c h w"], UInt8[np.ndarray, "m h w 3"]] | None = None
    spec: str = ""


@dataclass(frozen=True)
class Conditions:
    """What decides whether a way is available: the device, and how many images calibrate, None without a folder."""

    device: Device
    calibrating: int | None = None


def always(conditions: Conditions) -> str:
    return ""


@dataclass(frozen=True)
class Way:
    """One way of running a model.

    `open(job)` gives a function of images, with as many threads as PyTorch has. With `write`, that is called before, in
    a process of its own, and `open` needs no model. `libraries` are what must be importable, `extra` what installs
    them. `refuses(conditions)` is the reason why the way is not available, or empty. With `reopens`, another number of
    threads needs another `open`. `any_threads` is whether all numbers of threads are tried.
    """

    name: str
    words: str
    precision: Literal["float32", "bfloat16", "int8"]
    open: Callable[[Job], Forward]
    write: Callable[[Job], None] | None = None
    devices: tuple[Device, ...] = ("cpu",)
    libraries: tuple[str, ...] = ()
    extra: str = ""
    refuses: Callable[[Conditions], str] = always
    reopens: bool = False
    any_threads: bool = True

    def why_not(self, conditions: Conditions) -> str:
        """Why the way is not available, with what to do; empty if it is."""
        if conditions.device not in self.devices:
            return f"runs on the {' or '.join(self.devices).upper()} only: --device {self.devices[0]}"
        missing = [library for library in self.libraries if find_spec(library) is None]
        if missing:
            return f"needs {', '.join(missing)}: pip install 'vitral[{self.extra}]'"
        return self.refuses(conditions)


def find_ways() -> dict[str, Way]:
    """Every way by its name, in the order of the table."""
    files = sorted(names(FOLDER), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {way.name: way for file in files for way in find(FOLDER, file, "way of running")}


def without_bfloat16(conditions: Conditions) -> str:
    """The reason of a way that computes in bfloat16, where the device only emulates it."""
    if computes_in_bfloat16(conditions.device):
        return ""
    if conditions.device == "cuda":
        return "this GPU does not compute in bfloat16"
    return "this processor does not compute in bfloat16: it has neither AVX512-BF16 nor AMX"
