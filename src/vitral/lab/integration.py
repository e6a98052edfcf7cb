"""The reader's parts inside a trained model: the last stage of a check, and a model for `vitral explain`."""

from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.data.dataset import Dataset
from vitral.data.preprocess import normalise
from vitral.data.spec import find_data
from vitral.lab.progress import find_state
from vitral.lab.station import Pair, Station, load_stations
from vitral.store.classifier import Classifier
from vitral.store.code import run_file
from vitral.store.model import load_model

TEST_IMAGES = 200


def load_trained_model() -> Classifier:
    """Return the lab's small ViT, which was trained on eight shapes."""
    with as_file(files("vitral.lab") / "model") as folder:
        return load_model(folder)


@lru_cache(1)
def load_test_images() -> tuple[Tensor, Tensor]:
    """Return preprocessed test images and their labels."""
    model = load_trained_model()
    data = find_data(model.provenance["data"])
    assert isinstance(data, Dataset)
    some = data.test.only(np.arange(TEST_IMAGES))
    return normalise(torch.from_numpy(some.pixels), model.preprocessing), torch.from_numpy(some.labels)


@torch.no_grad()
def compare_in_model(station: Station, answer: Any) -> dict[str, Pair]:
    """Return logits and accuracy of the trained model with the answer in it, and without."""
    assert station.insert is not None
    images, labels = load_test_images()
    ours = load_trained_model().eval()(images)
    theirs = station.insert(load_trained_model(), answer).eval()(images)
    accuracies = [(logits.argmax(dim=1) == labels).double().mean() for logits in (theirs, ours)]
    return {
        f"logits of {len(images)} images": (theirs, ours),
        f"accuracy on these images, {accuracies[1]:.1%}": (accuracies[0], accuracies[1]),
    }


def build_model_with_answers(folder: Path) -> nn.Module:
    """Return the trained model with the reader's parts in it, as far as they have passed.

    The station `vit` contains all earlier parts; without it, each part replaces its own. Raises `UsageError` if no
    part has passed, or one has changed since.
    """
    known = load_stations()
    if changed := [name for name in known if find_state(folder, name).startswith("changed")]:
        raise UsageError(f"{changed[0]}.py has changed since it passed: vitral lab check {changed[0]}")
    passed = [name for name in known if find_state(folder, name) == "passed"]
    # `fast` is left out: it would take the place of the reader's `head` and `heads`.
    parts = {name: insert for name in passed if (insert := known[name].insert) and name != "fast"}
    chosen = ["vit"] if "vit" in parts else [*parts]
    if not chosen and passed:
        others = ", ".join(f"{name}.py" for name in passed)
        raise UsageError(
            f"Only {others} passed, and none of these is a part of the model. `vitral lab status` shows the stations "
            "still to do."
        )
    if not chosen:
        raise UsageError("No file in this folder has passed its check. `vitral lab status` shows the next step.")
    whole = load_trained_model()
    classes, model = tuple(whole.classes), cast(nn.Module, whole)
    for name in ("record", "classes", "provenance"):  # `vitral explain` sets its own for a model from the reader's file
        delattr(model, name)
    for name in chosen:
        model = parts[name](model, run_file(folder / f"{name}.py"))
    vars(model)["class_names"] = classes
    used = ", ".join(f"{name}.py" for name in chosen)
    vars(model)["origin"] = f"This model uses your {used} and what they import; its weights are the lab's, trained."
    return model.eval()
