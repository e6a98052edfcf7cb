"""A training run after a whole number of steps, in memory and on disk: enough to continue it bit for bit."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitral.base.errors import StoreError
from vitral.base.files import sha256, write_folder
from vitral.base.plural import one_or_many
from vitral.data.dataset import Split
from vitral.store import CHECKPOINT_PREFIX as PREFIX
from vitral.store import CHECKPOINT_WEIGHTS as WEIGHTS
from vitral.training.average import MovingAverage
from vitral.training.steps import Step

STATE, OPTIMIZERS = "state.json", "optimizers.pt"
KEPT = 2  # checkpoints of a run: if the disk damages the last one, the one before is there
Report = Callable[[str], None]


@dataclass(frozen=True)
class Inputs:
    """SHA-256 of everything that a run was started with and that must be unchanged for it to be resumed.

    `settings` of config.yaml without what a resumed run may change, `data` of the training and validation images,
    `code` of the user's own model file (empty for a model of Vitral's). `total` are the steps that were planned, which
    may become more, and `images` how many training and validation images there were; 0 where they are not known.
    """

    settings: str
    data: str
    code: str
    total: int = 0
    images: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a run has come: steps taken, the best validation score so far, and its last steps, oldest first.

    `waited` is the number of evaluations since that score.
    """

    step: int
    best: tuple[float, float]
    recent: tuple[Step, ...]
    waited: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on.

    Nothing in it says how many processes or devices wrote it, so that a run may be resumed on another number of them:
    a `step` is an update by a whole batch; every tensor is whole, as `model.state_dict()` names it on one device (a
    sharded run gathers its tensors before it writes, and shards them after it has read); `optimizers` are the state
    dicts in the order of `optim.optimizers`; and neither the order of the images nor their augmentation is here, since
    `(seed, step)` decides both. `random` is the state of the CPU's generator, from which layers such as dropout draw;
    `cuda` is that of each GPU, and is used only on as many GPUs as it was written on. `average` are the weights of the
    moving average, if the run has one.

    On disk it is a folder, `step-000123/`:

        weights.safetensors    `weights`
        optimizers.pt          `optimizers`, `random`, `cuda`, `average`, read with `weights_only=True`
        state.json             `progress`, `inputs`, and the SHA-256 of both files
    """

    progress: Progress
    inputs: Inputs
    weights: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    random: Tensor
    cuda: list[Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def take(
        cls,
        progress: Progress,
        inputs: Inputs,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        average: MovingAverage | None = None,
    ) -> "Checkpoint":
        """The state of a run between two steps; its tensors are the run's own, so write it before the next step."""
        return cls(
            progress,
            inputs,
            model.state_dict(),
            [optimizer.state_dict() for optimizer in optimizers],
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            average.state if average else {},
        )

    def restore(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], average: MovingAverage | None = None
    ) -> None:
        """Put the weights, the optimizers' state and the random state back.

        Raises `RuntimeError` or `ValueError` if the checkpoint is of another model.
        """
        model.load_state_dict(self.weights)
        if average:
            average.model.load_state_dict(self.average)
        for optimizer, state in zip(optimizers, self.optimizers, strict=True):
            optimizer.load_state_dict(state)
        torch.set_rng_state(self.random)
        if self.cuda and len(self.cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(self.cuda)


def fingerprint(*splits: Split) -> str:
    """A hash of all images and labels, in the order in which they were read or drawn."""
    digest = hashlib.sha256()
    for split in splits:
        order = split.source_order
        digest.update(split.labels[order].tobytes())
        for index in order:
            digest.update(split.pixels[index].tobytes())
    return digest.hexdigest()


def save_checkpoint(home: Path, checkpoint: Checkpoint) -> Path:
    """Write `home/step-000123/` whole, then remove all but the `KEPT` last ones."""
    folder = home / f"{PREFIX}{checkpoint.progress.step:06d}"
    with write_folder(folder) as new:
        # A clone per name: safetensors refuses two names of one tensor, which a model with tied weights has.
        whole = {name: t.clone(memory_format=torch.contiguous_format) for name, t in checkpoint.weights.items()}
        (new / WEIGHTS).write_bytes(save(whole))
        state: dict[str, Any] = {"optimizers": checkpoint.optimizers, "random": checkpoint.random}
        state |= {"cuda": checkpoint.cuda} if checkpoint.cuda else {}
        state |= {"average": checkpoint.average} if checkpoint.average else {}
        content = io.BytesIO()  # torch.save to memory first: on a full disk its own writing fails without a reason
        torch.save(state, content)
        # A view (getbuffer) would outlive a failed write in its traceback, and Python 3.13 warns of that.
        (new / OPTIMIZERS).write_bytes(content.getvalue())
        record = asdict(checkpoint.progress) | asdict(checkpoint.inputs)
        record["files"] = {name: sha256(new / name) for name in (WEIGHTS, OPTIMIZERS)}
        (new / STATE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    unfinished = home.glob(f".{PREFIX}*")  # left by a process that was killed while it wrote
    for other in (*checkpoints(home)[:-KEPT], *unfinished):
        shutil.rmtree(other, ignore_errors=True)
    return folder


def checkpoints(home: Path) -> list[Path]:
    """The checkpoints in a run, oldest first."""
    found = [folder for folder in home.glob(f"{PREFIX}*") if folder.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix(PREFIX)))


def read_progress(home: Path, report: Report = lambda sentence: None) -> tuple[Path, Progress, Inputs]:
    """The last whole checkpoint's folder, how far the run was, and what it was started with.

    `report` gets a sentence about a later one that cannot be read. Raises `StoreError` if there is none that can be.
    """
    found = checkpoints(home)
    if not found:
        raise StoreError(
            f"{home.parent} has no checkpoint to resume from. "
            f"Start again with the same settings: --config {home.parent / 'config.yaml'}."
        )
    *earlier, last = found
    try:
        return read_one(last)
    except StoreError as error:
        for folder in reversed(earlier):
            with suppress(StoreError):
                whole = read_one(folder)
                report(f"{error} Resumed from the checkpoint before: step {whole[1].step:,}.")
                return whole
        raise StoreError(f"{error} The run cannot be resumed.") from error


def read_one(folder: Path) -> tuple[Path, Progress, Inputs]:
    """The same of one checkpoint. Raises `StoreError` if one of its files is not as it was written."""
    try:
        record: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        files = record.pop("files")
        settings, data, code = (record.pop(name) for name in ("settings", "data", "code"))
        inputs = Inputs(settings, data, code, record.pop("total", 0), record.pop("images", 0))
        recent = tuple(Step(**step) for step in record["recent"])
        progress = Progress(**record | {"best": tuple(record["best"]), "recent": recent})
        if folder.name != f"{PREFIX}{progress.step:06d}" or not isinstance(files, dict):
            raise ValueError("it was changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / STATE} cannot be read: {error}.") from error
    for name, expected in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise StoreError(f"{folder / name} is missing, damaged, or was changed after it was written.")
    return folder, progress, inputs


def read_checkpoint(home: Path) -> Checkpoint:
    """The last checkpoint of a run. Raises what `read_progress` raises."""
    folder, progress, inputs = read_progress(home)
    state = torch.load(io.BytesIO((folder / OPTIMIZERS).read_bytes()), weights_only=True)
    return Checkpoint(
        progress,
        inputs,
        load_file(folder / WEIGHTS),
        state["optimizers"],
        state["random"],
        state.get("cuda", []),
        state.get("average", {}),
    )


def resume(
    home: Path,
    inputs: Inputs,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    data: str,
    code: str,
    average: MovingAverage | None = None,
    report: Report = lambda sentence: None,
    fewer_images: bool = False,
) -> Progress:
    """Put the last checkpoint of a run into the model, the optimizers and the average; how far it was.

    `report` gets a sentence if the run goes on longer than was planned, or, where `fewer_images` are allowed, with
    others than before.

    `data` and `code` name the images and the file of the user's own model in messages. Raises `StoreError` if settings,
    images or code are not those of the run, or if the checkpoint is of another model.
    """
    last = read_checkpoint(home)
    others = last.inputs.data != inputs.data
    missing = last.inputs.images - inputs.images
    # As many images as before, and others: none is missing, so some have another label or are no longer the same.
    if others and not (fewer_images and (missing > 0 or not last.inputs.images)):
        raise StoreError(
            f"The training or validation images of {data} have changed since the run started. "
            "Restore them, or start a new run."
        )
    if last.inputs.settings != inputs.settings or (inputs.total < last.inputs.total and not others):
        raise StoreError(
            f"{home.parent / 'config.yaml'} has changed since the run stopped, or is of another version of Vitral. "
            "Restore it, or start a new run with it: --config. A run may get more --epochs, but not fewer."
        )
    is_longer = 0 < last.inputs.total < inputs.total
    if is_longer:
        report(
            f"The run goes on to step {inputs.total:,}; {last.inputs.total:,} were planned. From here the learning "
            "rate is that of the longer run."
        )
    if others:
        count = one_or_many(missing, "image") if last.inputs.images else "Some images"
        report(f"{count} of the run can no longer be read, or changed: the steps from here leave them out.")
    if last.inputs.code != inputs.code:
        raise StoreError(f"{code} has changed since the run stopped. Restore it, or start a new run.")
    try:
        last.restore(model, optimizers, average)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise StoreError(f"The checkpoint in {home} belongs to another model: {reason}") from error
    # More epochs are asked for because of what they may gain: a run that patience has ended waits anew.
    return replace(last.progress, waited=0) if is_longer else last.progress
