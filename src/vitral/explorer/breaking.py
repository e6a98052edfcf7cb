"""What a model of ours answers when parts of it are missing: what the page computes itself, by PyTorch and `watch`.

    broken_output(model, images, Break(heads=((1, 0),), cuts_cls=True))

The page offers these edits for small models (`page/forward.js`) and is held against this by the tests; a host with the
model at hand uses it.

Axes:  b images   c channels   y x pixels   k classes   h heads   r rows   m key tokens   g patches
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.nn.family.position import SinCosPosition
from vitral.nn.vit import VisionTransformer
from vitral.recording.edits import Edit, Weights, check_index, renormalise, without_head
from vitral.recording.intercept import watch

Positions = Literal["learned", "zero", "shuffled"]
Patches = Literal["in place", "shuffled"]


@dataclass(frozen=True)
class Break:
    """Which parts are missing.

    blocks     tokens pass these unchanged, neither attention nor MLP adds to them
    heads      (block, head): its output is zero before the projection
    positions  of the patches: their rows in the table are zero, or those of other patches by `order`
    patches    "shuffled": at each place stands the patch that `order` has there
    cuts_cls   CLS attends only to itself, in every block
    order      a permutation of the patches, for "shuffled"
    """

    blocks: tuple[int, ...] = ()
    heads: tuple[tuple[int, int], ...] = ()
    positions: Positions = "learned"
    patches: Patches = "in place"
    cuts_cls: bool = False
    order: tuple[int, ...] = ()


def together(edits: Sequence[Edit]) -> Edit:
    """Several edits, one after another."""

    def change(layer: int, rows: Weights, queries: Sequence[int]) -> Weights:
        for edit in edits:
            rows = edit(layer, rows, queries)
        return rows

    return Edit(change, tuple(layer for edit in edits for layer in edit.layers))


def isolated(token: int) -> Edit:
    """Let a token attend only to itself, in every layer; other tokens still attend to it."""

    def change(layer: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if token not in queries:
            return rows
        keep = torch.ones_like(rows)
        keep[:, :, list(queries).index(token)] = 0
        keep[:, :, list(queries).index(token), token] = 1
        return renormalise(rows * keep)

    return Edit(change)


@torch.no_grad()
def broken_output(model: VisionTransformer, images: Float[Tensor, "b c y x"], broken: Break) -> Float[Tensor, "b k"]:
    """What the model answers with these parts missing, in eval mode.

    Raises `UsageError` for blocks, heads or an order that the model does not have, or CLS where it has none.
    """
    check(model, broken)
    if broken.patches == "shuffled":
        images = reordered(images, model.patch_embed.patch_size, broken.order)
    kept = [number for number in range(len(model.blocks)) if number not in broken.blocks]
    edits = [without_head(kept.index(block), head) for block, head in broken.heads if block in kept]
    edits += [isolated(0)] if broken.cuts_cls else []
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        # Left in place with its output thrown away, a block would still be a layer to `watch`, beside the next one.
        for number in broken.blocks:
            stack.callback(model.blocks.__setitem__, number, model.blocks[number])
            model.blocks[number] = nn.Identity()
        if kept and edits:
            stack.enter_context(watch(model, [0], edit=together(edits)))
        output: Tensor = functional_call(model, changed_table(model, broken), images)
    return output


def check(model: VisionTransformer, broken: Break) -> None:
    for number in (*broken.blocks, *(block for block, _ in broken.heads)):
        check_index(number, len(model.blocks), "block")
    if broken.cuts_cls and model.cls_token is None:
        raise UsageError("This model has no CLS to cut off.")
    count = model.grid[0] * model.grid[1]
    shuffles = "shuffled" in (broken.positions, broken.patches)
    if shuffles and sorted(broken.order) != list(range(count)):
        raise UsageError(f"The order of patches must hold each number from 0 to {count - 1} once.")


def reordered(
    images: Float[Tensor, "b c y x"], patch: tuple[int, int], order: Sequence[int]
) -> Float[Tensor, "b c y x"]:
    """Images in which the patch at each place is another: the one that `order` has there."""
    (height, width), rows = patch, images.shape[2] // patch[0]
    patches = rearrange(images, "b c (gy h) (gx w) -> b (gy gx) c h w", h=height, w=width)
    return rearrange(patches[:, list(order)], "b (gy gx) c h w -> b c (gy h) (gx w)", gy=rows)


def changed_table(model: VisionTransformer, broken: Break) -> dict[str, Tensor]:
    """The table of positions with the patches' rows changed, by its name; nothing for a model without a table."""
    fixed = isinstance(model.position, SinCosPosition)
    table = model.position.fixed if fixed else model.pos_embed
    if broken.positions == "learned" or table is None:
        return {}
    count = model.grid[0] * model.grid[1]
    prefix, patches = table.detach()[:, :-count], table.detach()[:, -count:]
    patches = torch.zeros_like(patches) if broken.positions == "zero" else patches[:, list(broken.order)]
    return {"position.fixed" if fixed else "pos_embed": torch.cat([prefix, patches], dim=1)}
