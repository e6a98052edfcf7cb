"""Build a ViT yourself: `vitral lab list`, `start`, `check`, `hint`, `solution NAME`, `status`.

`start` writes a small file with a text, a picture and a place for your code; `check` says what is right, and where it
is not, which mistake it is.
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
LAST = "Your parts in a trained model: vitral explain mine.py:mine IMAGE"
PRINTED = 10  # lines of what a file prints


@dataclass(frozen=True)
class Options:
    action: Annotated[
        Literal["list", "start", "check", "hint", "solution", "status"],
        Option("What to do; start with `vitral lab start patchify`.", positional=True),
    ]
    names: Annotated[tuple[str, ...], Option("Stations by name, or all.", positional=True)] = ()
    folder: Annotated[Path, Option("Where your files are.")] = Path()
    seconds: Annotated[float, Option("How long your file may run before it is stopped.", low=1, high=3600)] = 30.0
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)
        if self.action in ("list", "status") and self.names:
            raise ConfigError(f"`vitral lab {self.action}` is of all stations: leave the names out.")
        if self.action in ("start", "check", "hint", "solution") and not self.names:
            raise ConfigError(f"Name a station: `vitral lab {self.action} patchify`. `vitral lab list` has them all.")


def run(options: Options) -> dict[str, Any]:
    known = names("lab.solutions")
    for name in options.names:
        if name != "all" and not name.isdigit():
            check_name(name, known, "station")
    if options.action in ("list", "status"):
        return listed(options)
    from vitral.lab.folder import kept
    from vitral.lab.station import stations

    kept(options.folder)  # a damaged one is told of before anything is done
    order = list(stations())
    if wrong := [name for name in options.names if name.isdigit() and not 1 <= int(name) <= len(order)]:
        raise ConfigError(f"There is no station {wrong[0]}: they are numbered from 1 to {len(order)}.")
    named = [order[int(name) - 1] if name.isdigit() else name for name in options.names]
    chosen = order if "all" in named else list(dict.fromkeys(named))
    each = {"start": started, "check": examined, "hint": hinted, "solution": solved}[options.action]
    done = [each(name, options) for name in chosen]
    return {"stations": done, "exit_code": int(not all(one.get("passed", True) for one in done))}


def listed(options: Options) -> dict[str, Any]:
    from vitral.lab.folder import since
    from vitral.lab.station import stations

    rows = []
    for name, station in stations().items():
        state = since(options.folder, name)
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
    from vitral.lab.start import start_text

    path = options.folder / f"{name}.py"
    if os.path.lexists(path):
        say(f"{path} is there already and was left as it is. To begin again, rename or remove it first.")
        return {"name": name, "file": str(path), "written": False}
    write_file(path, start_text(name))
    there = "" if options.folder == Path() else f" --folder {options.folder}"
    say(f"Wrote {path}. Read it, write what is missing in it, then: vitral lab check {name}{there}")
    return {"name": name, "file": str(path), "written": True}


def examined(name: str, options: Options) -> dict[str, Any]:
    """What is right, and where it is not, what is wrong."""
    from vitral.lab.folder import MINE, note_passed
    from vitral.lab.process import checked
    from vitral.lab.report import STAGES
    from vitral.lab.station import stations

    report = checked(name, options.folder / f"{name}.py", options.seconds)
    passed = STAGES[: STAGES.index(report.failed)] if report.failed else STAGES
    marks = [f"{MARKS[True]} {stage}" for stage in passed] + [f"{MARKS[False]} {report.failed}"] * bool(report.failed)
    say(f"{name}: {'  '.join(marks)}")
    told = report.printed.rstrip().splitlines()
    if told:
        more = ["... and more"] if len(told) > PRINTED else []
        say("Your file printed:\n" + "\n".join(f"  | {line}" for line in told[:PRINTED] + more))
    if report.failed:
        said = (report.said, report.numbers, report.mistake, report.question, doubtful(name, options.folder))
        say("\n".join(filter(None, said)))
        return {"name": name, "passed": False} | asdict(report)
    note_passed(options.folder, name)
    for line in report.transplanted:
        say(f"  the same as Vitral's own: {line}")
    revealed(name, report.predicted)
    if stations()[name].graft:
        say(f"  It stands in a trained model now: vitral explain {options.folder / MINE}:mine IMAGE")
    return {"name": name, "passed": True, "predicted": report.predicted}


def doubtful(name: str, folder: Path) -> str:
    """Files of earlier stations that this one builds on, and that have not passed as they are."""
    from vitral.lab.folder import since
    from vitral.lab.start import all_needed

    if found := [f"{other}.py" for other in all_needed(name) if since(folder, other) != "passed"]:
        one = len(found) == 1
        as_now = "has not passed as it is now: check that" if one else "have not passed as they are now: check those"
        return f"It builds on {', '.join(found)}, which {as_now} first."
    return ""


def revealed(name: str, predicted: str) -> None:
    """What was to be predicted, to whom has predicted something."""
    from vitral.lab.station import stations

    right = stations()[name].prediction
    if not predicted:
        say(
            "  One thing is open, what the file asks before you write. Put your letter between the quotes, check again."
        )
    elif predicted not in ("a", "b", "c"):
        say(f'  Your prediction is "{predicted}": write one letter, a, b or c, and check again.')
    elif predicted == right.right:
        say(f"  You predicted {predicted}, and so it is: {right.why}")
    else:
        say(f"  You predicted {predicted}; it is {right.right}: {right.why}")


def hinted(name: str, options: Options) -> dict[str, Any]:
    from vitral.lab.folder import note_hint
    from vitral.lab.station import stations

    hints = stations()[name].hints
    number = note_hint(options.folder, name, len(hints))
    say(f"{name}, hint {number + 1} of {len(hints)}: {hints[number]}")
    if number + 1 == len(hints):
        say(f"That is the last one; then there is: vitral lab solution {name}")
    return {"name": name, "hint": number + 1, "text": hints[number]}


def solved(name: str, options: Options) -> dict[str, Any]:
    """The solution, once all hints have been read. Raises `Failure` before."""
    from vitral.lab.folder import kept, passed
    from vitral.lab.start import solution_text
    from vitral.lab.station import stations

    read, all_of_them = kept(options.folder)["hints"].get(name, 0), len(stations()[name].hints)
    if read < all_of_them and name not in passed(options.folder):
        left = f"{all_of_them - read} hint{'s are' if all_of_them - read > 1 else ' is'} left"
        raise Failure(f"{left}: `vitral lab hint {name}`. The solution comes after.")
    text = solution_text(name)
    if not options.json:
        print(text, flush=True)
    return {"name": name, "solution": text}
