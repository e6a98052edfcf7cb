"""How many of the ViTs that a grammar of written forms draws are shown exactly, refused, or shown wrongly.

The grammar and the truth that each model knows of itself are those of the tests (`tests/written_vits.py`); here more
are drawn, without repetition, and counted. Nothing is timed.
"""

import itertools
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "laws"))

DRAWN = 1000


def run() -> dict[str, object]:
    from test_any_vit import check_seen, keys_of, made

    from written_vits import AXES, Style, is_possible

    styles = [Style(**dict(zip(AXES, values))) for values in itertools.product(*AXES.values())]
    styles = [style for style in styles if is_possible(style)]
    random.seed(0)
    found: Counter[str] = Counter()
    wrong: list[str] = []
    for number, style in enumerate(random.sample(styles, DRAWN)):
        try:
            known = check_seen(style, batch=1 + number % 3)
        except AssertionError:
            wrong.append(str(style))
            continue
        of_several = keys_of(made(style)[0]) is None
        found[
            "exact, with places" if known else "exact weights, places refused" if of_several else "places not found"
        ] += 1
        if number % 100 == 0:
            print(f"\r   {number:,} of {DRAWN:,} ViTs, {len(wrong)} wrong", end="", flush=True)
    print()
    for kind, count in found.items():
        print(f"   {kind:<32} {count:,}")
    return {"combinations": len(styles), "drawn": DRAWN, "found": dict(found), "wrong": wrong}
