"""What the labels in a table are: one class per image, several, or numbers; decided by written rules, and said.

The columns with labels are those that are specified (`label=NAME`, several as `label=cat+dog`), else `label` (or
`labels`, `target`, `class`), else all columns besides the image's name and split. The task is the specified one, else:

1.  several columns of 0 and 1 (or true and false): one column per class, so several classes at once; one class if each
    image has exactly one of them;
2.  several columns of numbers: numbers, named as their columns;
3.  one column with lists, in JSON or as `a|b` or `a;b`: several classes; lists of numbers with a point are numbers;
4.  one column of whole numbers that count 0, 1, 2, ... or 1, 2, 3, ..., each in two images at least: class numbers;
5.  one column of any other numbers: numbers;
6.  one column of words: one class; with commas in them, several classes, if the parts stand in other combinations too.

Words mixed with numbers, and missing values, are refused.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitral.base.errors import ConfigError, DataError
from vitral.base.lookup import nearest
from vitral.base.record import Task
from vitral.data.table_file import Report, Row
from vitral.data.table_values import MISSING, as_list, decimal_commas, is_missing, number, text
from vitral.data.targets import Labels, numbers_of, one_class, refuse_missing, several

LABEL_COLUMNS = ("label", "labels", "target", "class")
ROW_NUMBERS = ("", "unnamed: 0", "index", "id")  # columns that pandas and databases add
UNIT = re.compile(r"[-+]?\d+(?:\.\d+)?\s*(%|[A-Za-zµ°²³/]{1,6})")
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
MISSING_NUMBERS = (*MISSING, "na", "n/a", "none", "-")  # in a column of numbers; among words they may be a class
TRUTH = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
LIST_MARKS = ("|", ";")
SEPARATORS = {"comma": ",", "semicolon": ";", "bar": "|", "space": " ", "none": ""}


@dataclass(frozen=True)
class LabelOptions:
    """How labels are to be read, where that is specified: the task, the columns, and what separates several classes.

    `data` is how messages call the data.
    """

    data: str
    task: Task | None = None
    label: tuple[str, ...] = ()
    separator: str | None = None

    def ask(self, option: str) -> str:
        """How another reading is specified."""
        return f"--data {self.data}:{option}"


def read_labels(
    table: Path, rows: Sequence[Row], columns: Sequence[str], options: LabelOptions, report: Report
) -> Labels:
    """The labels of a table's rows; `report` gets the rule that was used, and how to specify another.

    Raises `DataError` for labels that no rule reads, `ConfigError` for options that do not fit the table.
    """
    chosen = label_columns(table, columns, options, report)
    if ignored := [column or "without a title" for column in columns if column not in chosen]:
        report(f"{table}: the columns {', '.join(ignored)} are not used.")
    values = [[row.values.get(column) for column in chosen] for row in rows]
    if len(chosen) > 1:
        return read_columns(table, rows, chosen, values, options, report)
    return read_column(table, rows, chosen[0], [one for (one,) in values], options, report)


def label_columns(table: Path, columns: Sequence[str], options: LabelOptions, report: Report) -> tuple[str, ...]:
    """Which columns hold the labels."""
    for name in options.label:
        if name not in columns:
            raise ConfigError(
                f"{table} has no column {name!r}.{nearest(name, columns)} Its columns: {', '.join(columns)}."
            )
    if options.label:
        return options.label
    counted = [column for column in columns if column.lower() in ROW_NUMBERS]
    columns = [column for column in columns if column not in counted] if len(counted) < len(columns) else columns
    usual = [column for column in columns if column.lower() in LABEL_COLUMNS]
    if len(usual) > 1:
        raise DataError(
            f"{table} has the columns {' and '.join(usual)}. Specify one: {options.ask('label=' + usual[0])}."
        )
    if usual or not columns:
        if not columns:
            raise DataError(f"{table} has no labels, only names of images. Add a column: file_name,label.")
        return tuple(usual)
    if len(columns) == 1:
        report(f"{table}: labels are read from the column {columns[0]!r}, the only one.")
    return tuple(columns)


def read_columns(
    table: Path,
    rows: Sequence[Row],
    names: tuple[str, ...],
    values: Sequence[Sequence[Any]],
    options: LabelOptions,
    report: Report,
) -> Labels:
    """One column per class or number."""
    flat = [(row, name, value) for row, own in zip(rows, values) for name, value in zip(names, own)]
    refuse_missing(table, [(row, name) for row, name, value in flat if is_missing(value)])
    truths = all(text(value).lower() in TRUTH for _, _, value in flat)
    if options.task != "numbers" and truths:
        has = [tuple(TRUTH[text(value).lower()] for value in own) for own in values]
        single = all(sum(own) == 1 for own in has)
        if options.task == "one class" and not single:
            raise DataError(
                f"{table} gives images several classes, or none, so they cannot be read as one class per image."
            )
        if single and options.task != "several classes":
            if options.task is None:
                report(
                    f"{table}: read as one class per image, of {len(names)} classes, because each image has exactly "
                    f"one 1 in the columns {shorten(names)}. Several classes at once: "
                    f"{options.ask('task=several_classes')}."
                )
            return Labels("one class", names, tuple(own.index(True) for own in has))
        if options.task is None:
            report(
                f"{table}: read as several classes, because the columns {shorten(names)} hold only 0 and 1. Numbers: "
                f"{options.ask('task=numbers')}."
            )
        return Labels("several classes", names, tuple(has))
    words = [(row, name, value) for row, name, value in flat if number(value) is None]
    if words or options.task in ("one class", "several classes"):
        row, name, value = words[0] if words else next(one for one in flat if text(one[2]).lower() not in TRUTH)
        wanted = "numbers, or 0 and 1 per class" if options.task is None else "0 and 1 per class"
        raise DataError(
            f"{table} has several columns that could be labels ({shorten(names)}), which must hold {wanted}; {name} is "
            f"{value!r} in line {row.line}. Specify the columns: {options.ask('label=NAME')} or label=NAME+NAME."
        )
    if options.task is None:
        report(
            f"{table}: read as numbers, because the columns {shorten(names)} hold numbers. Other columns: "
            f"{options.ask('label=NAME')}."
        )
    return Labels("numbers", names, numbers_of(table, rows, names, values))


def read_column(
    table: Path, rows: Sequence[Row], name: str, values: Sequence[Any], options: LabelOptions, report: Report
) -> Labels:
    """All labels in one column."""
    lists = [as_list(value) for value in values]
    if any(one is not None for one in lists) and options.separator is None:
        return read_lists(table, rows, name, values, lists, options, report)
    texts = [text(value) for value in values]
    commas = decimal_commas(texts)
    if commas and all(THOUSANDS.fullmatch(one) for one in texts if "," in one):
        example = next(one for one in texts if "," in one)
        raise DataError(
            f"{table}: {name} holds {example!r}, whose comma may separate thousands or decimals. Write numbers as "
            "1234.5."
        )
    if commas:
        report(f"{table}: numbers in {name!r} are read with a decimal comma.")
        texts = [one.replace(",", ".") for one in texts]
    mark, reason = find_separator(texts, options)
    if mark and options.task in (None, "several classes"):
        if options.task is None or options.separator is None:
            report(
                f"{table}: read as several classes, separated by {mark!r}, because {reason}. One class per image: "
                f"{options.ask('task=one_class')}."
            )
        split = [[part.strip() for part in one.split(mark) if part.strip()] for one in texts]
        return several(table, rows, split, report)
    if options.task == "several classes":
        return several(table, rows, [[] if is_missing(value) else [text(value)] for value in values], report)
    numeric = all(number(one) is not None or one.lower() in MISSING_NUMBERS for one in texts)
    missing = MISSING_NUMBERS if numeric else MISSING
    refuse_missing(table, [(row, name) for row, one in zip(rows, texts) if one.lower() in missing])
    task = options.task or task_of_column(table, rows, name, texts, options, report)
    if task == "numbers":
        return Labels(task, (name,), numbers_of(table, rows, (name,), [[one] for one in texts]))
    return one_class(table, texts, report)


def task_of_column(
    table: Path, rows: Sequence[Row], name: str, texts: Sequence[str], options: LabelOptions, report: Report
) -> Task:
    """Numbers or one class, by rules 4 to 6."""
    is_number = [number(one) is not None for one in texts]
    if any(is_number) and not all(is_number):
        some = next(index for index, one in enumerate(is_number) if one)
        word = next(index for index, one in enumerate(is_number) if not one)
        raise DataError(
            f"{table}: {name} mixes numbers and words: {texts[some]} in line {rows[some].line}, {texts[word]!r} in "
            f"line {rows[word].line}. Correct them, or read all as names of classes: {options.ask('task=one_class')}."
        )
    if not all(is_number):
        units = {match[1] for one in texts if (match := UNIT.fullmatch(one))}
        if len(units) == 1 and all(map(UNIT.fullmatch, texts)):
            (unit,) = units
            report(
                f"{table}: {name} looks like numbers with the unit {unit}, but is read as names of classes. To read it "
                f"as numbers, write them without the unit, and put the unit in the column's title: {name} ({unit})."
            )
        spaced = {part for one in texts for part in one.split()}
        if len(set(texts)) > 2 * len(spaced) > 0:
            report(
                f"{table}: {len(set(texts))} different labels are made of {len(spaced)} words. If each word is a class "
                f"of its own: {options.ask('task=several_classes,separator=space')}."
            )
        return "one class"
    if any(re.fullmatch(r"0\d+", one) for one in texts):
        report(
            f"{table}: read as one class per image, of {len(set(texts))} classes, because {name} has leading zeros, as "
            f"codes do. Numbers: {options.ask('task=numbers')}."
        )
        return "one class"
    whole = all(re.fullmatch(r"\d+", one) for one in texts)
    counts = Counter(texts)
    found = sorted(map(int, counts)) if whole else []
    if (
        whole
        and found[0] in (0, 1)
        and found == list(range(found[0], found[0] + len(found)))
        and min(counts.values()) > 1
    ):
        report(
            f"{table}: read as one class per image, of {len(found)} classes, because {name} holds the whole numbers "
            f"{found[0]} to {found[-1]}, each in several images: class numbers. If they are quantities: "
            f"{options.ask('task=numbers')}."
        )
        return "one class"
    why = (
        "its whole numbers are not class numbers (0, 1, 2, ... with several images each)"
        if whole
        else f"it holds numbers such as {next((one for one in texts if not one.isdigit()), texts[0])}"
    )
    report(f"{table}: {name} is read as numbers, because {why}. If they are classes: {options.ask('task=one_class')}.")
    return "numbers"


def read_lists(
    table: Path,
    rows: Sequence[Row],
    name: str,
    values: Sequence[Any],
    lists: Sequence[list[Any] | None],
    options: LabelOptions,
    report: Report,
) -> Labels:
    """JSON lists: of several classes, or of numbers."""
    wrong = [(row, value) for row, value, one in zip(rows, values, lists) if one is None and not is_missing(value)]
    if wrong:
        raise DataError(
            f"{table}: {name} is a list in some lines, but {wrong[0][1]!r} in line {wrong[0][0].line}. Write "
            "lists in all."
        )
    if nested := next(
        (row for row, one in zip(rows, lists) for item in one or () if isinstance(item, list | dict)), None
    ):
        raise DataError(f"{table}, line {nested.line}: {name} is a list within a list, which is not supported.")
    items = [item for one in lists for item in one or ()]
    fractions = any(isinstance(item, float) for item in items)
    if options.task == "one class":
        if any(len(one or ()) != 1 for one in lists):
            raise DataError(
                f"{table} gives images several classes, or none, so they cannot be read as one class per image."
            )
        return one_class(table, [text(item) for item in items], report)
    if options.task == "numbers" or (options.task is None and fractions):
        width = len(lists[0] or ())
        if odd := [row for row, one in zip(rows, lists) if len(one or ()) != width or not one]:
            raise DataError(f"{table}, line {odd[0].line}: {name} must hold {width} numbers, as in the first row.")
        names = (name,) if width == 1 else tuple(f"{name} {index}" for index in range(width))
        if options.task is None:
            report(
                f"{table}: read as numbers, because {name} holds lists of numbers. Classes: "
                f"{options.ask('task=several_classes')}."
            )
        return Labels("numbers", names, numbers_of(table, rows, names, [one or [] for one in lists]))
    if options.task is None:
        report(
            f"{table}: read as several classes, because {name} holds lists. One class per image: "
            f"{options.ask('task=one_class')}; numbers: {options.ask('task=numbers')}."
        )
    return several(table, rows, [[text(item) for item in one or ()] for one in lists], report)


def find_separator(texts: Sequence[str], options: LabelOptions) -> tuple[str, str]:
    """What separates several classes in one value, "" if nothing does; and why that is taken for it."""
    if options.separator is not None:
        return options.separator, "it is specified"
    if options.task == "numbers":
        return "", ""
    for mark in LIST_MARKS:
        if example := next((one for one in texts if mark in one), None):
            return mark, f"of values such as {example!r}"
    if example := next((one for one in texts if "," in one), None):
        alone = {one for one in texts if "," not in one}
        parts = [{part.strip() for part in one.split(",")} for one in texts if "," in one]
        uses = Counter(part for own in parts for part in own)
        # "finch, house" is one name; "cat, dog" beside "cat" or "cat, frog" are two.
        if all(any(part in alone or uses[part] > 1 for part in own) for own in parts) and len(
            set().union(*parts, alone)
        ) < len(set(texts)) + len(alone):
            return ",", f"of values such as {example!r}, whose parts also occur in other rows"
    return "", ""


def shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
