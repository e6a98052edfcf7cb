"""One training of a study: what decides it, as a value; and the trained model, made once and kept by its content.

Two studies that ask for the same training share it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitral.base.errors import TrainingError
from vitral.base.files import sha256, write_file
from vitral.base.lookup import at_path, find, names
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.batches import batches
from vitral.data.dataset import Dataset, Split, SplitName
from vitral.data.folder import folder
from vitral.data.named import built_in, named
from vitral.nn.parts import find_part, record_part
from vitral.nn.zoo import create
from vitral.store.classifier import Classifier
from vitral.store.code import from_code, is_code
from vitral.studies.changes import changed
from vitral.studies.code import fingerprint
from vitral.training.metrics import predict_split
from vitral.training.optim import optimizers, schedule
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps

# Plain supervised training, the same for every arm: see docs/decisions/ for why not AdamW.
RECIPE: dict[str, Any] = dict(batch_size=128, augment="none", warmup=0.1, weight_decay=0.1, precision="float32")
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
CURVE = 8  # points of a learning curve
SOME = 500  # images that such a point is judged by
OWN_SIZE = Preprocessing(size=(48, 48))  # to which a reader's own images are cut


@dataclass(frozen=True)
class Training:
    """Everything that decides a trained model. `settings` and `recipe` hold plain values, parts as configs do."""

    model: str
    settings: Mapping[str, Any]
    data: str
    change: str
    recipe: Mapping[str, Any]
    samples: int
    seed: int
    loop: str = ""
    judged: int = 2_000  # images of each split, at most, that the model is judged by

    @property
    def key(self) -> str:
        """The same for the same training by the same code."""
        content = asdict(self) | {"code": fingerprint(*self.code)}
        if is_code(self.model):
            content["file"] = sha256(Path(self.model.rpartition(":")[0]))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def code(self) -> tuple[str, ...]:
        """The modules that make it."""
        data, augment = self.data.partition(":")[0], self.recipe.get("augment", RECIPE["augment"])
        drawn = (f"data.synthetic.{data}",) if data in names("data.synthetic") else ()
        parts = (name.partition(":")[0] for value in (self.loop, *self.settings.values()) for name in parts_in(value))
        return ("studies.training", *drawn, f"data.augmentation.{augment}", *parts)

    def dataset(self) -> Dataset:
        return data_of(self.data, self.change, self.seed)

    def built(self) -> Classifier:
        """The untrained model, the same for the same seed."""
        data = self.dataset()
        torch.manual_seed(self.seed)
        return attach_record(
            model_of(self.model, self.settings, len(data.classes), data.preprocessing.size),
            ModelRecord(data.classes, data.preprocessing),
        )


def model_of(name: str, settings: Mapping[str, Any], classes: int, size: tuple[int, int]) -> nn.Module:
    """A model of the zoo with some settings, or the reader's own."""
    if is_code(name):
        return from_code(name, classes, size)
    parts = {key: part_at(value) if is_part(value) else value for key, value in settings.items()}
    return create(name, **(dict(num_classes=classes, img_size=size) | parts))


def part_at(recorded: Any) -> Any:
    """A part of the models, or one that only a study needs."""
    (name, *_) = parts_in(recorded)
    return find_part(recorded, within="studies" if name.startswith("studies.") else "nn")


def is_part(value: Any) -> bool:
    """Whether a setting is the record of a part: its name, or its name and arguments."""
    return ":" in value if isinstance(value, str) else isinstance(value, Mapping) and "name" in value


def parts_in(value: Any) -> Iterator[str]:
    """The names of the package's parts in a setting, those in the arguments of a part too."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from parts_in(inner)
    elif is_part(value) and value.startswith(("nn.", "studies.")):
        yield value


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are written down: parts as a config records them."""
    return {key: record_part(value) if callable(value) else value for key, value in settings.items()}


@lru_cache(maxsize=4)
def data_of(spec: str, change: str, seed: int) -> Dataset:
    """A data set whose images are the seed's own, so that seeds differ by all that chance decides."""
    name, _, options = spec.partition(":")
    own = f"{name}:{','.join(filter(None, (options, f'seed={seed}')))}" if name in built_in() else spec
    found = named(own)
    data = folder(found, OWN_SIZE, seed) if isinstance(found, Path) else found
    return changed(data, change, seed)


@dataclass(frozen=True)
class Trained:
    """A trained model, its data, the condition's and the study's settings, and what is known of its training."""

    model: Classifier
    data: Dataset
    training: Training
    record: Mapping[str, Any]
    condition: Mapping[str, Any]


Batches = Iterable[tuple[Tensor, Tensor]]
Loop = Callable[
    [Classifier, Batches, list[torch.optim.Optimizer], Callable[[int], float], Recipe, Training], Iterator[Step]
]


def supervised(
    model: Classifier,
    feed: Batches,
    movers: list[torch.optim.Optimizer],
    lr_at: Callable[[int], float],
    recipe: Recipe,
    training: Training,
) -> Iterator[Step]:
    """Cross-entropy of the labels, as `vitral train`."""
    return steps(model, feed, movers, lr_at, nullcontext, recipe.clip, recipe.label_smoothing)


def train(training: Training, stepped: Callable[[int], None] = lambda done: None) -> tuple[Classifier, dict[str, Any]]:
    """Take all the steps; the model after the last, and a record.

    A training whose loss is not a number is no error but an outcome: its record says that it diverged.
    """
    torch.manual_seed(training.seed)
    model, data = training.built(), training.dataset()
    recipe = Recipe(data=training.data, seed=training.seed, **(RECIPE | dict(training.recipe)))
    total = training.samples // recipe.batch_size
    record: dict[str, Any] = {"steps": total, "lr": recipe.lr, "diverged": False, "curve": []}
    began = time.perf_counter()
    if total:
        record["curve"] = list(curve(model, data, recipe, training, total, record, stepped))
    record["seconds"] = round(time.perf_counter() - began, 2)
    chance = 1 / len(data.classes)
    some = {name: first(getattr(data, name), training.judged) for name in SPLITS}
    for name, split in some.items():
        record[f"{name}_accuracy"] = chance if record["diverged"] else predict_split(model, split).accuracy
    record["n"] = {name: len(split) for name, split in some.items()}
    return model.eval(), record


def curve(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    training: Training,
    total: int,
    record: dict[str, Any],
    stepped: Callable[[int], None],
) -> Iterator[list[float]]:
    """Train, and yield [samples, validation accuracy] a few times on the way."""
    augment = find("data.augmentation", recipe.augment, "augmentation")
    feed = islice(batches(data.train, data.preprocessing, recipe.batch_size, recipe.seed, augment), total)
    movers, lr_at = optimizers(model, recipe), partial(schedule, total=total, warmup=recipe.warmup)
    loop: Loop = at_path(training.loop, within="studies") if training.loop else supervised
    some, every = first(data.val, min(SOME, training.judged)), max(1, total // CURVE)
    try:
        for step in loop(model, feed, movers, lr_at, recipe, training):
            stepped(step.number * recipe.batch_size)
            if step.number % every == 0:
                yield [step.number * recipe.batch_size, predict_split(model, some).accuracy]
    except TrainingError as error:
        record |= {"diverged": True, "why": str(error)}


def first(split: Split, n: int) -> Split:
    return split.only(torch.arange(min(n, len(split))).numpy())


def trained(
    training: Training, home: Path, condition: Mapping[str, Any], stepped: Callable[[int], None] = lambda done: None
) -> Trained:
    """The model of a training, from `home` if it is there; else trained, and kept there."""
    weights, about = home / f"{training.key}.safetensors", home / f"{training.key}.json"
    if weights.is_file() and about.is_file():
        record = json.loads(about.read_text(encoding="utf-8"))
        if sha256(weights) == record["sha256"]:
            model = training.built()
            model.load_state_dict(load_file(weights))
            return Trained(model.eval(), training.dataset(), training, record, condition)
    model, record = train(training, stepped)
    write_file(weights, save({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}))
    record["sha256"] = sha256(weights)
    write_file(about, json.dumps(record) + "\n")
    return Trained(model, training.dataset(), training, record, condition)
