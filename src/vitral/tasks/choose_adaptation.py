"""`--adapt auto`: try each way to adapt a trained model for a short time, and decide once, before the first step."""

import time
from copy import deepcopy
from dataclasses import replace
from functools import partial

from vitral.base.answer import Figures, answer_of
from vitral.base.errors import ConfigError, TrainingError
from vitral.base.numerics import Numerics
from vitral.base.plural import one_or_many
from vitral.data.batches import steps_in
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.store.numbers_head import linear_head
from vitral.tasks.progress import Progress
from vitral.training.adapt import adapt
from vitral.training.metrics import evaluate_split
from vitral.training.probe import fit_head
from vitral.training.recipe import Recipe
from vitral.training.speed import measure_speed
from vitral.training.trial import WAYS, Way, choose_way, take_trial

SHARE = 0.25  # steps of a trial, over those of the run
OF_MINUTES = 1 / 6  # the same, where the time is given: two trials and the run share it


def choose_adaptation(
    recipe: Recipe, model: Classifier, data: Dataset, numerics: Numerics, progress: Progress
) -> Recipe:
    """The recipe with the way that the trials speak for, in place of "auto"; the model stays as it is.

    A trial takes a quarter of the run's steps; with --minutes it takes a sixth of the time, by the measured speed
    (which is not the same twice), and what all trials took is subtracted from the time of the run.

    Raises `ConfigError` if no way can be tried, or if no time is left.
    """
    began = time.monotonic()
    start, found, trials = deepcopy(model), dict[Way, Figures](), list[str]()
    head = linear_head(start)
    if head is not None:
        probed = deepcopy(model)
        count_images = partial(progress.count, "linear probe")
        fit_head(probed, data, count_images, recipe.balances_classes)
        found["probe"] = evaluate_split(probed, data.val)
        trials.append(f"probe {figure(found['probe'])}")
        if not head.weight.any():  # a new head: every way starts from the probe's
            start = probed
    for way in WAYS:
        if way in found:
            continue
        own = by_way(recipe, way)
        try:
            total = trial_steps(start, data, own, numerics)
            found[way] = take_trial(start, data, own, numerics, total)
        except (ConfigError, TrainingError) as error:
            progress.note(f"--adapt auto leaves out {way}: {error}")
            continue
        progress.count("trials of --adapt auto", len(found), len(WAYS))
        trials.append(f"{way} {figure(found[way])} after {one_or_many(total, 'step')}")
    progress.close()
    if not found:
        raise ConfigError("--adapt auto found no way to adapt this model that works; see the messages above.")
    n = len(data.val)
    chosen, why = choose_way(found, n)
    progress.note(
        f"--adapt auto, {answer_of(model).measure} on {one_or_many(n, 'validation image')}: {'; '.join(trials)}"
    )
    progress.note(f"--adapt auto chose {why}")
    if chosen == "probe" and recipe.mix != "none":
        progress.note(f"--mix {recipe.mix} is not used: a linear probe takes no training steps.")
    return with_time_left(by_way(recipe, chosen), time.monotonic() - began)


def by_way(recipe: Recipe, way: Way) -> Recipe:
    """The recipe with this way to adapt; a linear probe mixes no images."""
    return replace(recipe, adapt=way, mix="none" if way == "probe" else recipe.mix)


def time_with_trials(model: Classifier) -> float:
    """The steps of a run and its trials, over those of the run; a linear probe takes none."""
    return 1 + SHARE * (len(WAYS) - (linear_head(model) is not None))


def trial_steps(model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics) -> int:
    """How many steps a trial takes: a share of the run's, or as many as fit into a share of its minutes."""
    if not recipe.minutes:
        return max(1, round(SHARE * steps_in(data.train, recipe.batch_size, recipe.epochs)))
    tried = deepcopy(model)
    adapt(tried, recipe)
    speed = measure_speed(tried, data, recipe, numerics)
    seconds = 60 * recipe.minutes * OF_MINUTES - speed.validated * speed.evaluated
    return max(1, int(seconds / speed.step))


def with_time_left(recipe: Recipe, spent: float) -> Recipe:
    """The recipe with the minutes that are left after the trials took so many seconds."""
    if not recipe.minutes:
        return recipe
    left = round(recipe.minutes - spent / 60, 2)
    if left < 0.01:
        raise ConfigError(
            f"--minutes {recipe.minutes:g} is too short for --adapt auto, whose trials took {spent:.0f} s. Give "
            "it more time, or choose yourself: --adapt probe."
        )
    return replace(recipe, minutes=left)


def figure(found: Figures) -> str:
    """The figure that decides, with its 95 % interval."""
    low, high = found.interval
    return f"{found.value:.3f} (95% interval {low:.3f} to {high:.3f})"
