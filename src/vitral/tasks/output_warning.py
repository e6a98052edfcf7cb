"""Whether a model that is to be trained or exported returns probabilities, where its outputs are taken for logits."""

from contextlib import suppress

import torch
from torch import nn

from vitral.base.modes import evaluating
from vitral.base.output import find_answer
from vitral.recording.indices import Grid
from vitral.recording.probes import is_known
from vitral.recording.undisturbed import undisturbed
from vitral.store.classifier import warning_of_scale


def output_warning(model: nn.Module, size: Grid) -> str:
    """A sentence on a model of the user's own that returns probabilities, by its outputs for a few random images;
    empty for any other."""
    if is_known(model):
        return ""
    device = next((value.device for value in model.parameters()), None)
    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    # What a model refuses, or cannot run, is reported where it is trained or exported.
    with suppress(Exception), evaluating(model), undisturbed(model), torch.no_grad():
        return warning_of_scale(model, find_answer(model, model(images), images).tensor)
    return ""
