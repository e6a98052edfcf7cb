"""The figure style: dark ink on white, perceptually even colours, and no distinction by hue alone."""

import base64
import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, FAINT, ACCENT, SECOND = "#22303c", "#8a97a3", "#0b6e99", "#c2571a"
MAGNITUDE = "viridis"  # colour map of positive values: perceptually even, and readable without colour vision
SIGNED = "RdBu_r"  # colour map of signed values: white at zero

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

P = ParamSpec("P")


@contextmanager
def apply_style() -> Iterator[None]:
    """Matplotlib's defaults and this style inside the block, independent of the user's own settings."""
    with rc_context(), warnings.catch_warnings():
        # A character that the font lacks becomes a box, and a label that is too long is cut: neither needs a warning.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing|constrained_layout not applied")
        rcdefaults()
        rcParams.update(STYLE)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that draws a figure, so that it draws in this style."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with apply_style():
            return draw(*args, **kwargs)

    return wrapper


def sheet(width: int | float, height: int | float) -> Figure:
    """An empty figure of this size in inches. It needs no window system and no global state of pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def caption_height(caption: str, width: float) -> float:
    """Inches that a caption takes above a figure that is `width` inches wide: 0.058 per character, 0.16 per line."""
    return 0.16 * math.ceil(len(caption) * 0.058 / width)


def add_caption(figure: Figure, caption: str) -> None:
    """Print a caption above a figure, as wide as the figure."""
    figure.suptitle(caption, fontsize=8, color=INK, x=0.01, ha="left", wrap=True)


def hide_axes(axes: Axes) -> None:
    """Leave only what is drawn inside, as for a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def png(figure: Figure, dpi: int = 130) -> bytes:
    """The bytes of a PNG file of a figure."""
    content = io.BytesIO()
    with apply_style():
        figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """File content as a URI, which makes an HTML page independent of the file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
