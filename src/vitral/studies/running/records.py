"""Records of runs: one JSON file per run, reused only while the run and the code that made it are the same."""

import json
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitral.base.errors import StoreError, VitralError
from vitral.base.files import write_file
from vitral.base.provenance import provenance
from vitral.studies.code_fingerprint import hashes
from vitral.studies.results import Results
from vitral.studies.running.plan import Task, plan_study
from vitral.studies.study import Preset, Study
from vitral.studies.training import load_or_train


def execute(task: Task, home: Path, models: Path) -> dict[str, Any]:
    """Train and measure, and write the record to `home`. A failure is recorded with its reason, so other runs go on.

    Raises `StoreError` if the record cannot be written.
    """
    start = time.perf_counter()
    record = identity(task) | {"key": task.key, "training": asdict(task.training), "status": "done"}
    try:
        trained = load_or_train(task.training, models, task.settings)
        record |= {"size": asdict(task.size), "record": trained.record}
        if trained.record["diverged"]:
            record |= {"status": "diverged", "why": trained.record["why"]}
        elif not task.sweep:
            record["measures"] = dict(task.measure(trained))
    except StoreError:
        raise
    except VitralError as error:
        record |= {"status": "failed", "why": str(error)}
    except Exception as error:  # a reader's own model or a measure may raise anything
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        record |= {"status": "failed", "why": f"{type(error).__name__}: {error} ({place})"}
    record |= {"code": hashes(*task.modules), "seconds": time.perf_counter() - start}
    record |= {key: value for key, value in provenance().items() if key != "command"}
    write_file(task.path(home), json.dumps(record) + "\n")
    return record


def identity(task: Task) -> dict[str, Any]:
    """Which run a record is of."""
    names = ("study", "arm", "condition", "seed", "rate", "sweep")
    return {name: vars(task)[name] for name in names}


def lost_run(task: Task) -> dict[str, Any]:
    """The record of a run whose process died before it could write one."""
    why = "its process died: it was killed or ran out of memory"
    return identity(task) | {"status": "failed", "why": why, "seconds": 0.0}


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
