"""Build a ViT yourself: `vitral lab list`, `start`, `check`, `hint`, `solution NAME`, `status`.

The action `start` writes a small file with a text, a figure and places for your code; `check` tests your code, and
names the mistake if it is a known one.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError, Failure
from vitral.base.lookup import check_name, names
from vitral.cli._options import Json

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
            "list, status: show the stations; start: write a station's file; check: test it; hint; solution.",
            positional=True,
        ),
    ]
    names: Annotated[tuple[str, ...], Option("Names or numbers of stations, or all.", positional=True)] = ()
    folder: Annotated[Path, Option("Folder with your files.")] = Path()
    seconds: Annotated[float, Option("Seconds that your file may run before it is stopped.", low=1, high=3600)] = 30.0
    json: Json = False

    def __post_init__(self) -> None:
        check(self)
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
    if options.action in ("list", "status"):
        return list_stations(options)
    from vitral.lab.progress import load_progress
    from vitral.lab.station import load_stations

    load_progress(options.folder)  # reports a damaged lab.json before anything else is done
    order = list(load_stations())
    if wrong := [name for name in options.names if name.isdigit() and not 1 <= int(name) <= len(order)]:
        raise ConfigError(f"There is no station {wrong[0]}: stations are numbered from 1 to {len(order)}.")
    named = [order[int(name) - 1] if name.isdigit() else name for name in options.names]
    chosen = order if "all" in named else list(dict.fromkeys(named))
    each = {"start": start_station, "check": check_station, "hint": give_hint, "solution": give_solution}[
        options.action
    ]
    done = [each(name, options) for name in chosen]
    return {"stations": done, "exit_code": int(not all(one.get("passed", True) for one in done))}


def list_stations(options: Options) -> dict[str, Any]:
    from vitral.lab.progress import find_state
    from vitral.lab.station import load_stations

    rows = []
    for name, station in load_stations().items():
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


def start_station(name: str, options: Options) -> dict[str, Any]:
    from vitral.base.files import write_file
    from vitral.lab.start_file import build_start_file

    path = options.folder / f"{name}.py"
    if os.path.lexists(path):
        say(f"{path} exists and was not changed. To start again, rename or remove it first.")
        return {"name": name, "file": str(path), "written": False}
    write_file(path, build_start_file(name))
    there = "" if options.folder == Path() else f" --folder {options.folder}"
    print_result(f"Wrote {path}. Read it, write what is missing, then: vitral lab check {name}{there}")
    return {"name": name, "file": str(path), "written": True}


def check_station(name: str, options: Options) -> dict[str, Any]:
    """Run the checks of a station; print which passed, and what is wrong if one failed."""
    from vitral.lab.isolation import check_file
    from vitral.lab.progress import MODEL_FILE, save_passed
    from vitral.lab.report import STAGES
    from vitral.lab.station import load_stations

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
    compare_prediction(name, report.prediction)
    if load_stations()[name].insert:
        say(f"  It is part of a trained model now: vitral explain {options.folder / MODEL_FILE}:mine IMAGE")
    return {"name": name, "passed": True, "predicted": report.prediction}


def earlier_failures(name: str, folder: Path) -> str:
    """The files of earlier stations that this one uses and whose current version has not passed, in a sentence."""
    from vitral.lab.progress import find_state
    from vitral.lab.start_file import find_all_required

    if found := [f"{other}.py" for other in find_all_required(name) if find_state(folder, other) != "passed"]:
        one = len(found) == 1
        state = "has not passed as it is now: check it" if one else "have not passed as they are now: check them"
        return f"It imports {', '.join(found)}, which {state} first."
    return ""


def compare_prediction(name: str, predicted: str) -> None:
    """Print what was to be predicted, once the user has predicted something."""
    from vitral.lab.station import load_stations

    right = load_stations()[name].prediction
    if not predicted:
        say("  Your prediction is missing: write the letter of your answer between the quotes, and check again.")
    elif predicted not in ("a", "b", "c"):
        say(f'  Your prediction is "{predicted}": write one letter, a, b or c, and check again.')
    elif predicted == right.letter:
        print_result(f"  You predicted {predicted}, which is right: {right.reason}")
    else:
        print_result(f"  You predicted {predicted}; the answer is {right.letter}: {right.reason}")


def give_hint(name: str, options: Options) -> dict[str, Any]:
    from vitral.lab.progress import take_hint
    from vitral.lab.station import load_stations

    hints = load_stations()[name].hints
    number = take_hint(options.folder, name, len(hints))
    print_result(f"{name}, hint {number + 1} of {len(hints)}: {hints[number]}")
    if number + 1 == len(hints):
        say(f"That was the last hint. To see the solution: vitral lab solution {name}")
    return {"name": name, "hint": number + 1, "text": hints[number]}


def give_solution(name: str, options: Options) -> dict[str, Any]:
    """Print the solution, once all hints have been read. Raises `Failure` before."""
    from vitral.lab.progress import load_progress
    from vitral.lab.start_file import read_solution
    from vitral.lab.station import load_stations

    progress = load_progress(options.folder)
    left = len(load_stations()[name].hints) - progress["hints"].get(name, 0)
    if left > 0 and name not in progress["passed"]:
        hints = f"{left} hint{'s are' if left > 1 else ' is'} left"
        raise Failure(f"{hints}: `vitral lab hint {name}`. The solution comes after the last hint.")
    text = read_solution(name)
    print_result(text)
    return {"name": name, "solution": text}
