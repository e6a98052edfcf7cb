"""Test claims about ViTs by experiment: `vitral study list`, `run NAME...` (or `run all`), `report`."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError, UsageError
from vitral.base.lookup import check_name
from vitral.cli._options import Json
from vitral.studies.study import studies


@dataclass(frozen=True)
class Options:
    action: Annotated[
        Literal["list", "run", "report"],
        Option(
            "list: show the studies; run: run them; report: write the pages again from the records.", positional=True
        ),
    ]
    names: Annotated[tuple[str, ...], Option("Names of studies, or all.", positional=True)] = ()
    preset: Annotated[
        Literal["smoke", "quick", "full"],
        Option(
            "smoke: only test that everything runs; quick: about three hours for all studies on two cores; "
            "full: more seeds and training samples."
        ),
    ] = "quick"
    out: Annotated[Path, Option("Folder for records, models and pages.")] = Path("runs/studies")
    processes: Annotated[
        int | None,
        Option("Number of runs at the same time; by default one per core, each on one thread.", low=1, high=1024),
    ] = None
    minutes: Annotated[
        float | None,
        Option(
            "Refuse to start if the estimate exceeds this many minutes, and list the studies that fit.",
            low=0.1,
            high=1_000_000,
        ),
    ] = None
    stale: Annotated[
        Literal["rerun", "refuse"],
        Option("Results computed by a different version of the code: rerun computes them again, refuse stops."),
    ] = "rerun"
    data: Annotated[Path | None, Option("Folder of class folders to use instead of the synthetic images.")] = None
    model: Annotated[str | None, Option("file.py:Name of your own model, to compare with the models of the study.")] = (
        None
    )
    json: Json = False

    def __post_init__(self) -> None:
        if self.action == "list" and self.names:
            raise ConfigError("`vitral study list` lists all studies: leave the names out.")
        if self.action == "run" and not self.names:
            raise ConfigError("Specify the studies to run, by their names in `vitral study list`, or all.")


def run(options: Options) -> dict[str, Any]:
    known = studies()
    if options.action == "list":
        return list_studies(options)
    for name in options.names:
        if name != "all":
            check_name(name, known, "study")
    chosen = list(known.values()) if "all" in options.names else [known[name] for name in dict.fromkeys(options.names)]
    home = options.out / (options.preset if options.data is None and options.model is None else f"{options.preset}-own")
    if options.action == "run":
        run_studies(options, chosen, home)
    return write_pages(home, options)


def list_studies(options: Options) -> dict[str, Any]:
    from vitral.studies.running.plan import plan_study

    rows = []
    for name, study in studies().items():
        tasks = plan_study(study, options.preset).tasks()
        trainings = {task.training.key: task.training.samples for task in tasks}
        samples = sum(trainings.values())
        print_result(f"{study.number:>2}  {name:<16} {study.claim}")
        print_result(f"    {'':<16} {options.preset}: {len(tasks)} runs, {samples:,} training samples")
        rows.append({"name": name, "claim": study.claim, "runs": len(tasks), "samples": samples})
    return {"studies": rows}


def run_studies(options: Options, chosen: list[Any], home: Path) -> None:
    """Run what has no record yet, and report each run and the remaining time."""
    from vitral.studies.running.plan import plan_study
    from vitral.studies.running.runner import run as run_plans
    from vitral.studies.study import with_custom_inputs

    plans = [plan_study(with_custom_inputs(study, options.data, options.model), options.preset) for study in chosen]
    processes = options.processes or os.cpu_count() or 1
    if options.minutes is not None:
        check_fits(plans, processes, options.minutes)
    threads = max(1, (os.cpu_count() or 1) // processes)
    start = time.monotonic()
    for finished in run_plans(plans, home, options.out / "models", processes, threads, options.stale, say):
        if not finished.cached:
            say(progress_line(finished, time.monotonic() - start))


def progress_line(finished: Any, seconds: float) -> str:
    from vitral.studies.effects import recorded_score

    record, (done, total), (work, whole) = finished.record, finished.runs, finished.work
    status = record["status"]
    if status == "done":  # of costs alone nothing was trained, so there is no score
        status = f"{recorded_score(record['record'], 'test'):6.1%}" if record["training"]["samples"] else "measured"
    why = f" {record['why']}" if record.get("why") else ""
    sweep = f", lr x {record['rate']:g}" if record["sweep"] else ""
    left = int((whole - work) * seconds / finished.work_now) if finished.work_now else 0
    return (
        f"{done:>4}/{total}  {record['study']}: {record['arm']}, {record['condition']}, seed {record['seed']}{sweep}: "
        f"{status}{why}   {record['seconds']:.0f} s   left {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    )


def check_fits(plans: list[Any], processes: int, minutes: float) -> None:
    """Raise `ConfigError`, with the studies that fit, if the runs would take longer than `minutes`."""
    from vitral.studies.running.progress import estimate_minutes

    estimates = estimate_minutes(plans, processes)
    if sum(estimates.values()) <= minutes:
        return
    fitting: list[str] = []
    total = 0.0
    for name, estimate in sorted(estimates.items(), key=lambda pair: pair[1]):
        if total + estimate <= minutes:
            fitting, total = [*fitting, name], total + estimate
    raise ConfigError(
        f"These studies would take about {sum(estimates.values()):.0f} minutes on this machine, more than {minutes:g}: "
        + ", ".join(f"{name} {estimate:.0f}" for name, estimate in estimates.items())
        + f". Studies that fit: {' '.join(fitting) or 'none'}"
        + ("; try --preset smoke." if not fitting else f" (about {total:.0f} minutes).")
    )


def write_pages(home: Path, options: Options) -> dict[str, Any]:
    """Write the pages of all studies that have records, and print their headlines."""
    from vitral.studies.pages import verdict_label, write_study, write_summary
    from vitral.studies.running.records import collect_results
    from vitral.studies.study import with_custom_inputs

    every = []
    for study in (one for one in studies().values() if options.data is None or one.own_data):
        found = collect_results(with_custom_inputs(study, options.data, options.model), options.preset, home)
        if found is not None:
            write_study(found, home)
            every.append(found)
    if not every:
        raise UsageError(f"{home} has no records. Run a study first: vitral study run NAME --preset {options.preset}.")
    summary = write_summary(every, home)
    for results in every:
        print_result(
            f"{results.study.number:>2}  {results.study.name:<16} {results.headline} {results.details}".rstrip()
        )
    print_result(f"report: {summary}")
    return {
        "verdicts": {results.study.name: verdict_label(results) for results in every},
        "headlines": {results.study.name: results.headline for results in every},
        "report": str(summary),
        "failed": sum(len(results.unfinished) for results in every),
    }
