"""The model that the explorer's hosts show in the tests: the same in each process."""

from functools import cache

from tiny import tiny_vit
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record


@cache
def explored_vit():
    """A tiny ViT with 4 x 4 patches, whose third class is named like markup."""
    names = ("circle", "square", "<b>", "triangle", "ring")
    return attach_record(tiny_vit(img_size=(16, 24)), ModelRecord(names, Preprocessing((16, 24), 0.9, "bilinear")))
