"""The check of an answer: contract, properties, comparison and integration, up to the first stage that fails.

The answer and the solution are called on the same random inputs. If a stage fails, what was recorded of the answer is
compared with what every named mistake does on these inputs.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from vitral.lab.contract import describe_call_error, find_violation
from vitral.lab.difference import describe_difference
from vitral.lab.identification import MistakeRounds, Round, Rounds, find_matching_mistake, find_partial_matches
from vitral.lab.recorder import AnswerFailed, Recorder, agree, discard_output, flatten, is_float, record_calls
from vitral.lab.report import Report
from vitral.lab.station import Station
from vitral.store.code import describe_error

SEEDS = range(4)  # of the rounds of calls that are compared with the solution
LAW_SEEDS = range(8)  # of the inputs on which each law is tested
# Another order of operations moves a trained model's logits by about this much in single precision.
ROUNDING = 1e-3
UNNAMED = "This matches no mistake that the lab recognises: it may be two mistakes at once, or a new one."
NOT_ALONE = "It is not the only mistake here."


def check_answer(station: Station, answer: Any) -> Report:
    """Run all stages but the first; `answer` is the module made from the reader's file."""
    expected, recorded = record_rounds(station, station.solution), record_rounds(station, answer)
    with discard_output():
        report = find_fault(station, answer, recorded, expected)
        if not report:
            return check_integration(station, answer)
    name_mistake(station, report, recorded, expected)
    return report


def record_rounds(station: Station, answer: Any) -> Rounds:
    """Record one round of calls per seed; only what the first round prints is shown."""
    first = [record_calls(station.observe, answer, SEEDS[0])]
    with discard_output():
        return first + [record_calls(station.observe, answer, seed) for seed in SEEDS[1:]]


def record_mistakes(station: Station) -> MistakeRounds:
    """Record what every named mistake of a station does."""
    answers = [(mistake, mistake.build_answer(station.solution)) for mistake in station.mistakes]
    return [(mistake, record_rounds(station, wrong)) for mistake, wrong in answers]


def find_fault(station: Station, answer: Any, recorded: Rounds, expected: Rounds) -> Report | None:
    """Return what is wrong with an answer before it is used in a trained model.

    A law says more than a difference in numbers, so laws come before the comparison; and an equation can only be
    evaluated once shapes and types are right, so the contract comes before both.
    """
    return (
        find_first(find_violation(own, right, answer) for own, right in zip(recorded, expected))
        or find_first(find_broken_law(station, answer, seed) for seed in LAW_SEEDS)
        or find_first(find_difference(own, right) for own, right in zip(recorded, expected))
    )


def find_first(reports: Iterable[Report | None]) -> Report | None:
    return next(filter(None, reports), None)


def find_broken_law(station: Station, answer: Any, seed: int) -> Report | None:
    """Return the first law that the answer breaks on the inputs of this seed."""
    for law in station.laws:
        torch.manual_seed(seed)
        recorder = Recorder(answer, seed, gradients=False)
        try:
            one, other = law.sides(recorder)
        except AnswerFailed:
            return Report("contract", describe_call_error(recorder.records[-1], answer))
        except Exception as error:  # the law could not use what the answer returned
            where = describe_error(error, Path(answer.__file__))
            return Report("properties", f"{law.sentence} This could not be tested: {where}")
        if not agree(one, other, law.within):
            torch.manual_seed(seed)
            _, right = law.sides(Recorder(station.solution, seed))
            # In some laws both sides come from the answer; the second is what should be only if the solution agrees.
            names = ("yours", "should be") if agree(other, right, law.within) else ("yours, one way", "the other way")
            return Report("properties", law.sentence, describe_difference(one, other, *names))
    return None


def find_difference(recorded: Round, expected: Round) -> Report | None:
    """Return the first call whose result or gradients differ from the solution's."""
    for own, right in zip(recorded, expected):
        if not agree(own.result, right.result):
            message = (
                f"{own.label} has all the properties that the station tests, but does not return the expected values."
            )
            pairs = [(a, b) for a, b in zip(flatten(own.result), flatten(right.result)) if not agree(a, b)]
            pairs = pairs or [(own.result, right.result)]  # equal parts in a container of another type or length
            return Report("comparison", message, describe_difference(*pairs[0], "yours", "expected"))
        for (name, gradient), right_gradient in zip(own.gradients.items(), right.gradients.values()):
            if not agree(gradient, right_gradient):
                message = (
                    f"{own.label} is right, but its gradient with respect to {name} is not: part of the gradient is "
                    "lost."
                )
                difference = describe_difference(gradient, right_gradient, "yours", "expected")
                return Report("comparison", message, difference)
    return None


def name_mistake(station: Station, report: Report, recorded: Rounds, expected: Rounds) -> None:
    """Add the name and question of the mistake that explains the records, if there is one."""
    rounds = record_mistakes(station)
    if mistake := find_matching_mistake(recorded, rounds, expected):
        report.mistake, report.question = mistake.name, mistake.question
        return
    for mistake, own in find_partial_matches(recorded, rounds, expected):
        # Of two mistakes in one answer, this is the one that failed only if it fails in the same way alone.
        alone = find_fault(station, mistake.build_answer(station.solution), own, expected)
        if alone and (alone.failed, alone.message) == (report.failed, report.message):
            report.mistake, report.question = f"{mistake.name} {NOT_ALONE}", mistake.question
            return
    report.question = UNNAMED if report.failed != "contract" else ""


def check_integration(station: Station, answer: Any) -> Report:
    """Compare the answer with Vitral's own part inside a trained model."""
    from vitral.lab.integration import compare_in_model

    report = Report()
    try:
        pairs = dict(compare_in_model(station, answer)) if station.insert else {}
        pairs |= station.compare_in_use(answer) if station.compare_in_use else {}
    except Exception as error:  # whatever the reader's part raises inside the model
        where = describe_error(error, Path(answer.__file__))
        return Report("integration", f"It fails inside a trained model. {where}")
    for what, (own, ours) in pairs.items():
        close = own.shape == ours.shape and torch.allclose(own.double(), ours.double(), atol=ROUNDING, rtol=ROUNDING)
        if not close:
            difference = describe_difference(own, ours, "yours", "Vitral's") if is_float(own) else ""
            return Report("integration", f"Inside a trained model it changes the result: {what}.", difference)
        report.same_in_model.append(what)
    return report
