"""The part of a report on whether probabilities can be taken at their word, and what they can be used for."""

from collections.abc import Sequence

from vitral.base.abstention import choose_abstention, judge_abstention
from vitral.base.answer import Figures
from vitral.base.answers.one_class import ClassFigures
from vitral.base.calibration import Calibration, Reliability
from vitral.base.errors import ConfigError
from vitral.data.split_table import SplitName
from vitral.report.calibration import reliability_figure
from vitral.report.page import Picture, Section
from vitral.report.style import png

WANTED = (0.8, 0.9, 0.95, 0.99)  # accuracies, for the list of thresholds
TOO_GOOD = " Both were chosen on these validation images, so these figures are too good."


def calibration_sections(figures: Figures, calibration: Calibration | None, judged: SplitName) -> list[Section]:
    """The reliability diagram and thresholds for one class of many; how thresholds were chosen for several classes."""
    notes = " ".join(calibration.notes) if calibration else ""
    if not isinstance(figures, ClassFigures):
        return [Section("How the thresholds were chosen", notes)] if notes else []
    after, before = figures.reliability, figures.reliability_before
    panels = [("probabilities of the model", after)]
    if before:
        panels = [("without the temperature", before), (f"with temperature {figures.temperature:.3g}", after)]
    too_good = TOO_GOOD if judged == "val" and calibration else ""
    text = (
        f"{figures.calibration_text} {notes}{too_good} Each point is a bin of probabilities, with its 95% interval: on "
        "the dotted line answers are right as often as their probability promises."
    )
    picture = Picture(png(reliability_figure(panels)), " ".join(describe(title, one) for title, one in panels))
    found = [Section("Can the probabilities be taken at their word?", text, [picture])]
    if rows := abstention_rows(figures, calibration):
        words = (
            "With --at-least, predict and eval answer 'unknown' where the probability is too low. Thresholds are "
            "chosen on validation images, so that the lower end of the accuracy's 95% interval is what was asked for."
        )
        found.append(Section("When to answer 'unknown'", f"{words}{too_good}", items=tuple(rows)))
    return found


def abstention_rows(figures: ClassFigures, calibration: Calibration | None) -> Sequence[str]:
    """What answers are worth that must promise an accuracy, in a line per accuracy that validation images can show."""
    rows = []
    for wanted in WANTED:
        try:
            chosen = choose_abstention(calibration, wanted, "the model")
        except ConfigError:
            continue
        found = judge_abstention(chosen, figures.values, figures.labels)
        needs = f"needs a probability of {chosen.threshold:.1%}" if chosen.threshold else "takes every answer"
        rows.append(f"--at-least {wanted:g} {needs}. {found.text()}")
    return rows


def describe(title: str, one: Reliability) -> str:
    """A reliability diagram in words and numbers."""
    bins = ", ".join(f"{own.confidence:.0%}: {own.accuracy:.0%} of {own.n}" for own in one.bins if own.n)
    return f"Reliability diagram, {title}: probability, share of right answers and images per bin: {bins}."
