"""Check an answer: contract, properties, comparison, transplant, up to the first that fails.

Whatever fails, the answer is held against the station's named mistakes: if it gives what one of them gives, the mistake
is named; and if it does so wherever that mistake shows, and is wrong elsewhere too, that is said.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vitral.lab.beside import beside
from vitral.lab.contract import broken, raised
from vitral.lab.inspection import Ended, Inspection, Seen, flat, is_float, observed, same, silence
from vitral.lab.report import Report
from vitral.lab.station import Mistake, Station
from vitral.store.code import describe_error

SEEDS = range(4)  # rounds of questions
DRAWN = range(8)  # inputs that each law is tried with
# Arithmetic in another order moves a trained model's logits by about this, in single precision.
ROUNDING = 1e-3
UNNAMED = "No mistake that is known by name gives exactly this: it may be two at once, or one of your own."
BESIDE = "It is not the only one: something else is wrong, too."

Rounds = Sequence[Sequence[Seen]]  # what was seen, for each seed


def check(station: Station, answer: Any) -> Report:
    """Everything but reading the file; the answer is its module."""
    expected, mine = asked(station, station.solution), asked(station, answer)
    with silence():
        report = wrong(station, answer, mine, expected)
        if not report:
            return transplanted(station, answer)
    theirs = [(mistake, asked(station, mistake.answer(station.solution))) for mistake in station.mistakes]
    if found := recognised(mine, theirs, expected):
        report.mistake, report.question = found.name, found.question
    elif found := recognised_in_part(station, report, mine, theirs, expected):
        report.mistake, report.question = f"{found.name} {BESIDE}", found.question
    elif report.failed != "contract":
        report.question = UNNAMED
    return report


def asked(station: Station, answer: Any) -> Rounds:
    """What every round saw; what is printed in the first is shown."""
    begun = [observed(station.observe, answer, SEEDS[0])]
    with silence():
        return begun + [observed(station.observe, answer, seed) for seed in SEEDS[1:]]


def wrong(station: Station, answer: Any, mine: Rounds, expected: Rounds) -> Report | None:
    """What is wrong with an answer before it is put into a trained model."""
    return (
        first(broken(own, right, answer) for own, right in zip(mine, expected))
        or first(unlawful(station, answer, seed) for seed in DRAWN)
        or first(different(own, right) for own, right in zip(mine, expected))
    )


def first(reports: Any) -> Report | None:
    return next((report for report in reports if report), None)


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
                "properties", f"{law.sentence} This could not be tried: {describe_error(error, Path(answer.__file__))}"
            )
        if not same(one, other, law.within):
            torch.manual_seed(seed)
            _, right = law.sides(Inspection(station.solution, seed))
            # The second side is what should be only where it is not the answer's own, too.
            names = ("yours", "should be") if same(other, right, law.within) else ("yours, one way", "the other way")
            return Report("properties", law.sentence, beside(one, other, *names))
    return None


def different(mine: Sequence[Seen], expected: Sequence[Seen]) -> Report | None:
    """The first answer that is not the solution's."""
    for own, right in zip(mine, expected):
        if not same(own.result, right.result):
            said = f"{own.what} is not what was asked for, though every law of the station holds."
            pairs = [(a, b) for a, b in zip(flat(own.result), flat(right.result)) if not same(a, b)]
            pairs = pairs or [(own.result, right.result)]  # of another kind or length, and the same inside
            return Report("comparison", said, beside(*pairs[0], "yours", "expected"))
        for (name, mine_slope), slope in zip(own.slopes.items(), right.slopes.values()):
            if not same(mine_slope, slope):
                said = f"{own.what} is right, but its gradient by {name} is not: a part of it is cut off on the way."
                return Report("comparison", said, beside(mine_slope, slope, "yours", "expected"))
    return None


def recognised(mine: Rounds, theirs: Sequence[tuple[Mistake, Rounds]], right: Rounds) -> Mistake | None:
    """The named mistake that gives all that this answer gives.

    Gradients are held against each other only where they alone tell an answer from the solution: the same mistake,
    written in another way, may have others where they are not defined.
    """
    by_slopes = all(alike(own, other, slopes=False) for own, other in zip(mine, right))
    return next(
        (found for found, given in theirs if all(alike(own, other, by_slopes) for own, other in zip(mine, given))), None
    )


def recognised_in_part(
    station: Station, report: Report, mine: Rounds, theirs: Sequence[tuple[Mistake, Rounds]], right: Rounds
) -> Mistake | None:
    """The named mistake that this answer makes among others: alike wherever it shows, and found out the same way."""
    for mistake, given in theirs:
        shows = [
            (own, other)
            for round_of in zip(mine, given, right)
            for own, other, expected in zip(*round_of)
            if not indistinct(other, expected, slopes=False)
        ]
        if shows and all(indistinct(own, other, slopes=False) for own, other in shows):
            alone = wrong(station, mistake.answer(station.solution), given, right)
            if alone and (alone.failed, alone.said) == (report.failed, report.said):
                return mistake
    return None


def alike(mine: Sequence[Seen], theirs: Sequence[Seen], slopes: bool = True) -> bool:
    """Whether two answers cannot be told apart by what was seen of them."""
    return len(mine) == len(theirs) and all(indistinct(own, other, slopes) for own, other in zip(mine, theirs))


def indistinct(own: Seen, other: Seen, slopes: bool = True) -> bool:
    """Whether one question was answered alike; an error says too little."""
    return (
        own.error is None
        and other.error is None
        and same(own.result, other.result)
        and bool(own.changed) == bool(other.changed)
        and own.steady == other.steady
        and cut_off(own) == cut_off(other)
        and (not slopes or all(map(same, own.slopes.values(), other.slopes.values())))
    )


def cut_off(seen: Seen) -> list[bool]:
    """For each argument and parameter, whether no gradient reaches it."""
    return [slope is None for slope in seen.slopes.values()]


def transplanted(station: Station, answer: Any) -> Report:
    """The answer at work in a trained model, beside ours."""
    from vitral.lab.transplant import judged

    report = Report()
    try:
        pairs = dict(judged(station, answer)) if station.graft else {}
        pairs |= station.applied(answer) if station.applied else {}
    except Exception as error:  # whatever a reader's part raises among the others
        where = describe_error(error, Path(answer.__file__))
        return Report("transplant", f"In a trained model it does not run. {where}")
    for what, (own, ours) in pairs.items():
        if own.shape != ours.shape or not bool(
            torch.allclose(own.double(), ours.double(), atol=ROUNDING, rtol=ROUNDING)
        ):
            said = f"In a trained model something changes: {what}."
            return Report("transplant", said, beside(own, ours, "yours", "ours") if is_float(own) else "")
        report.transplanted.append(what)
    return report
