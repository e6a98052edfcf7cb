"""What a run stores beside its best model once it is trained: temperatures, thresholds, statistics of its images."""

from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.store.model import WEIGHTS, save_calibration
from vitral.store.training_images import save_statistics
from vitral.tasks.progress import Progress
from vitral.training.calibrate import calibrate
from vitral.training.feature_statistics import fit_feature_statistics
from vitral.training.run import Run


def calibrate_run(run: Run, model: Classifier, data: Dataset, progress: Progress) -> bool:
    """Choose the temperature or the thresholds on the validation images; whether the run's model has changed.

    A run that had finished has them.
    """
    if model.record.calibration is not None or (chosen := calibrate(model, data.val)) is None:
        return False
    save_calibration(run.path, chosen.calibration, chosen.thresholds)
    for note in chosen.calibration.notes:
        progress.note(note)
    return True


def measure_training_images(run: Run, model: Classifier, data: Dataset, progress: Progress) -> None:
    """Fit the statistics of the training images, and write them beside the weights of the run's best model.

    A run that had finished has them.
    """
    if model.record.feature_statistics is not None:
        return
    fitted = fit_feature_statistics(model, data, lambda done, count: progress.count("training images", done, count))
    progress.close()
    if isinstance(fitted, str):
        progress.note(
            "no statistics of the training images were stored, so predict and explain cannot report images that are "
            f"unlike them: {fitted}."
        )
    else:
        save_statistics(fitted, model.preprocessing, run.path / WEIGHTS)
