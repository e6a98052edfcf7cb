"""Explain images: maps of each, tested against chance, as pictures, numbers and one page.

Axes:  b images   c channels   y x pixels
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import ConfigError, UnknownName, UsageError, WatchError
from vitral.base.files import unused_path, write_file
from vitral.base.lookup import check_name, find, names, nearest
from vitral.base.prediction import Prediction, predictions
from vitral.data import OnBadImage
from vitral.data.preprocess import normalise
from vitral.explain.entry import explain_observed
from vitral.explain.maps import Maps, class_name, side_by_side
from vitral.explain.observation import Need, Observation, observe
from vitral.explain.query_maps import QueryGrid, query_maps
from vitral.explain.region import RegionModel
from vitral.explain.trials import Trials
from vitral.explain.trust import NO_TEST, check_orders, with_trust
from vitral.recording.queries import Query
from vitral.report.colours import colour_scales
from vitral.report.masks import region_figure
from vitral.report.page import Picture
from vitral.report.style import png
from vitral.store.classifier import Classifier
from vitral.tasks.explanation_page import Scales, explanation_page
from vitral.tasks.explanations import ExplanationResult, ImageResult, MapResult, QueryResult
from vitral.tasks.inputs import Image, model_name, note_unknown, open_model, read_sized, training_images_json
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.regions import NoSuchPixels, Region, choose_region


def explain_images(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    methods: str | Sequence[str] = ("attention",),
    *,
    target: str | int | None = None,
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    query: str | None = None,
    region: str | None = None,
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
    image. Of a segmentation model a region is explained: `region` ("X,Y" or "X,Y,WIDTH,HEIGHT" in pixels of the file),
    or the pixels predicted as `target`, by default as the most frequent class besides the background; an image without
    such pixels among several is left out. `orders` is the number of random orders with which each map is compared; by
    default it is chosen so that the methods of an image can be decided together, and 0 skips the test. Pictures,
    numbers and the page go to the folder `out`; the page shows `repeat` as the command that makes it.

    Raises `UsageError` for a name, number or image that does not exist, or an invalid number of orders; `WatchError` if
    no method asked for can explain the model, or if attention cannot be verified.
    """
    methods = (methods,) if isinstance(methods, str) else tuple(methods) or ("attention",)
    check_choices(methods, layers, heads, query)
    check_orders(orders)
    progress = progress_for(progress)
    opened = open_model(model, progress, code)
    read = read_sized(images, opened.preprocessing, on_bad_image, progress)
    note_unknown(opened.record, progress)
    index = class_index(target, opened)
    if region is not None and opened.record.task != "segmentation":
        raise UsageError(f"--region is for segmentation models; the task of this one is {opened.record.task!r}.")
    choices = {"layers": tuple(layers) or None, "heads": tuple(heads) or None}
    found: list[ImageMaps] = []
    for number, (path, pixels, size) in enumerate(read):
        progress.count("explaining", number, len(read))
        prepared = normalise(torch.from_numpy(np.stack([pixels])), opened.preprocessing)
        shown: Region | None = None
        explained = opened
        if opened.record.task == "segmentation":
            try:
                shown = choose_region(opened, path, size, prepared, region, index)
            except NoSuchPixels as error:
                if number == len(read) - 1 and not found:
                    raise
                progress.note(f"{error} It is left out.")
                continue
            explained = cast(Classifier, RegionModel(opened, shown.pixels))
            progress.note(f"{path.name}: explaining {shown.what}")
        one = explain_image(explained, path, prepared, methods, index, choices, query, orders, progress)
        found.append(replace(one, region=shown))
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
    region: Region | None = None  # of a segmentation model

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
        distances, where = observation.training_distances, [str(path)]
        (predicted,) = predictions(where, outputs, values, record.task, record.thresholds, distances)
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
    if found.region is not None:
        drawn.append(region_drawing(found, found.region))
    if len(found.maps) > 1:
        texts = [maps.alt_text(0, name) for maps in found.maps]
        drawn.append(Drawing("methods", side_by_side(found.maps, scales=scales), "Side by side. " + " ".join(texts)))
    drawn += [Drawing(maps.method, maps.figure(0, scales), maps.alt_text(0, name), maps) for maps in found.maps]
    for grid in found.grids:
        which = grid.layer if grid.head is None else f"{grid.layer}.head-{grid.head}"
        drawn.append(Drawing(f"queries.{which}", grid.figure(0, scales), grid.alt_text(0, name), grid))
    return drawn


def region_drawing(found: ImageMaps, region: Region) -> Drawing:
    """The image, its predicted mask, and the region that is explained."""
    observation = found.trials.observation
    names = [class_name(observation.model, index) for index in range(observation.logits.shape[1])]
    figure = region_figure(found.maps[0].pixels[0], region.predicted, region.pixels, names)
    return Drawing("region", figure, f"{found.path.name}, its predicted mask, and the region explained: {region.what}.")


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
    first = 0 if found.region is None else 1  # the picture of the region comes first
    shared = files[first][0] if count > 1 else None
    single = [(picture, numbers) for picture, numbers in files if numbers is not None]
    return ImageResult(
        found.path,
        found.predicted,
        tuple(MapResult(maps, test, *paths) for maps, test, paths in zip(found.maps, tests, single)),
        tuple(QueryResult(grid, *paths) for grid, paths in zip(found.grids, single[count:])),
        found.refused,
        shared,
        tuple(pictures),
        found.region.what if found.region else "",
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
