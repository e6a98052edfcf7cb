"""A reader's part in the place of ours in a trained model."""

from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitral.base.errors import StoreError
from vitral.data.named import named
from vitral.data.preprocess import normalise
from vitral.lab.folder import passed
from vitral.lab.station import Pair, Station, stations
from vitral.store.classifier import Classifier
from vitral.store.code import run
from vitral.store.model import load

JUDGED = 200  # images


def trained() -> Classifier:
    """The lab's small ViT: the lecture's model, which knows eight shapes."""
    with as_file(files("vitral.lab") / "model") as folder:
        return load(folder)


@lru_cache(1)
def images() -> tuple[Tensor, Tensor]:
    """Test images as the model takes them, and their labels."""
    model = trained()
    data = named(model.provenance["data"])
    assert not isinstance(data, Path)
    some = data.test.only(range(JUDGED))  # type: ignore[arg-type]
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
    """The trained model with every part that has passed in the folder in the place of ours.

    Raises `StoreError` where a file that had passed is not there any more.
    """
    model: nn.Module = trained()
    for name in ("classes", "provenance", "code"):  # whoever opens it gives it its own
        if hasattr(model, name):
            delattr(model, name)
    for name, station in stations().items():
        if name in passed(folder) and station.graft is not None:
            file = folder / f"{name}.py"
            if not file.is_file():
                raise StoreError(f"{name}.py had passed, and is not in {folder} any more.")
            model = station.graft(model, run(file))
    return model.eval()
