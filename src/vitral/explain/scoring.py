"""Scores of methods with intervals, and of the controls that each must beat, in one table.

Axes:  b images   gy gx rows, columns of patches
"""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import DataError, ModelError, ShapeError, UsageError, WatchError
from vitral.base.lookup import find, names
from vitral.base.modes import evaluating
from vitral.base.preprocessing import Preprocessing
from vitral.data.classes import match_classes
from vitral.data.dataset import Dataset, Split
from vitral.data.preprocess import normalise
from vitral.explain.metric import Case, Scene, mean, offers
from vitral.explain.pixels import classes_of, preprocessing_of
from vitral.recording.forward import logits_of
from vitral.recording.roles import Grid

BATCH = 50  # images explained at a time
RESAMPLED = 1_000  # bootstrap draws of an interval
COVERED = 0.9  # of the images must have a value, for a method to be said to beat its controls
CANNOT = (WatchError, UsageError, ShapeError, ModelError)  # what a method raises that cannot explain a model
LEGEND = "\\* does not beat every control."
Method = str | Callable[..., Any]
Explain = Callable[[nn.Module, Tensor, list[int]], Float[np.ndarray, "b gy gx"]]


@dataclass(frozen=True)
class Score:
    """One method by one metric: its mean over `n` images that have a value, and a 95 % interval over the images.

    `beats_controls` says whether it is better than each control with 97.5 % of the draws of images on its side, over
    the images for which both have a value, and has one for `COVERED` of them at least; None for a control, or where a
    metric has no better.
    """

    method: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    control: bool
    better: str
    beats_controls: bool | None = None


@dataclass(frozen=True)
class Table:
    """All scores, in the order of methods and metrics; a notebook shows it.

    `refused` are the methods that cannot explain the model, each with its reason.
    """

    scores: tuple[Score, ...]
    caption: str
    images: int
    refused: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """A row a method, controls last; `*` where a method does not beat all controls."""
        metrics = list(dict.fromkeys(score.metric for score in self.scores))
        methods = list(dict.fromkeys(score.method for score in self.scores))
        arrows = {"higher": " ↑", "lower": " ↓", "neither": ""}
        better = {score.metric: arrows[score.better] for score in self.scores}
        found = {(score.method, score.metric): score for score in self.scores}
        lines = ["| | " + " | ".join(f"{metric}{better[metric]}" for metric in metrics) + " |"]
        lines.append("|---|" + "---|" * len(metrics))
        for method in methods:
            cells = [cell(found[method, metric], self.images) for metric in metrics]
            name = f"*{method}* (control)" if found[method, metrics[0]].control else method
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", f"{self.caption} {LEGEND}"])

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(score) for score in self.scores]

    def _repr_markdown_(self) -> str:
        return self.markdown()


def cell(score: Score, images: int) -> str:
    if np.isnan(score.value):
        return "none"
    mark = " \\*" if score.beats_controls is False else ""
    some = f", n = {score.n}" if score.n < images else ""
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f}{some}){mark}"


def score(
    methods: Sequence[Method],
    metrics: Sequence[Method],
    model: nn.Module,
    data: Dataset,
    *,
    n: int = 200,
    told: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Table:
    """Every method and every control by every metric, on the first `n` test images that the model answers right.

    Images are prepared as the model says; where it does not, as the data does. A method that cannot explain the model
    is left out of the table, with its reason in `refused`. The controls are on the grid of most methods' maps.

    Methods and metrics are names (`names("explain.methods")`, `names("explain.metrics")`) or functions like them.
    `told(what, done, of)` hears of each step.

    Raises `UnknownName` for a name that is not known, `UsageError` for a metric that needs masks the data has not,
    `DataError` if the model answers nothing right, or knows other classes or sizes than the data's.
    """
    if not isinstance(data, Dataset):
        raise UsageError(
            f"score takes a data set with its classes, and a {type(data).__name__} was given. By name: "
            'vitral.data.spec.find_data("cued").'
        )
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"n={n!r}: at least one image must be scored.")
    chosen = resolved("explain.methods", methods, "method")
    controls = resolved("explain.controls", names("explain.controls"), "control")
    measures = resolved("explain.metrics", metrics, "metric")
    if taken := [name for name in chosen if name in controls]:
        raise UsageError(f"{', '.join(taken)}: controls have these names already. Call your function something else.")
    with evaluating(model):
        preprocessing = preprocessing_of(model) or data.preprocessing
        data = match_classes(data, classes_of(model), preprocessing.size)
        images, split, asked = answered_right(model, data, preprocessing, n)
        check_needs(measures, split, data.name)
        scene = Scene(split, partial(prepared, preprocessing, images.device)) if "scene" in offers(split) else None
        steps, done = (len(chosen) + len(controls)) * (1 + len(measures)), count()
        maps: dict[str, np.ndarray] = {}
        refused: dict[str, str] = {}

        def explained(methods: Mapping[str, Any]) -> None:
            for name, method in methods.items():
                told(f"maps of {name}", next(done), steps)
                try:
                    parts = in_parts(method, model, images, split.labels.tolist())
                except CANNOT as error:
                    refused[name] = str(error)
                else:
                    maps[name] = joined(name, parts, len(images))

        explained(chosen)
        if not maps:
            raise UsageError("No method can explain the model. " + " ".join(refused.values()))
        placed = on_grid(controls, Counter(one.shape[1:] for one in maps.values()).most_common(1)[0][0])
        explained(placed)
        values: dict[str, dict[str, np.ndarray]] = {name: {} for name in maps}
        for name in maps:
            others = {other: maps[other] for other in maps if other in chosen and other != name}
            explain = merged(name, (chosen | placed)[name])
            case = Case(model, images, split.labels, split.masks, explain, others, scene)
            for metric, measured in measures.items():
                told(f"{metric} of {name}", next(done), steps)
                values[name][metric] = one_an_image(metric, measured(maps[name], case), len(images), measured.pool)
    scores = [
        scored(name, metric, measured, values, [control for control in controls if control in maps])
        for name in maps
        for metric, measured in measures.items()
    ]
    caption = (
        f"{len(split)} test images of {data.name} that the model answers right, of {asked}; 95 % intervals over the "
        "images." + "".join(f" {name} was left out: {reason}" for name, reason in refused.items())
    )
    return Table(tuple(scores), caption, len(split), refused)


def resolved(folder: str, asked: Sequence[Method], kind: str) -> dict[str, Any]:
    """Functions by name, in the order asked for. Raises `UsageError` for none, two of one name, or what is none."""
    if isinstance(asked, str) or not isinstance(asked, Sequence) or not len(asked):
        raise UsageError(f"No {kind} was chosen: give a list of names, of {', '.join(names(folder))}.")
    found = [find(folder, item, kind) if isinstance(item, str) else item for item in asked]
    named = [getattr(function, "__name__", "") for function in found]
    if unnamed := [item for item, name in zip(asked, named) if not name or (not callable(item) and item != name)]:
        raise UsageError(f"{unnamed[0]!r} is no {kind}: give a name, or a function with one.")
    if twice := [name for name in named if named.count(name) > 1]:
        raise UsageError(f"Two of the {kind}s are called {twice[0]!r}: give each function a name of its own.")
    if kind == "metric" and (plain := [name for name, one in zip(named, found) if not hasattr(one, "needs")]):
        raise UsageError(f"{plain[0]} does not say what it needs: mark it with @measure of vitral.explain.metric.")
    return dict(zip(named, found))


def on_grid(controls: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    """Controls that give their maps on this grid, where it is theirs to choose."""
    free = {name for name, control in controls.items() if "grid" in inspect.signature(control).parameters}
    return {name: partial(one, grid=grid) if name in free else one for name, one in controls.items()}


def merged(name: str, method: Callable[..., Any]) -> Explain:
    """A method's one map an image, made for `BATCH` images at a time."""

    def explain(model: nn.Module, images: Tensor, classes: list[int]) -> Float[np.ndarray, "b gy gx"]:
        return joined(name, in_parts(method, model, images, classes), len(images))

    return explain


def in_parts(method: Callable[..., Any], model: nn.Module, images: Tensor, classes: list[int]) -> list[Any]:
    """What a method gives as one map an image, for `BATCH` images at a time."""
    starts = range(0, len(images), BATCH)
    given = (method(model, images[at : at + BATCH], classes[at : at + BATCH]) for at in starts)
    return [getattr(part, "merged", type(part)) for part in given]


def joined(name: str, parts: Sequence[Any], count: int) -> Float[np.ndarray, "b gy gx"]:
    """The maps of all images. Raises `UsageError` if what a method gave is not one map an image, all of one grid."""
    sizes = [min(BATCH, count - at) for at in range(0, count, BATCH)]
    for part, size in zip(parts, sizes):
        if (
            not isinstance(part, np.ndarray)
            or part.ndim != 3
            or len(part) != size
            or part.shape[1:] != parts[0].shape[1:]
        ):
            found = f"maps of {part.shape}" if isinstance(part, np.ndarray) else getattr(part, "__name__", repr(part))
            raise UsageError(
                f"{name} gave {found} for {size} images: a method gives Maps, with one map an image in `merged`, "
                f"({size}, rows, columns)."
            )
    return np.concatenate(parts)


def one_an_image(metric: str, values: Any, count: int, pool: Any) -> Float[np.ndarray, "b *s"]:
    """What a metric gave. Raises `UsageError` unless it is a number an image, or several that its own `pool` takes."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError):
        found = np.empty(())
    if found.ndim == 0 or len(found) != count or (pool is mean and found.ndim > 1):
        said = f"values of {found.shape}" if found.ndim else f"a {type(values).__name__}"
        raise UsageError(f"{metric} gave {said} for the maps of {count} images: a metric gives a number for each.")
    return found


@torch.no_grad()
def answered_right(model: nn.Module, data: Dataset, preprocessing: Preprocessing, n: int) -> tuple[Tensor, Split, int]:
    """The first `n` test images that the model answers right, as it takes them; their split; how many were asked."""
    device = next(model.parameters(), torch.empty(0)).device
    kept: list[np.ndarray] = []
    asked = 0
    while asked < len(data.test) and sum(map(len, kept)) < n:
        part = slice(asked, asked + BATCH)
        images = prepared(preprocessing, device, data.test.pixels[part])
        logits = logits_of(model, images)
        if logits.shape[1] != len(data.classes):
            raise DataError(f"{data.name} has {len(data.classes)} classes; the model answers with {logits.shape[1]}.")
        answers = logits.argmax(dim=1).cpu().numpy()
        kept.append(asked + np.flatnonzero(answers == data.test.labels[part]))
        asked += len(images)
    chosen = np.concatenate(kept)[:n] if kept else np.array([], int)
    if not len(chosen):
        raise DataError(
            f"The model answers none of {asked} test images of {data.name} right: there is nothing to explain."
        )
    ours = data.test.only(chosen)
    return prepared(preprocessing, device, ours.pixels), ours, asked


def prepared(preprocessing: Preprocessing, device: torch.device, pixels: UInt8[np.ndarray, "b y x 3"]) -> Tensor:
    """Pixels as the model takes them."""
    return normalise(torch.from_numpy(np.ascontiguousarray(pixels)).to(device), preprocessing)


def check_needs(measures: Mapping[str, Any], split: Split, data: str) -> None:
    """Raise `UsageError` for metrics that need what the data does not have."""
    kinds = {
        "masks": "cannot be measured without the object's mask, which {} does not have. Take shapes or cued",
        "scene": "cannot be measured where images are not drawn again object by object, as {} cannot. Take cued",
    }
    free = [name for name in names("explain.metrics") if find("explain.metrics", name, "metric").needs == "nothing"]
    for kind, reason in kinds.items():
        needing = [name for name, metric in measures.items() if metric.needs == kind]
        if needing and kind not in offers(split):
            raise UsageError(
                f"{', '.join(needing)} {reason.format(data)}, or metrics that need nothing: {', '.join(free)}."
            )


def scored(
    name: str, metric: str, measured: Any, values: dict[str, dict[str, np.ndarray]], controls: Sequence[str]
) -> Score:
    """The mean of one method by one metric, its interval, and whether it beats the controls."""
    mine = values[name][metric]
    draws = np.random.default_rng(0).integers(0, len(mine), (RESAMPLED, len(mine)))
    pooled = np.array([measured.pool(mine[draw]) for draw in draws])
    low, high = np.nanquantile(pooled, [0.025, 0.975]) if np.isfinite(pooled).any() else (np.nan, np.nan)
    beats = None
    if name not in controls and measured.better != "neither":
        sign = 1 if measured.better == "higher" else -1
        beats = all(better(sign, measured.pool, mine, values[control][metric], draws) for control in controls)
    present = int((~np.isnan(mine.reshape(len(mine), -1)).any(axis=1)).sum())
    return Score(
        name, metric, measured.pool(mine), float(low), float(high), present, name in controls, measured.better, beats
    )


def better(sign: int, pool: Any, mine: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> bool:
    """Whether mine is above theirs in 97.5 % of the draws of images, over those for which both have a value.

    Nothing is better than what has no value at all; and what has none for many images is not better.
    """
    present, known = (~np.isnan(own.reshape(len(own), -1)).any(axis=1) for own in (mine, theirs))
    if present.mean() < COVERED or not known.any():
        return False
    both = np.where(present & known, True, False).reshape(-1, *[1] * (mine.ndim - 1))
    mine, theirs = np.where(both, mine, np.nan), np.where(both, theirs, np.nan)
    apart = np.array([sign * (pool(mine[draw]) - pool(theirs[draw])) for draw in draws])
    return bool((apart > 0).mean() >= 0.975)
