"""Execute one run: train, measure, and write the record."""

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
from vitral.studies.running.plan import Task
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
    origin = provenance()
    record |= {"code": hashes(*task.modules), "seconds": time.perf_counter() - start}
    record |= {"machine": origin["machine"], "versions": origin["versions"], "time": origin["time"]}
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
