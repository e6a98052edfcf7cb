"""The accuracy to expect from few images, reported before a ViT is trained on them from scratch.

`benchmarks/small.py` measures the numbers and writes them to `small.json`.
"""

import json
from importlib.resources import files

from vitral.data.dataset import Dataset

FEW = 300  # images per class from which there is no advice: three times the most that was measured


def few_images_advice(data: Dataset) -> str:
    """The accuracy measured with about as many images per class, with and without a trained start; empty for many."""
    each = len(data.train) / max(1, len(data.classes))
    if each >= FEW:
        return ""
    # Arm -> images per class -> test accuracy.
    measured = json.loads(files("vitral.training").joinpath("small.json").read_text(encoding="utf-8"))
    scratch, tuned = measured["from scratch"], measured["fine-tuned"]
    near = min(scratch, key=lambda count: abs(int(count) - each))
    return (
        f"{each:.0f} images per class are few to train from scratch. For comparison: with {near} images per class of "
        f"handwritten digits, a small ViT's accuracy was {scratch[near]:.0%} from scratch and {tuned[near]:.0%} from a "
        "model trained on shapes; your images may differ. To start from a trained model, use --init."
    )
