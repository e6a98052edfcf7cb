"""`Maps`, what an explanation returns: numbers first, a figure from them, a file from the figure.

Axes:  b images   l layers   h heads   gy gx rows, columns of patches   y x pixels
"""

import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.files import write_file
from vitral.base.record import preprocessing_of
from vitral.explain.method import PatchMap
from vitral.explain.metric import is_constant
from vitral.explain.observation import Observation
from vitral.recording.indices import Grid
from vitral.report.colours import UNIFORM, colour_scales
from vitral.report.maps import MapPanel, attention_figure, maps_figure
from vitral.report.style import data_uri, png

if TYPE_CHECKING:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

MOST_NAMES = 5  # classes that a caption lists
MOST_SHOWN = 8  # images that a notebook shows
THIRDS = (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right"))


@dataclass(frozen=True)
class Maps:
    """One value per patch, for each image, layer and head, and how far to trust it.

    method       the name of the method; `explained` is what the map shows, in a sentence
    values       in `unit`; a method with one map for the whole model has one layer and one head
    prefix_mass  the share of attention on CLS, other tokens before the patches, and the padding of windows, which no
                 place in the image can show
    pixels       the images as the model saw them, 0..255
    residual     how far the watched rows were from reproducing the model's output; None if no attention was watched
    targets      the class explained for each image, by a method that knows classes; `class_names` are their names
    reader       whose attention it is; `prefix` is what the tokens before the patches are called
    of_answer    false if the answer is not read from `reader`
    tested       how far to trust each image's map, in a sentence, and `verdicts` in three words (`explain.tested`)
    output_note  which part of the model's output was taken as its answer, where there was a choice
    per_output   what is explained: a "class" or a "number"
    why_zero     why a map that is zero everywhere is so, in a sentence
    """

    method: str
    explained: str
    values: Float[np.ndarray, "b l h gy gx"]
    prefix_mass: Float[np.ndarray, "b l h"]
    pixels: UInt8[np.ndarray, "b y x 3"]
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    residual: float | None
    unit: str = UNIFORM
    sign: str = "positive"
    targets: tuple[int, ...] = ()
    reader: str = ""
    prefix: str = ""
    class_names: tuple[str, ...] = ()
    of_answer: bool = True
    tested: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    output_note: str = ""
    per_output: str = "class"
    why_zero: str = ""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.values.shape[-2:]
        return rows, columns

    @property
    def merged(self) -> Float[np.ndarray, "b gy gx"]:
        """One map per image: the last layer, its heads averaged."""
        return self.values[:, -1].mean(axis=1)

    @property
    def which(self) -> str:
        """Which of several maps `merged` is; empty if there is only one."""
        depth, heads = self.values.shape[1:3]
        if (depth, heads) == (1, 1):
            return ""
        some = f"head {self.heads[0]}" if heads == 1 else f"its {heads} heads averaged"
        return f"{self.layers[-1]}, {some}"

    @property
    def constant(self) -> list[int]:
        """The images whose map is constant, so that it ranks no patch."""
        return [image for image, values in enumerate(self.values) if is_constant_map(values)]

    @property
    def scales(self) -> "dict[str, Normalize]":
        """The colour scale of these maps, the same for all images, layers and heads."""
        return colour_scales([(self.unit, self.values)])

    def figure(self, image: int = 0, scales: "Mapping[str, Normalize] | None" = None) -> "Figure":
        """One image's maps: every layer and head, or the method's one map; `scales` are those of a page with others.

        Raises `UsageError` for an image that does not exist.
        """
        check_image(image, len(self.values))
        scales = scales or self.scales
        if self.values.shape[1:3] == (1, 1) and self.method != "attention":
            drawn = MapPanel(self.method, self.values[image, 0, 0], self.unit, self.mass_label(image))
            return maps_figure(self.pixels[image], [drawn], self.caption_of(image), scales=scales)
        return attention_figure(
            self.pixels[image],
            self.values[image],
            self.prefix_mass[image],
            self.layers,
            self.heads,
            self.caption_of(image),
            self.prefix,
            scales[self.unit],
        )

    def peak(self, image: int = 0) -> tuple[int, int, int, int]:
        """Where the largest value of an image's maps is: the places of its layer and head, its row and its column."""
        layer, head, row, column = np.unravel_index(int(np.abs(self.values[image]).argmax()), self.values.shape[1:])
        return int(layer), int(head), int(row), int(column)

    def alt_text(self, image: int = 0, name: str = "") -> str:
        """What the figure of an image, called `name`, shows, for readers who cannot see it."""
        check_image(image, len(self.values))
        depth, heads = self.values.shape[1:3]
        rows, columns = self.grid
        classes = f" for {self.class_names[image]}" if self.class_names else ""
        several = f" in {depth} layers and {heads} heads" if depth * heads > 1 else ""
        which = f"{self.method} map{'s' * bool(several)} of {name or f'image {image}'}{classes}{several}"
        return f"{which}, on {rows} rows and {columns} columns of patches: {self.describe_values(image)}."

    def describe_values(self, image: int) -> str:
        """Where an image's maps are highest, and what the other patches have, in words and numbers."""
        values = self.values[image]
        if is_constant_map(values):
            return f"the same everywhere, {values.flat[0]:.2g} {self.unit}"
        layer, head, row, column = np.unravel_index(int(values.argmax()), values.shape)
        where = f"row {row}, column {column}, {place_in_words(int(row), int(column), self.grid)}"
        several = f", in {self.layers[layer]}, head {self.heads[head]}" if values[..., 0, 0].size > 1 else ""
        return (
            f"highest at {where}{several}, with {values.max():.2g} {self.unit}; the median patch has "
            f"{np.median(values):.2g}, the lowest {values.min():.2g}"
        )

    @property
    def caption(self) -> str:
        """What the maps show, of which classes, and how they were checked."""
        return self.describe(range(len(self.values)))

    def caption_of(self, image: int) -> str:
        """The caption of one image, how far to trust its map if that was tested, and what was taken as the answer."""
        sentences = [self.describe([image]), *self.tested[image : image + 1], self.output_note]
        return " ".join(filter(None, sentences))

    def describe(self, images: Sequence[int]) -> str:
        """The caption of some of the images."""
        sentences = [
            self.explained,
            *class_sentence([self.class_names[image] for image in images if self.class_names], kind=self.per_output),
        ]
        sentences += residual_sentence(self.residual)
        zero = [image for image in images if not self.values[image].any()]
        for what, blank, why in (
            ("zero everywhere", zero, self.why_zero),
            ("constant", [image for image in images if image in self.constant and image not in zero], ""),
        ):
            if blank:
                one = f"The map is {what}, so it ranks no patch."
                several = f"The maps of images {blank} are {what}, so they rank no patch."
                sentences += [one if len(images) == 1 else several, *[why] * bool(why)]
        return " ".join(sentences)

    def mass_label(self, image: int) -> str:
        """The share of attention that no place in the image can show."""
        mass = float(self.prefix_mass[image, -1].mean())
        return f"not on patches: {mass:.0%}" if mass > 0 else ""

    def show(self, image: int = 0) -> "Figure":
        """The figure of one image; a notebook displays it."""
        return self.figure(image)

    def _repr_png_(self) -> bytes:
        return png(self.figure())

    def _repr_html_(self) -> str:
        """The figures of all images, up to `MOST_SHOWN`, with their captions as text."""
        count = len(self.values)
        figures = [
            f'<figure style="margin: 0 0 1em"><img src="{data_uri(png(self.figure(image)))}" '
            f'alt="{html.escape(self.alt_text(image))}" style="max-width: 100%">'
            f"<figcaption>{html.escape(self.caption_of(image))}</figcaption></figure>"
            for image in range(min(count, MOST_SHOWN))
        ]
        more = f"<p>{MOST_SHOWN} of {count} images; show({MOST_SHOWN}) shows the next.</p>" * (count > MOST_SHOWN)
        return "".join(figures) + more

    def save(self, path: str | Path, image: int | None = None) -> list[Path]:
        """Write the figure of an image, by default of all (`.png`), or everything needed to draw them again (`.npz`).

        Several images get a file each, `maps-image-0.png` and so on, with one colour scale. Returns the files.
        """
        return save_figures(Path(path), self.figure, image, len(self.values), vars(self))


def side_by_side(found: Sequence[Maps], image: int = 0, scales: "Mapping[str, Normalize] | None" = None) -> "Figure":
    """One map per method of the same image, on one scale per unit; see `Maps.merged`.

    Raises `UsageError` for no maps, an image that does not exist, or maps of different images.
    """
    if not found:
        raise UsageError("There are no maps to compare: pass a list of at least one.")
    for maps in found:
        check_image(image, len(maps.values))
        if not np.array_equal(maps.pixels[image], found[0].pixels[image]):
            raise UsageError(
                f"The maps of {found[0].method} and {maps.method} show different images, so they cannot be compared. "
                "Explain the same images with both methods."
            )
    drawn = [
        MapPanel(maps.method, maps.merged[image], maps.unit, maps.verdicts[image] if maps.verdicts else "")
        for maps in found
    ]
    return maps_figure(found[0].pixels[image], drawn, shared_caption(found, image), scales=scales)


def shared_caption(found: Sequence[Maps], image: int) -> str:
    """What several methods' maps of an image show, of which classes, and how they were checked."""
    classes = {maps.method: maps.class_names[image] for maps in found if maps.class_names}
    methods = "" if len(classes) == len(found) else f" ({', '.join(classes)})"
    sentences = class_sentence(list(classes.values()), methods, found[0].per_output)
    if len(set(classes.values())) > 1:
        sentences = ["Classes: " + ", ".join(f"{name} ({method})" for method, name in classes.items()) + "."]
    sentences += [f"The map of {maps.method} is {maps.which}." for maps in found if maps.which]
    if watched := [maps for maps in found if maps.residual is not None]:
        methods = "" if len(watched) == len(found) else f" ({', '.join(maps.method for maps in watched)})"
        sentences += residual_sentence(max(maps.residual for maps in watched if maps.residual is not None), methods)
    zero = [maps for maps in found if not maps.values[image].any()]
    sentences += [f"The map of {maps.method} is zero everywhere. {maps.why_zero}".strip() for maps in zero]
    if constant := [maps.method for maps in found if image in maps.constant and maps.values[image].any()]:
        sentences.append(f"Constant maps, which rank no patch: {', '.join(constant)}.")
    return " ".join(sentences)


def class_sentence(classes: Sequence[str], methods: str = "", kind: str = "class") -> list[str]:
    """A sentence with the classes or numbers explained, if there are any."""
    names = list(dict.fromkeys(classes))
    if len(names) < 2:
        return [f"The {kind} is {name}{methods}." for name in names]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return [f"The {'classes' if kind == 'class' else f'{kind}s'} are {', '.join(names[:MOST_NAMES])}{more}."]


def residual_sentence(residual: float | None, methods: str = "") -> list[str]:
    """A sentence on how exactly the watched rows reproduce the attention's output, if rows were watched."""
    if residual is None:
        return []
    how_far = f"to {residual:.0e} of the largest value" if residual else "exactly"
    return [f"Checked{methods}: rows · v reproduces the output of the attention layers {how_far}."]


def as_maps(name: str, patch_map: PatchMap, observation: Observation) -> Maps:
    """What the method `name` found, with the images, class names and everything that a caption tells."""
    values = patch_map.scaled
    mass = patch_map.prefix_mass
    mass = values.new_zeros(values.shape[:3]) if mass is None else mass.detach().float().reshape(values.shape[:3])
    classes = () if patch_map.classes is None else tuple(patch_map.classes.tolist())
    return Maps(
        method=name,
        explained=patch_map.explains,
        values=values.cpu().numpy(),
        prefix_mass=mass.cpu().numpy(),
        pixels=pixels_of(observation.model, observation.images),
        layers=patch_map.layers,
        heads=patch_map.heads,
        residual=patch_map.residual,
        unit=patch_map.unit,
        sign=patch_map.sign,
        targets=classes,
        reader=patch_map.reader,
        prefix=patch_map.prefix,
        class_names=tuple(class_name(observation.model, index) for index in classes),
        of_answer=patch_map.reader_is_readout,
        output_note=observation.output.note,
        per_output=observation.answer_kind.per_output,
        why_zero=patch_map.why_zero,
    )


def class_name(model: nn.Module, index: int) -> str:
    """What the model calls a class, or its number."""
    names = getattr(model, "classes", ())
    return str(names[index]) if isinstance(names, tuple | list) and index < len(names) else f"class {index}"


@torch.no_grad()
def pixels_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> UInt8[np.ndarray, "b y x 3"]:
    """The pixels that the model saw, back in 0..255.

    Without a `preprocessing`, each image goes from its own least value to its largest, whatever else is in the batch.
    """
    images = images.float()
    if (preprocessing := preprocessing_of(model)) is None:
        least = images.amin(dim=(1, 2, 3), keepdim=True)
        span = (images.amax(dim=(1, 2, 3), keepdim=True) - least).clamp_min(1e-12)
        pixels = (images - least).div_(span)
    else:
        mean, std = (
            torch.tensor(value, device=images.device)[:, None, None]
            for value in (preprocessing.mean, preprocessing.std)
        )
        pixels = (images * std).add_(mean)
    pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1]  # further channels are not drawn
    pixels = pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)  # in place: images may be large
    return rearrange(pixels.expand(-1, 3, -1, -1), "b c y x -> b y x c").cpu().numpy()


def is_constant_map(values: Float[np.ndarray, "*l gy gx"]) -> bool:
    """Whether the maps of one image differ by no more than rounding."""
    return bool(is_constant(values[None])[0])


def check_image(image: int, count: int) -> None:
    """Raise `UsageError` for an image that does not exist."""
    if not 0 <= image < count:
        raise UsageError(f"There is no image {image}: the maps show {count}, 0 to {count - 1}.")


def place_in_words(row: int, column: int, grid: Grid) -> str:
    """Where a patch is in the image.

    >>> place_in_words(0, 5, (6, 6)), place_in_words(3, 3, (7, 7))
    ('top right', 'centre')
    """
    return THIRDS[3 * row // grid[0]][3 * column // grid[1]]


def save_figures(
    path: Path, figure: "Callable[[int], Figure]", image: int | None, count: int, numbers: Mapping[str, Any]
) -> list[Path]:
    """Write the figure of an image, or of each (`.png`), or numbers (`.npz`); the files.

    Raises `UsageError` for another suffix or an image that does not exist.
    """
    if image is not None:
        check_image(image, count)
    match path.suffix:
        case ".png":
            one = image is not None or count == 1
            files = (
                {image or 0: path}
                if one
                else {each: path.with_name(f"{path.stem}-image-{each}.png") for each in range(count)}
            )
            for each, file in files.items():
                write_file(file, png(figure(each)))
            return list(files.values())
        case ".npz":
            content = io.BytesIO()
            np.savez_compressed(content, **{name: value for name, value in numbers.items() if value is not None})
            write_file(path, content.getvalue())
            return [path]
        case other:
            raise UsageError(
                f"{path.name}: maps are saved as .png or .npz, not as {other or 'a file without a suffix'}."
            )
