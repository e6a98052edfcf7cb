"""How an image becomes patches, and patches a sequence of tokens.

Axes:  y x pixels
"""

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from vitral.report.attention import bare
from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, styled

SHOWN = 7  # tokens drawn at the beginning of the sequence


@styled
def tokens_figure(
    pixels: UInt8[np.ndarray, "y x 3"], patch: tuple[int, int], num_prefix_tokens: int, embed_dim: int
) -> Figure:
    """The image, its patches apart, and the sequence that enters the first block."""
    height, width = pixels.shape[:2]
    rows, columns = height // patch[0], width // patch[1]
    figure = sheet(9.4, 2.75)
    image, apart, sequence = figure.subplots(1, 3, width_ratios=[1, 1.12, 2.2])
    image.imshow(pixels)
    image.set_title(f"image\n{height} × {width} × 3 numbers")
    gap = max(1, patch[0] // 6)
    canvas = np.full((rows * (patch[0] + gap) - gap, columns * (patch[1] + gap) - gap, 3), 255, np.uint8)
    pieces = []
    for row in range(rows):
        for column in range(columns):
            piece = pixels[row * patch[0] : (row + 1) * patch[0], column * patch[1] : (column + 1) * patch[1]]
            top, left = row * (patch[0] + gap), column * (patch[1] + gap)
            canvas[top : top + patch[0], left : left + patch[1]] = piece
            pieces.append(piece)
    apart.imshow(canvas)
    apart.set_title(
        f"{rows} × {columns} = {rows * columns} patches\n"
        f"of {patch[0]} × {patch[1]} × 3 = {patch[0] * patch[1] * 3} numbers"
    )
    for axes in (image, apart, sequence):
        bare(axes)

    busy = int(np.argmax([piece.std(axis=(0, 1)).sum() for piece in pieces]))
    first = min(busy // columns * columns, max(0, len(pieces) - SHOWN + num_prefix_tokens))
    shown = pieces[first : first + SHOWN - num_prefix_tokens]
    sequence.set(xlim=(-0.3, SHOWN + 1.1), ylim=(3.35, -0.5))
    for place in range(min(SHOWN, num_prefix_tokens + len(pieces))):
        prefix = place < num_prefix_tokens
        if prefix:
            sequence.add_patch(
                FancyBboxPatch(
                    (place + 0.1, 0.1), 0.8, 0.8, boxstyle="round,pad=0,rounding_size=0.1", fc=SECOND, ec="none"
                )
            )
            name = "CLS" if place == 0 else "reg"
            sequence.text(place + 0.5, 0.5, name, color="white", ha="center", va="center", fontsize=8, weight="bold")
        elif place - num_prefix_tokens < len(shown):
            sequence.imshow(shown[place - num_prefix_tokens], extent=(place + 0.1, place + 0.9, 0.9, 0.1))
        sequence.annotate(
            "", (place + 0.5, 1.62), (place + 0.5, 1.0), arrowprops=dict(arrowstyle="->", color=FAINT, lw=0.9)
        )
        colour = SECOND if prefix else ACCENT
        index = place if prefix else first + place
        sequence.add_patch(
            FancyBboxPatch(
                (place + 0.32, 1.7),
                0.36,
                0.95,
                boxstyle="round,pad=0,rounding_size=0.05",
                fc=colour,
                ec="none",
                alpha=0.85,
            )
        )
        sequence.text(place + 0.5, 2.9, f"+ p{index}", ha="center", va="center", fontsize=7.5, color=INK)
    sequence.text(SHOWN + 0.45, 2.15, "· · ·", ha="center", va="center", color=FAINT)
    sequence.text(
        SHOWN / 2,
        3.25,
        "one linear map for every patch; then a learned position for each token",
        ha="center",
        fontsize=7.5,
        color=INK,
    )
    total = rows * columns + num_prefix_tokens
    sequence.set_title(f"sequence\n{total} tokens of {embed_dim} numbers")
    sequence.set_aspect("auto")
    return figure
