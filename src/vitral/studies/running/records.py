"""Records of runs: one JSON file per run, reused only while the run and the code that made it are the same."""

import json
from pathlib import Path
from typing import Any

from vitral.studies.code_fingerprint import hashes
from vitral.studies.results import Results
from vitral.studies.running.plan import Task, plan_study
from vitral.studies.study import Preset, Study


def read_record(path: Path) -> dict[str, Any] | None:
    """A record; None if there is none or the file is not a record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if {"key", "code", "status", "sweep"} <= record.keys() else None
    except (ValueError, OSError, AttributeError):
        return None


def load_cached_record(task: Task, home: Path) -> tuple[dict[str, Any] | None, str]:
    """The record of a task, and "" if it is up to date; else None, and what has changed since ("" if there is none)."""
    record = read_record(task.path(home))
    if record is None or record["key"] == task.key:
        return record, ""
    then, now = record["code"], hashes(*task.modules)
    changed = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return None, f"{', '.join(changed[:3])}{more}" if changed else "its settings"


def collect_results(study: Study, preset: Preset, home: Path) -> Results | None:
    """The results from all records in a folder, whichever version of the code made them.

    None if there is no record besides the sweep's.
    """
    plan = plan_study(study, preset)
    # The sweep's records come first: they decide the learning rates, and with these which runs belong to the study.
    for task in plan.sweep:
        if (record := read_record(task.path(home))) is not None:
            plan.records[task.name] = record
    found = [record for task in plan.tasks() if (record := read_record(task.path(home))) is not None]
    runs = tuple(record for record in found if not record["sweep"])
    return Results(plan.study, preset, runs, tuple(plan.records.values())) if runs else None
