"""Device, precision and compilation, each chosen by a rule, with its reason as a sentence.

The rules decide for short runs; for others `vitral.tasks.choose_numerics` measures.
"""

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from vitral.base.errors import ConfigError

# Narrower matrices lose more time to conversion than the faster products gain; measured, docs/decisions/.
WIDE = 128  # inner width from which bfloat16 pays off on a processor that computes in it
LONG = 3e14  # floating-point operations from which a run gains more than the minute that compiling takes


@dataclass(frozen=True)
class Numerics:
    """The choice, and the reason for it, which has a part on precision and one on compiling: `float32, ...; ...`."""

    device: str
    precision: str
    compile: bool
    reason: str

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)


def choose(precision: str, compile: str, width: int, planned: float) -> Numerics:
    """Choose for a model of inner `width` and a run of `planned` floating-point operations.

    "auto" is decided here; anything else is taken as requested. Raises `ConfigError` if this machine cannot do it.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    has_bfloat16 = computes_in_bfloat16(device)
    if precision == "auto":
        gains = has_bfloat16 and width >= WIDE
        precision = "bfloat16" if gains else "float32"
        reason = f"{precision}, because the width of {width} is {'at least' if width >= WIDE else 'below'} {WIDE}"
        if width >= WIDE and not has_bfloat16:
            reason = f"float32, because this {device} does not compute in bfloat16"
    else:
        reason = f"{precision}, as requested"
    can_compile = compiles(device)
    if compile == "always" and not can_compile:
        raise ConfigError(
            "compile=always needs a C++ compiler, and none was found. Install g++ or clang. Only a new run can take "
            "--compile auto instead: a resumed run keeps its settings."
        )
    compiled = can_compile if compile == "always" else compile == "auto" and can_compile and planned >= LONG
    reason += "; compiled" if compiled else "; not compiled"
    if compile == "auto" and planned >= LONG and not can_compile:
        reason += ", because no C++ compiler was found"
    elif compile == "auto":
        reason += f", because {planned:.1e} operations are {'at least' if planned >= LONG else 'fewer than'} {LONG:.0e}"
    return Numerics(device, precision, compiled, reason)


def computes_in_bfloat16(device: str) -> bool:
    """Whether the device multiplies in bfloat16."""
    import torch

    return torch.cuda.is_bf16_supported() if device == "cuda" else cpu_computes_in_bfloat16()


def compiles(device: str) -> bool:
    """Whether torch.compile has a compiler: on a CPU it writes C++ for one; on a GPU, Triton brings its own."""
    return device == "cuda" or any(map(shutil.which, ("c++", "g++", "clang++", "cl")))


def cpu_computes_in_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX512-BF16 or AMX), rather than emulating it slowly."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
