"""Score methods by metrics on a data set, beside the controls that each must beat.

Axes:  b images   gy gx rows, columns of patches
"""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import DataError, ModelError, ShapeError, UsageError, WatchError
from vitral.base.lookup import find, names
from vitral.base.modes import evaluating
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import classes_of, preprocessing_of
from vitral.data.class_names import describe_classes, missing_classes
from vitral.data.classes import match_classes
from vitral.data.dataset import Dataset, Split
from vitral.data.preprocess import normalise
from vitral.explain.entry import explainer
from vitral.explain.method import Method
from vitral.explain.metric import Case, Metric, Scene, mean, offers
from vitral.explain.score_table import Table, score_of, sentences_on_controls
from vitral.recording.forward import logits_of
from vitral.recording.indices import Grid

BATCH = 50  # images explained at a time
CANNOT = (WatchError, UsageError, ShapeError, ModelError)  # what a method raises for a model it cannot explain
Explainer = Callable[..., Any]  # (model, images, classes) -> Maps
Progress = Callable[[str, int, int], None]  # (what is done now, steps done, all steps)


def score(
    methods: Sequence[str | Explainer],
    metrics: Sequence[str | Callable[..., Any]],
    model: nn.Module,
    data: Dataset,
    *,
    n: int = 200,
    progress: Progress = lambda what, done, of: None,
) -> Table:
    """Every method and every control by every metric, on `n` test images that the model answers correctly.

    They are the first such images of the split, which is in random order. Images are prepared as the model requires,
    or else as the data specifies. A method that cannot explain the model is left out of the table, with its reason in
    `refused`. The controls are on the grid of most methods' maps.

    methods    names (`names("explain.methods")`), `@method`s, or functions (model, images, classes) -> Maps
    metrics    names (`names("explain.metrics")`), or `@metric`s
    progress   is called before each step

    Raises `UnknownName` for a name that is not known, `UsageError` for a metric that needs masks the data has not,
    `DataError` if the model answers nothing correctly, or has other classes or sizes than the data.
    """
    if not isinstance(data, Dataset):
        raise UsageError(
            f"score takes a data set with its classes, not a {type(data).__name__}. To find one by name: "
            'vitral.data.spec.find_data("cued").'
        )
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"n={n!r}: at least one image must be scored.")
    explainers = resolve_methods("explain.methods", methods)
    controls = resolve_methods("explain.controls", names("explain.controls"))
    measures = resolve_metrics(metrics)
    if taken := [name for name in explainers if name in controls]:
        raise UsageError(f"{', '.join(taken)}: controls have these names already. Rename your function.")
    with evaluating(model):
        # The images as the model was trained to take them; only where it does not say does the data decide.
        preprocessing = preprocessing_of(model) or data.preprocessing
        if (task := answer_of(model).task) != "one class":
            raise UsageError(
                "Methods can be scored only with a model that predicts one class per image; the task of this model is "
                f"{task!r}. Explain images instead: each map is tested on the model's own score."
            )
        data = match_classes(data, classes_of(model), preprocessing.size)
        images, split, tried = correctly_answered(model, data, preprocessing, n)
        check_needs(measures, split, data.name)
        scene = Scene(split, partial(prepared, preprocessing, images.device)) if "scene" in offers(split) else None
        steps, done = (len(explainers) + len(controls)) * (1 + len(measures)), count()
        maps: dict[str, np.ndarray] = {}
        refused: dict[str, str] = {}

        def explain_all(some: Mapping[str, Explainer]) -> None:
            for name, explain in some.items():
                progress(f"maps of {name}", next(done), steps)
                try:
                    parts = explain_in_batches(explain, model, images, split.labels.tolist())
                except CANNOT as error:  # one method that cannot explain the model must not end the others
                    refused[name] = str(error)
                else:
                    maps[name] = concatenate_maps(name, parts, len(images))

        explain_all(explainers)
        if not maps:
            raise UsageError("No method can explain the model. " + " ".join(refused.values()))
        # Controls come last: they are made on the grid of the methods, so that all rank the same patches.
        grid = Counter(one.shape[1:] for one in maps.values()).most_common(1)[0][0]
        explainers |= on_grid(controls, grid)
        explain_all({name: explainers[name] for name in controls})
        values: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in measures}
        for name in maps:
            # Agreement is with other methods; a control knows nothing to agree with.
            others = {other: maps[other] for other in maps if other not in controls and other != name}
            # Metrics that explain other models, images or classes do so by the same method.
            again = partial(explain_again, name, explainers[name])
            case = Case(model, images, split.labels, split.masks, again, others, scene)
            for metric, measure in measures.items():
                progress(f"{metric} of {name}", next(done), steps)
                values[metric][name] = checked_values(metric, measure(maps[name], case), len(images), measure.pool)
    present = [control for control in controls if control in maps]
    scores = [score_of(name, measures[metric], values[metric], present) for name in maps for metric in measures]
    caption = " ".join(
        (
            f"{describe_images(split, tried, data)}; 95% intervals over the images.",
            *(f"{name} was left out: {reason}" for name, reason in refused.items()),
            *sentences_on_controls(scores),
        )
    )
    return Table(tuple(scores), caption, len(split), refused)


def describe_images(split: Split, tried: int, data: Dataset) -> str:
    """Which test images were scored: how many, of how many that the model was tried on, and of which classes."""
    total, missing = len(data.test), missing_classes(split.labels, data.classes)
    drawn = f" drawn at random from {total:,}" if tried < total else ""
    return (
        f"{len(split)} test images of {data.name} that the model classifies correctly, of {tried}{drawn}; "
        f"{describe_classes(len(data.classes) - len(missing), missing)}"
    )


def resolve_methods(folder: str, chosen: Sequence[str | Explainer]) -> dict[str, Explainer]:
    """Functions of a model, images and classes, by name. Raises what `resolve` raises."""
    found = resolve(folder, chosen, "method")
    return {name: explainer(one) if isinstance(one, Method) else one for name, one in found.items()}


def resolve_metrics(chosen: Sequence[str | Callable[..., Any]]) -> dict[str, Metric]:
    """Metrics by name. Raises what `resolve` raises, and `UsageError` for a function that is not declared."""
    found = resolve("explain.metrics", chosen, "metric")
    if plain := [name for name, one in found.items() if not isinstance(one, Metric)]:
        raise UsageError(
            f"{plain[0]} does not state what it needs: declare it with @metric from vitral.explain.metric."
        )
    return found


def resolve(folder: str, chosen: Sequence[Any], kind: str) -> dict[str, Any]:
    """Objects by name, in the given order. Raises `UsageError` for none, two of one name, or what has no name."""
    if isinstance(chosen, str) or not isinstance(chosen, Sequence) or not len(chosen):
        raise UsageError(f"No {kind} was chosen: give a list of names, from {', '.join(names(folder))}.")
    found = [find(folder, item, kind) if isinstance(item, str) else item for item in chosen]
    named = [getattr(one, "__name__", "") for one in found]
    if unnamed := [item for item, name in zip(chosen, named) if not name or (not callable(item) and item != name)]:
        raise UsageError(f"{unnamed[0]!r} is not a {kind}: give the name of one, or a function that has a name.")
    if twice := [name for name in named if named.count(name) > 1]:
        raise UsageError(f"Two of the {kind}s are called {twice[0]!r}: give each function a different name.")
    return dict(zip(named, found))


def on_grid(controls: Mapping[str, Explainer], grid: Grid) -> dict[str, Explainer]:
    """Controls that make their maps on this grid, if they can choose it."""
    # The untrained twin has the grid of the model itself, so it takes no option.
    free = {name for name, control in controls.items() if "grid" in inspect.signature(control).parameters}
    return {name: partial(one, grid=grid) if name in free else one for name, one in controls.items()}


def explain_again(
    name: str, explain: Explainer, model: nn.Module, images: Tensor, classes: list[int]
) -> Float[np.ndarray, "b gy gx"]:
    """One map per image, for metrics that explain other models, images or classes."""
    return concatenate_maps(name, explain_in_batches(explain, model, images, classes), len(images))


def explain_in_batches(explain: Explainer, model: nn.Module, images: Tensor, classes: list[int]) -> list[Any]:
    """One map per image, for `BATCH` images at a time; whatever else the function returned, its type."""
    starts = range(0, len(images), BATCH)
    parts = (explain(model, images[at : at + BATCH], classes[at : at + BATCH]) for at in starts)
    # A function of the caller's may return anything; its type is kept for the error message.
    return [getattr(part, "merged", type(part)) for part in parts]


def concatenate_maps(name: str, parts: Sequence[Any], total: int) -> Float[np.ndarray, "b gy gx"]:
    """The maps of all images. Raises `UsageError` unless a method gave one map per image, all on one grid."""
    sizes = [min(BATCH, total - at) for at in range(0, total, BATCH)]
    for part, size in zip(parts, sizes):
        is_array = isinstance(part, np.ndarray)
        if not is_array or part.ndim != 3 or len(part) != size or part.shape[1:] != parts[0].shape[1:]:
            found = f"maps of {part.shape}" if is_array else getattr(part, "__name__", repr(part))
            raise UsageError(
                f"{name} returned {found} for {size} images: a method returns Maps, with one map per image in "
                f"`merged`, of shape ({size}, rows, columns)."
            )
    return np.concatenate(parts)


def checked_values(metric: str, values: Any, total: int, pool: Any) -> Float[np.ndarray, "b *s"]:
    """What a metric returned. Raises `UsageError` unless it is one number per image, or several that it pools."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError):
        found = np.empty(())
    # Only a pool of its own can make one number of several per image; the mean of them would mean nothing.
    if found.ndim == 0 or len(found) != total or (pool is mean and found.ndim > 1):
        what = f"values of {found.shape}" if found.ndim else f"a {type(values).__name__}"
        raise UsageError(
            f"{metric} returned {what} for the maps of {total} images: a metric returns one number per image."
        )
    return found


@torch.no_grad()
def correctly_answered(
    model: nn.Module, data: Dataset, preprocessing: Preprocessing, n: int
) -> tuple[Tensor, Split, int]:
    """The first `n` test images that the model answers correctly, as it takes them; their split; how many it tried.

    The split is in random order, so these are a fair sample of all that it answers correctly.
    """
    device = next(model.parameters(), torch.empty(0)).device
    correct: list[np.ndarray] = []
    tried = 0
    # A wrong answer has no evidence to find, so methods are scored on correct ones, whose share the caption states.
    while tried < len(data.test) and sum(map(len, correct)) < n:
        part = slice(tried, tried + BATCH)
        images = prepared(preprocessing, device, data.test.pixels[part])
        logits = logits_of(model, images)
        if logits.shape[1] != len(data.classes):
            raise DataError(f"{data.name} has {len(data.classes)} classes; the model scores {logits.shape[1]}.")
        answers = logits.argmax(dim=1).cpu().numpy()
        correct.append(tried + np.flatnonzero(answers == data.test.labels[part]))
        tried += len(images)
    chosen = np.concatenate(correct)[:n] if correct else np.array([], int)
    if not len(chosen):
        raise DataError(
            f"The model classifies none of {tried} test images of {data.name} correctly: there is nothing to explain."
        )
    if len(chosen) == n:
        tried = int(chosen[-1]) + 1  # images after the last one are not counted: the share of correct answers is stated
    split = data.test.only(chosen)
    return prepared(preprocessing, device, split.pixels), split, tried


def prepared(preprocessing: Preprocessing, device: torch.device, pixels: UInt8[np.ndarray, "b y x 3"]) -> Tensor:
    """Pixels as the model takes them."""
    return normalise(torch.from_numpy(np.ascontiguousarray(pixels)).to(device), preprocessing)


def check_needs(metrics: Mapping[str, Metric], split: Split, data: str) -> None:
    """Raise `UsageError` for metrics that need what the data does not have."""
    reasons = {
        "masks": f"masks of the object, which {data} does not have. Choose shapes or cued",
        "scene": f"images that can be redrawn without an object, which {data} does not support. Choose cued",
    }
    free = [name for name in names("explain.metrics") if find("explain.metrics", name, "metric").needs == "nothing"]
    for kind, reason in reasons.items():
        needing = [name for name, metric in metrics.items() if metric.needs == kind]
        if needing and kind not in offers(split):
            verb = "needs" if len(needing) == 1 else "need"
            raise UsageError(f"{', '.join(needing)} {verb} {reason}, or metrics that need nothing: {', '.join(free)}.")
