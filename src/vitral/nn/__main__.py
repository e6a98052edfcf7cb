"""`python -m vitral.nn`: the lecture's seven files, in reading order."""

from pathlib import Path

from vitral.nn import READING_ORDER

for name in READING_ORDER:
    print((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
