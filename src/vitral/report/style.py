"""One figure style: quiet ink on white, colours that grow evenly in lightness, nothing that only hue can tell."""

import base64
import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, FAINT, ACCENT, SECOND = "#22303c", "#8a97a3", "#0b6e99", "#c2571a"
MAGNITUDE = "viridis"  # perceptually even, and readable without colour vision
SIGNED = "RdBu_r"

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
    "text.parse_math": False,  # a class may be called $x$
}

P = ParamSpec("P")


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's defaults and the style, whatever the user's own settings.

    A sign that the font lacks is drawn as a box, and a label too long for its place is cut: neither is worth a warning.
    """
    with rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing|constrained_layout not applied")
        rcdefaults()
        rcParams.update(STYLE)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the style."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with own_style():
            return draw(*args, **kwargs)

    return wrapper


def sheet(width: int | float, height: int | float) -> Figure:
    """An empty figure of so many inches, drawn without a window system."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def caption_height(caption: str, width: float) -> float:
    """Inches that a caption of 8 points takes above a figure of so many inches' width."""
    return 0.16 * math.ceil(len(caption) * 0.058 / width)


def png(figure: Figure, dpi: int = 130) -> bytes:
    """A figure as the bytes of a PNG file."""
    content = io.BytesIO()
    with own_style():
        figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """File content that an HTML page can hold in itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
