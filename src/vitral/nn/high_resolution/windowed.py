"""A plain ViT whose blocks attend in windows, but for a few that are evenly spaced and attend over the whole image.

Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), §3. The weights are those
of the global model.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from vitral.base.errors import ConfigError
from vitral.nn.attention import attend
from vitral.nn.high_resolution.windows import Windows, takes_attend
from vitral.nn.patch import check_sizes
from vitral.nn.vit import VisionTransformer


def spaced_blocks(depth: int) -> tuple[int, ...]:
    """The last block of each of four equal parts of the model (§3); of fewer than twelve blocks, one in three or four.

    >>> spaced_blocks(12), spaced_blocks(24), spaced_blocks(4)
    ((2, 5, 8, 11), (5, 11, 17, 23), (3,))
    """
    parts = min(4, max(1, depth // 3))
    return tuple(round(part * depth / parts) - 1 for part in range(1, parts + 1))


def attend_in_windows(
    model: VisionTransformer, window_size: int, global_blocks: Sequence[int] | None = None
) -> VisionTransformer:
    """Let the blocks of a model attend in windows, but for `global_blocks`; the model, whose config says so.

    Blocks are counted from 0, or back from -1; by default they are those of `spaced_blocks`. Raises `ConfigError` for a
    window of no patches, blocks that do not exist, or a mixer that is not attention over all tokens.
    """
    depth = len(model.blocks)
    blocks = spaced_blocks(depth) if global_blocks is None else tuple(global_blocks)
    check_sizes(window_size=window_size)
    if wrong := [block for block in blocks if not -depth <= block < depth]:
        raise ConfigError(f"global_blocks={wrong} do not exist: there are {depth} blocks, 0 to {depth - 1}.")
    everywhere = {block % depth for block in blocks}
    mixers: list[Any] = [block.attn for block in model.blocks]
    for number, mixer in enumerate(mixers):
        if not takes_attend(mixer):
            raise ConfigError(f"{type(mixer).__name__} is not attention over all tokens, so it has no form in windows.")
        is_global = number in everywhere
        mixer.attend = attend if is_global else Windows(window_size, model.grid, model.num_prefix_tokens)
    model.config |= dict(window_size=window_size, global_blocks=tuple(sorted(everywhere)))
    return model


def windowed(
    model: VisionTransformer, window_size: int = 14, global_blocks: Sequence[int] | None = None
) -> VisionTransformer:
    """A copy of a model, with its weights, whose blocks attend in windows, but for `global_blocks`.

    It can be built again from its config, saved and loaded. Raises `ConfigError` as `attend_in_windows` does.

    >>> from vitral import create
    >>> from vitral.nn.high_resolution.windowed import windowed
    >>> model = windowed(create("vit_tiny_patch16_224", img_size=512))
    >>> model.config["window_size"], model.config["global_blocks"]
    (14, (2, 5, 8, 11))
    """
    if not isinstance(model, VisionTransformer):
        raise ConfigError(f"windowed takes a VisionTransformer of Vitral's, not a {type(model).__name__}.")
    return attend_in_windows(deepcopy(model), window_size, global_blocks)
