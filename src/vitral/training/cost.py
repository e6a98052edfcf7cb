"""The floating-point operations and the inner width of a model, counted by running it once on a black image."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitral.base.errors import ConfigError, UsageError, VitralError
from vitral.base.modes import evaluating, frozen
from vitral.base.output import find_output
from vitral.data.preprocess import normalise
from vitral.recording.undisturbed import undisturbed
from vitral.store.classifier import Classifier
from vitral.store.code import describe_error


def operations(model: Classifier, note: Callable[[str], None] = lambda sentence: None) -> float:
    """Floating-point operations to train on one image: three times those of the products in a forward pass.

    The products inside the attention kernel are counted only where PyTorch's counter knows the kernel; on a CPU it does
    not. `note` takes the sentence on which part of the model's output holds its scores, where there is a choice.

    Raises `ConfigError` unless the model returns one logit per class (for each pixel, if it segments), `ShapeError` if
    it takes a number of channels that no image has, `UsageError` with the line if the user's own model fails.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("Every parameter of the model is frozen (requires_grad=False), so there is nothing to train.")
    height, width = model.preprocessing.size
    pixels = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=next(model.parameters()).device)
    image = normalise(pixels, model.preprocessing)
    try:
        with evaluating(model), frozen(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            out = model(image)
    except Exception as error:  # whatever the user's own code raises
        if isinstance(error, VitralError) or not hasattr(model, "code"):
            raise
        file = Path(model.code["file"])
        reason = describe_error(error, file)
        raise UsageError(
            f"{file.name}:{model.code['name']} failed on one image of {height}x{width}: {reason}"
        ) from error
    output = find_output(model, out, 1)
    wanted: tuple[int, ...] = (1, len(model.classes))
    per = f"For one image of {height}x{width} and {wanted[1]} classes, the model must return logits of shape"
    if model.record.task == "segmentation":
        wanted = (*wanted, height, width)
    if tuple(output.tensor.shape) != wanted:
        raise ConfigError(
            f"{per} {wanted}; it returned {tuple(output.tensor.shape)}.{way_to_masks(output.tensor, wanted)}"
        )
    if output.note:
        note(output.note)
    return 3.0 * counter.get_total_flops()


def training_operations(model: Classifier) -> float | None:
    """Floating-point operations of the products in a training step, per image: forward, and backward where it trains.

    Counted on a black image, with attention written out, since PyTorch's counter does not know every fused kernel. None
    for a model that has no gradients in eval mode.
    """
    height, width = model.preprocessing.size
    pixels = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=next(model.parameters()).device)
    image = normalise(pixels, model.preprocessing)
    try:
        counter = FlopCounterMode(display=False)
        with undisturbed(model), evaluating(model), sdpa_kernel(SDPBackend.MATH), counter:
            find_output(model, model(image), 1).tensor.float().sum().backward()
    except RuntimeError:
        return None
    finally:
        for parameter in model.parameters():
            parameter.grad = None
    return float(counter.get_total_flops())


def way_to_masks(output: Tensor, wanted: tuple[int, ...]) -> str:
    """What makes masks of the outputs that segmentation models often return."""
    if len(wanted) != 4 or output.ndim != 4:
        return ""
    if output.shape[1] == wanted[1]:
        return " Enlarge them in forward: F.interpolate(logits, size=images.shape[2:], mode='bilinear')."
    return " Move the classes to axis 1: logits.movedim(-1, 1)." if output.shape[3] == wanted[1] else ""


def width(model: nn.Module) -> int:
    """The inner width of a model: the median number of inputs of its linear layers and convolutions, by weights."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    weighed = sorted((layer.weight[0].numel(), layer.weight.numel()) for layer in layers)
    reached = list(accumulate(weight for _, weight in weighed))
    return next((inputs for (inputs, _), weights in zip(weighed, reached) if 2 * weights >= reached[-1]), 0)
