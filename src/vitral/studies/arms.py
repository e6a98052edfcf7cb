"""The models that studies compare: one macro-architecture, in which only how tokens meet differs; and a plain ResNet.

Every mixer is as deep and as wide as the ViT; its MLP is wider by as much as its mixer is smaller, so that all have the
same parameters. After Yu et al. 2022, "MetaFormer is actually what you need for vision", §4.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.position import NoPosition
from vitral.nn.head import CLSPool
from vitral.nn.parts import Part
from vitral.studies.study import Arm

# Shapes as easy as lets a ViT of this size learn them in 400 steps; of 48 pixels it sees 36 patches, of 32 it sees 16.
EASY = "n=40000,smallest=0.34,largest=0.42,rotation=5,contrast=0.7"
SHAPES, SMALL_SHAPES = f"shapes:{EASY}", f"shapes:size=32,{EASY}"
SAMPLES = 51_200  # of a training in `quick`: 400 steps of 128

WIDTH, RATIO = 64, 2.0  # of the reference ViT: `vit_nano`'s
ORDINARY = "an ordinary CNN has no ViT's parameters and multiply-adds at once"
CONTROL = "a control"


def mixing(name: str, mixer: Part, numbers: int, **more: Any) -> Arm:
    """An arm with another mixer that holds so many `numbers`; its MLP takes what attention holds more."""
    attention = 4 * WIDTH**2 + 4 * WIDTH + 4 * (WIDTH // 4)  # projections, their biases, the norms of queries and keys
    hidden = int(RATIO * WIDTH) + round((attention - numbers) / (2 * WIDTH + 1))
    return Arm(name, settings={"mixer": mixer, "mlp_ratio": hidden / WIDTH} | more)


def depthwise(side: int) -> int:
    """Parameters of a convolution of each channel, and of the linear map after it."""
    return WIDTH * (side**2 + 1) + WIDTH**2 + WIDTH


VIT = Arm("vit")
DWCONV3 = mixing("dwconv3", DepthwiseMixing, depthwise(3))
DWCONV5 = mixing("dwconv5", partial(DepthwiseMixing, kernel_size=5), depthwise(5))
DWCONV7 = mixing("dwconv7", partial(DepthwiseMixing, kernel_size=7), depthwise(7))
CIRCULAR = mixing("circular3", partial(DepthwiseMixing, padding_mode="circular"), depthwise(3))
BAG = mixing("bag of patches", NoMixing, 0)
RESNET = Arm("resnet", "resnet_nano_48", dict(embed_dim=16), dict(lr=8e-3), unmatched=ORDINARY)
SHUFFLED = Arm("vit, labels shuffled", change="labels shuffled", unmatched=CONTROL)
CLS = Arm("vit, class token", settings=dict(tokens={"cls_token": 1}, pool=CLSPool))
NO_POSITIONS = Arm("vit, no positions", settings=dict(position=NoPosition), unmatched="it lacks the positions")


def untrained(arm: Arm) -> Arm:
    return replace(arm, name=f"{arm.name}, untrained", samples=0)


def named(arm: Arm, name: str, recipe: Mapping[str, Any] = {}, **settings: Any) -> Arm:
    """The same with other settings under another name."""
    return replace(arm, name=name, settings={**arm.settings, **settings}, recipe={**arm.recipe, **recipe})
