"""Check an answer: contract, properties, comparison, transplant, up to the first that fails.

Whatever fails, the answer is held against the station's named mistakes: if it gives what one of them gives, the mistake
is named.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitral.lab.beside import beside
from vitral.lab.inspection import Ended, Inspection, Seen, flat, is_float, observed, same
from vitral.lab.report import Report
from vitral.lab.station import Mistake, Station
from vitral.store.code import in_line

SEEDS = range(4)  # rounds of questions
DRAWN = range(8)  # inputs that each law is tried with
# Arithmetic in another order moves a trained model's logits by about this, in single precision.
ROUNDING = 1e-3


def check(station: Station, answer: Any) -> Report:
    """Everything but reading the file; the answer is its module."""
    expected = [observed(station.observe, station.solution, seed) for seed in SEEDS]
    mine = [observed(station.observe, answer, seed) for seed in SEEDS]
    report = (
        first(broken(own, right, answer) for own, right in zip(mine, expected))
        or first(unlawful(station, answer, seed) for seed in DRAWN)
        or first(different(own, right) for own, right in zip(mine, expected))
    )
    if report:
        if found := recognised(station, mine):
            report.mistake, report.question = found.name, found.question
        return report
    return transplanted(station, answer)


def first(reports: Any) -> Report | None:
    return next((report for report in reports if report), None)


def broken(mine: Sequence[Seen], expected: Sequence[Seen], answer: Any) -> Report | None:
    """What is not as agreed: an error, a kind, a shape, a changed input, numbers that are none, gradients that stop."""
    for own, right in zip(mine, expected):
        if said := raised(own, answer) or complaint(own, right):
            return Report("contract", said)
    return None


def raised(seen: Seen, answer: Any) -> str:
    """The error that a question ended in, and where."""
    if seen.error is None:
        return ""
    where = in_line(seen.error, Path(answer.__file__))
    if isinstance(seen.error, NotImplementedError):
        return f"{seen.what} is not written yet. {where}"
    if isinstance(seen.error, MemoryError) or "can't allocate memory" in str(seen.error):
        return f"{seen.what} asked for more memory than it may have. {where}"
    return f"{seen.what} does not run. {where}"


def complaint(own: Seen, right: Seen) -> str:
    if isinstance(right.result, dict):
        return names_differ(own, right)
    found, wanted = flat(own.result), flat(right.result)
    if isinstance(right.result, Tensor) and not isinstance(own.result, Tensor):
        return f"{own.what} should return a tensor, and returned {kind(own.result)}."
    if isinstance(right.result, tuple) and (not isinstance(own.result, tuple) or len(found) != len(wanted)):
        return f"{own.what} should return {len(wanted)} things, and returned {kind(own.result)}."
    if isinstance(right.result, list) and not isinstance(own.result, list):
        return f"{own.what} should return a list, and returned {kind(own.result)}."
    for one, other in zip(found, wanted):
        if isinstance(other, Tensor):
            if not isinstance(one, Tensor):
                return f"{own.what} should return a tensor, and returned {kind(one)}."
            if one.shape != other.shape:
                return f"{own.what} gave shape {tuple(one.shape)}; asked for is {tuple(other.shape)}."
            if one.dtype != other.dtype:
                return f"{own.what} gave {one.dtype} for inputs of {other.dtype}: let the type be that of the input."
            if bool(one.isnan().any()) and not bool(other.isnan().any()):
                return f"{own.what} gave NaN in {int(one.isnan().sum())} of {one.numel()} places."
        elif isinstance(other, float | int) != isinstance(one, float | int) or (
            not isinstance(other, float | int) and type(one) is not type(other)
        ):
            return f"{own.what} should return {kind(other)}, and returned {kind(one)}."
    if own.changed:
        return f"{own.what} changed its {own.changed[0]}: work on a copy, since others still use it."
    if not own.steady:
        return f"{own.what} gave something else when it was asked again with the same."
    if lost := [name for name, slope in right.slopes.items() if slope is not None and own.slopes.get(name) is None]:
        return f"No gradient reaches {lost[0]} of {own.what}: what it learns from is cut off on the way."
    return ""


def names_differ(own: Seen, right: Seen) -> str:
    """Parameters that are missing, too many, or of another shape."""
    if not isinstance(own.result, dict):
        return f"{own.what} should be an nn.Module, and is {kind(own.result)}."
    missing = [name for name in right.result if name not in own.result]
    if missing:
        more = [name for name in own.result if name not in right.result]
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


def unlawful(station: Station, answer: Any, seed: int) -> Report | None:
    """The first law that the answer breaks for what this seed draws."""
    for law in station.laws:
        torch.manual_seed(seed)
        inspection = Inspection(answer, seed)
        try:
            one, other = law.sides(inspection)
        except Ended:
            return Report("contract", raised(inspection.seen[-1], answer))
        except Exception as error:  # what it gave cannot even be computed with
            return Report(
                "properties", f"{law.sentence} This could not be tried: {in_line(error, Path(answer.__file__))}"
            )
        if not same(one, other, law.within):
            return Report("properties", law.sentence, beside(one, other, "one side", "the other"))
    return None


def different(mine: Sequence[Seen], expected: Sequence[Seen]) -> Report | None:
    """The first answer that is not the solution's."""
    for own, right in zip(mine, expected):
        if not same(own.result, right.result):
            said = f"{own.what} is not what was asked for, though all of the above holds."
            pairs = [(a, b) for a, b in zip(flat(own.result), flat(right.result)) if not same(a, b)]
            pairs = pairs or [(own.result, right.result)]  # of another kind or length, and the same inside
            return Report("comparison", said, beside(*pairs[0], "yours", "expected"))
        for name, slope in right.slopes.items():
            if not same(own.slopes.get(name), slope):
                said = f"{own.what} is right, but its gradient by {name} is not: a part of it is cut off on the way."
                return Report("comparison", said, beside(own.slopes.get(name), slope, "yours", "expected"))
    return None


def recognised(station: Station, mine: Sequence[Sequence[Seen]]) -> Mistake | None:
    """The named mistake that gives all that this answer gives."""
    for mistake in station.mistakes:
        theirs = [observed(station.observe, mistake.answer(station.solution), seed) for seed in SEEDS]
        if all(alike(own, other) for own, other in zip(mine, theirs)):
            return mistake
    return None


def alike(mine: Sequence[Seen], theirs: Sequence[Seen]) -> bool:
    """Whether two answers cannot be told apart by what was seen of them; an error says too little."""
    return len(mine) == len(theirs) and all(
        own.error is None
        and other.error is None
        and same(own.result, other.result)
        and own.changed == other.changed
        and own.slopes.keys() == other.slopes.keys()
        and all(same(slope, other.slopes[name]) for name, slope in own.slopes.items())
        and own.steady == other.steady
        for own, other in zip(mine, theirs)
    )


def transplanted(station: Station, answer: Any) -> Report:
    """The answer at work in a trained model, beside ours."""
    from vitral.lab.transplant import judged

    report = Report()
    try:
        pairs = dict(judged(station, answer)) if station.graft else {}
        pairs |= station.applied(answer) if station.applied else {}
    except Exception as error:  # whatever a reader's part raises among the others
        where = in_line(error, Path(answer.__file__))
        return Report("transplant", f"In a trained model it does not run. {where}")
    for what, (own, ours) in pairs.items():
        if own.shape != ours.shape or not bool(
            torch.allclose(own.double(), ours.double(), atol=ROUNDING, rtol=ROUNDING)
        ):
            said = f"In a trained model something changes: {what}."
            return Report("transplant", said, beside(own, ours, "yours", "ours") if is_float(own) else "")
        report.transplanted.append(what)
    return report
