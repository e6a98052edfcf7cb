"""Score explanation methods and their controls on a data set, with intervals."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vitral.base.files import unused_path, write_file
from vitral.base.lookup import find, names
from vitral.base.provenance import provenance
from vitral.data import OnBadImage
from vitral.data.division import DEFAULT, earlier_division
from vitral.data.preprocess import normalise
from vitral.data.spec import find_data
from vitral.data.split_table import splits_beside
from vitral.explain.metric import offers
from vitral.explain.score_table import Table
from vitral.explain.scoring import score
from vitral.tasks.inputs import note_output, open_model, read_data
from vitral.tasks.progress import Progress, progress_for


@dataclass(frozen=True)
class ScoringResult:
    """The scores, and the files that hold them: a table in Markdown, and the numbers as JSON."""

    table: Table
    markdown: Path
    numbers: Path
    notes: tuple[str, ...] = ()


def score_methods(
    model: str | Path | nn.Module,
    data: str,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    *,
    n: int = 200,
    out: str | Path = "explained",
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> ScoringResult:
    """Score methods by metrics on `n` random test images of `data` that the model predicts correctly.

    By default that is every method, and every metric that the data allows. Raises what `explain.score` raises.
    """
    progress = progress_for(progress)
    opened = open_model(model, progress, code)
    # Of a folder that the model was trained on, the test images are those of its run.
    splits = None if isinstance(model, nn.Module) else splits_beside(Path(model))
    division = DEFAULT if splits is None else earlier_division(splits)
    found = read_data(find_data(data), opened.preprocessing, progress, division, on_bad_image)
    if not metrics:
        offered = offers(found.test)
        known = {name: find("explain.metrics", name, "metric") for name in names("explain.metrics")}
        metrics = [name for name, metric in known.items() if metric.needs in offered]
    methods = methods or names("explain.methods")
    note_output(opened, normalise(torch.from_numpy(found.test.pixels[:1]), opened.preprocessing), progress)
    table = score(methods, metrics, opened, found, n=n, progress=progress.count)
    progress.close()
    markdown = unused_path(Path(out) / "score.md")
    numbers = markdown.with_suffix(".json")
    write_file(markdown, table.markdown() + "\n")
    record = {"scores": table.rows(), "caption": table.caption} | provenance()
    write_file(numbers, json.dumps(record, indent=2) + "\n")
    return ScoringResult(table, markdown, numbers, tuple(progress.notes))
