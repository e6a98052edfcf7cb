"""The architecture of a plain ViT as its tensors show it.

They do not show the number of heads, the grid's shape, epsilons, activations, or which tokens the head reads: those are
given by the caller, by a config beside the file, or by the table of published sizes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from vitral.base.errors import StoreError
from vitral.nn.families import SIZES
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.head import DistilledHead, WideHead
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, CLSAndMeanPool, FirstTwo, MeanPool, NormedMeanPool
from vitral.nn.family.position import NoPosition, PatchPosition
from vitral.nn.head import CLSPool, MLPHead
from vitral.nn.position import LearnedPosition

Tensors = Mapping[str, Tensor]
TOKENS = ("cls_token", "dist_token", "reg_token")
# (width, depth) -> heads of the published model; DINOv2's giant is not in the table of sizes
HEADS = {(width, depth): heads for width, depth, heads, _ in SIZES.values()} | {(1536, 40): 24}


def vit_settings(tensors: Tensors, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `VisionTransformer` that these tensors are of; those `given` stand as they are.

    Raises `StoreError` for what neither shows, with the option that specifies it.
    """
    embed_dim, in_channels, patch = patch_sizes(tensors, "ViT")
    depth = 1 + max((int(block[1]) for name in tensors if (block := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    hidden = require_tensor(tensors, "blocks.0.mlp.fc2.weight").shape[1]
    tokens = {name: tensors[name].shape[1] for name in TOKENS if name in tensors}
    if tokens.get("cls_token", 1) > 1 and "pool" not in given:
        raise StoreError(
            f"The checkpoint has {tokens['cls_token']} class tokens, and its tensors do not show which the head reads. "
            "Specify pool=CLSPool for the first of them."
        )
    # The projection to queries, keys and values has one shape for any number of heads.
    heads = given.get("num_heads") or HEADS.get((embed_dim, depth))
    if heads is None:
        raise StoreError(
            f"The tensors do not show the number of heads, and no published model has width {embed_dim} and {depth} "
            "blocks. Specify num_heads=..."
        )
    found: dict[str, Any] = dict(
        in_channels=in_channels,
        patch_size=patch,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=exact_mlp_ratio(embed_dim, hidden),
        tokens=tokens,
    )
    # What is given comes last but is passed to each step, since one part decides what the tensors of another mean.
    found |= head_settings(tensors) | pool_settings(tensors, tokens, given)
    if is_gated(tensors):
        found["mlp"] = SwiGLU
    if "blocks.0.ls1.gamma" in tensors:
        found["block"] = ScaledBlock
    if "blocks.0.attn.q_norm.weight" in tensors:
        from vitral.nn.family.mixer import QKNormAttention

        found["mixer"] = QKNormAttention
    found |= position_settings(tensors, sum(tokens.values()), patch, given)
    return found | {key: value for key, value in given.items() if not (is_gated(tensors) and key == "mlp")}


def patch_sizes(tensors: Tensors, kind: str) -> tuple[int, int, tuple[int, int]]:
    """The width, the channels and the (height, width) of patches. Raises `StoreError` for another convolution."""
    kernel = require_tensor(tensors, "patch_embed.proj.weight", kind)
    if kernel.ndim != 4:
        raise StoreError(
            f"The checkpoint embeds patches with a kernel of shape {tuple(kernel.shape)}; that of a {kind} for images "
            "has four axes: width, channels, rows and columns."
        )
    embed_dim, in_channels, rows, columns = kernel.shape
    return embed_dim, in_channels, (rows, columns)


def require_tensor(tensors: Tensors, name: str, kind: str = "ViT") -> Tensor:
    if name not in tensors:
        raise StoreError(f"The checkpoint has no tensor for {name} of a {kind}.")
    return tensors[name]


def is_gated(ours: Tensors) -> bool:
    """Whether the MLP's first layer makes two halves, one of which gates the other."""
    first, second = (ours.get(f"blocks.0.mlp.{part}.weight") for part in ("fc1", "fc2"))
    return first is not None and second is not None and len(first) == 2 * second.shape[1]


def exact_mlp_ratio(embed_dim: int, hidden: int) -> float:
    """The `mlp_ratio` for which int(embed_dim * mlp_ratio) is exactly this hidden width."""
    value = hidden / embed_dim
    while int(embed_dim * value) < hidden:  # rounding may lose the last unit
        value = math.nextafter(value, math.inf)
    return value


def head_settings(tensors: Tensors) -> dict[str, Any]:
    if "head.head_dist.weight" in tensors:
        return dict(num_classes=tensors["head.head.weight"].shape[0], head=DistilledHead)
    if "head.2.weight" in tensors:
        return dict(num_classes=tensors["head.2.weight"].shape[0], head=MLPHead)
    return dict(num_classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0, head=nn.Linear)


def pool_settings(tensors: Tensors, tokens: Mapping[str, int], given: Mapping[str, Any]) -> dict[str, Any]:
    if "pool.latent" in tensors:
        return dict(pool=partial(AttentionPool, mlp=TanhMLP) if given.get("mlp") is TanhMLP else AttentionPool)
    if "pool.norm.weight" in tensors:
        return dict(pool=NormedMeanPool)
    if "head.head_dist.weight" in tensors:
        return dict(pool=FirstTwo)
    # A linear head of twice the width reads CLS beside the mean of the patches, as DINOv2's classifiers do.
    if "head.weight" in tensors and tensors["head.weight"].shape[1] == 2 * len(tensors["patch_embed.proj.weight"]):
        return dict(pool=CLSAndMeanPool, head=WideHead)
    return dict(pool=CLSPool if "cls_token" in tokens else MeanPool)


def explaining_size(ours: Tensors, sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The first image size with as many patches as the table has rows, with or without the tokens before them."""
    if "pos_embed" not in ours or "patch_embed.proj.weight" not in ours:
        return None
    rows, patch = ours["pos_embed"].shape[1], ours["patch_embed.proj.weight"].shape[2:]
    prefix = sum(ours[name].shape[1] for name in TOKENS if name in ours)
    fitting = ((height // patch[0]) * (width // patch[1]) in (rows, rows - prefix) for height, width in sizes)
    return next((size for size, fits in zip(sizes, fitting) if fits), None)


def position_settings(
    tensors: Tensors, prefix: int, patch: tuple[int, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The image size, and whether the tokens before the patches have positions of their own."""
    img_size = given.get("img_size")
    if "pos_embed" not in tensors:
        if img_size is None:
            raise StoreError(
                "The tensors do not show the image size, since there are no positions among them. Specify "
                "trained_at=..."
            )
        return dict(position=given.get("position", NoPosition))
    rows = tensors["pos_embed"].shape[1]
    if img_size is not None:
        patches = (img_size[0] // patch[0]) * (img_size[1] // patch[1])
        if patches not in (rows, rows - prefix):
            height, width = img_size
            raise StoreError(
                f"An image of {height} x {width} has {patches} patches, but the checkpoint has {rows} positions"
                f"{f' for {prefix} tokens and {rows - prefix} patches' if prefix else ''}. Specify the size of the "
                "training images, trained_at=(height, width), or their patches, grid=(rows, columns)."
            )
        return dict(position=PatchPosition if patches == rows and prefix else LearnedPosition)
    # The table holds the patches, with or without the prefix tokens: only one of the two can be a square grid here.
    grids = {
        count: math.isqrt(count) for count in {rows, rows - prefix} if count > 0 and math.isqrt(count) ** 2 == count
    }
    if len(grids) != 1:
        fits = f"fit grids of {' and '.join(map(str, sorted(grids.values())))}." if grids else "fit no square grid."
        raise StoreError(
            f"{rows} positions and {prefix} tokens before the patches {fits} Specify the size of the training images: "
            "trained_at=(height, width), or their patches: grid=(rows, columns)."
        )
    ((count, side),) = grids.items()
    size = (side * patch[0], side * patch[1])
    return dict(img_size=size, position=PatchPosition if count == rows and prefix else LearnedPosition)
