"""Check a folder of images before a model is trained on it: what must be mended, what should be looked at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitral.base.errors import DataError, UsageError
from vitral.base.files import unused_path, write_file
from vitral.base.plural import one_or_many
from vitral.data.copies import PREFERRED, find_copies
from vitral.data.examples import BadImages, images_in, open_splits
from vitral.data.folder import ImageFolder
from vitral.data.inspection.checks import Finding, Inspected, findings
from vitral.data.inspection.files import facts_of
from vitral.data.pixel_cache import find_cache
from vitral.data.spec import find_data
from vitral.tasks.check_page import check_page
from vitral.tasks.prepare import read_recipe_data
from vitral.tasks.progress import Progress, progress_for
from vitral.training.recipe import Recipe, preset

SHOWN = 5  # files of a finding in the terminal
VERDICTS = {
    "must": "Not ready: {must} to mend before training, {should} to look at.",
    "should": "Can be trained on; {should} to look at.",
    "note": "Ready to be trained on.",
}


@dataclass(frozen=True)
class DataCheck:
    """The findings on a folder, the most important first, and what follows from them in a sentence.

    `level` is that of the most important finding: "must", "should" or "note". `page` shows them with pictures.
    """

    data: str
    level: str
    verdict: str
    findings: tuple[Finding, ...]
    page: Path

    def text(self) -> str:
        """The verdict, and what to do, in lines."""
        lines = [self.verdict]
        for one in self.findings:
            lines.append(f"{one.level:<7} {one.title}: {one.text}{f' {one.advice}' if one.advice else ''}")
            lines += [f"          {file}" for file in one.files[:SHOWN]]
            if len(one.files) > SHOWN:
                lines.append(f"          and {len(one.files) - SHOWN} more: see the page, or --json")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "level": self.level,
            "verdict": self.verdict,
            "findings": [asdict(one) for one in self.findings],
            "page": str(self.page),
        }


def check_data(
    data: str,
    *,
    img_size: int | None = None,
    group_by: str | None = None,
    out: str | Path | None = None,
    progress: bool | Progress = False,
) -> DataCheck:
    """Look at every file of a folder of images as `vitral train` would read it; `out` is the page to write.

    `group_by` keeps groups of images in one split, as in training.

    Raises `UsageError` for a built-in set, which needs no check, and `UnknownName` for data that does not exist.
    """
    progress = progress_for(progress)
    source = find_data(data)
    if not isinstance(source, ImageFolder):
        raise UsageError(f"{data} is drawn or built in: there are no files to check. Specify a folder of images.")
    inspected = inspect(source, preset(data) | {"img_size": img_size, "group_by": group_by}, progress)
    found = findings(inspected)
    level = found[0].level
    counts = {name: sum(one.level == name for one in found) for name in VERDICTS}
    verdict = VERDICTS[level].format(**{name: one_or_many(count, "thing") for name, count in counts.items()})
    page = unused_path(Path(out) if out else Path(f"{source.path.resolve().name}-check.html"))
    write_file(page, check_page(data, verdict, found, inspected).html())
    progress.close()
    return DataCheck(data, level, verdict, tuple(found), page)


def inspect(source: ImageFolder, settings: dict[str, Any], progress: Progress) -> Inspected:
    """Read the folder as for training with these settings of a recipe, but go on where training would stop."""

    def opened(path: Sequence[Path]) -> list[Any]:
        return list(facts_of(path, lambda done, total: progress.count("files", done, total)))

    quiet, cache = Progress(), find_cache("auto", progress.note)
    unreadable: tuple[str, ...] = ()
    try:
        try:
            dataset = open_splits(read_recipe_data(Recipe(**settings), source, quiet, cache=cache or "none"))
        except BadImages as bad:
            unreadable = bad.errors
            quiet = Progress()  # whose notes say what is left out now
            recipe = Recipe(**settings | {"on_bad_image": "skip"})
            dataset = open_splits(read_recipe_data(recipe, source, quiet, cache=cache or "none"))
    except DataError as error:
        return Inspected(source.path, opened(images_in(source.path)), None, str(error), unreadable, tuple(quiet.notes))
    splits = {name: getattr(dataset, name) for name in PREFERRED}
    files = [Path(file) for split in splits.values() for file in split.files]
    return Inspected(source.path, opened(files), dataset, "", unreadable, tuple(quiet.notes), find_copies(splits))
