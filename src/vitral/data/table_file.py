"""The rows of a table of labels: CSV in any of its dialects, or JSON lines.

`labels.csv`, `metadata.csv` or `metadata.jsonl` beside the images, or any such file that is named.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitral.base.errors import DataError

TABLES = ("labels.csv", "metadata.csv", "metadata.jsonl")  # names under which a table is found
SUFFIXES = (".csv", ".tsv", ".jsonl")  # of a table that is named itself
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "image_path", "filepath")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One row: its line in the file, counted from 1, the image it names, and its other columns."""

    line: int
    file: str
    values: Mapping[str, Any]


def find_table(folder: Path) -> Path | None:
    """The table in a folder. Raises `DataError` if there are several, since they may disagree."""
    found = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(
            f"{folder} has {' and '.join(table.name for table in found)}: keep one, or specify which: --data "
            f"{found[0]}."
        )
    return found[0] if found else None


def read_table(path: Path, report: Report) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of a table, and its columns other than the one that names images.

    `report` gets a sentence on every rule beyond plain CSV that was needed. Raises `DataError`, with the line, for a
    file that is not such a table.
    """
    text = decode(path, report)
    columns, records = read_json_lines(path, text) if path.suffix == ".jsonl" else read_csv(path, text, report)
    if not records:
        raise DataError(f"{path} has no rows. Write one row per image: file_name,label.")
    names = [column for column in columns if column.strip().lower() in FILE_COLUMNS]
    if len(names) != 1:
        found = f"the columns {' and '.join(names)}" if names else "no column that names images"
        raise DataError(
            f"{path} has {found}; its columns are {', '.join(columns[:12])}. Name the column of image files file_name, "
            "and write the names of the columns in the first line."
        )
    (name,) = names
    rows = []
    for line, record in records:
        file = record.pop(name, None)
        if not isinstance(file, str) or not file.strip():
            raise DataError(f"{path}, line {line} names no image: its {name} is {file!r}.")
        rows.append(Row(line, file.strip(), record))
    if name != "file_name":
        report(f"{path}: images are named by the column {name!r}.")
    return rows, tuple(column for column in columns if column != name)


def decode(path: Path, report: Report) -> str:
    """The text of a file in UTF-8, or in UTF-16 if it begins with its byte order mark."""
    try:
        content = path.read_bytes()
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            report(f"{path} is read as UTF-16, as its byte order mark says.")
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 text (line {line}). Save it as UTF-8.") from error


def read_csv(path: Path, text: str, report: Report) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Columns, and each row with its line."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    # The separator is the one by which the first line names a column of files; nothing else is guessed from the rows.
    parts = {mark: [part.strip().strip('"').lower() for part in header.split(mark)] for mark in SEPARATORS}
    fitting = [mark for mark, names in parts.items() if any(name in FILE_COLUMNS for name in names)]
    separator = max(fitting, key=lambda mark: len(parts[mark]), default=",")
    if separator != "," and len(parts[separator]) > 1:
        report(f"{path}: columns are separated by {SEPARATORS[separator]}s.")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
        lines = [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]
    except csv.Error as error:
        raise DataError(f"{path} is not a valid CSV file: {error}.") from error
    columns = [column.strip() for column in lines[0][1]] if lines else []
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise DataError(f"{path} has two columns called {twice[0]!r}. Rename one.")
    records = []
    for line, fields in lines[1:]:
        if len(fields) != len(columns):
            raise DataError(
                f"{path}, line {line} has {len(fields)} values for {len(columns)} columns. Put a value that contains "
                f"{separator!r} in double quotes."
            )
        records.append((line, dict(zip(columns, (field.strip() for field in fields)))))
    return columns, records


def read_json_lines(path: Path, text: str) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Columns, and each row with its line."""
    columns: dict[str, None] = {}
    records = []
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except ValueError as error:
            raise DataError(f"{path}, line {line} is not JSON: {error}.") from error
        if not isinstance(record, dict):
            raise DataError(
                f'{path}, line {line} is not a JSON object such as {{"file_name": "1.jpg", "label": "cat"}}.'
            )
        columns |= dict.fromkeys(record)
        records.append((line, record))
    return list(columns), records
