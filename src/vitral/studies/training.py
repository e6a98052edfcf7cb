"""One training of a study: everything that determines it, as a value, and the trained model, cached by that value.

Two studies that need the same training share it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import TrainingError
from vitral.base.files import sha256, write_file
from vitral.base.lookup import import_object, names
from vitral.base.mask_values import IGNORED, background_of
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.augment import find_augment
from vitral.data.batches import batches
from vitral.data.class_names import missing_classes
from vitral.data.dataset import Dataset, Split
from vitral.data.division import Division
from vitral.data.folder import folder
from vitral.data.preprocess import normalise
from vitral.data.spec import built_in_sets, find_data
from vitral.nn.parts import find_part, record_part
from vitral.nn.zoo import create
from vitral.store.classifier import Classifier
from vitral.store.code import from_code, is_code
from vitral.studies.code_fingerprint import fingerprint
from vitral.studies.dataset_changes import apply_change
from vitral.training import optim
from vitral.training.metrics import evaluate_split
from vitral.training.recipe import Recipe
from vitral.training.steps import Step, steps

# Plain supervised training, the same for every arm: docs/decisions/0003-studies.md says why not AdamW.
RECIPE: dict[str, Any] = dict(batch_size=128, augment="none", warmup=0.1, weight_decay=0.1, precision="float32")
CURVE_POINTS = 8  # of a learning curve
CURVE_IMAGES = 500  # validation images that each of these points is evaluated on
OWN_SIZE = Preprocessing(size=(48, 48))  # of a reader's own images


@dataclass(frozen=True)
class Training:
    """Everything that determines a trained model. `settings` and `recipe` hold plain values, parts as configs do."""

    model: str
    settings: Mapping[str, Any]
    data: str
    change: str
    recipe: Mapping[str, Any]
    samples: int
    seed: int
    loop: str = ""
    eval_images: int = 2_000  # of each split, at most

    @property
    def key(self) -> str:
        """The same for the same training by the same code."""
        content = asdict(self) | {"code": fingerprint(*self.modules)}
        if is_code(self.model):
            content["file"] = sha256(Path(self.model.rpartition(":")[0]))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code determines the model, without those that they import."""
        data, augment = self.data.partition(":")[0], self.recipe.get("augment", RECIPE["augment"])
        generator = (f"data.synthetic.{data}",) if data in names("data.synthetic") else ()
        parts = (name.partition(":")[0] for value in (self.loop, *self.settings.values()) for name in parts_in(value))
        return ("studies.training", *generator, f"data.augmentation.{augment}", *parts)

    def dataset(self) -> Dataset:
        return seeded_dataset(self.data, self.change, self.seed)

    def build(self) -> Classifier:
        """The untrained model, the same for the same seed."""
        data = self.dataset()
        torch.manual_seed(self.seed)
        model = build_model(self.model, self.settings, len(data.classes), data.preprocessing.size)
        return attach_record(model, ModelRecord(data.classes, data.preprocessing, data.task))


def build_model(name: str, settings: Mapping[str, Any], classes: int, size: tuple[int, int]) -> nn.Module:
    """A model of the zoo with some settings, or the reader's own."""
    if is_code(name):
        return from_code(name, classes, size)
    parts = {key: part_at(value) if is_part(value) else value for key, value in settings.items()}
    return create(name, **(dict(num_classes=classes, img_size=size) | parts))


def part_at(recorded: Any) -> Any:
    """A part from `nn`, or one that only studies need."""
    return find_part(recorded, within="studies" if next(parts_in(recorded)).startswith("studies.") else "nn")


def is_part(value: Any) -> bool:
    """Whether a setting is the record of a part: its name, or its name and arguments."""
    return ":" in value if isinstance(value, str) else isinstance(value, Mapping) and "name" in value


def parts_in(value: Any) -> Iterator[str]:
    """The names of this package's parts in a setting, including those in the arguments of a part."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from parts_in(inner)
    elif is_part(value) and value.startswith(("nn.", "studies.")):
        yield value


def plain_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as records hold them: parts as a config records them."""
    return {key: record_part(value) if callable(value) else value for key, value in settings.items()}


@lru_cache(maxsize=4)
def seeded_dataset(spec: str, change: str, seed: int) -> Dataset:
    """A data set whose images are generated from the seed, so that seeds differ in everything that is random."""
    name, _, options = spec.partition(":")
    seeded = f"{name}:{','.join(filter(None, (options, f'seed={seed}')))}" if name in built_in_sets() else spec
    found = find_data(seeded)
    data = found if isinstance(found, Dataset) else folder(found, OWN_SIZE, Division(seed))
    return apply_change(data, change, seed)


@dataclass(frozen=True)
class Trained:
    """A trained model with its data, the condition's settings, and the record of its training."""

    model: Classifier
    data: Dataset
    training: Training
    record: Mapping[str, Any]
    condition: Mapping[str, Any]

    def test_images(self, most: int | None = None) -> Split:
        """The test images that the model is evaluated on, at most `most` of them."""
        return first_images(self.data.test, min(most or self.training.eval_images, self.training.eval_images))

    def normalised(self, pixels: UInt8[np.ndarray, "n y x c"]) -> Float[Tensor, "n c y x"]:
        """Images as the model takes them."""
        return normalise(torch.from_numpy(np.ascontiguousarray(pixels)), self.data.preprocessing)


class LoopInputs(NamedTuple):
    """What a training loop is given: `batches` are exactly those of its `total` steps."""

    model: Classifier
    batches: Iterator[tuple[Tensor, Tensor]]
    optimizers: list[torch.optim.Optimizer]
    lr_at: Callable[[int], float]
    recipe: Recipe
    total: int


Loop = Callable[[LoopInputs], Iterator[Step]]


def supervised(inputs: LoopInputs) -> Iterator[Step]:
    """The loss of the model's task, as `vitral train`."""
    model, batches, optimizers, lr_at, recipe, _ = inputs
    answer = answer_of(model)
    return steps(
        model, batches, optimizers, lr_at, nullcontext, recipe.clip, answer, answer.loss(recipe.label_smoothing)
    )


def train(training: Training, on_step: Callable[[int], None] = lambda _: None) -> tuple[Classifier, dict[str, Any]]:
    """Run all steps of a training; return the model after the last step, and a record.

    A loss that is not finite is a result, not an error: the record then says that the training diverged. `on_step` is
    called with the number of samples so far.
    """
    torch.manual_seed(training.seed)
    model, data = training.build(), training.dataset()
    recipe = Recipe(data=training.data, seed=training.seed, **(RECIPE | dict(training.recipe)))
    total = training.samples // recipe.batch_size
    record: dict[str, Any] = {"steps": total, "lr": recipe.lr, "diverged": False, "curve": [], "n": {}, "sample": {}}
    start = time.perf_counter()
    try:
        # The points are appended one by one: a training that diverges keeps the curve up to there.
        for point in learning_curve(model, data, recipe, training, total, on_step) if total else ():
            record["curve"].append(point)
    except TrainingError as error:
        record |= {"diverged": True, "why": str(error)}
    record["seconds"] = round(time.perf_counter() - start, 2)
    answer = answer_of(model)
    for name, whole in (("train", data.train), ("val", data.val), ("test", data.test)):
        split = first_images(whole, training.eval_images)
        chance = guessing_score(split.labels, data)
        # A diverged model answers with no numbers; it counts as one that guesses, so that it is neither dropped nor
        # lucky.
        guess = 1 / len(data.classes) if data.task == "one class" else chance
        record[f"{name}_{answer.measure}"] = guess if record["diverged"] else evaluate_split(model, split).value
        record["n"][name] = len(split)
        missing = missing_classes(split.labels.ravel(), data.classes)
        record["sample"][name] = dict(
            of=len(whole), classes=len(data.classes) - len(missing), missing=missing, chance=chance
        )
    return model.eval(), record


def guessing_score(labels: Integer[np.ndarray, "..."], data: Dataset) -> float:
    """The accuracy, or mean IoU, of always giving the most frequent class."""
    counts = np.bincount(labels[labels != IGNORED] if data.task == "segmentation" else labels)
    share = float(counts.max() / counts.sum())
    if data.task == "one class":
        return share
    background = background_of(data.classes)
    # A class that is given everywhere has the union of all pixels, and the others have no intersection.
    objects = np.count_nonzero(counts) - (background is not None and bool(counts[background]))
    return 0.0 if counts.argmax() == background else share / objects


def learning_curve(
    model: Classifier, data: Dataset, recipe: Recipe, training: Training, total: int, on_step: Callable[[int], None]
) -> Iterator[list[float]]:
    """Train, and yield [samples, accuracy or mean IoU on validation images] a few times on the way."""
    augment = find_augment(recipe.augment)
    feed = islice(batches(data.train, data.preprocessing, recipe.batch_size, recipe.seed, augment), total)
    optimizers, lr_at = optim.optimizers(model, recipe), partial(optim.schedule, total=total, warmup=recipe.warmup)
    loop: Loop = import_object(training.loop, within="studies") if training.loop else supervised
    validation = first_images(data.val, min(CURVE_IMAGES, training.eval_images))
    every = max(1, total // CURVE_POINTS)
    for step in loop(LoopInputs(model, feed, optimizers, lr_at, recipe, total)):
        on_step(step.number * recipe.batch_size)
        if step.number % every == 0:
            yield [step.number * recipe.batch_size, evaluate_split(model, validation).value]


def first_images(split: Split, n: int) -> Split:
    """The first `n` images of a split, a fair sample since it is in random order; all if it has fewer."""
    return split.only(np.arange(min(n, len(split))))


def load_or_train(training: Training, home: Path, condition: Mapping[str, Any]) -> Trained:
    """The model of a training, from the folder `home` if it is there and undamaged; otherwise trained and saved."""
    weights, about = home / f"{training.key}.safetensors", home / f"{training.key}.json"
    if weights.is_file() and about.is_file():
        record = json.loads(about.read_text(encoding="utf-8"))
        if sha256(weights) == record["sha256"]:
            model = training.build()
            model.load_state_dict(load_file(weights))
            return Trained(model.eval(), training.dataset(), training, record, condition)
    model, record = train(training)
    write_file(weights, save({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}))
    record["sha256"] = sha256(weights)
    write_file(about, json.dumps(record) + "\n")
    return Trained(model, training.dataset(), training, record, condition)
