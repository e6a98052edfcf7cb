"""`vitral VERB`: one file per verb, which parses, calls a task and prints. A verb imports nothing heavy before it runs.

A verb's file defines `Options`, a settings dataclass, and `run(options)`, which returns what `--json` prints.

Results go to standard output (`print_result`); progress, warnings and advice go to standard error (`say`), so that
`vitral predict x.jpg > out.txt` holds the predictions. With `--json`, standard output holds one line of JSON only; the
results in words go to standard error then. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import ast
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from vitral.base.console import say
from vitral.base.errors import UsageError, VitralError
from vitral.base.lookup import check_name, names
from vitral.base.memory import is_out_of_memory

USAGE = """usage: vitral VERB [OPTIONS]

Builds, trains and looks inside Vision Transformers, and measures every claim that it makes about them.

verbs:
{verbs}

`vitral VERB --help` explains the options of a verb.
`vitral train` without options trains a small ViT on `shapes` in about two minutes on two cores.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = "vitral"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show × shows ?
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            verbs = "\n".join(f"  {verb:<9}{sentence(verb)}" for verb in names("cli"))
            print(USAGE.format(verbs=verbs), end="", flush=True)
            return 0 if arguments else 2
        if arguments[0] in ("-V", "--version"):
            from vitral.base.provenance import installed_version

            print(f"vitral {installed_version('vitral')}", flush=True)
            return 0
        verb, *rest = arguments
        check_name(verb, names("cli"), "verb")
        program = f"vitral {verb}"
        return run(verb, rest)
    except VitralError as error:
        more = f"\nSee: {program} --help" if isinstance(error, UsageError) else ""
        say(f"{program}: {error}{more}")
        return error.exit_code
    except KeyboardInterrupt:
        say(f"{program}: interrupted.")
        return 130
    except BrokenPipeError:  # whoever reads our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            say(f"{program}: not enough memory. Use fewer or smaller images, or a smaller batch.")
            return 1
        if not isinstance(error, OSError):
            raise
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the flush at exit would fail on a full disk again
        where = f": {error.filename}" if error.filename else ""
        say(f"{program}: {error.strerror or error}{where}.")
        return 1


def run(verb: str, arguments: list[str]) -> int:
    """Parse the options of a verb, run it, and print its JSON if that is asked for; the exit code."""
    from vitral.cli._parse import parse

    module = import_module(f"vitral.cli.{verb}")
    options = parse(
        module.Options, arguments, f"vitral {verb}", module.__doc__ or "", getattr(module, "defaults", None)
    )
    # Only `--json` may print to standard output then, whatever a task or the user's own model prints.
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        result = module.run(options)
    if options.json:
        print(json.dumps(result, default=plain), flush=True)
    return int(result.get("exit_code", 0))


def plain(value: Any) -> Any:
    """An array as lists, and a path as text, for JSON."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def sentence(verb: str) -> str:
    """The first sentence of a verb's file, which is read without importing it."""
    source = (Path(__file__).parent / f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
