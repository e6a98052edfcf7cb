"""Show a data set, check the files of a folder before training, or test whether it can be solved by shortcuts.

`vitral data show DATA`: classes and a contact sheet; with `--augment NAME`, images as augmentation changes them.
`check DIR`: unreadable files, copies, rare classes, ...
`shortcuts DATA`: whether a model can solve it without combining patches.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, names
from vitral.base.record import output_words
from vitral.cli._options import Json, arguments
from vitral.data import CHOICES, OnBadImage
from vitral.data.augment_names import parse_augment

if TYPE_CHECKING:
    from vitral.tasks.describe_data import DataDescription
    from vitral.training.steps import Step


@dataclass(frozen=True)
class Options:
    action: Annotated[
        Literal["show", "check", "shortcuts"],
        Option(
            "show: classes and a contact sheet; check: files, classes and copies of a folder, before training; "
            "shortcuts: train a few models to test whether the set can be solved without combining patches (minutes).",
            positional=True,
        ),
    ]
    data: Annotated[str, Option(f"Data: {CHOICES}.", positional=True)]
    out: Annotated[
        Path | None,
        Option("PNG file for the contact sheet, or HTML file for the page of check; by default named after the data."),
    ] = None
    split: Annotated[Literal["train", "val", "test"], Option("Split to show.")] = "train"
    img_size: Annotated[
        int | None,
        Option(
            "Side in pixels to which the images of a folder are cropped and resized; by default as for training.",
            low=1,
            high=4096,
        ),
    ] = None
    augment: Annotated[
        str | None,
        Option(
            "show: draw training images as this augmentation changes them "
            f"({', '.join(names('data.augmentation'))}; or several, joined by +)."
        ),
    ] = None
    mix: Annotated[
        str,
        Option(
            f"show: draw training images mixed in pairs, with their shares (none, {', '.join(names('data.mixing'))})."
        ),
    ] = "none"
    group_by: Annotated[
        str | None,
        Option("Divide a folder as `vitral train --group-by` does: by a pattern in paths, or a column of the table."),
    ] = None
    on_bad_image: OnBadImage = "fail"
    json: Json = False

    def __post_init__(self) -> None:
        suffix = ".html" if self.action == "check" else ".png"
        if self.out is not None and self.out.suffix.lower() != suffix:
            what = "page is HTML" if self.action == "check" else "contact sheet is a PNG"
            raise ConfigError(f"--out {self.out} is not a {suffix} file: the {what}.")
        if self.augment is not None:
            parse_augment(self.augment)
        check_name(self.mix, ["none", *names("data.mixing")], "way to mix")
        if self.action != "show" and (self.augment is not None or self.mix != "none"):
            raise ConfigError("--augment and --mix are drawn by `vitral data show`: leave them out here.")
        if self.action == "check" and (self.split != "train" or self.on_bad_image != "fail"):
            raise ConfigError(
                "`vitral data check` reads every split and does not stop at bad images: leave out --split and "
                "--on-bad-image."
            )


def run(options: Options) -> dict[str, Any]:
    return check(options) if options.action == "check" else show(options)


def check(options: Options) -> dict[str, Any]:
    from vitral.tasks.check_data import check_data

    found = check_data(
        options.data, img_size=options.img_size, group_by=options.group_by, out=options.out, progress=True
    )
    print_result(found.text())
    print_result(f"page: {found.page}")
    return found.to_json() | {"exit_code": 1 if found.level == "must" else 0}


def show(options: Options) -> dict[str, Any]:
    from vitral.tasks.describe_data import describe_data

    found = describe_data(**arguments(options, "action"), progress=True)
    height, width = found.size
    print_result(
        f"{found.data}, {found.split}: {found.n:,} images of {height}x{width} "
        f"{'with' if found.dataset.task == 'numbers' else 'in'} "
        f"{output_words(len(found.dataset.classes), found.dataset.task)}"
    )
    for name, count in found.labels.get("classes", {}).items():
        print_result(f"  {name:<16} {count:,}")
    for name, figures in found.labels.get("numbers", {}).items():
        print_result(f"  {name:<16} {', '.join(f'{key} {value:g}' for key, value in figures.items())}")
    for name, shares in found.labels.get("masks", {}).items():
        print_result(f"  {name:<16} {shares['pixels']:6.1%} of pixels, in {shares['images']:,} images")
    if found.labels.get("ignored"):
        print_result(f"  {'ignored (255)':<16} {found.labels['ignored']:6.1%} of pixels")
    print_result(f"contact sheet: {found.sheet}")
    result: dict[str, Any] = {"data": found.data, **found.labels, "sheet": str(found.sheet)}
    if options.action == "show":
        return result
    if found.dataset.task != "one class":
        raise ConfigError(
            "shortcuts trains models that predict one class per image; the labels of "
            f"{found.data} are {found.dataset.task}."
        )
    result["shortcuts"] = findings(found)
    result["exit_code"] = 0 if all(finding["holds"] for finding in result["shortcuts"]) else 1
    return result


def findings(found: "DataDescription") -> list[dict[str, Any]]:
    """The checks of `studies.shortcuts`, printed as they finish."""
    from vitral.base.numerics import choose
    from vitral.studies.shortcuts import REFERENCE, check_shortcuts
    from vitral.tasks.pace import Pace
    from vitral.tasks.progress import ConsoleProgress
    from vitral.weights.create import create

    data, recipe = found.dataset, found.recipe
    create(recipe.model, num_classes=len(data.classes), img_size=data.preprocessing.size)  # fails at once if it cannot

    @contextmanager
    def shown(name: str, total: int) -> Iterator[Callable[["Step"], None]]:
        say(f"training: {name}")
        pace = Pace(total)
        with closing(ConsoleProgress()) as progress:

            def stepped(step: "Step") -> None:
                pace.take(step)
                progress.stepped(pace)

            yield stepped

    records = []
    for finding in check_shortcuts(data, recipe, choose(recipe.precision, "never", 0, 0), shown):
        verdict = f"must be {finding.rule}: {'holds' if finding.holds else 'DOES NOT HOLD'}"
        print_result(
            f"{finding.name:<26} {finding.accuracy:6.1%} ({finding.low:.1%} to {finding.high:.1%}, "
            f"n = {finding.n:,})   {'reference for the next row' if finding.rule == REFERENCE else verdict}"
        )
        records.append(asdict(finding))
    return records
