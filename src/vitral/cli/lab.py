"""Build a ViT yourself: `vitral lab list`, `status`, or `start`, `check`, `hint`, `solution` with a station's NAME.

A station is one exercise. `start` writes a small file with an explanation, a figure and places for your code; `check`
tests your code, and names the mistake if it is a known one.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError, Failure
from vitral.base.files import write_file
from vitral.base.lookup import check_name, names
from vitral.cli._options import Json
from vitral.lab.isolation import check_file
from vitral.lab.progress import MODEL_FILE, find_state, load_progress, save_passed, take_hint
from vitral.lab.report import STAGES
from vitral.lab.start_file import build_start_file, find_all_required, read_solution

if TYPE_CHECKING:
    from vitral.lab.station import Station

MARKS = {True: "✓", False: "✗"}
LAST = "Your parts in a trained model: vitral explain mine.py:mine IMAGE"
JSON_KEYS = {  # of --json since the first version, where a report's own names are newer
    "message": "said",
    "difference": "numbers",
    "same_in_model": "transplanted",
    "prediction": "predicted",
    "output": "printed",
}
PRINTED = 10  # lines of a file's output that are shown


@dataclass(frozen=True)
class Options:
    action: Annotated[
        Literal["list", "start", "check", "hint", "solution", "status"],
        Option(
            "list: show the stations; status: the same, with the next step; start: write a station's file; check: test "
            "it; hint: print the next hint; solution: print the solution, after the last hint.",
            positional=True,
        ),
    ]
    names: Annotated[tuple[str, ...], Option("Names or numbers of stations, or all.", positional=True)] = ()
    folder: Annotated[Path, Option("Folder with your files.")] = Path()
    seconds: Annotated[float, Option("Seconds that your file may run before it is stopped.", low=1, high=3600)] = 30.0
    json: Json = False

    def __post_init__(self) -> None:
        if self.action in ("list", "status") and self.names:
            raise ConfigError(f"`vitral lab {self.action}` shows all stations: leave the names out.")
        if self.action in ("start", "check", "hint", "solution") and not self.names:
            raise ConfigError(
                f"Specify a station: `vitral lab {self.action} patchify`. `vitral lab list` lists them all."
            )


def run(options: Options) -> dict[str, Any]:
    known = names("lab.solutions")
    for name in options.names:
        if name != "all" and not name.isdigit():
            check_name(name, known, "station")
    from vitral.lab.station import load_stations

    stations = load_stations()
    if options.action in ("list", "status"):
        return list_stations(stations, options)
    load_progress(options.folder)  # reports a damaged lab.json before anything else is done
    order = list(stations)
    if wrong := [name for name in options.names if name.isdigit() and not 1 <= int(name) <= len(order)]:
        raise ConfigError(f"There is no station {wrong[0]}: stations are numbered from 1 to {len(order)}.")
    named = [order[int(name) - 1] if name.isdigit() else name for name in options.names]
    chosen = order if "all" in named else list(dict.fromkeys(named))
    actions = {"start": start_station, "check": check_station, "hint": give_hint, "solution": give_solution}
    done = [actions[options.action](name, stations[name], options) for name in chosen]
    return {"stations": done, "exit_code": int(not all(one.get("passed", True) for one in done))}


def list_stations(stations: "dict[str, Station]", options: Options) -> dict[str, Any]:
    rows = []
    for name, station in stations.items():
        state = find_state(options.folder, name)
        effort = "●" * station.difficulty + "○" * (5 - station.difficulty)
        print_result(f"{station.number:>2}  {name:<13} {effort}  {station.minutes:>3} min  {station.title:<45} {state}")
        rows.append({"name": name, "title": station.title, "minutes": station.minutes, "state": state})
    if options.action == "status":
        done = sum(row["state"] == "passed" for row in rows)
        following = next((row for row in rows if row["state"] != "passed"), None)
        step = following and f"{'check' if following['state'] else 'start'} {following['name']}"
        print_result(f"{done} of {len(rows)} passed" + (f", next: vitral lab {step}" if step else f". {LAST}"))
    return {"stations": rows}


def start_station(name: str, station: "Station", options: Options) -> dict[str, Any]:
    path = options.folder / f"{name}.py"
    if os.path.lexists(path):
        say(f"{path} exists and was not changed. To start again, rename or remove it first.")
        return {"name": name, "file": str(path), "written": False}
    write_file(path, build_start_file(name))
    there = "" if options.folder == Path() else f" --folder {options.folder}"
    print_result(f"Wrote {path}. Read it, write what is missing, then: vitral lab check {name}{there}")
    return {"name": name, "file": str(path), "written": True}


def check_station(name: str, station: "Station", options: Options) -> dict[str, Any]:
    """Run the checks of a station; print which passed, and what is wrong if one failed."""
    report = check_file(name, options.folder / f"{name}.py", options.seconds)
    passed = STAGES[: STAGES.index(report.failed)] if report.failed else STAGES
    marks = [f"{MARKS[True]} {stage}" for stage in passed] + [f"{MARKS[False]} {report.failed}"] * bool(report.failed)
    print_result(f"{name}: {'  '.join(marks)}")
    if lines := report.output.rstrip().splitlines():
        more = ["... and more"] if len(lines) > PRINTED else []
        print_result("Your file printed:\n" + "\n".join(f"  | {line}" for line in lines[:PRINTED] + more))
    if report.failed:
        failures = earlier_failures(name, options.folder)
        parts = (report.message, report.difference, report.mistake, report.question, failures)
        print_result("\n".join(filter(None, parts)))
        return {"name": name, "passed": False} | {
            JSON_KEYS.get(key, key): value for key, value in asdict(report).items()
        }
    save_passed(options.folder, name)
    for quantity in report.same_in_model:
        print_result(f"  the same as with Vitral's own part: {quantity}")
    compare_prediction(station, report.prediction)
    if station.insert:
        say(f"  It is part of a trained model now: vitral explain {options.folder / MODEL_FILE}:mine IMAGE")
    return {"name": name, "passed": True, "predicted": report.prediction}


def earlier_failures(name: str, folder: Path) -> str:
    """The files of earlier stations that this one uses and whose current version has not passed, in a sentence."""
    if found := [f"{other}.py" for other in find_all_required(name) if find_state(folder, other) != "passed"]:
        one = len(found) == 1
        state = "version has not passed: check it" if one else "versions have not passed: check them"
        return f"{name}.py imports {', '.join(found)}, whose current {state} first."
    return ""


def compare_prediction(station: "Station", predicted: str) -> None:
    """Print what was to be predicted, once the user has predicted something."""
    right = station.prediction
    if not predicted:
        say("  Your prediction is missing: write the letter of your answer between the quotes, and check again.")
    elif predicted not in ("a", "b", "c"):
        say(f'  Your prediction is "{predicted}": write one letter, a, b or c, and check again.')
    elif predicted == right.letter:
        print_result(f"  You predicted {predicted}, which is right: {right.reason}")
    else:
        print_result(f"  You predicted {predicted}; the answer is {right.letter}: {right.reason}")


def give_hint(name: str, station: "Station", options: Options) -> dict[str, Any]:
    hints = station.hints
    number = take_hint(options.folder, name, len(hints))
    print_result(f"{name}, hint {number + 1} of {len(hints)}: {hints[number]}")
    if number + 1 == len(hints):
        say(f"That was the last hint. To see the solution: vitral lab solution {name}")
    return {"name": name, "hint": number + 1, "text": hints[number]}


def give_solution(name: str, station: "Station", options: Options) -> dict[str, Any]:
    """Print the solution, once all hints have been read. Raises `Failure` before."""
    progress = load_progress(options.folder)
    left = len(station.hints) - progress["hints"].get(name, 0)
    if left > 0 and name not in progress["passed"]:
        hints = f"{left} hint{'s are' if left > 1 else ' is'} left"
        raise Failure(f"{hints}: `vitral lab hint {name}`. The solution comes after the last hint.")
    text = read_solution(name)
    print_result(text)
    return {"name": name, "solution": text}
