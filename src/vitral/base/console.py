"""The two streams of the command line: results go to standard output, all else to standard error."""

import os
import sys


def print_result(text: str) -> None:
    """Print a result on standard output. With `--json` it goes to standard error: the JSON line is the result then."""
    if sys.stdout is sys.stderr:  # as with --json, where a reader of the words who left must not lose the JSON
        return say(text)
    return print(text, flush=True)


def say(text: str) -> None:
    """Print progress, a warning or advice on standard error; work continues if nobody reads it any more."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
