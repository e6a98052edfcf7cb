"""An exported model as a model: `vitral.load(ARTIFACT)` runs its files in the runtime that they were written for."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.record import attach_record
from vitral.recording.handed_out import HandedOut
from vitral.store import ARTIFACT
from vitral.store.artifact import INPUT, LOGITS, read_artifact
from vitral.store.artifact_maps import ArtifactMaps
from vitral.store.classifier import Classifier
from vitral.store.runtimes.graphs import MODEL, open_graph
from vitral.store.runtimes.session import Precision, Session
from vitral.weights.artifact_maps import handed_out


class ArtifactModel(nn.Module):
    """Images (b, c, h, w) -> logits, computed by the graph `model` on the CPU; it cannot be trained or watched.

    `size` is (height, width) of an image, `grid` rows and columns of patches, on which an explanation may cover it, and
    `maps` which rows of attention the graph gives, in which precision.
    """

    def __init__(
        self,
        session: Session,
        size: tuple[int, int],
        grid: tuple[int, int] | None = None,
        maps: ArtifactMaps | None = None,
        precision: Precision = "fp32",
    ):
        super().__init__()
        self.session, self.size, self.grid, self.maps, self.precision = session, size, grid, maps, precision
        self.anchor = nn.Parameter(torch.zeros(0), requires_grad=False)  # callers ask for the device of a parameter

    def forward(self, images: Float[Tensor, "b c h w"]) -> Tensor:
        if images.requires_grad and torch.is_grad_enabled():
            raise UsageError(
                "An exported model has no gradients. Use the model that it was exported from, or a method without "
                "gradients: occlusion."
            )
        if images.shape[2:] != self.size:
            raise UsageError(
                f"The exported model takes images of {self.size[0]} x {self.size[1]} (height x width); found "
                f"{images.shape[2]} x {images.shape[3]}. For another size, export a model that was made for it."
            )
        return torch.from_numpy(self.session.run({INPUT: images.detach().cpu().numpy()}, [LOGITS])[LOGITS])

    def hand_out(self, images: Float[Tensor, "b c h w"]) -> HandedOut:
        """The logits and the rows of attention of one run.

        Raises `WatchError` if the file gives none, or some that do not reproduce what its attention returned.
        """
        if self.maps is None:
            raise WatchError(
                "The model was exported without its rows of attention. Export it again with --maps, or use occlusion."
            )
        found = self.session.run({INPUT: images.detach().cpu().numpy()}, [LOGITS, *self.maps.names])
        return handed_out(self.maps, torch.from_numpy(found.pop(LOGITS)), found, self.precision)


def is_artifact(path: Path) -> bool:
    return (path / ARTIFACT).is_file()


def load_artifact(folder: Path) -> Classifier:
    """The model of an exported folder, with the record that it was exported with.

    Raises `StoreError` for files that are missing or have changed, `ConfigError` without the runtime.
    """
    card = read_artifact(folder)
    session = open_graph(folder, MODEL, card.runtime, card.precision)
    made = ArtifactModel(session, card.preprocessing.size, card.grid, card.maps, card.precision)
    model: Classifier = attach_record(made, card.record()).eval()
    return model
