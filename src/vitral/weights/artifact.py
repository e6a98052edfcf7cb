"""An exported model as a model: `vitral.load(ARTIFACT)` runs its files in ONNX Runtime."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError, UsageError, WatchError
from vitral.base.record import attach_record
from vitral.recording.handed_out import HandedOut
from vitral.store import ARTIFACT
from vitral.store.artifact import INPUT, LOGITS, MODEL, read_artifact
from vitral.store.artifact_maps import ArtifactMaps
from vitral.store.classifier import Classifier
from vitral.weights.artifact_maps import handed_out


class ArtifactModel(nn.Module):
    """Images (b, c, h, w) -> logits, computed by `model.onnx` on the CPU; it cannot be trained or watched."""

    def __init__(self, file: Path, grid: tuple[int, int] | None = None, maps: ArtifactMaps | None = None):
        super().__init__()
        self.grid = grid  # rows and columns of patches, on which an explanation may cover the image
        self.maps = maps  # which rows of attention the file gives
        self.session: Any = open_session(file)
        self.anchor = nn.Parameter(torch.zeros(0), requires_grad=False)  # callers ask for the device of a parameter

    def forward(self, images: Float[Tensor, "b c h w"]) -> Tensor:
        if images.requires_grad and torch.is_grad_enabled():
            raise UsageError(
                "An exported model has no gradients. Use the model that it was exported from, or a method without "
                "gradients: occlusion."
            )
        (logits,) = self.session.run([LOGITS], {INPUT: images.detach().cpu().numpy()})
        return torch.from_numpy(logits)

    def hand_out(self, images: Float[Tensor, "b c h w"]) -> HandedOut:
        """The logits and the rows of attention of one run.

        Raises `WatchError` if the file gives none, or some that do not reproduce what its attention returned.
        """
        if self.maps is None:
            raise WatchError(
                "The model was exported without its rows of attention. Export it again with --maps, or use occlusion."
            )
        logits, *found = self.session.run([LOGITS, *self.maps.names], {INPUT: images.detach().cpu().numpy()})
        return handed_out(self.maps, torch.from_numpy(logits), dict(zip(self.maps.names, found)))


def is_artifact(path: Path) -> bool:
    return (path / ARTIFACT).is_file()


def load_artifact(folder: Path) -> Classifier:
    """The model of an exported folder, with the record that it was exported with.

    Raises `StoreError` for files that are missing or have changed, `ConfigError` without ONNX Runtime.
    """
    card = read_artifact(folder)
    file = folder / MODEL
    classifier: Classifier = attach_record(ArtifactModel(file, card.grid, card.maps), card.record()).eval()
    return classifier


def open_session(file: Path) -> Any:
    """The file in ONNX Runtime on the CPU. Raises `ConfigError` if the library is missing or cannot be imported."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ConfigError(f"{file} runs in ONNX Runtime: pip install 'vitral[export]'.") from error
    except ImportError as error:
        raise ConfigError(f"ONNX Runtime is installed, but cannot be imported: {error}") from error
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    settings.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
