"""Models that answer after different layers for different images: early exits.

All layers may run for all images, and the answer of each be chosen afterwards. Then no gradient of an image's answer
reaches the layers behind its exit, though one reaches those before it.

Axes:  b images   l layers
"""

import torch
from jaxtyping import Int
from torch import Tensor

from vitral.explain.token_gradients import gradients_of, queries_reached
from vitral.recording.layers import Recording


def last_layers_reached(recording: Recording, answer: Tensor) -> Int[Tensor, " b"]:
    """The number of the last layer that the gradient of each image's answer reaches; -1 where it reaches none.

    `recording` is of a pass that recorded gradients. Empty where the layers do not hold one sequence, or several, for
    each image.
    """
    count = len(answer)
    calls = [(number, call) for number, layer in enumerate(recording.layers) for call in layer.calls]
    if not calls:
        return torch.empty(0, dtype=torch.long)
    found = gradients_of(answer, [call.out for _, call in calls])
    last = torch.full((count,), -1)
    for number, layer in enumerate(recording.layers):
        gradients = [gradient for (own, _), gradient in zip(calls, found) if own == number]
        if len(layer.kept_rows) % count:
            return last[:0]
        if layer.further_uses:  # the answer may depend on the weights themselves, and not on their product with values
            last[:] = number
        elif gradients:
            last[queries_reached(layer, gradients).reshape(count, -1).any(dim=1).cpu()] = number
    return last


def drop_layers_behind(recording: Recording, last: int) -> None:
    """The answer depends on no layer behind this one."""
    before = sum(layer.bit for layer in recording.layers[: last + 1])
    recording.answer = (recording.answer or before) & before


def why_several_exits(recording: Recording, last: Int[Tensor, " b"]) -> str:
    """A refusal to show images together whose answers are read at different depths; empty if they are not."""
    numbers = last.tolist()
    known = sorted({number for number in numbers if number >= 0})
    if len(known) < 2:
        return ""
    some = [f"that of image {numbers.index(number)} after {recording.layers[number].name}" for number in known[:3]]
    return (
        f"The answers of these images are read at different depths of the model (early exits): {', '.join(some)}. One "
        "figure of a batch starts at one depth, so explain one image at a time."
    )
