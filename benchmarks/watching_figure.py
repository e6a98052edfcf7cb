"""`python -m benchmarks.watching_figure`: draws `docs/images/watching.svg`, the figure of "How watching works".

The lower half is measured: how far each token of a model moves when the image becomes each mixture. The model's tokens
stand in an order of their own, patches by columns and then CLS, which it does not say.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from vitral.recording.apart import Subject, first_call
from vitral.recording.calls import Call
from vitral.recording.known_places import places_of
from vitral.recording.places import Places, grid_bits
from vitral.recording.probes import mixtures

OUT = Path(__file__).parents[1] / "docs" / "images" / "watching.svg"
INK, SOFT, LINE, ACCENT, SECOND = "#22303c", "#5d6b78", "#c9d2da", "#0b6e99", "#c2571a"
SIDE, CELL, WIDTH, HEIGHT = 4, 15, 760, 560


class ByColumns(nn.Module):
    """Patches by columns, then CLS."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).mT.flatten(2).mT
        return self.layers(torch.cat([x, self.cls.expand(len(x), -1, -1)], 1))[:, -1]


def movements() -> tuple[Tensor, list[int]]:
    """How far each token moved towards B in each mixture, (bits, tokens), and the patch that was measured for it."""
    torch.manual_seed(0)
    model = ByColumns().eval()
    a, b = torch.randn(2, 1, 3, 8 * SIDE, 8 * SIDE)
    subject = Subject(model, a, (a,), {})

    def values(images: Tensor) -> Tensor:
        call = first_call(subject, images, [])
        assert isinstance(call, Call)
        return call.values[:, 0].double()

    start, moved = values(a), values(mixtures(a, b, (SIDE, SIDE)))
    whole, parts = (moved - start)[0], (moved - start)[1:]
    share = (parts * whole).sum(-1) / whole.square().sum(-1).clamp_min(1e-12)
    places = places_of(subject)[0]
    assert isinstance(places, Places)
    return share, places.patches[0].tolist()


def text(x: float, y: float, words: str, size: int = 13, colour: str = INK, anchor: str = "middle", **more: str) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{extra}>{words}</text>'
    )


def box(x: float, y: float, width: float, height: float, fill: str, line: str = LINE, round_by: int = 0) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="{round_by}" fill="{fill}" stroke="{line}"/>'


def arrow(points: str, colour: str = SOFT, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash} marker-end="url(#tip)"/>'
    )


def followed() -> list[str]:
    """The upper half: weights are followed to the product, and the product is checked."""
    parts = [text(20, 28, "1. What multiplied the values", 16, anchor="start", font_weight="600")]
    stages = (
        ("rows that sum to 1", "a softmax, or e / Σe"),
        ("followed in memory", "views, copies, mixed heads"),
        ("times the values", "a product, or a fused kernel"),
        ("what was returned", "goes on through the model"),
    )
    for number, (name, example) in enumerate(stages):
        x = 20 + number * 184
        parts += [box(x, 48, 168, 58, "#eef4f8" if number < 3 else "#ffffff", ACCENT if number < 3 else LINE, 6)]
        parts += [text(x + 84, 73, name, 14, font_weight="600"), text(x + 84, 93, example, 11, SOFT)]
        if number:
            parts.append(arrow(f"{x - 15},77 {x - 3},77"))
    parts += [arrow("472,106 472,140 640,140 640,110", SECOND, dashed=True)]
    proof = "the proof, in every layer: rows · v, formed again, is what was returned (to 2 · 10⁻⁵ in single precision)"
    return [*parts, text(20, 162, proof, 12, SECOND, "start")]


def mosaic(x: float, y: float, bits: list[bool]) -> list[str]:
    return [
        box(x + patch % SIDE * CELL, y + patch // SIDE * CELL, CELL, CELL, ACCENT if bit else "#ffffff")
        for patch, bit in enumerate(bits)
    ]


def measured() -> list[str]:
    """The lower half: the mixtures, and how far each token moved."""
    share, patches = movements()
    parts = [text(20, 212, "2. Which token is which patch", 16, anchor="start", font_weight="600")]
    note = "white: image A, blue: image B. Each row of tokens shows which of them moved; a column spells a patch."
    parts.append(text(20, 232, note, 12, SOFT, "start"))
    left, step = 230, 28
    names = ("row, bit 1", "row, bit 2", "column, bit 1", "column, bit 2")
    for number, (bits, moved, name) in enumerate(zip(grid_bits((SIDE, SIDE)).tolist(), share.tolist(), names)):
        y = 246 + number * 66
        parts += mosaic(130, y, bits)
        parts.append(text(118, y + 34, name, 12, anchor="end"))
        for token, far in enumerate(moved):
            shade = min(1.0, max(0.0, far))
            parts.append(
                f'<g opacity="{0.06 + 0.94 * shade:.3f}">{box(left + token * step, y + 16, 24, 28, ACCENT, ACCENT)}</g>'
            )
            parts.append(box(left + token * step, y + 16, 24, 28, "none"))
    parts.append(text(left - 12, 530, "so the token is", 12, anchor="end"))
    for token, patch in enumerate(patches):
        words = "none" if patch < 0 else f"{patch // SIDE},{patch % SIDE}"
        parts.append(text(left + token * step + 12, 530, words, 11, SECOND if patch < 0 else INK))
    parts.append(
        text(
            left,
            550,
            "row,column of the patch: here by columns, and behind them CLS, which no patch moves",
            11,
            SOFT,
            "start",
        )
    )
    return parts


def main() -> None:
    title = "How watching works: weights are followed to a product, and tokens are found by mixing two images"
    tip = (
        '<marker id="tip" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        f'<path d="M0,0 L6,3 L0,6 z" fill="{SOFT}"/></marker>'
    )
    body = "\n".join([*followed(), *measured()])
    OUT.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif">\n<title>{title}</title>\n<defs>{tip}</defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )
    print(f"-> {OUT.relative_to(OUT.parents[2])}")


if __name__ == "__main__":
    main()
