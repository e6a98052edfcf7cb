"""Which named mistake an answer makes: the one that does the same on every input, however it is written."""

from collections.abc import Iterator, Sequence

from vitral.lab.recorder import CallRecord, agree
from vitral.lab.station import Mistake

Round = Sequence[CallRecord]
Rounds = Sequence[Round]  # what was recorded, for each seed
MistakeRounds = Sequence[tuple[Mistake, Rounds]]


def find_matching_mistake(recorded: Rounds, mistakes: MistakeRounds, expected: Rounds) -> Mistake | None:
    """Return the named mistake whose records all agree with the answer's.

    Gradients count only where the results alone agree with the solution. Elsewhere the same mistake, written in
    another way, may have other gradients at points where they are not defined.
    """
    by_gradients = all(records_agree(own, right, gradients=False) for own, right in zip(recorded, expected))
    for mistake, rounds in mistakes:
        if all(records_agree(own, other, by_gradients) for own, other in zip(recorded, rounds)):
            return mistake
    return None


def find_partial_matches(
    recorded: Rounds, mistakes: MistakeRounds, expected: Rounds
) -> Iterator[tuple[Mistake, Rounds]]:
    """Yield the mistakes that an answer makes among others: it agrees with them in every call that they get wrong."""
    for mistake, rounds in mistakes:
        calls = (call for records in zip(recorded, rounds, expected) for call in zip(*records))
        affected = [(own, wrong) for own, wrong, right in calls if not calls_agree(wrong, right, gradients=False)]
        if affected and all(calls_agree(own, wrong, gradients=False) for own, wrong in affected):
            yield mistake, rounds


def records_agree(own: Round, other: Round, gradients: bool = True) -> bool:
    """Whether the records of two answers do not tell them apart."""
    return len(own) == len(other) and all(calls_agree(one, two, gradients) for one, two in zip(own, other))


def calls_agree(own: CallRecord, other: CallRecord, gradients: bool = True) -> bool:
    """Whether two records of one call agree; errors never do, since different mistakes raise the same error."""
    return (
        own.error is None
        and other.error is None
        and agree(own.result, other.result)
        and bool(own.changed_arguments) == bool(other.changed_arguments)
        and own.repeatable == other.repeatable
        and list_missing_gradients(own) == list_missing_gradients(other)
        and (not gradients or all(map(agree, own.gradients.values(), other.gradients.values())))
    )


def list_missing_gradients(record: CallRecord) -> list[bool]:
    """Return for each argument and parameter whether no gradient reaches it."""
    return [gradient is None for gradient in record.gradients.values()]
