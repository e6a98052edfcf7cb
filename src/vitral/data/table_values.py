"""What one value of a table says: a name, a number, a list, or nothing."""

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

MISSING = ("", "nan", "null")


def decimal_commas(texts: Sequence[str]) -> bool:
    """Whether numbers are written as 3,5 throughout, whole ones aside."""
    with_comma = [one for one in texts if "," in one]
    return bool(with_comma) and all(re.fullmatch(r"[-+]?\d+(,\d+)?", one) for one in texts)


def as_list(value: Any) -> list[Any] | None:
    """A list, or the list that a text spells in JSON or Python; None for anything else."""
    if isinstance(value, list):
        return value
    if not (isinstance(value, str) and value.startswith("[") and value.endswith("]")):
        return None
    try:
        found = json.loads(value)
    except ValueError:
        try:
            found = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return None
    return found if isinstance(found, list) else None


def text(value: Any) -> str:
    """A value as a name: 3 for the JSON number 3 too."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()


def number(value: Any) -> float | None:
    """The number that a value is or spells; None for a word. Python's 1_000 is a word."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return None if "_" in str(value) else float(value)
    except (TypeError, ValueError):
        return None


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or text(value).lower() in MISSING
