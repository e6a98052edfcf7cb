"""The contributor's glossary names each concept once, and the types that it names exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contributing" / "concepts.md").read_text(encoding="utf-8")
ROWS = [tuple(re.split(r"\s*\|\s*", line)[1:4]) for line in PAGE.splitlines() if line.startswith("| ")]
CONCEPTS = [row for row in ROWS if row[0] != "concept"]
TYPES = sorted(own.strip("`") for _, _, own in CONCEPTS if own != "-")


def test_each_concept_and_each_type_is_there_once():
    assert len(CONCEPTS) > 40
    for column in zip(*CONCEPTS):
        entries = [entry for entry in column if entry != "-"]
        assert len(set(entries)) == len(entries)


@pytest.mark.parametrize("path", TYPES)
def test_a_type_that_it_names_exists(path):
    parts = path.split(".")
    if parts[0] == "torch":
        assert hasattr(import_module("torch.nn"), parts[-1])
        return
    for size in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join(["vitral", *parts[:size]]))
        except ModuleNotFoundError:
            continue
        for name in parts[size:]:
            annotated = getattr(found, "__annotations__", {})
            assert hasattr(found, name) or name in annotated, path
            found = getattr(found, name, annotated.get(name))
        return
    pytest.fail(f"There is no module of {path}.")
