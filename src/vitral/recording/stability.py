"""Whether a model answers the same for an image each time, whatever other images are in the batch.

Methods that compare answers, such as occlusion, and predictions have a meaning only where it does. What is watched is
exact all the same: it is what that one pass used.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ModelError, ShapeError, UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.recording.calls import relative_difference
from vitral.recording.forward import model_output
from vitral.recording.probes import is_known
from vitral.recording.undisturbed import undisturbed

# The largest difference that is taken for rounding: kernels sum in another order for another number of images.
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 0.1}


@dataclass(frozen=True)
class Instability:
    """Why a model has no single answer for an image, and what to do: sentences, empty where it has one."""

    is_random: str = ""
    mixes_images: str = ""

    def __str__(self) -> str:
        return self.is_random or self.mixes_images


FOUND: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Instability]] = WeakKeyDictionary()


def instability(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Instability:
    """Whether a model has a single answer for an image.

    Measured once for a model and an image size, in eval mode, on two images: those given, or one and a changed copy.
    Vitral's own models are not measured. A model that takes no other number of images is not refused here.
    """
    if is_known(model):
        return Instability()
    found = FOUND.setdefault(model, {})
    size = tuple(images.shape[1:])
    if size not in found:
        try:
            found[size] = measure(model, images[:2].detach())
        except (ModelError, ShapeError, UsageError):
            found[size] = Instability()
    return found[size]


def check_stable(model: nn.Module, images: Float[Tensor, "b c y x"], single_pass: bool = False) -> None:
    """Raise `WatchError` for a model that has no single answer for an image; see `instability`.

    With `single_pass`, nothing is compared with answers of another batch, so that images may mix if there is only one.
    """
    found = instability(model, images)
    why = found.is_random if single_pass and len(images) == 1 else str(found)
    if why:
        raise WatchError(why)


@torch.no_grad()
def measure(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Instability:
    """See `instability`."""
    one = images[:1]
    other = images[1:] if len(images) > 1 else one.roll(1, -1) / 2 - 0.5
    # One block around all passes: it sets random numbers back when it ends, and not between them.
    with evaluating(model), undisturbed(model):
        alone, again = (model_output(model, one) for _ in range(2))
        beside = model_output(model, torch.cat([one, other]))[:1]
    name, most = type(model).__name__, ROUNDING.get(alone.dtype, 0.0)
    if (difference := relative_difference(again, alone)) > most:
        return Instability(
            is_random=f"{name} gives different outputs for the same image, by {difference:.1e} of the largest value, "
            "also in eval mode: it is random, or changes with every pass. Use nn.Dropout, which eval mode turns off, "
            "rather than F.dropout, and seed any other random numbers in forward()."
        )
    if beside.shape == alone.shape and (difference := relative_difference(beside, alone)) > most:
        return Instability(
            mixes_images=f"The output of {name} for an image depends on the other images of the batch, by "
            f"{difference:.1e} of the largest value. Normalise within each image (nn.LayerNorm), or by running "
            "statistics (nn.BatchNorm2d in eval mode), and check that no softmax, mean or reshape runs over the "
            "batch axis."
        )
    return Instability()
