"""The contributor's glossary names each concept once, and the types that it names exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contributing" / "concepts.md").read_text(encoding="utf-8")
ROWS = [tuple(re.split(r"\s*\|\s*", line)[1:4]) for line in PAGE.splitlines() if line.startswith("| ")]
CONCEPTS = [row for row in ROWS if row[0] != "concept"]
TYPES = [own for _, _, own in CONCEPTS if own not in ("-", "`nn.Linear` (PyTorch)")]


def test_each_concept_and_each_type_is_there_once():
    assert len(CONCEPTS) > 40
    for column in zip(*CONCEPTS):
        entries = [entry for entry in column if entry != "-"]
        assert len(set(entries)) == len(entries)


@pytest.mark.parametrize("entry", TYPES)
def test_a_type_that_it_names_is_in_that_file(entry):
    path, file = re.fullmatch(r"`([\w.]+)` \(`([\w/]+)\.py`\)", entry).groups()
    found = import_module(f"vitral.{file.replace('/', '.')}")
    for name in path.split("."):
        fields = getattr(found, "__dataclass_fields__", {})
        assert hasattr(found, name) or name in fields
        found = getattr(found, name, None)
