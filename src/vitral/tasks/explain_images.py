"""Explain images: maps of each, tested against chance, as pictures, numbers and one page.

Axes:  b images   c channels   y x pixels
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import ConfigError, UnknownName, UsageError, WatchError
from vitral.base.files import unused_path, write_file
from vitral.base.lookup import check_name, find, names, nearest
from vitral.base.prediction import Prediction, predictions
from vitral.base.provenance import provenance
from vitral.data import OnBadImage
from vitral.data.preprocess import normalise
from vitral.explain.entry import explain_observed
from vitral.explain.maps import MOST_NAMES, Maps, class_name, side_by_side
from vitral.explain.observation import Need, Observation, observe
from vitral.explain.query_maps import QueryGrid, query_maps
from vitral.explain.trust import NO_TEST, Trials, Trust, check_orders, with_trust
from vitral.recording.queries import Query
from vitral.report.colours import colour_scales, describe_scales
from vitral.report.page import Page, Picture, Section
from vitral.report.style import png
from vitral.store.classifier import Classifier
from vitral.store.image_features import training_distances
from vitral.tasks.inputs import Image, model_name, note_unknown, open_model, read_images, training_images_json
from vitral.tasks.progress import Progress, progress_for

Scales = Mapping[str, Normalize]  # one colour scale per unit
TESTED = (
    "Each caption says how the map was verified, and whether it is better than chance on this image. The methods of an "
    "image are corrected together; the images are not."
)


@dataclass(frozen=True)
class MapResult:
    """One method's maps of an image, the test of how far to trust them, and the files that hold them."""

    maps: Maps
    trust: Trust
    picture: Path
    numbers: Path


@dataclass(frozen=True)
class QueryResult:
    """What patches all over an image attend to in one layer, and the files that hold it."""

    grid: QueryGrid
    picture: Path
    numbers: Path


@dataclass(frozen=True)
class ImageResult:
    """The explanations of one image.

    `predicted` is what the model answers, None if it scores no classes. `refused` says of each method that cannot
    explain the model why. `side_by_side` is a picture of all methods, if there are several.
    """

    image: Path
    predicted: Prediction | None
    maps: tuple[MapResult, ...]
    grids: tuple[QueryResult, ...]
    refused: dict[str, str]
    side_by_side: Path | None = None
    pictures: tuple[Picture, ...] = field(default=(), repr=False)

    @property
    def answer(self) -> str:
        """The prediction in words."""
        if self.predicted is None:
            return "the model scores no classes"
        if self.predicted.task != "one class":
            return self.predicted.text(MOST_NAMES)
        return self.predicted.warned(f"{self.prediction} ({self.probability:.1%})")

    @property
    def prediction(self) -> str | None:
        """The likeliest class; None for numbers, and for a model without classes."""
        return self.predicted.best(1)[0][0] if self.has_classes and self.predicted else None

    @property
    def probability(self) -> float | None:
        """The probability of the likeliest class."""
        return self.predicted.best(1)[0][1] if self.has_classes and self.predicted else None

    @property
    def has_classes(self) -> bool:
        return self.predicted is not None and self.predicted.task != "numbers"


@dataclass(frozen=True)
class ExplanationResult:
    """The explanations of all images, and the page that shows them."""

    images: tuple[ImageResult, ...]
    page: Path
    notes: tuple[str, ...] = ()
    training_images: dict[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> dict[str, str]:
        """The methods that cannot explain the model, each with its reason."""
        return {method: reason for image in self.images for method, reason in image.refused.items()}


def explain_images(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    methods: str | Sequence[str] = ("attention",),
    *,
    target: str | int | None = None,
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    query: str | None = None,
    orders: int | None = None,
    out: str | Path = "explained",
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    repeat: str = "",
    progress: bool | Progress = False,
) -> ExplanationResult:
    """Explain images by some methods: `explain_images("runs/shapes-1", "photo.jpg").images[0].maps[0].maps.show()`.

    `target` is the class to explain by name or number, by default the prediction. `layers`, `heads` and `query` choose
    among attention maps; `query` is a token's number ("0" for CLS), a patch ("3,4"), or "grid" for patches all over the
    image. `orders` is the number of random orders with which each map is compared; by default it is chosen so that the
    methods of an image can be decided together, and 0 skips the test. Pictures, numbers and the page go to the folder
    `out`; the page shows `repeat` as the command that makes it.

    Raises `UsageError` for a name, number or image that does not exist, or an invalid number of orders; `WatchError` if
    no method asked for can explain the model, or if attention cannot be verified.
    """
    methods = (methods,) if isinstance(methods, str) else tuple(methods) or ("attention",)
    check_choices(methods, layers, heads, query)
    check_orders(orders)
    progress = progress_for(progress)
    opened = open_model(model, progress, code)
    read = read_images(images, opened.preprocessing, on_bad_image, progress)
    note_unknown(opened.record, progress)
    index = class_index(target, opened)
    choices = {"layers": tuple(layers) or None, "heads": tuple(heads) or None}
    found = []
    for number, (path, pixels) in enumerate(read):
        progress.count("explaining", number, len(read))
        prepared = normalise(torch.from_numpy(np.stack([pixels])), opened.preprocessing)
        found.append(explain_image(opened, path, prepared, methods, index, choices, query, orders, progress))
    # All maps of a page share their colour scales, so they are drawn once all are known; the tests, which take longest,
    # come after the pictures are written.
    scales = colour_scales((maps.unit, maps.values) for one in found for maps in one.every)
    drawn = [write_maps(one, Path(out), scales) for one in found]
    results = []
    for number, (one, files) in enumerate(zip(found, drawn)):
        which = f" ({number + 1} of {len(read)})" if len(read) > 1 else ""
        results.append(add_tests(one, files, scales, progress, f"testing {one.path.name}{which}, random orders"))
    progress.close()
    name = read[0][0].stem if len(read) == 1 else f"{len(read)}-images"
    page = unused_path(Path(out) / f"{name}.html")
    target_name = None if index is None else class_name(opened, index)
    write_file(page, explanation_page(model_name(model), results, methods, target_name, repeat, scales, orders).html())
    return ExplanationResult(tuple(results), page, tuple(progress.notes), training_images_json(opened.record))


@dataclass(frozen=True)
class ImageMaps:
    """The maps of one image, before they are tested, and what tests them."""

    path: Path
    trials: Trials
    maps: tuple[Maps, ...]
    grids: tuple[QueryGrid, ...]
    refused: dict[str, str]
    predicted: Prediction | None

    @property
    def every(self) -> list[Maps | QueryGrid]:
        """The maps of all methods and grids."""
        return [*self.maps, *self.grids]


def explain_image(
    model: Classifier,
    path: Path,
    images: Float[Tensor, "1 c y x"],
    methods: Sequence[str],
    target: int | None,
    choices: dict[str, Any],
    query: str | None,
    orders: int | None,
    progress: Progress,
) -> ImageMaps:
    """The maps of one image; `choices` are the layers and heads of attention."""
    observation = observe(model, images, needs_of(methods, query))
    if observation.output.note not in ("", *progress.notes):
        progress.note(observation.output.note)
    found, refused = make_maps(observation, methods, target, choices | {"query": parse_query(query)})
    # What patches all over the image attend to, in each layer and head asked for; by default the last layer's mean.
    chosen = product(choices["layers"] or (-1,), choices["heads"] or (None,)) if query == "grid" else ()
    grids = [query_maps(observation, layer=layer, head=head) for layer, head in chosen]
    predicted = None
    if observation.output.scores_classes:
        values = answer_of(model).values(observation.logits.double()).cpu().tolist()
        outputs, record = [class_name(model, index) for index in range(len(values[0]))], model.record
        distances = training_distances(model, images)
        (predicted,) = predictions([str(path)], outputs, values, record.task, record.thresholds, distances)
    return ImageMaps(path, Trials(observation, orders), tuple(found), tuple(grids), refused, predicted)


@dataclass(frozen=True)
class Drawing:
    """A figure, the end of its file's name, its alternative text, and the numbers that it shows, if they are saved."""

    name: str
    figure: Figure
    alt: str
    numbers: Maps | QueryGrid | None = None


def drawings(found: ImageMaps, scales: Scales) -> list[Drawing]:
    """What is drawn of an image: several methods side by side, each method, and each grid of queries."""
    name = found.path.name
    drawn = []
    if len(found.maps) > 1:
        texts = [maps.alt_text(0, name) for maps in found.maps]
        drawn.append(Drawing("methods", side_by_side(found.maps, scales=scales), "Side by side. " + " ".join(texts)))
    drawn += [Drawing(maps.method, maps.figure(0, scales), maps.alt_text(0, name), maps) for maps in found.maps]
    for grid in found.grids:
        which = grid.layer if grid.head is None else f"{grid.layer}.head-{grid.head}"
        drawn.append(Drawing(f"queries.{which}", grid.figure(0, scales), grid.alt_text(0, name), grid))
    return drawn


def write_maps(found: ImageMaps, out: Path, scales: Scales) -> list[tuple[Path, Path | None]]:
    """Write pictures and numbers under names that no file has; the paths of both for each drawing."""
    files = []
    for one in drawings(found, scales):
        picture = unused_path(out / f"{found.path.stem}.{one.name}.png")
        numbers = None if one.numbers is None else unused_path(picture.with_suffix(".npz"))
        write_drawing(one, picture, numbers)
        files.append((picture, numbers))
    return files


def write_drawing(one: Drawing, picture: Path, numbers: Path | None) -> Picture:
    """Write one picture and its numbers; the picture for the page."""
    content = png(one.figure)
    write_file(picture, content)
    if one.numbers is not None and numbers is not None:
        one.numbers.save(numbers)
    return Picture(content, one.alt, str(one.figure.get_label()))


def add_tests(
    found: ImageMaps, files: list[tuple[Path, Path | None]], scales: Scales, progress: Progress, job: str
) -> ImageResult:
    """Test the maps of an image, reported as `job`, and write their files again with what the tests found."""
    trials, count = found.trials, len(found.maps)
    if trials.orders == 0:
        progress.note(f"{found.path.name}: {NO_TEST}")
    else:
        orders = trials.orders_for(found.maps[0].grid, count)
        progress.note(
            f"{found.path.name}: testing {count} map{'s' * (count > 1)} against {orders} random orders of its patches"
        )
    trials.report = lambda done, total: progress.count(job, done, total)
    tests = [test for (test,) in trials.trust_together(found.maps)]
    found = replace(found, maps=tuple(with_trust(maps, [test]) for maps, test in zip(found.maps, tests)))
    pictures = [write_drawing(one, *paths) for one, paths in zip(drawings(found, scales), files)]
    shared = files[0][0] if count > 1 else None
    single = [(picture, numbers) for picture, numbers in files if numbers is not None]
    return ImageResult(
        found.path,
        found.predicted,
        tuple(MapResult(maps, test, *paths) for maps, test, paths in zip(found.maps, tests, single)),
        tuple(QueryResult(grid, *paths) for grid, paths in zip(found.grids, single[count:])),
        found.refused,
        shared,
        tuple(pictures),
    )


def needs_of(methods: Sequence[str], query: str | None) -> set[Need]:
    """What the methods, the grids of queries and the test against chance need an observation to record."""
    needs: set[Need] = {"feature maps"}  # the test looks for outlier tokens in them
    for method in methods:
        needs |= find("explain.methods", method, "method").needs
    return needs | {"attention"} if query == "grid" else needs


def make_maps(
    observation: Observation, methods: Sequence[str], target: int | None, choices: dict[str, Any]
) -> tuple[list[Maps], dict[str, str]]:
    """Maps by each method, and for each that cannot explain the model the reason.

    Raises that reason if no method can, or if it may be about the layer, head or token that was asked for.
    """
    found: list[Maps] = []
    errors: dict[str, WatchError | UsageError] = {}
    for method in methods:
        options = choices if method == "attention" else {}
        try:
            found.append(explain_observed(find("explain.methods", method, "method"), observation, target, **options))
        except (WatchError, UsageError) as error:
            if any(choice is not None for choice in options.values()):
                raise
            errors[method] = error
    if not found:
        raise next(iter(errors.values()))
    return found, {method: str(error) for method, error in errors.items()}


def check_choices(methods: Sequence[str], layers: Sequence[int], heads: Sequence[int], query: str | None) -> None:
    """Raise `UnknownName` for a method that does not exist, `ConfigError` for choices that none of them takes."""
    for method in methods:
        check_name(method, names("explain.methods"), "method")
    if (layers or heads or query) and "attention" not in methods:
        raise ConfigError("--layer, --head and --query apply to attention maps only; add --method attention.")


def parse_query(text: str | None) -> Query:
    """`0` -> token 0, `3,4` -> the patch in row 3, column 4; None for the default and for a grid."""
    if text is None or text == "grid":
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    raise UsageError(
        f"--query {text!r} is not a token's number (0 is CLS), a patch's row and column (as in 3,4), or grid."
    )


def class_index(target: str | int | None, model: Classifier) -> int | None:
    """A class by name or number. Raises `UnknownName` if there is none, `UsageError` if the model has no classes."""
    if target is None or target in model.classes:
        return None if target is None else model.classes.index(str(target))
    if not model.classes:
        raise UsageError(f"--target {target}: the model has no classes. Leave --target out.")
    text = str(target)
    if text.isascii() and text.isdigit() and int(text) < len(model.classes):
        return int(text)
    raise UnknownName(
        f"There is no class {text!r}.{nearest(text, model.classes)} The model has {len(model.classes)}: "
        f"{', '.join(model.classes[:20])}{', ...' if len(model.classes) > 20 else ''}."
    )


def explanation_page(
    model: str,
    results: Sequence[ImageResult],
    methods: Sequence[str],
    target: str | None,
    repeat: str,
    scales: Scales,
    orders: int | None = None,
) -> Page:
    """One section per image, with its pictures; `repeat` is the command that makes the page again, if there is one."""
    count, name = len(results), shlex.quote(model)
    colours = (
        f"{describe_scales(scales)} All maps of this page have the same scale. The image shows through as brightness. "
        "Rows and columns of patches are counted from 0, from the top left."
    )
    return Page(
        title=f"vitral explain {model}",
        headline="Where it looks" if count == 1 else f"Where it looks, in {count} images",
        detail=NO_TEST if orders == 0 else TESTED,
        facts={"methods": ", ".join(methods), "images": str(count), "random orders": orders_text(results, orders)},
        sections=[
            Section("How to read the colours", colours),
            *[
                Section(f"{one.image.name}: {one.answer}", introduction(one, target), list(one.pictures))
                for one in results
            ],
        ],
        settings={"model": model, "target": target or "the model's prediction"} | provenance()["versions"],
        commands=[
            (f"vitral explain {name} IMAGE --method attention chefer occlusion", "methods side by side"),
            (f"vitral explain {name} --data cued --score", "all methods against their controls"),
        ],
        repeat=repeat,
    )


def orders_text(results: Sequence[ImageResult], requested: int | None) -> str:
    """How many random orders the maps were compared with, and whether that number was requested."""
    if requested is not None:
        return f"{requested} (requested)"
    used = sorted({len(one.trust.by_chance) for image in results for one in image.maps if not one.trust.untested})
    return ", ".join(map(str, used)) if used else "none: no map could be tested"


def introduction(result: ImageResult, target: str | None) -> str:
    """The paragraph above the pictures of an image."""
    text = [] if result.predicted else ["The model scores no classes, so it has no prediction and no map was tested."]
    if target is not None:
        text.append(f"Class-specific methods explain {target}, as requested.")
    return " ".join(text + [f"{method} was left out: {reason}" for method, reason in result.refused.items()])
