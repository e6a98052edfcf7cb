"""Build a ViT yourself: `vitral lab list`, `start`, `check`, `hint`, `solution NAME`, `status`.

`start` writes a small file with a text, a figure and places for your code; `check` tests it and, if it is wrong, names
the mistake.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError, Failure
from vitral.base.lookup import check_name, names
from vitral.cli import say

MARKS = {True: "✓", False: "✗"}
LAST = "To see your parts work in a trained model: vitral explain mine.py:mine IMAGE"
PRINTED = 10  # lines shown of what a file prints


@dataclass(frozen=True)
class Options:
    action: Annotated[
        Literal["list", "start", "check", "hint", "solution", "status"],
        Option("Action; begin with `vitral lab start patchify`.", positional=True),
    ]
    names: Annotated[tuple[str, ...], Option("Stations by name or number, or all.", positional=True)] = ()
    folder: Annotated[Path, Option("Folder of your files.")] = Path()
    seconds: Annotated[float, Option("Time in seconds after which your file is stopped.", low=1, high=3600)] = 30.0
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)
        if self.action in ("list", "status") and self.names:
            raise ConfigError(f"`vitral lab {self.action}` always lists all stations: leave out the names.")
        if self.action in ("start", "check", "hint", "solution") and not self.names:
            raise ConfigError(
                f"Name a station, as in `vitral lab {self.action} patchify`. `vitral lab list` lists them."
            )


def run(options: Options) -> dict[str, Any]:
    known = names("lab.solutions")
    for name in options.names:
        if name != "all" and not name.isdigit():
            check_name(name, known, "station")
    if options.action in ("list", "status"):
        return listed(options)
    from vitral.lab.progress import load_progress
    from vitral.lab.station import load_stations

    load_progress(options.folder)  # a damaged file is reported before anything is done
    order = list(load_stations())
    if wrong := [name for name in options.names if name.isdigit() and not 1 <= int(name) <= len(order)]:
        raise ConfigError(f"There is no station {wrong[0]}: they are numbered from 1 to {len(order)}.")
    named = [order[int(name) - 1] if name.isdigit() else name for name in options.names]
    chosen = order if "all" in named else list(dict.fromkeys(named))
    each = {"start": started, "check": examined, "hint": hinted, "solution": solved}[options.action]
    done = [each(name, options) for name in chosen]
    return {"stations": done, "exit_code": int(not all(one.get("passed", True) for one in done))}


def listed(options: Options) -> dict[str, Any]:
    from vitral.lab.progress import find_state
    from vitral.lab.station import load_stations

    rows = []
    for name, station in load_stations().items():
        state = find_state(options.folder, name)
        effort = "●" * station.difficulty + "○" * (5 - station.difficulty)
        say(f"{station.number:>2}  {name:<13} {effort}  {station.minutes:>3} min  {station.title:<45} {state}")
        rows.append({"name": name, "title": station.title, "minutes": station.minutes, "state": state})
    if options.action == "status":
        done = sum(row["state"] == "passed" for row in rows)
        following = next((row for row in rows if row["state"] != "passed"), None)
        step = following and f"{'check' if following['state'] else 'start'} {following['name']}"
        say(f"{done} of {len(rows)} passed" + (f", next: vitral lab {step}" if step else f". {LAST}"))
    return {"stations": rows}


def started(name: str, options: Options) -> dict[str, Any]:
    from vitral.base.files import write_file
    from vitral.lab.start_file import build_start_file

    path = options.folder / f"{name}.py"
    if os.path.lexists(path):
        say(f"{path} exists already and was not changed. To start over, rename or remove it first.")
        return {"name": name, "file": str(path), "written": False}
    write_file(path, build_start_file(name))
    there = "" if options.folder == Path() else f" --folder {options.folder}"
    say(f"Wrote {path}. Read it, write the missing code, then: vitral lab check {name}{there}")
    return {"name": name, "file": str(path), "written": True}


def examined(name: str, options: Options) -> dict[str, Any]:
    """Check a file; print the stages that it passed, and what is wrong in the first that it did not."""
    from vitral.lab.isolation import check_file
    from vitral.lab.progress import MODEL_FILE, save_passed
    from vitral.lab.report import STAGES
    from vitral.lab.station import load_stations

    report = check_file(name, options.folder / f"{name}.py", options.seconds)
    passed = STAGES[: STAGES.index(report.failed)] if report.failed else STAGES
    marks = [f"{MARKS[True]} {stage}" for stage in passed] + [f"{MARKS[False]} {report.failed}"] * bool(report.failed)
    say(f"{name}: {'  '.join(marks)}")
    if lines := report.output.rstrip().splitlines():
        more = ["... and more"] if len(lines) > PRINTED else []
        say("Your file printed:\n" + "\n".join(f"  | {line}" for line in lines[:PRINTED] + more))
    if report.failed:
        unchecked = doubtful(name, options.folder)
        parts = (report.message, report.difference, report.mistake, report.question, unchecked)
        say("\n".join(filter(None, parts)))
        return {"name": name, "passed": False} | asdict(report)
    save_passed(options.folder, name)
    for quantity in report.same_in_model:
        say(f"  same as with Vitral's own part: {quantity}")
    revealed(name, report.prediction)
    if load_stations()[name].insert:
        say(f"  To see it work in a trained model: vitral explain {options.folder / MODEL_FILE}:mine IMAGE")
    return {"name": name, "passed": True, "prediction": report.prediction}


def doubtful(name: str, folder: Path) -> str:
    """Return a sentence on the files of earlier stations that this one imports and that have not passed as they are."""
    from vitral.lab.progress import find_state
    from vitral.lab.start_file import find_all_required

    if found := [f"{other}.py" for other in find_all_required(name) if find_state(folder, other) != "passed"]:
        state = "has not passed as it is now: check it" if len(found) == 1 else "have not all passed: check them"
        return f"It imports {', '.join(found)}, which {state} first."
    return ""


def revealed(name: str, predicted: str) -> None:
    """Print the right prediction to a reader who has made one."""
    from vitral.lab.station import load_stations

    right = load_stations()[name].prediction
    if not predicted:
        say('  The question under "Before you write" is open. Put your letter between the quotes and check again.')
    elif predicted not in ("a", "b", "c"):
        say(f'  Your prediction is "{predicted}": write one letter, a, b or c, and check again.')
    elif predicted == right.letter:
        say(f"  You predicted {predicted}, which is right: {right.reason}")
    else:
        say(f"  You predicted {predicted}; the answer is {right.letter}: {right.reason}")


def hinted(name: str, options: Options) -> dict[str, Any]:
    from vitral.lab.progress import take_hint
    from vitral.lab.station import load_stations

    hints = load_stations()[name].hints
    number = take_hint(options.folder, name, len(hints))
    say(f"{name}, hint {number + 1} of {len(hints)}: {hints[number]}")
    if number + 1 == len(hints):
        say(f"That was the last hint. The solution: vitral lab solution {name}")
    return {"name": name, "hint": number + 1, "text": hints[number]}


def solved(name: str, options: Options) -> dict[str, Any]:
    """Print the solution. Raises `Failure` while there are hints left."""
    from vitral.lab.progress import load_progress
    from vitral.lab.start_file import read_solution
    from vitral.lab.station import load_stations

    progress = load_progress(options.folder)
    left = len(load_stations()[name].hints) - progress["hints"].get(name, 0)
    if left > 0 and name not in progress["passed"]:
        hints = f"{left} hint{'s are' if left > 1 else ' is'} left"
        raise Failure(f"{hints}: `vitral lab hint {name}`. The solution comes after them.")
    text = read_solution(name)
    if not options.json:
        print(text, flush=True)
    return {"name": name, "solution": text}
