"""Measure every way of running a model on this machine, and say which to take."""

import os
import pickle
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from vitral.base.errors import ConfigError, Failure, UsageError
from vitral.base.lookup import check_name
from vitral.base.modes import evaluating
from vitral.base.plural import one_or_many
from vitral.base.preprocessing import Preprocessing
from vitral.data.preprocess import normalise
from vitral.exporting.speed.exported import exported_way
from vitral.exporting.speed.images import BenchImages, draw_images
from vitral.exporting.speed.process import Setup, WayFailed, cores
from vitral.exporting.speed.result import BenchResult, Measured, Timing, Unavailable
from vitral.exporting.speed.rounds import Candidate, measure, plan, prepare, round_seconds
from vitral.exporting.speed.way import Conditions, Device, Way, find_ways
from vitral.exporting.speed.worker import CALIBRATING, IMAGES, MODEL, PIXELS, WEIGHTS, logits_of
from vitral.recording.undisturbed import undisturbed
from vitral.store.artifact import read_artifact
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import open_model
from vitral.tasks.progress import Progress, progress_for
from vitral.weights.artifact import ArtifactModel

BUSY = 0.5  # of the processors, from which other programs are reported


def bench(
    model: str | Path | nn.Module,
    *,
    ways: Sequence[str] = (),
    batches: Sequence[int] = (1, 8),
    images: str | Path | None = None,
    threads: int | None = None,
    seconds: float = 60.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    code: str | None = None,
    progress: bool | Progress = False,
) -> BenchResult:
    """Measure the model in every way of running it, or in these `ways`, that this machine has.

    Images are prepared beforehand: what is timed is the model. Each way runs in a process of its own, with the number
    of threads that is best for it and the batch, or with `threads`. They are measured in turns, in at least 6 rounds,
    for about `seconds` after everything is prepared. Answers are compared with eager PyTorch in float32, on up to 64
    images of the folder `images`, drawn at random, else on 16 generated ones.

    A module is given to the processes by pickling it; a path or name is loaded by each.

    Raises `UnknownName` for a way that does not exist, `ConfigError` for settings that this machine cannot take,
    `Failure` if no way ran.
    """
    shown, sizes = progress_for(progress), check_batches(batches)
    check_numbers(threads, seconds)
    for name in ways:
        check_name(name, find_ways(), "way of running")
    opened, on = open_model(model, shown, code), choose_device(device)
    drawn = draw_images(None if images is None else Path(images), opened.preprocessing)
    busy = load_before(shown)
    spec = "" if isinstance(model, nn.Module) else str(model)
    calibrating = None if drawn.calibrating is None else len(drawn.calibrating)
    chosen, unavailable = choose_ways(opened, spec, ways, Conditions(on, calibrating))
    candidates = list[Candidate]()
    with TemporaryDirectory(prefix="vitral-bench-") as temporary, ExitStack() as stack:
        setup = Setup(spec, code, Path(temporary), on)
        prepared = save_images(drawn, opened.preprocessing, setup.folder)
        save(opened, spec, setup.folder)
        reference = None if isinstance(opened, ArtifactModel) else reference_logits(opened, prepared)
        for number, way in enumerate(chosen, 1):
            shown.note(f"preparing {way.name} ({number} of {len(chosen)}) ...")
            try:
                candidates.append(prepare(way, setup, sizes, threads, reference, opened.record, stack))
            except WayFailed as error:
                unavailable.append(Unavailable(way.name, str(error)))
        if candidates:
            measured, failed = time_in_turns(candidates, seconds, shown)
            unavailable += failed
    if not candidates or not measured:
        reasons = "; ".join(f"{one.way}: {one.reason}" for one in unavailable)
        raise Failure(f"No way of running the model is available. {reasons}.")
    number, notes = len(drawn.compared), tuple(shown.notes)
    return BenchResult(measured, tuple(unavailable), on, cores(), number, drawn.source, busy, notes)


def check_batches(batches: Sequence[int]) -> tuple[int, ...]:
    """The batches, rising. Raises `ConfigError` unless they are positive and each is there once."""
    found = tuple(sorted(batches))
    if not found or found[0] < 1 or len(set(found)) < len(found):
        raise ConfigError(f"batches must be different numbers of images, each at least 1; found {tuple(batches)}.")
    return found


def check_numbers(threads: int | None, seconds: float) -> None:
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} is out of range: it must be at least 1.")
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"seconds={seconds} is out of range: it must be above 0.")


def choose_device(device: str) -> Device:
    """The device, of "auto" a GPU if there is one. Raises `ConfigError` for a GPU that is not there."""
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigError("device=cuda was requested, but PyTorch finds no GPU here. Leave it out, or choose cpu.")
    return "cuda" if device == "cuda" or (device == "auto" and has_gpu) else "cpu"


def load_before(progress: Progress) -> float | None:
    """The mean number of busy processors in the last minute, which is reported if other programs use many."""
    if not hasattr(os, "getloadavg"):  # Windows
        return None
    busy = os.getloadavg()[0]
    if busy > BUSY * cores():
        progress.note(
            f"other programs use this machine (load {busy:.1f}, {one_or_many(cores(), 'processor')}): "
            "times are longer, and differ more"
        )
    return busy


def choose_ways(
    model: Classifier, spec: str, names: Sequence[str], conditions: Conditions
) -> tuple[list[Way], list[Unavailable]]:
    """The ways that are available, of those with these names or of all, and the others with the reason.

    An exported model runs in one way. Raises `UsageError` if that is not among those that were requested.
    """
    registry = find_ways()
    if isinstance(model, ArtifactModel):
        if names:
            raise UsageError("An exported model runs in one way, from its own files: leave out --ways.")
        if not spec:
            raise UsageError("An exported model is measured from its files: give their folder, not a loaded model.")
        if conditions.device != "cpu":
            raise UsageError("An exported model runs on the CPU: choose --device cpu.")
        reason = "an exported model has its own files only, and nothing to compare with: bench what it was made of"
        return [exported_way(read_artifact(Path(spec)))], [Unavailable(", ".join(registry), reason)]
    ways, missing = [], []
    for way in registry.values():
        if names and way.name not in names:
            continue
        if reason := way.why_not(conditions):
            missing.append(Unavailable(way.name, reason))
        else:
            ways.append(way)
    return ways, missing


def save_images(drawn: BenchImages, preprocessing: Preprocessing, folder: Path) -> Float[np.ndarray, "n c h w"]:
    """Write the images for the processes; those that are compared, prepared for the model."""
    prepared = normalise(torch.from_numpy(drawn.compared), preprocessing).numpy()
    np.save(folder / IMAGES, prepared)
    if drawn.calibrating is not None and len(drawn.calibrating):
        np.save(folder / PIXELS, drawn.calibrating)
        np.save(folder / CALIBRATING, normalise(torch.from_numpy(drawn.calibrating), preprocessing).numpy())
    return prepared


def save(model: Classifier, spec: str, folder: Path) -> None:
    """Write the model for the processes: its weights where `spec` names it, else the whole module.

    What a name stands for may draw its weights anew each time that it is loaded. Raises `UsageError` for a module that
    cannot be pickled.
    """
    if spec:
        torch.save(model.state_dict(), folder / WEIGHTS)
        return
    try:
        with undisturbed(model):
            torch.save(model, folder / MODEL)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise UsageError(
            f"{type(model).__name__} cannot be pickled, so other processes cannot run it: {error} Save it to a file "
            "that vitral.load takes, and give its path."
        ) from error


def reference_logits(model: Classifier, images: Float[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n k ..."]:
    """What eager PyTorch gives in float32, on the CPU."""
    place = next(model.parameters()).device
    with undisturbed(model), evaluating(model):
        try:
            return logits_of(model.cpu(), model, images, "cpu")
        finally:
            model.to(place)


def time_in_turns(
    candidates: list[Candidate], seconds: float, progress: Progress
) -> tuple[tuple[Measured, ...], list[Unavailable]]:
    """Measure all in turns; those that were measured, and those that failed on the way."""
    turns = [turn for candidate in candidates for turn in candidate.turns]
    rounds = plan(turns, seconds)
    if (needed := rounds * round_seconds(turns)) > 1.2 * seconds:
        progress.note(f"{seconds:g} seconds are too few: {rounds} rounds of all ways take about {needed:.0f}")
    failed = measure(turns, rounds, seconds, lambda done, total: progress.count("turns", done, total))
    progress.close()
    measured = tuple(
        Measured(
            one.way,
            tuple(
                Timing(turn.batch, turn.threads, tuple(turn.rounds), tuple(turn.seconds), turn.memory)
                for turn in one.turns
            ),
            one.agreement,
        )
        for one in candidates
        if one.way.name not in failed
    )
    return measured, [Unavailable(name, reason) for name, reason in failed.items()]
