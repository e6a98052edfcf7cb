"""`vitral explain MODEL --data D --score`: a table of methods, controls and metrics."""

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vitral.base.files import free, write_file
from vitral.base.lookup import find, names
from vitral.base.provenance import provenance
from vitral.cli import say
from vitral.cli._open import data_set
from vitral.explain.metric import offers
from vitral.explain.score_table import Table
from vitral.explain.scoring import score
from vitral.store.classifier import Classifier

if TYPE_CHECKING:
    from vitral.cli.explain import Options


def scored(model: Classifier, options: "Options") -> dict[str, Any]:
    assert options.data is not None
    data = data_set(options.data, model.preprocessing, on_bad_image=options.on_bad_image)
    offered = offers(data.test)
    known = [name for name in names("explain.metrics") if find("explain.metrics", name, "metric").needs in offered]
    methods = options.method or tuple(names("explain.methods"))
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of)

        table = score(methods, options.metric or known, model, data, n=options.n, progress=told)
    text = free(options.out / "score.md")
    write_file(text, table.markdown() + "\n")
    numbers = text.with_suffix(".json")
    write_file(numbers, json.dumps({"scores": table.rows(), "caption": table.caption} | provenance(), indent=2) + "\n")
    shown(table)
    say(f"table: {text}")
    return {"scores": table.rows(), "table": str(text), "numbers": str(numbers)}


def shown(table: Table) -> None:
    """For a person: a block a metric, best first."""
    for metric in dict.fromkeys(one.metric for one in table.scores):
        mine = [one for one in table.scores if one.metric == metric]
        sign = -1 if mine[0].better == "higher" else 1
        say(f"{metric} ({mine[0].better} is better)" if mine[0].better != "neither" else metric)
        for one in sorted(mine, key=lambda one: (one.value != one.value, sign * one.value)):
            mark = "control" if one.control else "does not beat every control" if one.beats_controls is False else ""
            say(f"  {one.method:<22}{one.value:7.3f}  ({one.low:.3f} to {one.high:.3f}, n = {one.n})  {mark}")
    say(table.caption)
