"""The film of a run: what the model attends to in a few validation images, at some steps of its training."""

import numpy as np
from jaxtyping import UInt8

from vitral.base.errors import UsageError, WatchError
from vitral.explain.film import Film
from vitral.store.classifier import Classifier
from vitral.tasks.progress import Progress
from vitral.training.run import Run


def start_film(
    run: Run, model: Classifier, pixels: UInt8[np.ndarray, "b y x 3"], reached: int, progress: Progress
) -> Film | None:
    """A film with its first frame, or the film of a resumed run with its frames up to that step.

    None for a model in which no attention of a class token can be seen, and for segmentation, which has no answer for a
    whole image.
    """
    if model.record.task == "segmentation":
        return None
    path = run.path / "film.npz"
    if reached:
        return Film.load(path, until=reached) if path.is_file() else None
    return add_frame(Film(pixels), run, model, 0, progress)


def add_frame(film: Film, run: Run, model: Classifier, step: int, progress: Progress) -> Film | None:
    """The film with the frame of a step; None from then on if the attention cannot be verified."""
    try:
        film.shoot(model, step)
    except (WatchError, UsageError) as error:
        progress.note(f"No training film: {error}")
        return None
    film.save(run.path / "film.npz")
    return film
