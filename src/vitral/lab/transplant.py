"""A reader's part in the place of ours in a trained model."""

from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.data.named import named
from vitral.data.preprocess import normalise
from vitral.lab.folder import since
from vitral.lab.station import Pair, Station, stations
from vitral.store.classifier import Classifier
from vitral.store.code import run_file
from vitral.store.model import load_model

JUDGED = 200  # images


def trained() -> Classifier:
    """The lab's small ViT: the lecture's model, which knows eight shapes."""
    with as_file(files("vitral.lab") / "model") as folder:
        return load_model(folder)


@lru_cache(1)
def images() -> tuple[Tensor, Tensor]:
    """Test images as the model takes them, and their labels."""
    model = trained()
    data = named(model.provenance["data"])
    assert not isinstance(data, Path)
    some = data.test.only(np.arange(JUDGED))
    return normalise(torch.from_numpy(some.pixels), model.preprocessing), torch.from_numpy(some.labels)


@torch.no_grad()
def judged(station: Station, answer: Any) -> dict[str, Pair]:
    """Logits and accuracy of the trained model with the answer in it, and of the model as it was."""
    assert station.graft is not None
    given, labels = images()
    ours, theirs = trained().eval()(given), station.graft(trained(), answer).eval()(given)
    right = [(logits.argmax(dim=1) == labels).double().mean() for logits in (theirs, ours)]
    return {
        f"logits of {len(given)} images": (theirs, ours),
        f"accuracy on them, {right[1]:.1%} as before": (right[0], right[1]),
    }


def with_yours(folder: Path) -> nn.Module:
    """The trained model with the parts in the folder that have passed in the place of ours; says which these are.

    The whole ViT has all earlier parts in it; without it, each stands where it belongs. Raises `UsageError` where none
    has passed, or one has changed since.
    """
    known = stations()
    if changed := [name for name in known if since(folder, name).startswith("changed")]:
        raise UsageError(f"{changed[0]}.py has changed since it passed: vitral lab check {changed[0]}")
    fitting = [name for name, own in known.items() if own.graft and name != "fast" and since(folder, name) == "passed"]
    chosen = ["vit"] if "vit" in fitting else fitting
    if not chosen and (others := [f"{name}.py" for name in known if since(folder, name) == "passed"]):
        raise UsageError(f"{', '.join(others)} passed, but is no part of a model: vitral lab status")
    if not chosen:
        raise UsageError("None of your parts has passed here: vitral lab status")
    whole = trained()
    classes, model = tuple(whole.classes), cast(nn.Module, whole)
    for name in ("classes", "provenance"):  # whoever opens it gives it its own
        delattr(model, name)
    for name in chosen:
        graft = known[name].graft
        assert graft is not None
        model = graft(model, run_file(folder / f"{name}.py"))
    vars(model)["class_names"] = classes
    files = ", ".join(f"{name}.py" for name in chosen)
    vars(model)["origin"] = f"Yours in this model: {files}, and what they import; its weights are the lab's, trained."
    return model.eval()
