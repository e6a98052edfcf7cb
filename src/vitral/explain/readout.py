"""From which tokens of the last block a model reads its answer, and what it would answer for other tokens.

A model may have a class token and still read the mean of its patches, so this is measured: the tokens that leave the
last block are taken as a variable, the rest of the model runs on them, and its answer is differentiated.

Axes:  b images   n tokens   d width   k classes
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.output import find_output
from vitral.recording.apart import Unfused
from vitral.recording.calls import relative_difference
from vitral.recording.eager import EAGER
from vitral.recording.forward import model_output, run_model
from vitral.recording.intercept import TOLERANCE, watch
from vitral.recording.layers import Layer, Recording
from vitral.recording.operators import tensors_in
from vitral.recording.stream import first_tensor
from vitral.recording.stream_places import StreamPlace


class Tail:
    """A model after its last block: tokens (B, N, D) -> what it answers.

    `recording` is what was seen of it for `images`, with the stream. Raises `UsageError` if the tokens that leave the
    last block are not what a module of the model returns, or do not determine its answer.
    """

    def __init__(self, model: nn.Module, images: Float[Tensor, "b c y x"]):
        observer = watch(model, rows=[0], stream=True)
        with torch.no_grad(), observer as self.recording:
            self.answer = model_output(model, images)
        assert observer.stream is not None
        self.model, self.images, self.block = model, images, observer.stream.last_block
        leaving = self.recording.stream[-1] if self.recording.stream else None
        if self.block is None or leaving is None or observer.stream.left.get(id(self.block)) is not leaving:
            raise UsageError(f"{type(model).__name__} has no last block whose output holds the readout tokens.")
        with torch.no_grad():
            again = self(leaving)
        if not relative_difference(again, self.answer) <= TOLERANCE.get(self.answer.dtype, 0.0):
            raise UsageError(
                f"{type(model).__name__} gives a different output when it is run again from the output of its last "
                "block: it changes the tokens in place, or is random. Its output for other tokens cannot be computed."
            )

    def __call__(self, tokens: Float[Tensor, "b n d"]) -> Tensor:
        """The answer for these tokens, of any batch size."""
        assert self.block is not None
        hook = self.block.register_forward_hook(lambda module, args, output: replace_tokens(output, tokens.clone()))
        try:
            with EAGER:
                return find_output(self.model, run_model(self.model, self.images), len(tokens)).tensor
        finally:
            hook.remove()


def replace_tokens(output: Any, tokens: Tensor) -> Any:
    """A block's output with other tokens in it."""
    first = first_tensor(output)
    if isinstance(output, Tensor):
        return tokens if output is first else output
    if isinstance(output, dict):
        return type(output)((key, replace_tokens_in(part, first, tokens)) for key, part in output.items())
    return type(output)(replace_tokens_in(part, first, tokens) for part in output)


def replace_tokens_in(part: Any, first: Tensor | None, tokens: Tensor) -> Any:
    """A part of a block's output, with other tokens if it holds the first."""
    holds = any(tensor is first for tensor in tensors_in(part))
    return replace_tokens(part, tokens) if holds else part


@contextmanager
def tail_recorded(block: nn.Module | None) -> Iterator[list[Tensor]]:
    """Inside it, gradients are recorded from a block's output on; the list gets the tokens that left the block.

    They are leaves of the graph, so that nothing before the block is recorded.
    """
    left: list[Tensor] = []

    def record(module: nn.Module, args: tuple, output: Any) -> Any:
        torch.set_grad_enabled(True)
        tokens = first_tensor(output)
        if tokens is None or not tokens.is_floating_point():
            return output
        left.append(tokens.detach().clone().requires_grad_())
        return replace_tokens(output, left[-1].clone())  # a copy: a model may change its tokens in place

    # Fused encoder layers may pass on nested tensors, and record no gradients.
    with torch.inference_mode(False), torch.no_grad(), EAGER, Unfused():
        hook = block.register_forward_hook(record) if block is not None else None
        try:
            yield left
        finally:
            if hook is not None:
                hook.remove()


def readout_tokens(recording: Recording, left: Sequence[Tensor], answer: Tensor) -> tuple[int, ...]:
    """The tokens of the last block on which the prediction depends, for any image; none within windows.

    `left` are the tokens recorded by `tail_recorded`. The answer may have any shape: a segmenter's depends on its
    patches. Where no gradient tells, CLS if there is one, else all tokens.
    """
    # Within windows the last block's tokens are a map, and the prediction is read from all of it.
    windows = recording.of_answer[-1].windows is not None
    if windows or not left or left[-1].ndim != 3 or not answer.requires_grad:
        return assumed_readout(recording)
    axis = token_axis(recording, left[-1], answer)
    with torch.inference_mode(False), torch.enable_grad():
        # Random signs, since outputs that are merely added up may cancel.
        signs = torch.randn(answer.shape, generator=torch.Generator().manual_seed(0)).to(answer)
        gradient = torch.autograd.grad((answer * signs).sum(), left[-1], allow_unused=True, retain_graph=True)[0]
    found = () if gradient is None else (gradient.abs().sum(dim=(1 - axis, 2)) > 0).nonzero()[:, 0].tolist()
    return tuple(found) or assumed_readout(recording)


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


def assumed_readout(recording: Recording) -> tuple[int, ...]:
    """CLS if there is one, else every token."""
    layer = last_global_layer(recording.of_answer)
    if layer is None:
        return ()
    try:
        tokens = layer.tokens
    except UsageError:
        return tuple(range(layer.num_tokens))  # what they are is not known
    return tokens.other_tokens[:1] if tokens.has_cls else tuple(range(layer.num_tokens))


def last_global_layer(layers: Sequence[Layer]) -> Layer | None:
    """The last layer in which tokens of the whole image attend to each other."""
    return next((layer for layer in reversed(layers) if layer.windows is None and layer.queries_are_keys), None)


def readout_in(layer: Layer, layers: Sequence[Layer], readout: tuple[int, ...], among: int = 0) -> tuple[int, ...]:
    """The readout tokens among a layer's own; none, which stands for all, for a pool, windows, or other patches.

    `among` is how many tokens left the last block, 0 if that is not known: a layer with so many queries has them, even
    if its keys are merged.

    Raises `UsageError` if the roles of the layer's tokens are not known.
    """
    last, patches = last_global_layer(layers), set(layer.tokens.patch_tokens)
    other_patches = last is not None and last.num_tokens != layer.num_tokens and not patches.isdisjoint(readout)
    missing = any(token >= layer.num_queries for token in readout)
    if not layer.queries_are_keys:
        return readout if layer.num_queries == among > 1 else ()
    if layer.windows is not None or other_patches or missing:
        return ()
    return readout


def within_attention(layers: Sequence[Layer], readout: tuple[int, ...], place: StreamPlace) -> tuple[int, ...]:
    """The readout tokens by their numbers within the last layer's attention, whose order may be another than that of
    the tokens that leave the last block; `place` says what these are."""
    layer = last_global_layer(layers)
    try:
        tokens = layer.tokens if layer is not None else None
    except (UsageError, WatchError):
        return readout
    if tokens is None or len(tokens.patch_tokens) != len(place.patch_tokens):
        return readout
    if len(tokens.other_tokens) != len(place.other_tokens):
        return readout
    number = dict(zip(place.patch_tokens + place.other_tokens, tokens.patch_tokens + tokens.other_tokens))
    return tuple(sorted(number[token] for token in readout))


def readout_name(layer: Layer, readout: Sequence[int]) -> str:
    """Whose attention a layer's map shows, in words; `readout` as `readout_in` gives it."""
    if layer.num_queries == 1:
        return "the pool's query"
    if not layer.queries_are_keys:
        if readout and len(readout) < layer.num_queries:
            many = f"the mean of the {len(readout)} tokens" if len(readout) > 1 else "the token"
            return f"{many} that the prediction is read from"
        return f"the mean of all {layer.num_queries} queries"
    if layer.windows is not None or not readout:
        return "the mean of all tokens"
    roles, patches = layer.roles, set(layer.tokens.patch_tokens)
    if patches.isdisjoint(readout):
        names = ["CLS" if roles[token] == "cls" else roles[token] for token in readout]
        return names[0] if len(names) == 1 else f"the mean of {' and '.join(names)}"
    if set(readout) == patches and len(patches) < layer.num_tokens:
        return "the mean of all patches"
    return "the mean of all tokens" if len(readout) == layer.num_tokens else f"the mean of {len(readout)} tokens"


def reader_name(layers: Sequence[Layer], readouts: Sequence[Sequence[int]]) -> str:
    """Whose attention a figure of several layers shows, in words; where the last layer differs, it is named too."""
    names = list(dict.fromkeys(map(readout_name, layers, readouts)))
    return names[0] if len(names) == 1 else f"{names[0]} (in the last layer {names[-1]})"
