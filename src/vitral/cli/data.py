"""Look at a data set: a contact sheet, and with --check whether it asks for more than its parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError
from vitral.base.files import free, write_file
from vitral.base.numerics import choose
from vitral.cli import say
from vitral.cli._open import data_of, model_and_data
from vitral.cli._progress import Progress
from vitral.data.dataset import Dataset
from vitral.report.contact import contact_figure
from vitral.report.style import png
from vitral.training.recipe import Recipe, preset
from vitral.training.steps import Step


@dataclass(frozen=True)
class Options:
    data: Annotated[
        str, Option("shapes, digits (options as in shapes:size=64), or a folder of class folders.", positional=True)
    ]
    out: Annotated[Path | None, Option("Where to write the contact sheet; by default DATA.png here.")] = None
    split: Annotated[Literal["train", "val", "test"], Option("Which images to show.")] = "train"
    img_size: Annotated[
        int | None,
        Option("Side in pixels that a folder's images are cut to; by default as for training.", low=1, high=4096),
    ] = None
    check: Annotated[bool, Option("Train a few models to see what the set asks for; takes minutes.")] = False
    on_bad_image: Annotated[Literal["fail", "skip"], Option("What to do about a file that cannot be read.")] = "fail"
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise ConfigError(f"--out {self.out} does not fit: a contact sheet is a .png.")


def run(options: Options) -> dict[str, Any]:
    started = preset(options.data) | {"img_size": options.img_size, "on_bad_image": options.on_bad_image}
    recipe = Recipe(**started)
    data = model_and_data(recipe)[1] if options.check else data_of(recipe)
    split = data.load(options.split)
    counts = np.bincount(split.labels, minlength=len(data.classes))
    say(
        f"{options.data}, {options.split}: {len(split):,} images of "
        f"{split.pixels.shape[1]}x{split.pixels.shape[2]} in {len(data.classes)} classes"
    )
    for name, count in zip(data.classes, counts):
        say(f"  {name:<16} {count:,}")
    name = Path(options.data.partition(":")[0]).resolve().name
    path = free(options.out or Path(f"{name}.png"))
    write_file(
        path,
        png(contact_figure(split.pixels, split.labels, data.classes, split.masks, f"{options.data}, {options.split}")),
    )
    say(f"contact sheet: {path}")
    result: dict[str, Any] = {
        "data": options.data,
        "classes": dict(zip(data.classes, counts.tolist())),
        "sheet": str(path),
    }
    if options.check:
        result["check"] = checked(data, recipe)
        result["exit_code"] = 0 if all(finding["holds"] for finding in result["check"]) else 1
    return result


def checked(data: Dataset, recipe: Recipe) -> list[dict[str, Any]]:
    """The checks of `studies.shortcuts`, printed as they finish."""
    from vitral.studies.shortcuts import check_shortcuts

    @contextmanager
    def shown(name: str, total: int) -> Iterator[Callable[[Step], None]]:
        say(f"training: {name}")
        with Progress(total) as progress:
            yield progress.stepped

    findings = []
    for finding in check_shortcuts(data, recipe, choose(recipe.precision, "never", 0, 0), shown):
        verdict = "holds" if finding.holds else "DOES NOT HOLD"
        say(
            f"{finding.name:<26} {finding.accuracy:6.1%} ({finding.low:.1%} to {finding.high:.1%}, "
            f"n = {finding.n:,})   must be {finding.rule}: {verdict}"
        )
        findings.append(asdict(finding))
    return findings
