"""The 1,000 classes of ImageNet-1k, in the order of their WordNet numbers, which every published head has.

Russakovsky et al. 2015, §3.1. A class's name is the first lemma of its synset in WordNet 3.0 (Princeton University
2006), or one more where two synsets share it.
"""

from functools import cache
from importlib.resources import files

COUNT = 1000
ASSUMED = "the 1,000 classes are those of ImageNet-1k, in its order"


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names: tench, goldfish, great white shark, ..."""
    return tuple(files("vitral.weights").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines())
