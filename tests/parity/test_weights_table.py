"""The table in the docs says what the tests of this folder, which run before this one, have measured."""

import math
import os
from pathlib import Path

import pytest
from test_weights_in import ROWS

TABLE = Path(__file__).parents[2] / "docs" / "weights.md"


def test_the_table_in_the_docs_is_this_tests():
    if len(ROWS) < 80:
        pytest.skip("not all sources were run")
    head = [
        "# Whose checkpoints Vitral reads, and how exactly",
        "",
        "Made by `VITRAL_WRITE_PARITY=1 pytest tests/parity`: small models with random weights,",
        "saved as their library saves them, read by `vitral.load`. *Apart* is the largest difference of any logit or",
        "feature over the largest, below the bound given.",
        "",
        "| source | model | image | apart, double | apart, single |",
        "|---|---|---|---|---|",
    ]
    rows = [f"| {' | '.join(key)} | {bound(double)} | {bound(single)} |" for key, (double, single) in ROWS.items()]
    text = "\n".join([*head, *rows, ""])
    if os.environ.get("VITRAL_WRITE_PARITY"):
        TABLE.write_text(text, encoding="utf-8")
    written = TABLE.read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1:4] for line in written[8:]] == [line.split("|")[1:4] for line in text.splitlines()[8:]]


def bound(apart):
    """The power of ten above."""
    return "0" if apart == 0 else f"1e{math.floor(math.log10(apart)) + 1}"
