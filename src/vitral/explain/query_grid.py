"""What each of some patches reads: their rows of attention, side by side (as Carion et al. 2020, "DETR", Fig. 3).

Axes:  b images   q queries   h heads   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.maps import check_image, checked, same_everywhere, saved
from vitral.explain.methods.attention import read, times_uniform
from vitral.explain.pixels import pixels_of
from vitral.recording.forward import answered, check_unchanged
from vitral.recording.indices import check_patch, chosen
from vitral.recording.intercept import TOLERANCE, watch
from vitral.recording.roles import Grid
from vitral.report.maps import queries_figure
from vitral.report.style import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 3, 5  # of queries, where none are asked for


@dataclass(frozen=True)
class QueryGrid:
    """A map for each query, in times uniform; `queries` are rows and columns of patches, `head` is None for the mean.

    `residual` is how far the watched rows were from the model's own output.
    """

    values: Float[np.ndarray, "b q gy gx"]
    queries: tuple[tuple[int, int], ...]
    pixels: UInt8[np.ndarray, "b y x 3"]
    layer: str
    head: int | None
    residual: float

    @property
    def caption(self) -> str:
        """What is shown, and how it was checked."""
        heads = "heads averaged" if self.head is None else f"head {self.head}"
        shown = f"What the outlined patch reads, in {self.layer}, {heads}; shares of what goes to patches."
        return " ".join([shown, *checked(self.residual)])

    def said_of(self, image: int) -> str:
        """The caption, and whose maps of an image tell nothing apart."""
        rows = list(zip(self.queries, self.values[image]))
        same = [f"{row}, {column}" for (row, column), values in rows if same_everywhere(values)]
        if not same:
            return self.caption
        whose = "All maps" if len(same) == len(rows) else f"The maps of the patches in row, column {'; '.join(same)}"
        return f"{self.caption} {whose} are the same everywhere: nothing is told apart."

    def figure(self, image: int = 0) -> "Figure":
        """One image's maps on one scale. Raises `UsageError` for an image that does not exist."""
        check_image(image, len(self.values))
        return queries_figure(self.pixels[image], self.values[image], self.queries, self.said_of(image))

    def _repr_png_(self) -> bytes:
        return png(self.figure())

    def save(self, path: str | Path, image: int = 0) -> Path:
        """Write one image's figure (`.png`), or everything needed to draw them all again (`.npz`)."""
        return saved(Path(path), lambda: self.figure(image), vars(self))


@torch.no_grad()
def query_grid(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    *,
    queries: Sequence[tuple[int, int]] = (),
    layer: int = -1,
    head: int | None = None,
) -> QueryGrid:
    """G · A[query, patch] / Σ over patches of A[query, ·] for patches by row and column, by default spread evenly.

    Raises `UsageError` for a layer, head or patch that does not exist, `WatchError` if no attention is seen or what is
    seen cannot be verified.
    """
    with evaluating(model):
        plain = answered(model, images)
        with watch(model, rows="all") as seen:
            watched = answered(model, images)
    check_unchanged(watched, plain, TOLERANCE[plain.dtype])
    shown = seen.layers[chosen([layer], len(seen.layers), "layer")[0]]
    grid, prefix = shown.tokens.grid, len(shown.tokens.prefix)
    asked = tuple(check_patch(query, grid, shown.name) for query in queries) or spread(grid)
    heads = slice(None) if head is None else chosen([head], shown.num_heads, "head")
    rows = torch.stack([read(shown, query)[:, heads].mean(dim=1) for query in asked], dim=1)
    values = rearrange(times_uniform(rows[..., prefix:].float()), "b q (gy gx) -> b q gy gx", gy=grid[0])
    number = heads[0] if isinstance(heads, list) else None
    return QueryGrid(values.cpu().numpy(), asked, pixels_of(model, images), shown.name, number, shown.residual)


def spread(grid: Grid) -> tuple[tuple[int, int], ...]:
    """Patches at the middles of `ROWS` x `COLUMNS` equal parts of the grid, or all of a smaller one."""
    rows, columns = (
        sorted({int((part + 0.5) * n / parts) for part in range(parts)}) for n, parts in zip(grid, (ROWS, COLUMNS))
    )
    return tuple((row, column) for row in rows for column in columns)
