"""Map which patches of your images a model attends to or depends on, test each map, and compare methods on a data set.

With images: one PNG per method and image, a page with all of them, and an .npz with the numbers; each map is tested by
covering patches in its order and in random orders, and comparing how far the probability falls. With --data and
--score: a table of methods, controls and metrics with intervals. With --diagnose: a page of diagnostics.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, names
from vitral.cli._options import Code, Images, Json, Model
from vitral.data import OnBadImage

if TYPE_CHECKING:
    from vitral.explain.maps import Maps
    from vitral.explain.score_table import Table
    from vitral.tasks.explanations import ImageResult, MapResult


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images = ()
    method: Annotated[
        tuple[str, ...],
        Option(f"Methods: {', '.join(names('explain.methods'))}; by default attention, or all with --score."),
    ] = ()
    layer: Annotated[
        tuple[int, ...],
        Option(
            "Attention layers to show, counted from 0, or from the end as -1, -2, ...; by default all that have the "
            "same tokens and heads as the last one."
        ),
    ] = ()
    head: Annotated[
        tuple[int, ...],
        Option("Heads whose attention to show, counted from 0, or from the end as -1, -2, ...; by default all."),
    ] = ()
    query: Annotated[
        str | None,
        Option(
            "Token whose attention to show: its number (0 is CLS), a patch as ROW,COLUMN, or grid for patches all over "
            "the image; by default the tokens that the prediction is read from, averaged."
        ),
    ] = None
    target: Annotated[
        str | None, Option("Class or predicted number to explain, by name or index; by default the prediction.")
    ] = None
    region: Annotated[
        str | None,
        Option(
            "Region to explain of a segmentation model, X,Y or X,Y,WIDTH,HEIGHT in pixels of the image; by default the "
            "pixels predicted as --target, or as the most frequent class besides the background."
        ),
    ] = None
    orders: Annotated[
        int | None,
        Option(
            "Random orders of patches with which each map is compared; 0 for no test. By default 39 on grids of more "
            "than 64 patches and 300 on others, or more where several methods tested together need them.",
            low=0,
            high=100_000,
        ),
    ] = None
    data: Annotated[str | None, Option("Data for --score, specified as in `vitral train --data`.")] = None
    score: Annotated[bool, Option("Score methods and their controls on --data instead of explaining images.")] = False
    diagnose: Annotated[
        bool, Option("Run diagnostics of the model's layers on the images instead of explaining each image.")
    ] = False
    metric: Annotated[
        tuple[str, ...],
        Option(f"Metrics for --score: {', '.join(names('explain.metrics'))}; by default all that the data allows."),
    ] = ()
    n: Annotated[int, Option("Number of random test images for --score.", low=2, high=1_000_000)] = 200
    out: Annotated[Path, Option("Folder for figures, numbers and the page.")] = Path("explained")
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False

    def __post_init__(self) -> None:
        for method in self.method:
            check_name(method, names("explain.methods"), "method")
        for metric in self.metric:
            check_name(metric, names("explain.metrics"), "metric")
        if self.score and not self.data:
            raise ConfigError("--score needs --data: a built-in data set, such as cued, or a folder of class folders.")
        if self.data and not self.score:
            raise ConfigError("--data is for --score only: add --score, or leave --data out and specify images.")
        if self.score and self.images:
            raise ConfigError("Specify either images to explain, or --data with --score.")
        if self.orders is not None and (self.score or self.diagnose):
            raise ConfigError(
                "--orders applies to the test of each image's map: leave it out with --score and --diagnose."
            )
        if self.diagnose and (
            self.score or self.method or self.layer or self.head or self.query or self.target or self.region
        ):
            raise ConfigError(
                "--diagnose runs every diagnostic on the images: leave out --score, --method, --layer, --head, "
                "--query, --target and --region."
            )
        if self.score and (self.layer or self.head or self.query or self.target or self.region):
            raise ConfigError(
                "--layer, --head, --query, --target and --region apply to images: leave them out with --score."
            )


def run(options: Options) -> dict[str, Any]:
    from vitral.cli._parse import command_line

    shared = {"out": options.out, "code": options.code, "on_bad_image": options.on_bad_image, "progress": True}
    if options.score:
        return scores(options, shared)
    shared["repeat"] = command_line("explain", options)
    return diagnosis(options, shared) if options.diagnose else explanations(options, shared)


def diagnosis(options: Options, shared: dict[str, Any]) -> dict[str, Any]:
    """Run the diagnostics; print their means by layer, and the page."""
    from vitral.tasks.diagnose import diagnose

    found = diagnose(options.model, options.images, **shared)
    means: dict[str, list[float]] = {}
    for name in ("distance", "entropy"):
        if name in found.found:
            means[name] = [float(value) for value in found.found[name].mean(axis=(0, 2))]
            print_result(f"{name} by layer: {', '.join(f'{value:.2f}' for value in means[name])}")
    for name, reason in found.refused.items():
        say(f"  {name} was left out: {reason}")
    print_result(f"numbers: {found.numbers}\npage: {found.page}")
    return {
        "diagnostics": sorted(found.found),
        "means": means,
        "refused": found.refused,
        "numbers": str(found.numbers),
        "page": str(found.page),
    }


def explanations(options: Options, shared: dict[str, Any]) -> dict[str, Any]:
    """Explain images; print what each map shows, how it fared against chance, and its file."""
    from vitral.tasks.explain_images import explain_images

    shared |= dict(target=options.target, layers=options.layer, heads=options.head, query=options.query)
    shared["region"] = options.region
    shared["orders"] = options.orders
    found = explain_images(options.model, options.images, options.method, **shared)
    records: list[dict[str, Any]] = []
    for image in found.images:
        title = f"{image.image.name}: {image.answer}"
        for one in image.maps:
            print_result(f"{title}. {summary(one.maps)}\n  {one.maps.caption}\n  {one.trust.sentence}\n  {one.picture}")
            records.append(map_record(image, one))
        for shown in image.grids:
            print_result(f"{image.image.name}. {shown.grid.caption_of(0)}\n  {shown.picture}")
            files = {"image": str(image.image), "picture": str(shown.picture), "numbers": str(shown.numbers)}
            records.append(files | {"layer": shown.grid.layer, "head": shown.grid.head})
        if image.side_by_side:
            print_result(f"  {image.side_by_side}")
        for method, reason in image.refused.items():
            say(f"  {method} was left out: {reason}")
    print_result(f"page: {found.page}")
    return {"explained": records, "refused": found.refused, "page": str(found.page), **found.training_images}


def summary(maps: "Maps") -> str:
    """The largest value and where it is, and the share of attention that is not on patches."""
    layer, head, row, column = maps.peak()
    where = f"row {row}, column {column}"
    if maps.values.shape[1:3] != (1, 1) or maps.method == "attention":
        where += f"; {maps.layers[layer]}, head {maps.heads[head]}"
    elsewhere = ""
    if mass := float(maps.prefix_mass.mean()):
        elsewhere = f"{mass:.0%} of attention is not on patches. "
        if maps.prefix == "CLS":
            of_cls, of_others = "CLS keeps {} of its attention for itself. ", "{} of the attention goes to CLS. "
            elsewhere = (of_cls if maps.reader == "CLS" else of_others).format(f"{mass:.0%}")
    value = maps.values[0, layer, head, row, column]
    shown = f"{value:.1f}" if abs(value) >= 0.05 else f"{value:.2g}"  # of a number in any unit
    return f"{elsewhere}The largest value is {shown} {maps.unit} ({where})."


def map_record(image: "ImageResult", one: "MapResult") -> dict[str, Any]:
    maps, trust = one.maps, one.trust
    return {
        "image": str(image.image),
        "class": image.prediction,
        **({"predicted": image.predicted.to_json()} if image.predicted else {}),
        "method": maps.method,
        "target": maps.class_names[0] if maps.class_names else None,
        "picture": str(one.picture),
        "numbers": str(one.numbers),
        "prefix_mass": float(maps.prefix_mass.mean()),
        "largest": float(maps.values.max()),
        "residual": maps.residual,
        "verdict": trust.verdict,
        "why_untested": trust.untested or None,
        "p": None if trust.untested else trust.p,
        "p_corrected": None if trust.untested else trust.p_corrected,
        "tested_together": 0 if trust.untested else trust.together,
        "orders": len(trust.by_chance),
        "scores_differ_from_float32_by": trust.difference,
        "deletion": None if trust.untested else trust.area,
        "deletion_by_chance": list(trust.by_chance),
        "better_than_chance": trust.better_than_chance,
        "on_outliers": trust.on_outliers,
    }


def scores(options: Options, shared: dict[str, Any]) -> dict[str, Any]:
    """Score methods; print one block per metric, best first."""
    from vitral.tasks.score_methods import score_methods

    assert options.data is not None
    found = score_methods(options.model, options.data, options.method, options.metric, n=options.n, **shared)
    print_table(found.table)
    print_result(f"table: {found.markdown}")
    return {"scores": found.table.rows(), "table": str(found.markdown), "numbers": str(found.numbers)}


def print_table(table: "Table") -> None:
    for metric in dict.fromkeys(one.metric for one in table.scores):
        mine = [one for one in table.scores if one.metric == metric]
        sign = -1 if mine[0].better == "higher" else 1
        print_result(f"{metric} ({mine[0].better} is better)" if mine[0].better != "neither" else metric)
        for one in sorted(mine, key=lambda one: (one.value != one.value, sign * one.value)):  # no value comes last
            mark = "control" if one.control else "does not beat every control" if one.beats_controls is False else ""
            interval = f"({one.low:.3f} to {one.high:.3f}, n = {one.n})"
            print_result(f"  {one.method:<22}{one.value:7.3f}  {interval}  {mark}")
    print_result(table.caption)
