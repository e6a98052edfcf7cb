"""Device, precision and compilation, each chosen by a rule of one sentence."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from vitral.base.errors import ConfigError

WIDE = 128  # width from which bfloat16 is faster on a processor that has it; measured, see docs/decisions/
LONG = 3e14  # floating-point operations from which a minute of compiling pays off


@dataclass(frozen=True)
class Numerics:
    """The choice, and the reasons in words."""

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
    """Choose for a model of this embedding `width` and a run of `planned` floating-point operations.

    "auto" is decided here; anything else is taken as specified. Raises `ConfigError` if this machine cannot do it.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    has_bfloat16 = torch.cuda.is_bf16_supported() if device == "cuda" else cpu_computes_in_bfloat16()
    if precision == "auto":
        gains = has_bfloat16 and width >= WIDE
        precision = "bfloat16" if gains else "float32"
        reason = f"{precision}, because the width of {width} is {'at least' if width >= WIDE else 'below'} {WIDE}"
        if width >= WIDE and not has_bfloat16:
            reason = f"float32, because this {device} does not compute in bfloat16"
    else:
        reason = f"{precision}, as specified"
    can_compile = device == "cuda" or any(map(shutil.which, ("c++", "g++", "clang++", "cl")))
    if compile == "always" and not can_compile:
        raise ConfigError(
            "--compile always needs a C++ compiler, and none was found. Install g++ or clang, or omit the option."
        )
    compiled = can_compile if compile == "always" else compile == "auto" and can_compile and planned >= LONG
    reason += "; compiled" if compiled else "; not compiled"
    if compile == "auto" and planned >= LONG and not can_compile:
        reason += ", because no C++ compiler was found"
    elif compile == "auto":
        reason += f", because {planned:.1e} operations are {'at least' if planned >= LONG else 'fewer than'} {LONG:.0e}"
    return Numerics(device, precision, compiled, reason)


def cpu_computes_in_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX512-BF16 or AMX); others emulate it, which is slow."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
