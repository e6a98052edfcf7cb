"""The contract of an answer: types, shapes, unchanged inputs, gradients, and names of parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vitral.lab.recorder import CallRecord, flatten
from vitral.lab.report import Report
from vitral.store.code import describe_error


def find_violation(recorded: Sequence[CallRecord], expected: Sequence[CallRecord], answer: Any) -> Report | None:
    """Return the first violation; the solution's records define the contract."""
    for own, right in zip(recorded, expected):
        compare = describe_parameter_difference if isinstance(right.result, dict) else describe_type_difference
        if message := describe_call_error(own, answer) or compare(own, right) or describe_side_effect(own, right):
            return Report("contract", message)
    return None


def describe_call_error(record: CallRecord, answer: Any) -> str:
    """Return the error that a call raised and its line, or "" if it raised none."""
    if record.error is None:
        return ""
    where = describe_error(record.error, Path(answer.__file__))
    if "numpy()" in str(record.error):
        return f"{record.label} uses NumPy, which loses gradients: use the torch function instead. {where}"
    if isinstance(record.error, EOFError):
        return f"{record.label} calls input(), which cannot be answered here: remove it. {where}"
    if isinstance(record.error, NotImplementedError):
        return f"{record.label} is not written yet. {where}"
    if isinstance(record.error, MemoryError) or "can't allocate memory" in str(record.error):
        return f"{record.label} needs more memory than is allowed. {where}"
    return f"{record.label} fails. {where}"


def describe_type_difference(own: CallRecord, right: CallRecord) -> str:
    """Return what is wrong with a result's type, length, shape or dtype, or "" if nothing is."""
    found, wanted = flatten(own.result), flatten(right.result)
    returned = f"but returns {describe_value(own.result)}."
    if isinstance(right.result, Tensor) and not isinstance(own.result, Tensor):
        return f"{own.label} should return a tensor, {returned}"
    if isinstance(right.result, tuple) and (not isinstance(own.result, tuple) or len(found) != len(wanted)):
        return f"{own.label} should return a tuple of {len(wanted)}, {returned}"
    if isinstance(right.result, list) and not isinstance(own.result, list):
        return f"{own.label} should return a list, {returned}"
    for one, other in zip(found, wanted):
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if message := describe_tensor_difference(one, other):
                return f"{own.label} returns {message}."
        elif not (isinstance(one, float | int) and isinstance(other, float | int)) and type(one) is not type(other):
            place = " in each place" if isinstance(right.result, list | tuple) else ""
            return f"{own.label} should return {describe_value(other)}{place}, but returns {describe_value(one)}."
    return ""


def describe_tensor_difference(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"shape {tuple(one.shape)}; expected {tuple(other.shape)}"
    if one.dtype != other.dtype:
        return f"{one.dtype} for inputs of {other.dtype}: keep the dtype of the input"
    if bool(one.isnan().any()) and not bool(other.isnan().any()):
        return f"NaN in {int(one.isnan().sum())} of {one.numel()} places"
    if bool(one.isinf().any()) and not bool(other.isinf().any()):
        return f"infinity in {int(one.isinf().sum())} of {one.numel()} places"
    return ""


def describe_side_effect(own: CallRecord, right: CallRecord) -> str:
    """Return an input that was changed, a result that is random, or a gradient that is missing; else ""."""
    if own.changed_arguments:
        return (
            f"{own.label} changes {own.changed_arguments[0]}, which other code still uses. `+=` and `x[...] =` change "
            "a tensor in place; `x = x + ...` makes a new one, and `x.clone()` makes a copy."
        )
    if not own.repeatable:
        return f"{own.label} returns something else when it is called again with the same arguments."
    for (name, gradient), wanted in zip(own.gradients.items(), right.gradients.values()):
        if gradient is None and wanted is not None:
            return (
                f"{own.label}: no gradient reaches {name}. Either {name} is not used, or something between it and the "
                "result stops gradients (detach, no_grad or NumPy)."
            )
    return ""


def describe_parameter_difference(own: CallRecord, right: CallRecord) -> str:
    """Return a parameter that is missing, superfluous or of another shape; else ""."""
    if not isinstance(own.result, dict):
        return f"{own.label} should be an nn.Module, but is {describe_value(own.result)}."
    missing = [name for name in right.result if name not in own.result]
    more = [name for name in own.result if name not in right.result]
    if missing:
        if remedy := own.unregistered.get(missing[0].partition(".")[0]):
            return f"{own.label}: {missing[0].partition('.')[0]} {remedy}."
        others = f" It has {', '.join(more[:3])}{', ...' if len(more) > 3 else ''}." if more else ""
        return f"{own.label}: there is no {missing[0]}.{others} Trained weights are loaded by these names."
    if more:
        return f"{own.label}: there should be no {more[0]}."
    for name, shape in right.result.items():
        if own.result[name] != shape:
            return f"{own.label}: {name} has shape {own.result[name]}; expected {shape}."
    return ""


def describe_value(value: Any) -> str:
    """Return what kind of value this is, in words."""
    if isinstance(value, np.ndarray):
        return "a NumPy array (use tensors throughout: NumPy loses gradients)"
    if value is None:
        return "None (is there a `return`?)"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return {"int": "a number", "float": "a number", "Tensor": "a tensor", "str": "a string"}.get(
        type(value).__name__, f"a value of type {type(value).__name__}"
    )
