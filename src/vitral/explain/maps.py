"""What an explanation gives back: numbers first, a figure from them, a file from the figure.

Axes:  b images   l layers   h heads   gy gx rows, columns of patches   y x pixels
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from vitral.base.errors import UsageError
from vitral.base.files import write_file
from vitral.report.attention import attention_figure
from vitral.report.maps import Drawn, maps_figure
from vitral.report.style import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NO_BETTER = "NO better than chance"  # what a test says of a map that it does not trust


@dataclass(frozen=True)
class Maps:
    """A value for each patch, per image, layer and head, and how far to trust it.

    `values` are in `unit`; `prefix_mass` is the share of attention that stays on CLS and other tokens before the
    patches, which no place in the image can show; `residual` is how far the watched rows were from the model's own
    output. `targets` are the classes explained, one an image, of a method that knows classes; a method that gives one
    map for the whole model has one layer and one head. Of attention, `reader` is who reads, and `prefix` what to call
    the tokens before the patches, if there are any. `tested` says of each image's map how far to trust it, once
    `explain.tested` was asked.
    """

    method: str
    explained: str
    values: Float[np.ndarray, "b l h gy gx"]
    prefix_mass: Float[np.ndarray, "b l h"]
    pixels: UInt8[np.ndarray, "b y x 3"]
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    residual: float
    unit: str = "times uniform"
    sign: str = "positive"
    targets: tuple[int, ...] = ()
    reader: str = ""
    prefix: str = ""
    tested: tuple[str, ...] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.values.shape[-2:]
        return rows, columns

    @property
    def merged(self) -> Float[np.ndarray, "b gy gx"]:
        """One map an image: the last layer, its heads averaged."""
        return self.values[:, -1].mean(axis=1)

    @property
    def constant(self) -> list[int]:
        """The images whose map is the same everywhere: it tells nothing apart."""
        return [image for image, values in enumerate(self.values) if np.ptp(values) <= 1e-5 * np.abs(values).max()]

    def figure(self, image: int = 0) -> "Figure":
        """One image's maps: every layer and head on one scale, or the one map that the method gives.

        Raises `UsageError` for an image that does not exist.
        """
        check_image(image, len(self.values))
        if self.values.shape[1:3] == (1, 1) and self.method != "attention":
            drawn = Drawn(self.method, self.values[image, 0, 0], self.sign == "signed", self.below(image))
            return maps_figure(self.pixels[image], [drawn], self.said_of(image))
        return attention_figure(
            self.pixels[image],
            self.values[image],
            self.prefix_mass[image],
            self.layers,
            self.heads,
            self.said_of(image),
            self.prefix,
        )

    @property
    def caption(self) -> str:
        """What is shown, in a sentence or two, and how it was checked."""
        said = [self.explained]
        if self.residual:
            said.append(f"Checked: rows · v is the model's own output, to {self.residual:.0e} of its largest.")
        if self.constant:
            which = "The map is" if len(self.values) == 1 else f"The maps of images {self.constant} are"
            said.append(f"{which} the same everywhere: nothing is told apart.")
        return " ".join(said)

    def said_of(self, image: int) -> str:
        """The caption, and how far to trust one image's map if that was tested."""
        return f"{self.caption} {self.tested[image]}" if self.tested else self.caption

    def below(self, image: int) -> str:
        """What no place in the image shows."""
        mass = float(self.prefix_mass[image, -1].mean())
        return f"not on patches: {mass:.0%}" if mass > 0 else ""

    def show(self, image: int = 0) -> "Figure":
        """The figure of one image; a notebook displays it."""
        return self.figure(image)

    def _repr_png_(self) -> bytes:
        return png(self.figure())

    def save(self, path: str | Path, image: int = 0) -> Path:
        """Write one image's figure (`.png`), or everything needed to draw them all again (`.npz`)."""
        return saved(Path(path), lambda: self.figure(image), vars(self))


def side_by_side(found: Sequence[Maps], image: int = 0) -> "Figure":
    """Several methods' one map of an image, the positive ones on one scale; see `Maps.merged`.

    Raises `UsageError` for an image that does not exist.
    """
    drawn = []
    for maps in found:
        check_image(image, len(maps.values))
        failed = bool(maps.tested) and NO_BETTER in maps.tested[image]
        below = "no better than chance" if failed else ""
        drawn.append(Drawn(maps.method, maps.merged[image], maps.sign == "signed", below))
    return maps_figure(found[0].pixels[image], drawn, "Of attention, the last layer with its heads averaged.")


def check_image(image: int, count: int) -> None:
    """Raise `UsageError` for an image that does not exist."""
    if not 0 <= image < count:
        raise UsageError(f"There is no image {image}: the maps are of {count}, 0 to {count - 1}.")


def saved(path: Path, figure: Callable[[], "Figure"], numbers: Mapping[str, Any]) -> Path:
    """Write a figure (`.png`) or numbers (`.npz`). Raises `UsageError` for another suffix."""
    match path.suffix:
        case ".png":
            write_file(path, png(figure()))
        case ".npz":
            content = io.BytesIO()
            np.savez_compressed(content, **{name: value for name, value in numbers.items() if value is not None})
            write_file(path, content.getvalue())
        case other:
            raise UsageError(f"{path.name}: maps are saved as .png or .npz, not {other or 'without a suffix'}.")
    return path
