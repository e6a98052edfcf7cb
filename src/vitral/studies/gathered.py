"""The records of a study that are in a folder, as results; whatever made them, and whenever."""

from pathlib import Path

from vitral.studies.results import Results
from vitral.studies.runner import planned
from vitral.studies.study import Preset, Study
from vitral.studies.task import read_record


def gathered(study: Study, preset: Preset, home: Path) -> Results | None:
    """None if there is no record of a run besides the sweep's."""
    plan = planned(study, preset)
    for task in plan.sweep:
        if (record := read_record(task.path(home))) is not None:
            plan.records[task.name] = record
    found = [(task, record) for task in plan.tasks() if (record := read_record(task.path(home))) is not None]
    runs = tuple(record for task, record in found if not task.sweep)
    sweep = tuple(record for task, record in found if task.sweep)
    return Results(plan.study, preset, runs, sweep) if runs else None
