"""The recipe of a run, and the time that it takes, before its first step."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from vitral.base.config import options
from vitral.base.errors import UsageError
from vitral.base.lookup import check_name
from vitral.base.numerics import Numerics, choose
from vitral.base.plural import one_or_many
from vitral.data.batches import steps_in
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.tasks.choose_adaptation import time_with_trials
from vitral.tasks.choose_numerics import WORTH, choose_compiling, choose_precision, milliseconds, settled
from vitral.tasks.orders import Measure, tell
from vitral.tasks.progress import Progress
from vitral.training.cost import operations, width
from vitral.training.optim import block_names
from vitral.training.out_of_memory import refuse_what_cannot_fit
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe, preset
from vitral.training.speed import Speed, measure_speed, minutes
from vitral.weights.spec import parse_checkpoint_spec

SHORT = 1e13  # floating-point operations of a run whose time is not worth measuring
OF_STEPS = (  # settings of training steps
    *("augment", "label_smoothing", "batch_size", "accumulate", "optimizer", "lr", "layer_decay", "weight_decay"),
    *("warmup", "clip", "ema", "patience"),
)
FEW = 5000  # training images, below which the recipe `small` is named
LONG = 3600.0  # seconds after which a default is asked about


def make_recipe(named: str | None = None, **settings: Any) -> Recipe:
    """The settings of a run: those given, then those of a named recipe, then the presets of its data and its start.

    >>> make_recipe(data="digits").model, make_recipe(data="digits", epochs=3).epochs
    ('vit_nano_patch2_8', 3)
    """
    for name in settings:
        check_name(name, options(Recipe), "setting")
    return Recipe(**defaults_for(settings.get("data", "shapes"), settings.get("init"), named) | settings)


def defaults_for(data: str, init: str | None, named: str | None = None) -> dict[str, Any]:
    """The presets of this data, and of the run or checkpoint `init` that a run starts from; then the named recipe."""
    return preset(data, init, init is not None and parse_checkpoint_spec(init).is_published, named)


def mixing_note(recipe: Recipe) -> list[str]:
    """Why the figures of training are not those of validation, where images are mixed."""
    if recipe.mix == "none":
        return []
    return [
        f"{recipe.mix}: training images are mixed, so none of their classes is the right one: no training accuracy is "
        "shown, and the training loss is larger than that of whole images."
    ]


def few_images_note(recipe: Recipe, data: Dataset) -> list[str]:
    """That there is a recipe for so few images, where a folder's usual model would learn from nothing."""
    starts_from_nothing = recipe.init is None and recipe.model == preset(recipe.data).get("model") and bool(data.rows)
    if not starts_from_nothing or data.task != "one class" or len(data.train) >= FEW:
        return []
    return [
        f"{one_or_many(len(data.train), 'training image')}: few for a ViT that starts from nothing. `--recipe small` "
        "trains a small ResNet; `--init` starts from a trained model."
    ]


def unused_settings(recipe: Recipe, model: Classifier) -> list[str]:
    """What the recipe sets and this run does not use, in a sentence each."""
    if recipe.epochs:
        if recipe.layer_decay == 1 or block_names(model):
            return []
        return [
            f"--layer-decay {recipe.layer_decay:g} is not used: no blocks were found in this {type(model).__name__}, "
            "neither in an nn.ModuleList nor in an nn.Sequential of modules of one type."
        ]
    usual = asdict(Recipe(**defaults_for(recipe.data, recipe.init)))
    given = [
        f"--{name.replace('_', '-')} {getattr(recipe, name)}"
        for name in OF_STEPS
        if getattr(recipe, name) != usual[name]
    ]
    return [f"Not used, since a linear probe takes no training steps: {', '.join(given)}."] if given else []


def numerics_for(
    recipe: Recipe, model: Classifier, data: Dataset, note: Callable[[str], None] = lambda sentence: None
) -> Numerics:
    """Device, precision and compilation for this model and all steps of the run."""
    images = min(recipe.batch_size, len(data.train)) * steps_in(data.train, recipe.batch_size, recipe.epochs)
    return choose(recipe.precision, recipe.compile, width(model), operations(model, note) * images)


def plan_run(
    recipe: Recipe,
    model: Classifier,
    data: Dataset,
    agreed: bool,
    progress: Progress,
    processes: Processes = ALONE,
) -> tuple[Recipe, Numerics]:
    """The recipe with every "auto" decided, and with the epochs that fit into its minutes; and how it computes.

    How long the run takes is noted, unless it is short. Raises `UsageError` for a run that takes more than an hour,
    unless its epochs were `agreed` to, and `OutOfMemory` for one whose steps do not fit.
    """
    began = time.monotonic()
    numerics = numerics_for(recipe, model, data)
    if processes.size == 1:
        refuse_what_cannot_fit(model, data, recipe, numerics, progress.note)
    if is_short(recipe, model, data):
        return settled(recipe, numerics), numerics
    tell(processes, Measure(recipe, numerics))
    speed = measure_speed(model, data, recipe, numerics, processes)
    total = steps_in(data.train, recipe.batch_size, recipe.epochs)
    if 60 * (recipe.minutes or 0) >= WORTH or (not recipe.minutes and speed.seconds(total) >= WORTH):
        numerics, step = choose_precision(recipe, model, data, numerics, speed.step, progress, processes)
        speed = replace(speed, step=step)
    if not recipe.minutes:
        refuse_hours(recipe, speed.seconds(total), agreed)
    left = 60 * recipe.minutes - (time.monotonic() - began) if recipe.minutes else speed.seconds(total)
    numerics, step = choose_compiling(recipe, model, data, numerics, speed.step, left, progress, processes)
    speed = replace(speed, step=step)
    recipe = settled(recipe, numerics)
    if recipe.minutes:
        epochs = speed.epochs_within(60 * recipe.minutes, time.monotonic() - began)
        progress.note(
            f"--minutes {recipe.minutes:g}: {epochs:.3g} epochs, at {milliseconds(step)} per step on this machine"
        )
        return replace(recipe, epochs=epochs, minutes=None), numerics
    note_time(speed, speed.seconds(total), progress)
    return recipe, numerics


def plan_trials(
    recipe: Recipe, model: Classifier, data: Dataset, numerics: Numerics, agreed: bool, progress: Progress
) -> None:
    """Note how long a run takes with its trials of `--adapt auto`, before these take time. Raises as `plan_run`."""
    if is_short(recipe, model, data):
        return
    speed = measure_speed(model, data, recipe, numerics)
    seconds = speed.seconds(steps_in(data.train, recipe.batch_size, recipe.epochs)) * time_with_trials(model)
    note_time(speed, seconds, progress)
    refuse_hours(recipe, seconds, agreed)


def is_short(recipe: Recipe, model: Classifier, data: Dataset) -> bool:
    """Whether a run, whose time is not given, is not worth measuring."""
    images = min(recipe.batch_size, len(data.train)) * steps_in(data.train, recipe.batch_size, recipe.epochs)
    return not recipe.minutes and operations(model) * images < SHORT


def note_time(speed: Speed, seconds: float, progress: Progress) -> None:
    progress.note(f"estimated time: {minutes(seconds)}, at {milliseconds(speed.step)} per step on this machine")


def refuse_hours(recipe: Recipe, seconds: float, agreed: bool) -> None:
    """Raise `UsageError` for epochs that take more than an hour, unless they were `agreed` to."""
    if seconds > LONG and not agreed:
        raise UsageError(
            f"{recipe.epochs:g} epochs, the default, would take about {minutes(seconds)}. Specify a time: --minutes "
            "30; or --epochs; or agree: --yes."
        )
