"""Studies on drawn and on real images side by side, in `docs/numbers.md`; see `benchmarks.tables`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.dense_tables import table

STUDIES = Path(__file__).parents[1] / "docs" / "studies"


def real_images(record: dict) -> list[str]:
    """One row per hypothesis: its sentence, what was measured on `shapes`, and what on the real images."""

    def rows() -> Iterator[tuple[str, ...]]:
        for study, found in record["studies"].items():
            drawn = json.loads((STUDIES / f"{study}.json").read_text(encoding="utf-8"))["hypotheses"]
            for one in found["hypotheses"]:
                yield study, one["sentence"], measured(on_drawn(drawn, one["sentence"])), measured(one)

    return table(("study", "hypothesis", "shapes", "Fashion-MNIST"), rows())


def on_drawn(drawn: list[dict[str, Any]], sentence: str) -> Mapping[str, Any] | None:
    """The same hypothesis about `shapes`, which may be averaged over two sizes of objects; None if there is none."""
    return next((one for one in drawn if one["sentence"].lower().endswith(sentence.lower())), None)


def measured(one: Mapping[str, Any] | None) -> str:
    """A verdict and the effect in points of accuracy, with its interval."""
    if one is None:
        return "-"
    mean, low, high = (f"{100 * value:+.1f}" for value in (one["mean"], *one["interval"]))
    return f"{one['verdict']}: {mean} ({low} to {high})"


CHAPTER = (
    "Two studies on real images",
    "24,000 of the 70,000 photographs of clothes in Debian's `dataset-fashion-mnist`, chosen at random; same models "
    "and training as on `shapes`, four seeds. A cell has the verdict, and the effect in points of accuracy with its "
    "95% interval.",
    ("fashion_mnist",),
    real_images,
)
