"""What each of some patches attends to: their rows of attention, side by side (as Carion et al. 2020, "DETR", Fig. 3).

Axes:  b images   q queries   h heads   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.explain.maps import check_image, is_constant_map, pixels_of, place_in_words, residual_sentence, save_figures
from vitral.explain.method import check_shares, times_uniform
from vitral.explain.observation import Observation, observe
from vitral.recording.indices import Grid, check_patch, select
from vitral.recording.queries import query_row
from vitral.report.colours import UNIFORM, colour_scales
from vitral.report.maps import queries_figure
from vitral.report.style import png

if TYPE_CHECKING:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

ROWS, COLUMNS = 3, 5  # of queries, if none are given


@dataclass(frozen=True)
class QueryGrid:
    """One map per query, in multiples of uniform; `queries` are rows and columns of patches, `head` None is the mean.

    `residual` is how far the watched rows were from reproducing the model's output.
    """

    values: Float[np.ndarray, "b q gy gx"]
    queries: tuple[tuple[int, int], ...]
    pixels: UInt8[np.ndarray, "b y x 3"]
    layer: str
    head: int | None
    residual: float
    unit: str = UNIFORM

    @property
    def caption(self) -> str:
        """What is shown, and how it was checked."""
        heads = "heads averaged" if self.head is None else f"head {self.head}"
        shown = f"What the outlined patch attends to in {self.layer}, {heads}, as shares of its attention to patches."
        return " ".join([shown, *residual_sentence(self.residual)])

    def caption_of(self, image: int) -> str:
        """The caption, and which maps of an image are constant."""
        rows = list(zip(self.queries, self.values[image]))
        constant = [f"{row}, {column}" for (row, column), values in rows if is_constant_map(values)]
        if not constant:
            return self.caption
        if len(constant) == len(rows):
            return f"{self.caption} All maps are constant, so they rank no patch."
        return f"{self.caption} Constant maps, which rank no patch: row, column {'; '.join(constant)}."

    @property
    def scales(self) -> "dict[str, Normalize]":
        """The colour scale of these maps, the same for all images and queries."""
        return colour_scales([(self.unit, self.values)])

    def figure(self, image: int = 0, scales: "Mapping[str, Normalize] | None" = None) -> "Figure":
        """One image's maps; `scales` are those of a page with others.

        Raises `UsageError` for an image that does not exist.
        """
        check_image(image, len(self.values))
        norm = (scales or self.scales)[self.unit]
        return queries_figure(self.pixels[image], self.values[image], self.queries, self.caption_of(image), norm)

    def alt_text(self, image: int = 0, name: str = "") -> str:
        """What the figure of an image, called `name`, shows, for readers who cannot see it."""
        check_image(image, len(self.values))
        rows, columns = self.values.shape[-2:]
        query, row, column = np.unravel_index(int(self.values[image].argmax()), self.values[image].shape)
        of = self.queries[query]
        return (
            f"What {len(self.queries)} patches of {name or f'image {image}'} attend to in {self.layer}, on {rows} rows "
            f"and {columns} columns of patches: highest from the patch in row {of[0]}, column {of[1]} to that in row "
            f"{row}, column {column}, {place_in_words(int(row), int(column), (rows, columns))}, with "
            f"{self.values[image].max():.2g} {self.unit}."
        )

    def _repr_png_(self) -> bytes:
        return png(self.figure())

    def save(self, path: str | Path, image: int | None = None) -> list[Path]:
        """Write the figure of an image, by default of all (`.png`), or everything needed to draw them again (`.npz`).

        Several images get a file each, `maps-image-0.png` and so on, with one colour scale. Returns the files.
        """
        return save_figures(Path(path), self.figure, image, len(self.values), vars(self))


def query_grid(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    *,
    queries: Sequence[tuple[int, int]] = (),
    layer: int = -1,
    head: int | None = None,
) -> QueryGrid:
    """G · A[query, patch] / Σ over patches of A[query, ·] for patches by row and column, by default spread evenly.

    Raises `UsageError` for a layer, head or patch that does not exist, `WatchError` if there is no attention or it
    cannot be verified.
    """
    return query_maps(observe(model, images), queries, layer, head)


@torch.no_grad()
def query_maps(
    observation: Observation, queries: Sequence[tuple[int, int]] = (), layer: int = -1, head: int | None = None
) -> QueryGrid:
    """`query_grid` for a model that was observed already, with its attention."""
    layers = observation.layers
    shown = layers[select([layer], len(layers), "layer")[0]]
    grid = shown.tokens.grid
    patches = tuple(check_patch(query, grid, shown.name) for query in queries) or spread_patches(grid)
    heads = select(None if head is None else [head], shown.num_heads, "head")
    rows = torch.stack([query_row(shown, patch)[:, heads].mean(dim=1) for patch in patches], dim=1)
    check_shares(rows, shown.name)
    values = rearrange(times_uniform(shown.tokens.patches(rows).float()), "b q (gy gx) -> b q gy gx", gy=grid[0])
    pixels = pixels_of(observation.model, observation.images)
    return QueryGrid(
        values.cpu().numpy(), patches, pixels, shown.name, None if head is None else heads[0], shown.residual
    )


def spread_patches(grid: Grid) -> tuple[tuple[int, int], ...]:
    """Patches at the middles of `ROWS` x `COLUMNS` equal parts of the grid, or all of a smaller one."""
    rows, columns = (
        sorted({int((part + 0.5) * n / parts) for part in range(parts)}) for n, parts in zip(grid, (ROWS, COLUMNS))
    )
    return tuple((row, column) for row in rows for column in columns)
