"""The figure style: dark ink on white, perceptually even colours, and no distinction by hue alone."""

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, FAINT, ACCENT, SECOND = "#22303c", "#8a97a3", "#0b6e99", "#c2571a"
# Colour map of magnitudes that have no neutral value, such as norms: perceptually even, and readable without colour
# vision. Maps over images have the colours of `report.colours`.
MAGNITUDE = "viridis"

STYLE: "dict[RcKeyType, Any]" = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "text.parse_math": False,  # class names and captions are text: $x$ is not a formula
}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's defaults and this style, independent of the user's own settings.

    Inside a `with` block, or, as the decorator `@styled()`, inside a function that draws a figure.
    """
    with rc_context(), warnings.catch_warnings():
        # A character that the font lacks becomes a box, and a label that is too long is cut: neither needs a warning.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing|constrained_layout not applied")
        rcdefaults()
        rcParams.update(STYLE)
        yield


def sheet(width: int | float, height: int | float, caption: str = "") -> Figure:
    """An empty figure of this size in inches. Its caption is not drawn: `png` writes it into the file as text.

    It needs no window system and no global state of pyplot.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_label(caption)
    return figure


def hide_axes(axes: Axes) -> None:
    """Leave only what is drawn inside, as for a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def show_image(axes: Axes, pixels: UInt8[np.ndarray, "y x 3"], title: str, fontsize: float | None = None) -> None:
    """Draw an image with a title, and nothing around it."""
    axes.imshow(pixels)
    axes.set_title(title, fontsize=fontsize)
    hide_axes(axes)


def png(figure: Figure, dpi: int = 130) -> bytes:
    """The bytes of a PNG file of a figure, with its caption as the file's text "Description"."""
    content, caption = io.BytesIO(), str(figure.get_label())
    with styled():
        figure.savefig(content, format="png", dpi=dpi, metadata={"Description": caption} if caption else {})
    return content.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """File content as a URI, which makes an HTML page independent of the file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
