"""Repeat a run with other learning rates, and compare the models on the validation images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitral.base.answer import Figures, answer_for
from vitral.base.config import read_settings
from vitral.base.errors import ConfigError, StoreError, TrainingError, UsageError
from vitral.base.launch import find_launch
from vitral.base.plural import one_or_many
from vitral.data.split_table import TABLE
from vitral.tasks.evaluate import evaluate
from vitral.tasks.plan_run import make_recipe
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.train import train
from vitral.training.recipe import Recipe
from vitral.training.run import CONFIG, REPORT, Run
from vitral.training.trial import difference

FACTORS = (1 / 3, 1.0, 3.0)  # of the run's own rate, if no rates are given


@dataclass(frozen=True)
class Rate:
    """One learning rate: its run, and the figures of its best model on the validation images; None if it diverged."""

    lr: float
    run: Path
    figures: Figures | None
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"lr": self.lr, "run": str(self.run)}
        if self.figures is None:
            return found | {"failure": self.failure}
        low, high = self.figures.interval
        return found | {"loss": self.figures.loss, "value": self.figures.value, "interval": [low, high]}


@dataclass(frozen=True)
class SweepResult:
    """The runs of a sweep, by rising learning rate, judged by `measure` on `n` validation images.

    `stopped` if the sweep was interrupted; the same call goes on.
    """

    rates: tuple[Rate, ...]
    measure: str
    n: int
    stopped: bool = False
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Rate | None:
        """The rate with the best figures; None if every run diverged, or none has ended."""
        trained = [one for one in self.rates if one.figures is not None]
        return max(trained, key=score, default=None)

    def lines(self) -> list[str]:
        """A table, and what follows from it."""
        best = self.best
        rows = [f"{'lr':>10}  {self.measure + ' (95% interval)':<32}{'loss':>8}"]
        for one in self.rates:
            if one.figures is None:
                rows.append(f"{one.lr:>10g}  {one.failure}")
                continue
            low, high = one.figures.interval
            shown = f"{one.figures.value:.3f} ({low:.3f} to {high:.3f})"
            rows.append(f"{one.lr:>10g}  {shown:<32}{one.figures.loss:>8.3f}{'  best' if one is best else ''}")
        failed = "No run reached its end, for the reasons above. If the loss was not finite, try smaller rates."
        return [*rows, self.verdict(best) if best else failed]

    def verdict(self, best: Rate) -> str:
        """Whether the best rate is better than the next beyond noise, and whether better ones may lie outside."""
        trained = [one for one in self.rates if one.figures is not None]
        words = f"Best on {one_or_many(self.n, 'validation image')}: --lr {best.lr:g}"
        others = sorted((one for one in trained if one is not best), key=score)
        if not others:
            return f"{words}."
        assert best.figures and others[-1].figures
        gap, noise = difference(best.figures, others[-1].figures, self.n)
        words += f", better than {others[-1].lr:g} by {gap:.3f}"
        if not gap > noise:
            return f"{words}, which is within the noise of ±{noise:.3f} (one standard error of the difference)."
        words += f", more than the noise of ±{noise:.3f} (one standard error of the difference)."
        at_end = {trained[0].lr: "smallest", trained[-1].lr: "largest"}.get(best.lr)
        return f"{words} It is the {at_end} that was tried: try others beyond it." if at_end else words

    def to_json(self) -> dict[str, Any]:
        best = self.best
        return {
            "measure": self.measure,
            "n": self.n,
            "best": best.lr if best else None,
            "stopped": self.stopped,
            "rates": [one.to_json() for one in self.rates],
            "notes": list(self.notes),
        }


def score(rate: Rate) -> tuple[float, float]:
    """By which rates are compared, higher is better."""
    return rate.figures.score if rate.figures else (-math.inf, 0.0)


def sweep(
    run: str | Path,
    lrs: Sequence[float] = (),
    *,
    out: str | Path | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    cache: str = "auto",
    stop: Callable[[], bool] = lambda: False,
    progress: bool | Progress = False,
) -> SweepResult:
    """Train by the settings of `run`, a run folder or a settings file, once with each of the learning rates `lrs`.

    Without `lrs` they are a third of the run's rate, itself, and three times that. Each becomes a run of its own,
    `out/lr-RATE`, with the same seed and the same splits; `out` is by default beside the run, `RUN-lr`. `epochs` or
    `minutes`, for each run, take the place of the run's epochs. A run that exists there is taken as it is, and one that
    was interrupted is continued. Only validation images compare them: choosing among models by test images would make
    their figures too good.

    Raises `StoreError` if there are no settings or if `out` holds runs of other settings, `ConfigError` for a rate out
    of range or a linear probe, and what `train` raises; a rate at which the loss is not finite is reported and left.
    """
    if (launch := find_launch()) and launch.size > 1:
        raise UsageError(f"A sweep runs in one process, and {launch.size} were started. Start it without torchrun.")
    shown = progress_for(progress)
    folder = Path(run)
    recipe = read_recipe(folder)
    if recipe.adapt == "probe" or not recipe.epochs:
        raise ConfigError(
            f"{folder} is a linear probe, which is fitted without a learning rate. Specify a run that was trained "
            "in steps."
        )
    recipe = replace(recipe, epochs=epochs or recipe.epochs, minutes=minutes)
    home = Path(out) if out else folder.parent / f"{folder.stem}-lr"
    recipes = [replace(recipe, lr=lr) for lr in rates_of(recipe, lrs)]  # all are checked before the first is trained
    found, measure, n = list[Rate](), "", 0
    for number, own in enumerate(recipes, 1):
        place = home / f"lr-{own.lr:g}"
        shown.note(f"lr {own.lr:g}, run {number} of {len(recipes)}: {place}")
        try:
            if not train_once(own, place, cache, stop, shown):
                return SweepResult(tuple(found), measure, n, True, tuple(shown.notes))
        except TrainingError as error:
            shown.note(str(error))
            found.append(Rate(own.lr, place, None, str(error)))
            continue
        judged = evaluate(place, split="val", code=own.model if ".py" in own.model else None)
        measure, n = answer_for(judged.task).measure, judged.n
        found.append(Rate(own.lr, place, judged.figures))
    return SweepResult(tuple(found), measure, n, False, tuple(shown.notes))


def read_recipe(folder: Path) -> Recipe:
    """The settings of a run, whose splits are kept, or those in a file. Raises `StoreError` if there are none."""
    if folder.is_file():
        return make_recipe(**read_settings(folder, Recipe))
    _, recipe = Run.existing(folder)
    if (folder / TABLE).is_file() and not recipe.init:  # a run with `init` keeps the splits of that one
        return replace(recipe, splits=str(folder))
    return recipe


def rates_of(recipe: Recipe, lrs: Sequence[float]) -> list[float]:
    """The learning rates, rising, each once."""
    # Two digits, so that a third of 0.001 is a number that people type.
    return sorted(set(lrs) or {float(f"{factor * recipe.lr:.2g}") for factor in FACTORS})


def train_once(recipe: Recipe, place: Path, cache: str, stop: Callable[[], bool], progress: Progress) -> bool:
    """Train by the recipe in `place`, or continue the run that is there; whether it was trained to its end.

    Raises `StoreError` if that run has other settings.
    """
    if not (place / CONFIG).is_file():
        return not train(recipe, out=place, stop=stop, cache=cache, progress=progress).stopped
    _, before = Run.existing(place)
    free = {name for name, value in asdict(recipe).items() if value == "auto"}  # decided when a run begins
    free |= {"epochs", "minutes"} if recipe.minutes else set()
    others = [name for name, value in asdict(recipe).items() if name not in free and getattr(before, name) != value]
    if others:
        raise StoreError(
            f"{place} holds a run with other settings: {', '.join(others)}. Choose another --out, or remove it."
        )
    if (place / REPORT).is_file():
        progress.note(f"{place} is trained already.")
        return True
    return not train(resume=place, stop=stop, cache=cache, progress=progress).stopped
