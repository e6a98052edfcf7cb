"""Run `vitral` as a person would, and read its last line."""

import json
import subprocess
import sys


def vitral(*arguments: str) -> dict:
    """The JSON that a verb prints with `--json`."""
    command = [sys.executable, "-m", "vitral", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1])
