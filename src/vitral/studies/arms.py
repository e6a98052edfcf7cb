"""The models that studies compare: one architecture in which only the token mixer differs, and a plain ResNet.

Every variant is as deep and as wide as the ViT. Its MLP is wider by as much as its mixer is smaller, so that all have
the same number of parameters. After Yu et al. 2022, "MetaFormer is actually what you need for vision", §4.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.position import NoPosition
from vitral.nn.head import CLSPool
from vitral.nn.parts import Part
from vitral.studies.study import Arm, Budget, Preset

# Shapes easy enough for a ViT of this size to learn in 400 steps. At 48 pixels it has 36 patches, at 32 it has 16.
EASY = "n=40000,smallest=0.34,largest=0.42,rotation=5,contrast=0.7"
SHAPES, SMALL_SHAPES = f"shapes:{EASY}", f"shapes:size=32,{EASY}"
SAMPLES = 51_200  # per training in `quick`: 400 steps of 128

WIDTH, RATIO = 64, 2.0  # of the reference ViT, `vit_nano`
# The parameters of its attention: projections, their biases, the norms of queries and keys.
ATTENTION = 4 * WIDTH**2 + 4 * WIDTH + 4 * (WIDTH // 4)
ORDINARY = "an ordinary CNN cannot match a ViT's parameters and multiply-adds at once"
CONTROL = "a control"


def with_mixer(name: str, mixer: Part, mixer_parameters: int) -> Arm:
    """The ViT with another mixer, whose MLP gets the parameters that attention has more than this mixer."""
    hidden = int(RATIO * WIDTH) + round((ATTENTION - mixer_parameters) / (2 * WIDTH + 1))
    return Arm(name, settings={"mixer": mixer, "mlp_ratio": hidden / WIDTH})


def depthwise_parameters(side: int) -> int:
    """The parameters of a depthwise convolution and of the linear layer after it."""
    return WIDTH * (side**2 + 1) + WIDTH**2 + WIDTH


VIT = Arm("vit")
DWCONV3 = with_mixer("dwconv3", DepthwiseMixing, depthwise_parameters(3))
DWCONV5 = with_mixer("dwconv5", partial(DepthwiseMixing, kernel_size=5), depthwise_parameters(5))
DWCONV7 = with_mixer("dwconv7", partial(DepthwiseMixing, kernel_size=7), depthwise_parameters(7))
CIRCULAR = with_mixer("circular3", partial(DepthwiseMixing, padding_mode="circular"), depthwise_parameters(3))
BAG = with_mixer("bag of patches", NoMixing, 0)
RESNET = Arm("resnet", "resnet_nano_48", dict(embed_dim=16), dict(lr=8e-3), unmatched=ORDINARY)
SHUFFLED = Arm("vit, labels shuffled", change="labels shuffled", unmatched=CONTROL)
CLS = Arm("vit, class token", settings=dict(tokens={"cls_token": 1}, pool=CLSPool))
NO_POSITIONS = Arm("vit, no positions", settings=dict(position=NoPosition), unmatched="it has no position parameters")


def swept_budgets(**smoke: Any) -> dict[Preset, Budget]:
    """Budgets that choose a learning rate for each arm; `smoke` are changes to the smallest of them."""
    return {
        "smoke": Budget(256, 2, images=512, **(dict(eval_images=200) | smoke)),
        "quick": Budget(SAMPLES, 4, (0.5, 1.0, 2.0)),
        "full": Budget(4 * SAMPLES, 5, (0.25, 0.5, 1.0, 2.0)),
    }


def untrained(arm: Arm) -> Arm:
    return replace(arm, name=f"{arm.name}, untrained", samples=0)


def variant(arm: Arm, name: str, recipe: Mapping[str, Any] = {}, **settings: Any) -> Arm:
    """The same arm under another name, with other settings."""
    return replace(arm, name=name, settings={**arm.settings, **settings}, recipe={**arm.recipe, **recipe})
