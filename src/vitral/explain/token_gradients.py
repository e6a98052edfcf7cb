"""On which tokens of a model an answer depends, by its gradient: those that left the last block, or the queries of its
last attention.

Axes:  b images   n tokens   q queries   p patches   d width
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitral.explain.direct_readers import directly_read, is_normalised, scale_and_mean_matter
from vitral.recording.calls import relative_difference
from vitral.recording.layers import Layer, Recording
from vitral.recording.stream_places import Layout, StreamPlace, tokens_in_layout

Norm = Literal["none", "known", "perhaps"]  # whether an answer depends on some tokens only by a norm of all of them
Pair = tuple[Tensor, Tensor]  # a gradient, and the tensor at which it is
Arrange = Callable[[Tensor], Tensor]
SAME = 1e-3  # of the largest gradient: how far two that are the same may differ
MOST_STAGES = 16  # tensors of the tokens' shape that are looked at after the last block


@dataclass
class AfterBlock(TorchFunctionMode):
    """What left a model's last block, each time that it ran, in a pass that records gradients from there on; and what
    the model made of the last of its tokens in the same shape, collected while this mode is active."""

    runs: list[list[Tensor]] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def tensors(self) -> list[Tensor]:
        """What left the block when it ran last, the tokens first."""
        return self.runs[-1] if self.runs else []

    def left(self, tensors: list[Tensor]) -> None:
        """The block has returned these."""
        self.runs.append(tensors)
        self.after.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        collects = bool(self.tensors) and len(self.after) < MOST_STAGES and isinstance(result, Tensor)
        if collects and result.requires_grad and result.shape == self.tensors[0].shape:
            self.after.append(result)
        return result


def reached_after_block(
    recording: Recording, left: AfterBlock, answer: Tensor
) -> tuple[Bool[Tensor, "b n"] | None, Norm]:
    """From which tokens that left the last block each image's answer is read, and its `Norm`; None where no
    gradient reaches them, or other tensors left it, too, that the answer is read from."""
    gradient = gradient_after_block(left, answer)
    if gradient is None or gradient.ndim != 3:
        return None, "none"
    axis, last = token_axis(recording, left.tensors[0], answer), last_global_layer(recording.of_answer)
    parts = parts_of_last(recording)
    queries = sum(part.num_queries for part in parts)
    known = {queries, *([queries + 1] if len(parts) > 1 else []), *([last.num_tokens] if last else [])}
    if gradient.shape[axis] not in known or not gradient.any():
        return None, "none"
    return read_in_stages(left, answer, lambda tokens: tokens if axis == 1 else tokens.transpose(0, 1))


def read_in_stages(left: AfterBlock, answer: Tensor, arrange: Arrange) -> tuple[Bool[Tensor, "b n"], Norm]:
    """From which tokens each image's answer is read, and its `Norm`.

    A normalisation over all tokens is looked for in what left the last block and in what the model made of it in the
    same shape: a norm of each token may come before. `arrange` puts such a tensor's axes in order.
    """
    stages = [left.tensors[0], *left.after]
    gradients = gradients_of(answer, stages)
    known = [(g, x) for g, x in zip(gradients, stages) if g is not None]
    found = [(arrange(g), arrange(x)) for g, x in known]
    behind = number_behind_norm(known, arrange)
    if behind is not None:
        return (found[behind][0] != 0).any(dim=2), "known"
    strength = found[0][0].float().norm(dim=2)
    read, settled = directly_read(*found[0])
    explained = not torch.equal(read, strength > 0)
    for gradient, tokens in found[1:]:
        stage, stage_settled = directly_read(gradient, tokens)
        unread = read & ~stage & (gradient != 0).any(dim=2)
        # In another order of the tokens, those that are weaker here would not be weaker there.
        left_over = read & ~unread
        weaker = strength.where(unread, 0).amax(dim=1) < strength.where(left_over, torch.inf).amin(dim=1)
        if unread.any() and bool((weaker & left_over.any(dim=1)).all()):
            read, explained = left_over, True
        elif unread.any() or not stage_settled:
            settled = False
    return read, "known" if explained else "none" if settled else "perhaps"


def number_behind_norm(known: Sequence[Pair], arrange: Arrange) -> int | None:
    """The number of the first tensor that a normalisation over all tokens made of one before it; None without one.

    Whatever the answer takes from the tensor before must pass through it, and only before it the scale or the mean of
    the tokens does not matter. `known` are gradients and tensors, and `arrange` puts their axes in order.
    """
    found = [(arrange(gradient), arrange(tensor)) for gradient, tensor in known]
    joint = [is_normalised(*pair) for pair in found]
    if not any(joint):
        return None
    matter = [scale_and_mean_matter(*pair) for pair in found]
    for behind, (gradient, tensor) in enumerate(known):
        before = next((at for at in reversed(range(behind)) if joint[at]), None)
        # Before a norm of each token, the scale does not matter either, and what mixes the tokens may be a mean.
        if before is None or not all(matter[before + 1 : behind + 1]):
            continue
        with torch.inference_mode(False), torch.enable_grad():
            through = torch.autograd.grad(tensor, known[0][1], gradient, retain_graph=True, allow_unused=True)[0]
        passes = through is not None and relative_difference(through, known[0][0]) <= SAME
        if passes and keeps_order(tensor, gradient, known[0][1], arrange):
            return behind
    return None


def keeps_order(tensor: Tensor, gradient: Tensor, first: Tensor, arrange: Arrange) -> bool:
    """Whether the tokens of a tensor with a gradient depend most on the same tokens of the first."""
    places = arrange(torch.arange(gradient.numel(), device=gradient.device).view(gradient.shape))[0]  # (n, d)
    read = (gradient.flatten()[places] != 0).any(dim=1).nonzero()[:, 0].tolist()
    for token in {*read[:1], *read[-1:]}:
        own = torch.zeros_like(gradient).flatten()
        own[places[token]] = gradient.flatten()[places[token]]
        with torch.inference_mode(False), torch.enable_grad():
            at_first = torch.autograd.grad(tensor, first, own.view(gradient.shape), retain_graph=True)[0]
        if int(arrange(at_first)[0].norm(dim=1).argmax()) != token:
            return False
    return True


def patches_reached(
    layer: Layer, left: AfterBlock, answer: Tensor, place: StreamPlace | None
) -> tuple[Bool[Tensor, "b p"] | None, Norm]:
    """From which patches each image's answer is read, by rows of the grid of a layer that attends within windows, and
    its `Norm`; None where it is not known.

    `place` says where the patches are in what left the last block, if that was measured.
    """
    gradient = gradient_after_block(left, answer)
    if gradient is None or layer.windows is None or gradient.ndim not in (3, 4) or not gradient.any():
        return None, "none"
    rows, columns = layer.windows.grid
    if place is not None and place.grid == layer.windows.grid and not place.other_tokens:
        layout, order = place.layout, list(place.patch_tokens)
        return read_in_stages(left, answer, lambda tokens: tokens_in_layout(tokens, layout)[:, order])
    # Where every token is read, it does not matter which is which.
    sizes: dict[Layout, Sequence[int]] = {"b ... d": gradient.shape[1:-1], "b d ...": gradient.shape[2:]}
    fitting = {(rows, columns), (rows * columns,)} if gradient.ndim == 4 else {(rows * columns,)}
    layouts = [layout for layout, size in sizes.items() if tuple(size) in fitting]
    reached = [(tokens_in_layout(gradient, layout) != 0).any(dim=2) for layout in layouts]
    return (reached[0] if reached and all(one.all() for one in reached) else None), "none"


def gradient_after_block(left: AfterBlock, answer: Tensor) -> Tensor | None:
    """The gradient at the first tensor that left the last block; None where none reaches it, or where it reaches other
    tensors, too."""
    if not left.tensors:
        return None
    gradient, *further = gradients_of(answer, left.tensors)
    others = any(one is not None and bool((one != 0).any()) for one in further)
    return None if others else gradient


def is_cut_off(left: AfterBlock, answer: Tensor) -> bool:
    """Whether the answer has a gradient at nothing that left the last block; where no block was seen to return
    anything, that cannot be said."""
    found = gradients_of(answer, left.tensors) if left.tensors else []
    return bool(left.tensors) and not any(gradient is not None and bool(gradient.any()) for gradient in found)


def depends_by_norm(left: AfterBlock, answer: Tensor) -> bool:
    """Whether the answer may depend on some of the tokens that left the last block, in one tensor or several, only
    because it is normalised over all of them."""
    parts = left.tensors
    if not parts or any(part.ndim != 3 or part.shape[::2] != parts[0].shape[::2] for part in parts):
        return False
    found = gradients_of(answer, parts)
    gradient = torch.cat([torch.zeros_like(part) if one is None else one for one, part in zip(found, parts)], dim=1)
    reached, settled = directly_read(gradient, torch.cat(list(parts), dim=1))
    return not settled or not torch.equal(reached, (gradient != 0).any(dim=2))


def reached_in_attention(recording: Recording, answer: Tensor) -> Bool[Tensor, "b n"] | None:
    """Which queries of the last attention, in a pass that recorded gradients, each image's answer depends on; None
    where no gradient reaches them."""
    if not recording.layers:
        return None
    last = recording.of_answer[-1]
    layer = last_global_layer(recording.of_answer) or last
    if last.windows is None and last.num_queries == layer.num_queries:
        layer = last  # its queries, too, are as many as the tokens, though they are not its keys
    if layer.windows is not None or not layer.calls:
        return None
    reached = queries_reached(layer, gradients_of(answer, [call.out for call in layer.calls]))
    return reached if reached.any() else None


def queries_reached(layer: Layer, gradients: Sequence[Tensor | None]) -> Bool[Tensor, "b q"]:
    """Which queries of a layer have a gradient, from those of what each of its calls returned; for windows, in a row
    for each."""
    reached = torch.zeros(len(layer.kept_rows), layer.num_queries, dtype=torch.bool, device=layer.kept_rows.device)
    for call, start, gradient in zip(layer.calls, layer.starts or [0] * len(gradients), gradients):
        if gradient is not None:
            reached[:, start : start + call.num_queries] |= (call.view(gradient) != 0).any(dim=3).any(dim=1)
    return reached


def gradients_of(answer: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of an answer, at each tensor; None where it depends on none of its values, or where the model has an
    operator without a backward pass, as kernels for inference are."""
    if not answer.requires_grad:
        return [None] * len(tensors)
    with torch.inference_mode(False), torch.enable_grad():
        # Random signs, since outputs that are merely added up may cancel.
        signs = torch.randn(answer.shape, generator=torch.Generator().manual_seed(0)).to(answer)
        try:
            return list(
                torch.autograd.grad((answer * signs).sum(), list(tensors), allow_unused=True, retain_graph=True)
            )
        except RuntimeError:
            return [None] * len(tensors)


def token_axis(recording: Recording, tokens: Float[Tensor, "_ _ d"], answer: Tensor) -> int:
    """The axis of the tokens in what left the last block: 1, or 0 where they come before the images, as in PyTorch's
    own encoder unless it is told otherwise.

    Where both axes are alike in length, each image's answer must depend on its own slice only.
    """
    layer = recording.of_answer[-1]
    lengths = (len(layer.kept_rows), layer.num_queries)
    fitting = [axis for axis in (1, 0) if (tokens.shape[1 - axis], tokens.shape[axis]) == lengths]
    if len(fitting) < 2:
        return next(iter(fitting), 1)
    with torch.inference_mode(False), torch.enable_grad():
        for number, own in enumerate(answer[:4]):
            gradient = torch.autograd.grad(own.sum(), tokens, allow_unused=True, retain_graph=True)[0]
            if gradient is None:
                continue
            reached = gradient.abs().sum(dim=2) > 0
            fitting = [axis for axis in fitting if reached.sum() == reached.select(1 - axis, number).sum()]
    return next(iter(fitting), 1)


def last_global_layer(layers: Sequence[Layer]) -> Layer | None:
    """The last layer in which tokens of the whole image attend to each other."""
    return next((layer for layer in reversed(layers) if layer.windows is None and layer.queries_are_keys), None)


def layers_read_side_by_side(recording: Recording) -> list[Layer]:
    """The layers that the answer depends on and no other such layer does: one in a chain, several in parallel."""
    layers = recording.of_answer
    return [layer for layer in layers if not any(layer.bit & other.depends for other in layers if other is not layer)]


def parts_of_last(recording: Recording) -> list[Layer]:
    """The last layer, and other calls of its module on which the answer depends beside it: each with its own queries,
    as where a model runs token by token with a cache of keys."""
    last = recording.of_answer[-1]
    return [layer for layer in layers_read_side_by_side(recording) if layer.name == last.name] or [last]
