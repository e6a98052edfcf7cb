"""What an answer must keep whatever it computes: kinds, shapes, types, its inputs, gradients, names of parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vitral.lab.inspection import Seen, flat
from vitral.lab.report import Report
from vitral.store.code import describe_error


def broken(mine: Sequence[Seen], expected: Sequence[Seen], answer: Any) -> Report | None:
    """The first of what was seen that is not as agreed; the solution shows what was."""
    for own, right in zip(mine, expected):
        differ = names_differ if isinstance(right.result, dict) else kinds_differ
        if said := raised(own, answer) or differ(own, right) or harm(own, right):
            return Report("contract", said)
    return None


def raised(seen: Seen, answer: Any) -> str:
    """The error that a question ended in, and where."""
    if seen.error is None:
        return ""
    where = describe_error(seen.error, Path(answer.__file__))
    if "numpy()" in str(seen.error):
        return f"{seen.what} leaves torch for NumPy, which keeps no gradients: use what torch has for it. {where}"
    if isinstance(seen.error, EOFError):
        return f"{seen.what} waits for input(), and nobody can answer here: take it out. {where}"
    if isinstance(seen.error, NotImplementedError):
        return f"{seen.what} is not written yet. {where}"
    if isinstance(seen.error, MemoryError) or "can't allocate memory" in str(seen.error):
        return f"{seen.what} asked for more memory than it may have. {where}"
    return f"{seen.what} does not run. {where}"


def kinds_differ(own: Seen, right: Seen) -> str:
    """A result of another kind, length, shape or type, or with numbers that are none."""
    found, wanted = flat(own.result), flat(right.result)
    if isinstance(right.result, Tensor) and not isinstance(own.result, Tensor):
        return f"{own.what} should return a tensor, and returned {kind(own.result)}."
    if isinstance(right.result, tuple) and (not isinstance(own.result, tuple) or len(found) != len(wanted)):
        return f"{own.what} should return {len(wanted)} things, and returned {kind(own.result)}."
    if isinstance(right.result, list) and not isinstance(own.result, list):
        return f"{own.what} should return a list, and returned {kind(own.result)}."
    for one, other in zip(found, wanted):
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if said := tensors_differ(one, other):
                return f"{own.what} gave {said}."
        elif not (isinstance(one, float | int) and isinstance(other, float | int)) and type(one) is not type(other):
            held = "hold" if isinstance(right.result, list | tuple) else "return"
            return f"{own.what} should {held} {kind(other)}, and {held}s {kind(one)}."
    return ""


def tensors_differ(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"shape {tuple(one.shape)}; asked for is {tuple(other.shape)}"
    if one.dtype != other.dtype:
        return f"{one.dtype} for inputs of {other.dtype}: let the type be that of the input"
    if bool(one.isnan().any()) and not bool(other.isnan().any()):
        return f"NaN in {int(one.isnan().sum())} of {one.numel()} places"
    if bool(one.isinf().any()) and not bool(other.isinf().any()):
        return f"infinity in {int(one.isinf().sum())} of {one.numel()} places"
    return ""


def harm(own: Seen, right: Seen) -> str:
    """An input that was changed, an answer that is not steady, a gradient that does not arrive."""
    if own.changed:
        return (
            f"{own.what} changed {own.changed[0]}, which others still use. `+=` and `x[...] =` change a tensor in "
            "place; `x = x + ...` makes a new one, and `x.clone()` a copy."
        )
    if not own.steady:
        return f"{own.what} gave something else when it was asked again with the same."
    for (name, slope), wanted in zip(own.slopes.items(), right.slopes.values()):
        if slope is None and wanted is not None:
            return (
                f"{own.what}: no gradient comes back to {name}. Either it is not used, or it is cut off on the way "
                "(by detach, no_grad or NumPy)."
            )
    return ""


def names_differ(own: Seen, right: Seen) -> str:
    """Parameters that are missing, too many, or of another shape."""
    if not isinstance(own.result, dict):
        return f"{own.what} should be an nn.Module, and is {kind(own.result)}."
    missing = [name for name in right.result if name not in own.result]
    if missing:
        more = [name for name in own.result if name not in right.result]
        if hidden := own.unlearned.get(missing[0].partition(".")[0]):
            return f"{own.what}: {missing[0].partition('.')[0]} {hidden}."
        beside = f" It has {', '.join(more[:3])}{', ...' if len(more) > 3 else ''}." if more else ""
        return f"{own.what}: there is no {missing[0]}.{beside} Weights are found by these names."
    if more := [name for name in own.result if name not in right.result]:
        return f"{own.what}: {more[0]} is one too many."
    for name, shape in right.result.items():
        if own.result[name] != shape:
            return f"{own.what}: {name} is of shape {own.result[name]}; asked for is {shape}."
    return ""


def kind(value: Any) -> str:
    """What something is, in words."""
    if isinstance(value, np.ndarray):
        return "a NumPy array (make everything of tensors: NumPy keeps no gradients)"
    if value is None:
        return "nothing (is there a `return`?)"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return {"int": "a number", "float": "a number", "Tensor": "a tensor", "str": "a text"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )
