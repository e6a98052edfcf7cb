"""Train a model: prepare, fit, test, report; everything goes into a run folder."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitral.base.answer import answer_of
from vitral.base.answers.one_class import ClassFigures
from vitral.base.errors import StoreError, UsageError
from vitral.base.files import write_file
from vitral.base.launch import find_launch
from vitral.base.plural import one_or_many
from vitral.base.record import Task, output_words
from vitral.data.batches import steps_in
from vitral.data.dataset import Dataset
from vitral.data.split_table import TABLE, SplitName, one_split_each, with_earlier, write_splits
from vitral.explain.film import Film, frame_steps
from vitral.nn.family.segmenter import Segmenter
from vitral.recording.known_places import attends_over_batch
from vitral.store.classifier import Classifier
from vitral.store.model import load_model, save_model
from vitral.store.numbers_head import linear_head
from vitral.tasks.choose_adaptation import choose_adaptation
from vitral.tasks.choose_numerics import settled
from vitral.tasks.confusion_table import CONFUSION, write_confusion
from vitral.tasks.how_to_explain import HowToExplain, how_to_explain
from vitral.tasks.launched import JOB, check_parts, earlier_run, follow_first, job_text, processes_line, processes_of
from vitral.tasks.model_extras import calibrate_run, measure_training_images
from vitral.tasks.orders import End, Fit, Prepare, leading, tell
from vitral.tasks.output_warning import output_warning
from vitral.tasks.pace import Pace, spent_until
from vitral.tasks.plan_run import (
    defaults_for,
    few_images_note,
    make_recipe,
    mixing_note,
    numerics_for,
    plan_run,
    plan_trials,
    unused_settings,
)
from vitral.tasks.prepare import division_of, prepare
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.time_use import log_time_use
from vitral.tasks.training_film import add_frame, start_film
from vitral.tasks.training_report import write_report
from vitral.training.adapt import adapt, takes_steps
from vitral.training.checkpoint import fingerprint, read_progress
from vitral.training.fit import UNTRAINED, Evaluation, fit, origin
from vitral.training.lora import merged
from vitral.training.metrics import evaluate_split
from vitral.training.probe import fit_head
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe
from vitral.training.run import CHANGEABLE, CONFIG, Run
from vitral.training.steps import Step

FILMED = 6  # validation images in the training film
LOG_EVERY = 20  # steps


@dataclass(frozen=True)
class TrainingResult:
    """A run and how good its best model is on the test images; a run that was stopped has only its folder.

    `figures` are those of its task on `n` test images, and `summary` states them in words; without test images they are
    those of the validation images, as `split` says. `test_accuracy` and its 95 % confidence `interval` are those of one
    class of many, None for other tasks. `seconds` is the time spent training; `explained` says by which method `vitral
    explain` explains the model. Of several processes, all but the first have the folder only.
    """

    run: Path
    stopped: bool = False
    test_accuracy: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    steps: int = 0
    seconds: float = 0.0
    report: Path | None = None
    notes: tuple[str, ...] = ()
    task: Task = "one class"
    summary: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    explained: HowToExplain = field(default_factory=HowToExplain)
    split: SplitName = "test"


def train(
    recipe: Recipe | str | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    agreed: bool = True,
    cache: str = "auto",
    progress: bool | Progress = False,
    **settings: Any,
) -> TrainingResult:
    """Train a model by a recipe, or by `settings` over the presets of their data: `train(data="photos/", epochs=5)`.

    With the name of a recipe, `train("small", data="photos/")`, its settings come between the two.

    The run folder is `out`, by default the next `runs/DATA-NUMBER`; it holds settings, metrics, the best model, a
    checkpoint and `report.html`. `resume` continues the run in a folder, with its own settings but for more `epochs`
    and another `on_bad_image`. Once `stop()` is true,
    the run is saved after the step under way and ends. Unless `agreed`, epochs that would take more than an hour
    on this machine are refused. A folder's decoded images are kept in the folder `cache`, by default the user's
    own (`find_cache`); with "none" in memory. `progress=True` shows progress on standard error. PyTorch's global random
    generator is seeded by the recipe's `seed`.

    Raises `UsageError` for settings that do not fit, `DataError` or `ImageError` for data that cannot be read,
    `StoreError` for a folder that cannot be written or resumed, `TrainingError` if the loss is not finite.
    """
    if resume and (recipe or out or settings.keys() - set(CHANGEABLE)):
        raise UsageError(
            "A resumed run has its own settings and folder: leave out recipe, out, and settings other than "
            f"{' and '.join(CHANGEABLE)}."
        )
    if isinstance(recipe, Recipe) and settings:
        raise UsageError(f"Pass a recipe or settings, not both: {', '.join(settings)} would be ignored.")
    if isinstance(recipe, str):
        recipe, settings = make_recipe(recipe, **settings), {}
    launch = find_launch()
    with closing(progress_for(progress)) as shown, processes_of(launch) as processes:
        if not processes.is_first:
            return TrainingResult(follow_first(processes, stop, cache), stopped=processes.stopped)
        with leading(processes):
            folder, job, changes = Path(out) if out else None, "", settings
            if not resume:
                changes = {}  # they are in the recipe, and an earlier run has it already
                recipe = recipe or make_recipe(**settings)
                job = job_text(launch, recipe)
                folder, resume = earlier_run(launch, folder, recipe, shown.note)
            run = None
            if resume:
                run, recipe = resumed(Path(resume), changes)
            assert recipe is not None
            return run_recipe(recipe, run, folder, stop, agreed, cache, shown, processes, job)


def resumed(folder: Path, changes: dict[str, Any]) -> tuple[Run, Recipe]:
    """The run in a folder, and its settings with these changes, which are written there.

    Raises `UsageError` for fewer epochs than the run has, `StoreError` if there is no run.
    """
    run, recipe = Run.existing(folder)
    epochs = changes.get("epochs", recipe.epochs)
    if epochs < recipe.epochs:
        raise UsageError(f"{folder} is a run of {recipe.epochs:g} epochs: --resume may take more, not {epochs:g}.")
    if not recipe.epochs and epochs:
        raise UsageError(f"{folder} is a linear probe, which has no epochs. Leave out --epochs.")
    changed = replace(recipe, **changes)
    if changed != recipe:
        run.change(changed)
    return run, changed


def run_recipe(
    recipe: Recipe,
    run: Run | None,
    out: Path | None,
    stop: Callable[[], bool],
    agreed: bool,
    cache: str,
    progress: Progress,
    processes: Processes = ALONE,
    job: str = "",
) -> TrainingResult:
    """A whole run by a recipe: a new one in `out`, or the rest of `run`; in the first of the `processes`."""
    resuming = run is not None
    if recipe.accumulate > 1 and processes.size > 1:
        raise UsageError(
            f"--accumulate {recipe.accumulate} is for one process: each of {processes.size} computes a part of the "
            "batch already. Use more processes for smaller parts."
        )
    progress.note(f"preparing {recipe.data} ...")
    torch.manual_seed(recipe.seed)  # the weights of a new model are drawn from here
    model, data = prepare(recipe, progress, run.path if run else None, cache)
    if recipe.adapt == "auto" and run:  # it wrote what it chose
        raise StoreError(f"{run.path / CONFIG} has changed since the run started: it had no adapt: auto. Restore it.")
    numerics = numerics_for(recipe, model, data, progress.note)
    model.to(numerics.device)
    if recipe.adapt == "auto":
        if not recipe.minutes:
            plan_trials(recipe, model, data, numerics, agreed, progress)  # here, before the trials take time
        recipe = choose_adaptation(recipe, model, data, numerics, progress)
    adapted = adapt(model, recipe)
    if not takes_steps(model, recipe):
        recipe = replace(recipe, epochs=0, minutes=None)
    if not recipe.epochs and linear_head(model) is None:
        raise UsageError(
            f"--epochs 0 fits a linear head; the head of this model is a "
            f"{type(getattr(model, 'head', model)).__name__}. Train it in steps: --epochs above 0."
        )
    batch = min(recipe.batch_size, len(data.train))
    check_parts(processes, batch)
    if recipe.epochs:
        tell(processes, Prepare(recipe, run.path if run else None, numerics.device))
        processes.share_statistics(model)
    if recipe.label_smoothing and data.task == "numbers":
        progress.note(
            f"label_smoothing={recipe.label_smoothing:g} is not used: numbers have no classes to spread over."
        )
    if recipe.epochs and not resuming:
        recipe, numerics = plan_run(recipe, model, data, agreed, progress, processes)
    else:
        numerics = numerics_for(recipe, model, data)
        recipe = recipe if resuming else settled(recipe, numerics)
    total = steps_in(data.train, recipe.batch_size, recipe.epochs)
    run = run or Run.new(out, recipe)  # only now that nothing in the request is wrong any more
    if job and not resuming:
        write_file(run.path / JOB, job)
    if data.rows and not resuming:
        known = division_of(recipe, None).known
        write_splits(run.path / TABLE, with_earlier(one_split_each(data.rows), known))
    lines = (
        f"{recipe.data}: {one_or_many(len(data.train), 'training image')}, "
        f"{one_or_many(len(data.val), 'validation image')}, "
        f"{one_or_many(len(data.test), 'test image') if 'test' in data.splits else 'no test images'}, "
        f"{output_words(len(data.classes), data.task)}",
        f"{recipe.model}: {parameters(merged(model)):,} parameters, {total:,} steps of {batch} images",
        f"{numerics.device}, {torch.get_num_threads()} threads; {numerics.reason}",
        processes_line(processes, batch),
        adapted,
        *few_images_note(recipe, data),
        *mixing_note(recipe),
        *unused_settings(recipe, model),
        f"run: {run.path}",
    )
    for line in filter(None, lines):
        progress.note(line)
    if warning := output_warning(model, data.preprocessing.size):
        progress.note(warning)
    if attends_over_batch(model, data.preprocessing.size):
        progress.note(
            f"warning: {recipe.model} attends over the images of a batch, not over the patches of an image. "
            "nn.MultiheadAttention takes (tokens, batch, width) unless it has batch_first=True."
        )

    best, reached, recent = UNTRAINED, 0, tuple[Step, ...]()
    if resuming:
        _, before, _ = read_progress(run.checkpoints, progress.note)
        reached, recent = before.step, before.recent
    elif recipe.init:
        best = fit_linear_probe(model, data, recipe, run, progress)
    film = start_film(run, merged(model), data.val.pixels[:FILMED], reached, progress)
    tell(processes, Fit(recipe, numerics, run.path, resuming) if recipe.epochs else End(0, run.path))
    spent, stepping = spent_until(run.records(), reached)
    pace = Pace(total, spent, recent, stepping)  # the clock starts here: neither probe nor film is training time
    taking = processes if recipe.epochs else ALONE
    for event in fit(model, data, recipe, numerics, run, resuming, stop, best, taking, progress.note):
        if isinstance(event, Evaluation):
            run.log(**event.record())
            pace.evaluations.append(event)
            progress.evaluated(pace)
            continue
        pace.take(event)
        progress.stepped(pace)
        if film and event.number in frame_steps(total):
            film = add_frame(film, run, merged(model), event.number, progress)
        if event.number % LOG_EVERY == 0 or event.number == total:
            run.log(**pace.record())
    seconds, done = pace.seconds, pace.recent[-1].number if pace.recent else reached
    progress.close()
    if stop() or processes.stopped:
        return TrainingResult(run.path, stopped=True, notes=tuple(progress.notes))
    if done < total:
        if done > reached:
            run.log(**pace.record())
        progress.note(
            f"ended at step {done:,} of {total:,}: {one_or_many(recipe.patience, 'evaluation')} without improvement."
        )
    if done > reached:
        log_time_use(run, model, data, recipe, numerics, processes.size, pace, progress)
    if resuming and reached == done:
        progress.note(f"{run.path} had already finished; writing its report again.")
        seconds = pace.spent
    return test_and_report(run, recipe, data, film, done, seconds, progress)


def fit_linear_probe(
    model: Classifier, data: Dataset, recipe: Recipe, run: Run, progress: Progress
) -> tuple[float, float]:
    """Fit a new head by a linear probe, save the model, and evaluate it; the validation score that training must beat.

    A head that was kept from the trained model, or that is more than one linear layer, stays as it is.
    """
    head = linear_head(model)
    if head is None and not isinstance(model, Segmenter):  # whose decoder is trained by steps
        progress.note("no linear probe: the head is more than one linear layer")
    elif head is not None and (not recipe.epochs or not head.weight.any()):
        probe = fit_head(model, data, partial(progress.count, "linear probe"), recipe.balances_classes)
        figures = probe.figures.summary(data.classes)
        progress.note(f"linear probe: validation {figures} (penalty {probe.penalty:g})")
    held_out = evaluate_split(merged(model), data.val)
    save_model(merged(model), run.path, origin(model, recipe, fingerprint(data.train, data.val), 0))
    run.log(**Evaluation(0, held_out.loss, answer_of(model).measure, held_out.value, True).record())
    return held_out.score


def test_and_report(
    run: Run, recipe: Recipe, data: Dataset, film: Film | None, total: int, seconds: float, progress: Progress
) -> TrainingResult:
    """Judge the best model once, and write the report."""
    code = recipe.model if ".py" in recipe.model else None
    model = load_model(run.path, code)
    measure_training_images(run, model, data, progress)
    if calibrate_run(run, model, data, progress):
        model = load_model(run.path, code)
    found, n = evaluate_split(model, data.judged_images), len(data.judged_images)
    measured, tested = f"test_{answer_of(model).measure}", data.judged == "test"
    if tested and not any(measured in record for record in run.records()):
        run.log(**{"step": total, "test_loss": found.loss, measured: found.value, "n": n, "seconds": seconds})
    write_confusion(run.path / CONFUSION, found, data.classes)
    report = write_report(run, recipe, defaults_for(recipe.data, recipe.init), model, data, found, film)
    accuracy, between = (found.accuracy, found.interval) if tested and isinstance(found, ClassFigures) else (None, None)
    return TrainingResult(
        run.path,
        False,
        accuracy,
        between,
        n,
        total,
        seconds,
        report,
        tuple(progress.notes),
        data.task,
        found.summary(data.classes),
        found.to_json(data.classes),
        how_to_explain(model, data),
        data.judged,
    )


def parameters(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
