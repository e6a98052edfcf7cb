"""What the tokens of a model are where that was not measured: what the caller or the model states, and what fits."""

import math

from torch import nn

from vitral.base.errors import UsageError
from vitral.recording.indices import Grid
from vitral.recording.prefix_tokens import learned_tokens, prefix_names
from vitral.recording.token_roles import TokenRoles

MOST_PREFIX_TOKENS = 16


def states(model: nn.Module, num_tokens: int) -> bool:
    """Whether a model itself states how many tokens come before which grid of patches, and they are so many."""
    grid, prefix = getattr(model, "grid", None), getattr(model, "num_prefix_tokens", None)
    return grid is not None and prefix is not None and prefix + grid[0] * grid[1] == num_tokens


def find_roles(
    model: nn.Module, num_tokens: int, patch_grid: Grid | None, image_size: Grid | None, given: int | None
) -> TokenRoles:
    """What `num_tokens` tokens are.

    `patch_grid` is the grid of a patch projection and `image_size` the height and width of its input (None if there was
    no projection), `given` the number of prefix tokens that the caller specified.
    Raises `UsageError` if nothing determines them.
    """
    # In this order: the caller, the model itself, the patch projection, learned tokens, the shape of the image.
    num_prefix = getattr(model, "num_prefix_tokens", None) if given is None else given
    grid, source = getattr(model, "grid", None), "the model's own `grid`"
    if grid is None and patch_grid is not None:
        grid, source = patch_grid, "the grid of the patch projection"
    if num_prefix is None and grid is not None and 0 <= num_tokens - grid[0] * grid[1] <= MOST_PREFIX_TOKENS:
        num_prefix = num_tokens - grid[0] * grid[1]
    if num_prefix is None and (learned := sum(token.count for token in learned_tokens(model))):
        num_prefix = learned
    if num_prefix is None:  # no prefix, or a CLS, if the rest forms a grid of the image's shape
        counts = (0, 1) if grid is None else (0,)
        num_prefix = next((count for count in counts if grid_like(num_tokens - count, image_size or grid)), None)
    if num_prefix is None:
        raise UsageError(no_grid_message(num_tokens, grid, source, image_size))
    if num_prefix > num_tokens:
        raise UsageError(f"num_prefix_tokens={num_prefix} is more than the {num_tokens} tokens of the layer.")
    whole = patch_grid or grid
    if getattr(model, "merges_tokens", False) and whole and num_tokens < num_prefix + whole[0] * whole[1]:
        return merged_roles(prefix_names(model, num_prefix), num_tokens - num_prefix)
    # The model's own grid is of its trained size; another image has another one, perhaps of as many patches.
    if given is None and patch_grid is not None and patch_grid[0] * patch_grid[1] == num_tokens - num_prefix:
        grid, source = patch_grid, source if grid == patch_grid else "the grid of the patch projection"
    if grid is None or grid[0] * grid[1] != num_tokens - num_prefix:
        grid = grid_like(num_tokens - num_prefix, image_size)
        source = f"{num_prefix} tokens before the patches, and the patches in a grid of the image's shape"
    if given is not None:
        source = f"num_prefix_tokens={given} as given; {source}"
    return TokenRoles(prefix_names(model, num_prefix), num_tokens - num_prefix, grid, source)


def merged_roles(prefix: tuple[str, ...], num_merged: int) -> TokenRoles:
    """The roles of tokens that each hold one or more patches, others for each image."""
    why = (
        f"The patches were merged into {num_merged} tokens, others for each image, so these have no grid. The model's "
        "`steps` say which patches each token holds; steps[block].spread(rows) puts rows of attention on the grid."
    )
    return TokenRoles(prefix, num_merged, None, "patches that the model merged", why_no_grid=why)


def no_grid_message(num_tokens: int, grid: Grid | None, source: str, image_size: Grid | None) -> str:
    """Why these tokens have no place in the image."""
    shape = f"a grid of the shape of a {image_size[0]} x {image_size[1]} image" if image_size else "a square grid"
    fitting = (
        f"the {grid[0]} x {grid[1]} patches known from {source}, nor {shape}"
        if grid
        else f"{shape}, nor a grid and one token more"
    )
    return (
        f"{num_tokens} tokens are not {fitting}. They may be channels, or patches in an unknown order, so there is no "
        "attention map. If other tokens come before the patches, specify how many: num_prefix_tokens=..."
    )


def grid_like(num_patches: int, image_size: Grid | None) -> Grid | None:
    """Rows and columns in the ratio of the image's sides (square without an image); None if there are none."""
    height, width = image_size or (1, 1)
    rows = math.isqrt(num_patches * height // width)
    fits = rows > 0 and num_patches % rows == 0 and rows * width == num_patches // rows * height
    return (rows, num_patches // rows) if fits else None
