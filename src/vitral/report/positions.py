"""How alike the learned position embeddings are (Dosovitskiy et al. 2021, figure 7).

Axes:  gy gx rows, columns of patches   d width
"""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vitral.report.style import SIGNED, sheet, styled


@styled
def positions_figure(table: Float[np.ndarray, "gy gx d"], before: Float[np.ndarray, "gy gx d"]) -> Figure:
    """Cosine similarity of each patch's position with all others, before and after training; a panel a patch."""
    rows, columns, _ = table.shape
    figure = sheet(8.6, 4.2)
    parts = figure.add_gridspec(1, 4, width_ratios=[1, 0.04, 1, 0.035])
    for place, (values, title) in enumerate(((before, "before training"), (table, "after training"))):
        similar = similarity(values)
        panels = parts[2 * place].subgridspec(rows, columns, wspace=0.12, hspace=0.12)
        for row in range(rows):
            for column in range(columns):
                axes = figure.add_subplot(panels[row, column])
                shown = axes.imshow(similar[row, column], cmap=SIGNED, vmin=-1, vmax=1)
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_linewidth(0.3)
                if row == 0 and column == (columns - 1) // 2:
                    axes.set_title(title)
    figure.colorbar(shown, cax=figure.add_subplot(parts[3]), label="cosine similarity")
    return figure


def similarity(table: Float[np.ndarray, "gy gx d"]) -> Float[np.ndarray, "gy gx gy gx"]:
    """Cosine similarity of every position with every other, the mean position taken out first."""
    centred = table - table.mean(axis=(0, 1))
    unit = centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-12)
    return np.einsum("yxd,vud->yxvu", unit, unit)
