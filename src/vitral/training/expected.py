"""What to expect of few images: said before a ViT is trained on them from nothing.

The numbers are those of `benchmarks/small.py`, which writes `small.json`.
"""

import json
from functools import cache
from importlib.resources import files

from vitral.data.dataset import Dataset

FEW = 300  # images a class, from which nothing is said: three times what was measured


@cache
def measured() -> dict[str, dict[int, float]]:
    """Arm -> images a class -> test accuracy."""
    said = json.loads(files("vitral.training").joinpath("small.json").read_text(encoding="utf-8"))
    return {arm: {int(count): accuracy for count, accuracy in found.items()} for arm, found in said.items()}


def expected(data: Dataset) -> str:
    """What so many images gave elsewhere, from scratch and from a trained model; empty where there are not few."""
    each = len(data.train) / max(1, len(data.classes))
    if each >= FEW:
        return ""
    scratch, tuned = measured()["from scratch"], measured()["fine-tuned"]
    near = min(scratch, key=lambda count: abs(count - each))
    return (
        f"{each:.0f} images a class are few to train a ViT from scratch. Where it was measured (ten digits, "
        f"{near} images a class) that gave {scratch[near]:.0%} right, and {tuned[near]:.0%} from a model that had "
        "learned shapes before; your images are others. To start from a trained model: --init."
    )
