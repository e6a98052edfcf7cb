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
from vitral.report.maps import MapPanel, maps_figure
from vitral.report.style import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLAT = 1e-5  # of a map's largest value: what differs by less is what single precision rounds
NAMED = 5  # classes that a caption names


@dataclass(frozen=True)
class Maps:
    """A value for each patch, per image, layer and head, and how far to trust it.

    `values` are in `unit`; `prefix_mass` is the share of attention that stays on CLS and other tokens before the
    patches, which no place in the image can show; `residual` is how far the watched rows were from the model's own
    output, None where no attention was watched. `targets` are the classes explained, one an image, of a method that
    knows classes, and `class_names` what the model calls them; a method that gives one map for the whole model has one
    layer and one head. Of attention, `reader` is who reads, and `prefix` what to call the tokens before the patches, if
    there are any; `of_answer` is false where somebody else was asked for than the answer is read from. `tested` says
    of each image's map how far to trust it, and `verdicts` in three words, once `explain.tested` was asked.
    """

    method: str
    explained: str
    values: Float[np.ndarray, "b l h gy gx"]
    prefix_mass: Float[np.ndarray, "b l h"]
    pixels: UInt8[np.ndarray, "b y x 3"]
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    residual: float | None
    unit: str = "times uniform"
    sign: str = "positive"
    targets: tuple[int, ...] = ()
    reader: str = ""
    prefix: str = ""
    class_names: tuple[str, ...] = ()
    of_answer: bool = True
    tested: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()

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
    def which(self) -> str:
        """Which of several maps `merged` is; nothing where there is only one."""
        depth, heads = self.values.shape[1:3]
        if (depth, heads) == (1, 1):
            return ""
        some = f"head {self.heads[0]}" if heads == 1 else f"its {heads} heads averaged"
        return f"{self.layers[-1]}, {some}"

    @property
    def constant(self) -> list[int]:
        """The images whose map is the same everywhere: it tells nothing apart."""
        return [image for image, values in enumerate(self.values) if same_everywhere(values)]

    def figure(self, image: int = 0) -> "Figure":
        """One image's maps: every layer and head on one scale, or the one map that the method gives.

        Raises `UsageError` for an image that does not exist.
        """
        check_image(image, len(self.values))
        if self.values.shape[1:3] == (1, 1) and self.method != "attention":
            drawn = MapPanel(self.method, self.values[image, 0, 0], self.sign == "signed", self.below(image))
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
        """What is shown, of which classes, and how it was checked."""
        return self.said(range(len(self.values)))

    def said_of(self, image: int) -> str:
        """The caption of one image, and how far to trust its map if that was tested."""
        said = self.said([image])
        return f"{said} {self.tested[image]}" if self.tested else said

    def said(self, images: Sequence[int]) -> str:
        """The caption of some of the images."""
        said = [self.explained, *named([self.class_names[image] for image in images if self.class_names])]
        said += checked(self.residual)
        if same := [image for image in images if image in self.constant]:
            which = "The map is" if len(images) == 1 else f"The maps of images {same} are"
            said.append(f"{which} the same everywhere: nothing is told apart.")
        return " ".join(said)

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

    Raises `UsageError` for no maps, an image that does not exist, or maps of different images.
    """
    if not found:
        raise UsageError("There are no maps to put side by side: give a list of at least one.")
    for maps in found:
        check_image(image, len(maps.values))
        if not np.array_equal(maps.pixels[image], found[0].pixels[image]):
            raise UsageError(
                f"The maps of {found[0].method} and {maps.method} are of different images, which cannot stand side by "
                "side: explain the same images by both."
            )
    drawn = [
        MapPanel(maps.method, maps.merged[image], maps.sign == "signed", maps.verdicts[image] if maps.verdicts else "")
        for maps in found
    ]
    return maps_figure(found[0].pixels[image], drawn, said_beside(found, image))


def said_beside(found: Sequence[Maps], image: int) -> str:
    """What several maps of an image show, of which classes, and how they were checked."""
    classes = {maps.method: maps.class_names[image] for maps in found if maps.class_names}
    said = named(list(classes.values()), "" if len(classes) == len(found) else f" ({', '.join(classes)})")
    if len(set(classes.values())) > 1:
        said = ["Classes: " + ", ".join(f"{method} of {name}" for method, name in classes.items()) + "."]
    said += [f"Of {maps.method}: {maps.which}." for maps in found if maps.which]
    if watched := [maps for maps in found if maps.residual is not None]:
        who = "" if len(watched) == len(found) else f" ({', '.join(maps.method for maps in watched)})"
        said += checked(max(maps.residual for maps in watched if maps.residual is not None), who)
    if same := [maps.method for maps in found if image in maps.constant]:
        said.append(f"The same everywhere, so that nothing is told apart: {', '.join(same)}.")
    return " ".join(said)


def named(classes: Sequence[str], by: str = "") -> list[str]:
    """A sentence that names the classes explained, if there are any."""
    names = list(dict.fromkeys(classes))
    if len(names) < 2:
        return [f"The class is {name}{by}." for name in names]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"The classes are {', '.join(names[:NAMED])}{more}."]


def checked(residual: float | None, who: str = "") -> list[str]:
    """A sentence that says how far the watched rows were from the model's own output, if there were any."""
    if residual is None:
        return []
    how_far = f"to {residual:.0e} of its largest" if residual else "exactly"
    return [f"Checked{who}: rows · v is the model's own output, {how_far}."]


def same_everywhere(values: Float[np.ndarray, "*l gy gx"]) -> bool:
    """Whether maps of an image tell nothing apart."""
    return bool(np.ptp(values) <= FLAT * np.abs(values).max())


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
