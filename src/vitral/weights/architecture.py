"""What a plain ViT's tensors say about its architecture, and what they cannot say.

The number of heads, the grid's shape, epsilons, activations and which tokens are read come from elsewhere: what the
user says, a config beside the file, or the table of published sizes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from vitral.base.errors import StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.head import DistilledHead, WideHead
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, CLSAndMeanPool, FirstTwo, MeanPool, NormedMeanPool
from vitral.nn.family.position import NoPosition, PatchPosition
from vitral.nn.head import CLSPool, MLPHead
from vitral.nn.position import LearnedPosition
from vitral.nn.zoo import SIZES

Tensors = Mapping[str, Tensor]
TOKENS = ("cls_token", "dist_token", "reg_token")
HEADS = {(width, depth): heads for width, depth, heads, _ in SIZES.values()} | {(1536, 40): 24}


@dataclass(frozen=True)
class Known:
    """What a source knows of a checkpoint besides its tensors; `settings` are sizes and parts of the model.

    `assumed` says in words what was taken for granted; `resampling` is how positions are made to fit another grid.
    `claims` are settings that the tensors say too, and must be of.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    resampling: str = "timm"
    claims: dict[str, Any] = field(default_factory=dict)


def vit_of(tensors: Tensors, known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `VisionTransformer` that these tensors are of, as far as `known` does not say them.

    Raises `StoreError` where something cannot be known: which, and how to say it.
    """
    embed_dim, in_channels, patch = patches_of(tensors, "ViT")
    depth = 1 + max((int(block[1]) for name in tensors if (block := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    hidden = needed(tensors, "blocks.0.mlp.fc2.weight").shape[1]
    tokens = {name: tensors[name].shape[1] for name in TOKENS if name in tensors}
    if tokens.get("cls_token", 1) > 1 and "pool" not in known:
        raise StoreError(
            f"The checkpoint has {tokens['cls_token']} class tokens, and how they are read is not in the weights. "
            "Say it: pool=CLSPool for the first of them."
        )
    heads = known.get("num_heads") or HEADS.get((embed_dim, depth))
    if heads is None:
        raise StoreError(
            f"The number of heads is not in the weights, and {embed_dim} numbers wide with {depth} blocks is no "
            "published size. Say it: num_heads=..."
        )
    found: dict[str, Any] = dict(
        in_channels=in_channels,
        patch_size=patch,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=ratio(embed_dim, hidden),
        tokens=tokens,
    )
    found |= head_of(tensors) | pool_of(tensors, tokens, known)
    if is_gated(tensors):
        found["mlp"] = SwiGLU
    if "blocks.0.ls1.gamma" in tensors:
        found["block"] = ScaledBlock
    if "blocks.0.attn.q_norm.weight" in tensors:
        found["mixer"] = QKNormAttention
    found |= positions_of(tensors, sum(tokens.values()), patch, known)
    return found | {key: value for key, value in known.items() if not (is_gated(tensors) and key == "mlp")}


def patches_of(tensors: Tensors, kind: str) -> tuple[int, int, tuple[int, int]]:
    """The width, the channels and the size of patches. Raises `StoreError` for what is no convolution of images."""
    kernel = needed(tensors, "patch_embed.proj.weight", kind)
    if kernel.ndim != 4:
        raise StoreError(
            f"The checkpoint cuts patches by a kernel of {tuple(kernel.shape)}, where that of a {kind} of images has "
            "four axes: width, channels, rows and columns."
        )
    embed_dim, in_channels, rows, columns = kernel.shape
    return embed_dim, in_channels, (rows, columns)


def needed(tensors: Tensors, name: str, kind: str = "ViT") -> Tensor:
    if name not in tensors:
        raise StoreError(f"The checkpoint has nothing that is {name} of a {kind}.")
    return tensors[name]


def is_gated(ours: Tensors) -> bool:
    """Whether the MLP's first map makes two halves, of which one gates the other."""
    first, second = (ours.get(f"blocks.0.mlp.{part}.weight") for part in ("fc1", "fc2"))
    return first is not None and second is not None and len(first) == 2 * second.shape[1]


def ratio(embed_dim: int, hidden: int) -> float:
    """The `mlp_ratio` that gives exactly this hidden width."""
    value = hidden / embed_dim
    while int(embed_dim * value) < hidden:
        value = math.nextafter(value, math.inf)
    return value


def head_of(tensors: Tensors) -> dict[str, Any]:
    if "head.head_dist.weight" in tensors:
        return dict(num_classes=tensors["head.head.weight"].shape[0], head=DistilledHead)
    if "head.2.weight" in tensors:
        return dict(num_classes=tensors["head.2.weight"].shape[0], head=MLPHead)
    return dict(num_classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0, head=nn.Linear)


def pool_of(tensors: Tensors, tokens: Mapping[str, int], known: Mapping[str, Any]) -> dict[str, Any]:
    if "pool.latent" in tensors:
        return dict(pool=partial(AttentionPool, mlp=TanhMLP) if known.get("mlp") is TanhMLP else AttentionPool)
    if "pool.norm.weight" in tensors:
        return dict(pool=NormedMeanPool)
    if "head.head_dist.weight" in tensors:
        return dict(pool=FirstTwo)
    if "head.weight" in tensors and tensors["head.weight"].shape[1] == 2 * len(tensors["patch_embed.proj.weight"]):
        return dict(pool=CLSAndMeanPool, head=WideHead)
    return dict(pool=CLSPool if "cls_token" in tokens else MeanPool)


def positions_of(tensors: Tensors, prefix: int, patch: tuple[int, ...], known: Mapping[str, Any]) -> dict[str, Any]:
    """The image size, and whether the tokens before the patches have positions of their own."""
    given = known.get("img_size")
    if "pos_embed" not in tensors:
        if given is None:
            raise StoreError(
                "The image size is not in the weights, since they hold no positions. Say it: trained_at=..."
            )
        return dict(position=known.get("position", NoPosition))
    rows = tensors["pos_embed"].shape[1]
    if given is not None:
        patches = (given[0] // patch[0]) * (given[1] // patch[1])
        if patches not in (rows, rows - prefix):
            raise StoreError(
                f"An image of {given[0]} x {given[1]} has {patches} patches, but the checkpoint has {rows} positions."
            )
        return dict(position=PatchPosition if patches == rows and prefix else LearnedPosition)
    fits = {
        count: math.isqrt(count) for count in {rows, rows - prefix} if count > 0 and math.isqrt(count) ** 2 == count
    }
    if len(fits) != 1:
        raise StoreError(
            f"{rows} positions and {prefix} tokens before the patches "
            + ("fit no square grid." if not fits else f"fit grids of {' and '.join(map(str, sorted(fits.values())))}.")
            + " Say the size of the images it was trained on: trained_at=(height, width)."
        )
    ((count, side),) = fits.items()
    size = (side * patch[0], side * patch[1])
    return dict(img_size=size, position=PatchPosition if count == rows and prefix else LearnedPosition)


IMAGENET: dict[str, Any] = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES: dict[str, Any] = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def preprocessing_of(
    size: tuple[int, int], channels: int, said: Mapping[str, Any]
) -> tuple[Preprocessing, tuple[str, ...]]:
    """How images are prepared for a model of so many channels, and what was done for that in words.

    Raises `StoreError` for a mean or deviation that no pixels have.
    """
    for name in ("mean", "std"):
        values = said.get(name, (0.5,))
        if not all(isinstance(value, int | float) for value in values) or (name == "std" and min(values) <= 0):
            raise StoreError(f"{name}={values} is of no pixels.")
    known = {key: value for key, value in said.items() if value is not None}
    found = Preprocessing(**({"size": size} | known))
    done: tuple[str, ...] = ("of an image its luminance, for the one channel",) if channels == 1 else ()
    if (count := len(found.mean)) != channels:
        done += (f"mean and deviation of {count} channels for {channels}: averaged for one, else repeated in turn",)
    return replace(found, mean=of_channels(found.mean, channels), std=of_channels(found.std, channels)), done


def of_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """As many as there are channels."""
    if channels == 1 < len(values):
        return (fmean(values),)
    return tuple(values[channel % len(values)] for channel in range(channels))
