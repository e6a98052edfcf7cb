"""The lecture, in reading order: patch, position, attention, mlp, block, head, vit.

`python -m vitral.nn` prints the seven files. `family/` holds what the literature added since, `high_resolution/` what
it added for many tokens; nothing here imports them but `zoo.py`, `families.py` and `cost.py`.
"""

from vitral.nn.attention import Attention
from vitral.nn.block import Block, LayerNorm
from vitral.nn.head import CLSPool, MLPHead
from vitral.nn.mlp import MLP
from vitral.nn.patch import PatchEmbedding
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer

READING_ORDER = ("patch", "position", "attention", "mlp", "block", "head", "vit")

__all__ = [
    "MLP",
    "READING_ORDER",
    "Attention",
    "Block",
    "CLSPool",
    "LayerNorm",
    "LearnedPosition",
    "MLPHead",
    "PatchEmbedding",
    "VisionTransformer",
]
