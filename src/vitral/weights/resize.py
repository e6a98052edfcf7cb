"""Adapt a model's tensors to another image size, number of classes, or number of channels."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.family.resample import resample_positions
from vitral.nn.patch import pair


def adapt_tensors(
    ours: Mapping[str, Tensor], settings: Mapping[str, Any], requested: Mapping[str, Any], resampling: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Our tensors for the requested `img_size`, `num_classes` and `in_channels`, and each change in words.

    `settings` are those that the tensors are of. Raises `ConfigError` for an image size that is not whole patches.
    """
    tensors, changes = dict(ours), []
    old, new = pair(settings["img_size"]), pair(requested.get("img_size", settings["img_size"]))
    # Only a learned table depends on the size: rotary and fixed positions are computed for any grid.
    if old != new and "pos_embed" in tensors:
        patch = pair(settings["patch_size"])
        if any(side < 1 or side % own for side, own in zip(new, patch)):
            raise ConfigError(
                f"Images of {new[0]} x {new[1]} cannot be cut into patches of {patch[0]} x {patch[1]}. "
                "Specify another img_size."
            )
        (rows, columns), grid = ((size[0] // patch[0], size[1] // patch[1]) for size in (old, new))
        tensors["pos_embed"] = resample_positions(tensors["pos_embed"], (rows, columns), grid, resampling)
        changes.append(f"positions of {rows} x {columns} patches resampled to {grid[0]} x {grid[1]} by {resampling}")
    classes = requested.get("num_classes", settings["num_classes"])
    if classes != settings["num_classes"]:
        # All or nothing: which of the old rows would belong to a new class is not known here.
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        changes.append(f"a new head for {classes} classes, untrained" if classes else "the head is left out")
    channels = requested.get("in_channels", settings["in_channels"])
    first = next(name for name in ("patch_embed.proj.weight", "stem.0.weight") if name in tensors)  # of a ResNet
    kernel = tensors[first]
    if channels != kernel.shape[1]:
        tensors[first] = spread_channels(kernel, channels)
        changes.append(
            f"the patch kernel's {kernel.shape[1]} input channels converted to {channels}: "
            + ("summed" if channels == 1 else "repeated, and scaled so that equal channels give the same output")
        )
    return tensors, changes


def spread_channels(kernel: Tensor, channels: int) -> Tensor:
    """A kernel for other channels: summed for one (a grey image as three equal channels), else repeated in turn."""
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    # Repeated channels add up, so each gets its share: the first block sees activations as large as in training.
    repeated = kernel[:, [channel % kernel.shape[1] for channel in range(channels)]]
    return repeated * (kernel.shape[1] / channels)
