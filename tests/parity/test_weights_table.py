"""The table in the docs says what the tests of this folder, which run before this one, have measured."""

import math
import os
from pathlib import Path

import pytest
from test_weights_in import ROWS

ELSEWHERE = """## Where a library computes something else

At some image sizes Swin is another function in each library. Vitral pads an image to whole patches and a map to whole
windows, then shifts; a map smaller than a window is one window. With windows of w, patches of p and s stages, square
images whose side is a multiple of p · 2^(s - 1) · w, such as 224 x 224, are the same in all. Elsewhere it is said, with
the size, when such a checkpoint is read and when one is written (`tests/parity/test_weights_swin.py`):

* timm and torchvision cut off the last pixels of an image that is no whole patches.
* timm shifts a map before it pads it, and resamples the tables of windows that are larger than a map; as it saves them,
  cut to the maps of its own image size, they are read exactly at that size, which must be known.
* torchvision pads a map that is smaller than a window, and the padding is seen.
* transformers and Microsoft's code do not shift a map of which one side only is a window; where a map is smaller than a
  window transformers fails, and where windows do not divide a map Microsoft's code does.

Windows with two different sides are refused where a config or a table of places tells, or where their table has not as
many rows as one of a square. A bare file of 5 x 13 cannot be told from one of 8 x 8, of 225 rows too, and is read as
that.
"""
HEAD = 12  # lines before the first row
TABLE = Path(__file__).parents[2] / "docs" / "weights.md"


def test_the_table_in_the_docs_is_this_tests():
    if len(ROWS) < 130:
        pytest.skip("not all sources were run")
    head = [
        "# Whose checkpoints Vitral reads, and how exactly",
        "",
        "Made by `VITRAL_WRITE_PARITY=1 pytest tests/parity`: small models with random weights,",
        "saved as their library saves them, read by `vitral.load`. *Apart* is the largest difference of any logit or",
        "feature over the largest, below the bound given.",
        "",
        "Where an image is not square, the model was made for that size; but Hugging Face's on disk and in memory,",
        "other than Swin, for 32 x 32, from which both sides resample the positions, DINOv2's in single precision.",
        "torchvision's ViT takes square images only.",
        "",
        "| source | model | image | apart, double | apart, single |",
        "|---|---|---|---|---|",
    ]
    rows = [f"| {' | '.join(key)} | {bound(double)} | {bound(single)} |" for key, (double, single) in ROWS.items()]
    text = "\n".join([*head, *rows, "", ELSEWHERE])
    if os.environ.get("VITRAL_WRITE_PARITY"):
        TABLE.write_text(text, encoding="utf-8")
    written = TABLE.read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1:4] for line in written[HEAD:]] == [
        line.split("|")[1:4] for line in text.splitlines()[HEAD:]
    ]


def bound(apart):
    """The power of ten above."""
    return "0" if apart == 0 else f"1e{math.floor(math.log10(apart)) + 1}"
