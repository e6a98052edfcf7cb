"""The training film: what CLS attends to in the same few images, from the untrained model to the last step.

Axes:  f frames   b images   l layers   gy gx rows, columns of patches
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitral.base.errors import StoreError, UsageError
from vitral.base.files import write_file
from vitral.data.preprocess import normalise
from vitral.explain.entry import explain_observed
from vitral.explain.methods.attention import attention
from vitral.explain.observation import observe
from vitral.store.classifier import Classifier

FRAMES = 18


def frame_steps(total: int) -> set[int]:
    """The steps of a film: closer together early, where most changes."""
    return {round(total * (frame / (FRAMES - 1)) ** 1.6) for frame in range(FRAMES)}


@dataclass
class Film:
    """Frames of `attention`, heads averaged, in units of uniform attention."""

    pixels: UInt8[np.ndarray, "b y x 3"]
    steps: list[int] = field(default_factory=list)
    frames: list[Float[np.ndarray, "b l gy gx"]] = field(default_factory=list)
    prefix_mass: list[Float[np.ndarray, "b l"]] = field(default_factory=list)

    def shoot(self, model: Classifier, step: int) -> None:
        """Add the frame of a step, unless the film has it.

        Raises `UsageError` for a model that does not read its answer from CLS, or whose layers do not fit one picture;
        `WatchError` if its attention cannot be verified.
        """
        if self.steps and step <= self.steps[-1]:
            return
        device = next(model.parameters()).device
        images = normalise(torch.from_numpy(self.pixels).to(device), model.preprocessing)
        maps = explain_observed(attention, observe(model, images))
        if maps.reader != "CLS":
            raise UsageError(
                f"the film shows what CLS attends to, but this model's prediction is read from {maps.reader}."
            )
        self.steps.append(step)
        self.frames.append(maps.values.mean(axis=2))
        self.prefix_mass.append(maps.prefix_mass.mean(axis=2))

    def save(self, path: Path) -> None:
        content = io.BytesIO()
        np.savez_compressed(
            content,
            pixels=self.pixels,
            steps=self.steps,
            frames=np.stack(self.frames),
            prefix_mass=np.stack(self.prefix_mass),
        )
        write_file(path, content.getvalue())

    @classmethod
    def load(cls, path: Path, until: int) -> "Film":
        """The frames up to the step from which a run resumes."""
        try:
            return cls.read(path, until)
        except (ValueError, EOFError, OSError, KeyError, BadZipFile) as error:
            raise StoreError(f"{path} is damaged: {error}. Delete it to continue without the film.") from error

    @classmethod
    def read(cls, path: Path, until: int) -> "Film":
        with np.load(path) as saved:
            kept = [index for index, step in enumerate(saved["steps"]) if step <= until]
            return cls(
                saved["pixels"],
                [int(saved["steps"][index]) for index in kept],
                [saved["frames"][index] for index in kept],
                [saved["prefix_mass"][index] for index in kept],
            )
