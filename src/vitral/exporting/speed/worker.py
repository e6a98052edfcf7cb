"""The process in which one way runs: `python -m vitral.exporting.speed.worker`.

It reads pickled commands from standard input and writes a pickled reply to each. A way has a process of its own so
that its memory can be told from that of others, its threads are its own, and a crash ends nothing else.
"""

import os
import pickle
import sys
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vitral.base.errors import VitralError
from vitral.base.memory import anonymous_resident
from vitral.base.output import find_answer
from vitral.exporting.speed.exported import NAME, exported_way
from vitral.exporting.speed.peak_memory import peak_memory
from vitral.exporting.speed.way import Device, Forward, Job, find_ways
from vitral.store.artifact import read_artifact
from vitral.store.classifier import Classifier
from vitral.weights.load import load

AT_ONCE = 8  # images per pass, of which answers are compared
# In the folder that all processes share.
IMAGES, CALIBRATING, PIXELS = "images.npy", "calibrating.npy", "pixels.npy"
MODEL, WEIGHTS = "module.pt", "weights.pt"


@dataclass
class Worker:
    """One way of running the model that `spec` names, or that was saved in `folder`."""

    way_name: str
    spec: str
    code: str | None
    folder: Path
    device: Device
    job: Job = field(init=False)
    opened: dict[int, Forward] = field(default_factory=dict)  # by the number of threads

    def __post_init__(self) -> None:
        # Before anything of the model is in memory.
        self.before = 0 if self.device == "cuda" else anonymous_resident() or 0
        is_exported = self.way_name == NAME
        self.way = exported_way(read_artifact(Path(self.spec))) if is_exported else find_ways()[self.way_name]
        calibrating = None
        if (self.folder / CALIBRATING).exists():
            calibrating = np.load(self.folder / CALIBRATING), np.load(self.folder / PIXELS)
        self.job = Job(None, self.folder, self.device, np.load(self.folder / IMAGES), calibrating, self.spec)

    def load(self) -> None:
        """Load the model, in memory of this process: weights that are mapped from a file would not count."""
        if self.spec:
            model = load(self.spec, self.code)
            model.load_state_dict(torch.load(self.folder / WEIGHTS, weights_only=True))
        else:
            model = load_saved(self.folder / MODEL)
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        self.job = replace(self.job, model=model.to(self.device).eval())

    def write(self) -> None:
        """Write the files of the way."""
        assert self.way.write is not None
        self.load()
        self.way.write(self.job)

    def forward(self, threads: int) -> Forward:
        """The function of images, with so many threads."""
        torch.set_num_threads(threads)
        if self.way.write is None and self.job.model is None and self.way_name != NAME:
            self.load()
        key = threads if self.way.reopens else 0
        if key not in self.opened:
            self.opened[key] = self.way.open(self.job)
        return self.opened[key]

    def keep(self, threads: list[int]) -> None:
        """Let go of what was opened for other numbers of threads."""
        if self.way.reopens:
            self.opened = {number: forward for number, forward in self.opened.items() if number in threads}

    def time(self, threads: int, batch: int, passes: int) -> list[float]:
        """The seconds of each of so many passes, after one that does not count."""
        forward, images, seconds = self.forward(threads), self.batch(batch), list[float]()
        with torch.inference_mode():
            self.run(forward, images)
            for _ in range(passes):
                start = time.perf_counter()
                self.run(forward, images)
                seconds.append(time.perf_counter() - start)
        return seconds

    def run(self, forward: Forward, images: torch.Tensor) -> Any:
        found = forward(images)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return found

    def memory(self, threads: int, batch: int) -> int | None:
        """The most bytes in passes of a batch, without those that were there before the model was loaded."""
        forward, images = self.forward(threads), self.batch(batch)
        with torch.inference_mode():
            most = peak_memory(lambda: self.run(forward, images), self.device)
        return None if most is None else max(0, most - self.before)

    def answers(self, threads: int) -> Float[np.ndarray, "n k ..."]:
        """The logits, numbers or features of all images."""
        forward = self.forward(threads)
        return logits_of(lambda images: self.run(forward, images), self.job.model, self.job.images, self.device)

    def batch(self, size: int) -> torch.Tensor:
        """So many images on the device; some of them more than once if there are too few."""
        chosen = np.arange(size) % len(self.job.images)
        return torch.from_numpy(self.job.images[chosen]).to(self.device)


def logits_of(
    forward: Forward, model: Classifier | None, images: Float[np.ndarray, "n c h w"], device: Device
) -> Float[np.ndarray, "n k ..."]:
    """What a way gives for images, which a `model` may return among other things."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), AT_ONCE):
            some = torch.from_numpy(images[start : start + AT_ONCE]).to(device)
            output = forward(some)
            if model is not None:
                output = find_answer(model, output, some).tensor
            found.append(output.float().cpu())
    return torch.cat(found).numpy()


def load_saved(file: Path) -> Classifier:
    model: Classifier = torch.load(file, weights_only=False)  # written by the process that started this one
    return model


def serve() -> None:
    """Answer commands until standard input ends."""
    commands, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the replies
    warnings.simplefilter("ignore")
    worker = None
    while True:
        try:
            command, settings = pickle.load(commands)
        except EOFError:
            return
        try:
            if command == "start":
                worker, found = Worker(**settings), None
            else:
                found = getattr(worker, command)(**settings)
            reply = True, found
        except Exception as error:  # whatever a library raises for a model that it does not take
            reply = False, describe(error)
        pickle.dump(reply, replies)
        replies.flush()


def describe(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, VitralError):
        return str(error)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    serve()
