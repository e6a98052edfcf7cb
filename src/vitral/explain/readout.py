"""What a model does with the tokens that leave its last block: which of them its answer is read from, and what it would
answer if they were others.

Nobody's word is taken for it: a model may have a CLS token and read the mean of its patches. The tokens that leave the
last block are taken, the rest of the model is run on them, and its answer is differentiated.

Axes:  b images   n tokens   d width   k classes
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.recording.calls import relative
from vitral.recording.forward import answered, check_images
from vitral.recording.intercept import EAGER, TOLERANCE, watch
from vitral.recording.layers import Layer, Seen
from vitral.recording.stream import first_tensor


class Tail:
    """A model after its last block: tokens (B, N, D) -> what it answers.

    `seen` is what was seen of it for `images`, with the stream. Raises `UsageError` if the tokens that leave the last
    block are not what a module of the model gives, or its answer does not follow from them.
    """

    def __init__(self, model: nn.Module, images: Float[Tensor, "b c y x"]):
        observer = watch(model, rows=[0], stream=True)
        with torch.no_grad(), observer as self.seen:
            self.answer = answered(model, images)
        self.model, self.images, self.block = model, images, last_block(observer)
        leaving = self.seen.stream[-1] if self.seen.stream else None
        assert observer.stream is not None
        if self.block is None or leaving is None or observer.stream.left.get(id(self.block)) is not leaving:
            raise UsageError(f"{type(model).__name__} has no last block that gives the tokens that are read.")
        with torch.no_grad():
            again = self(leaving)
        if not relative(again, self.answer) <= TOLERANCE.get(self.answer.dtype, 0.0):
            raise UsageError(
                f"{type(model).__name__} does not answer the tokens that left its last block as it did before, so it "
                "cannot be asked about others: it changes them in place afterwards, or answers at random."
            )

    def __call__(self, tokens: Float[Tensor, "b n d"]) -> Tensor:
        """Of tokens of any batch."""
        assert self.block is not None
        hook = self.block.register_forward_hook(lambda module, args, output: exchanged(output, tokens.clone()))
        try:
            with EAGER:
                return answered(self.model, self.images)
        finally:
            hook.remove()


def last_block(observer: watch) -> nn.Module | None:
    """The module that a watched model's last block is."""
    return observer.stream.units[-1] if observer.stream is not None and observer.stream.units else None


def exchanged(output: Any, tokens: Tensor) -> Any:
    """What a block gives, with other tokens."""
    if isinstance(output, Tensor):
        return tokens
    return type(output)(tokens if part is first_tensor(output) else part for part in output)


def tokens_read(model: nn.Module, images: Float[Tensor, "b c y x"]) -> tuple[int, ...]:
    """The tokens of the last block that the answer depends on; none if there are no such tokens, as with windows.

    The answer may be of any shape: a segmenter's depends on its patches. Where a model's blocks cannot be told, or its
    answer depends on none yet: CLS if it has one, else all. Two forward passes of one image, the second recording from
    the last block on.
    """
    return asked(model, images)[0]


def asked(model: nn.Module, images: Float[Tensor, "b c y x"]) -> tuple[tuple[int, ...], Seen]:
    """What `tokens_read` gives, and what was seen of the first image."""
    check_images(images)
    with torch.inference_mode(False), torch.no_grad():
        observer = watch(model, rows=[0], stream="blocks")
        with observer as seen:
            answered(model, images[:1])
        block = last_block(observer)
        if block is None or seen.layers[-1].windows is not None:
            return without_asking(seen), seen
        left: list[Tensor] = []

        def record(module: nn.Module, args: tuple, output: Any) -> Any:
            torch.set_grad_enabled(True)
            tokens = first_tensor(output)
            if tokens is None or not tokens.is_floating_point():
                return output
            left.append(tokens.detach().clone().requires_grad_())
            return exchanged(output, left[-1].clone())  # not itself: a model may change its tokens in place

        hook = block.register_forward_hook(record)
        try:
            with EAGER:
                answer = answered(model, images[:1])
        finally:
            hook.remove()
    if not left or left[-1].ndim != 3 or not answer.requires_grad:
        return without_asking(seen), seen
    with torch.inference_mode(False), torch.enable_grad():
        signs = torch.randn(answer.shape, generator=torch.Generator().manual_seed(0)).to(answer)
        slope = torch.autograd.grad((answer * signs).sum(), left[-1], allow_unused=True)[0]
    found = () if slope is None else (slope.abs().sum(dim=(0, 2)) > 0).nonzero()[:, 0].tolist()
    return tuple(found) or without_asking(seen), seen


def without_asking(seen: Seen) -> tuple[int, ...]:
    """CLS if there is one, else every token."""
    layer = whole_layer(seen)
    if layer is None:
        return ()
    try:
        has_cls = layer.tokens.has_cls
    except UsageError:
        return tuple(range(layer.num_tokens))  # nothing tells what they are
    return (0,) if has_cls else tuple(range(layer.num_tokens))


def whole_layer(seen: Seen) -> Layer | None:
    """The last layer in which tokens of the whole image read each other."""
    return next((layer for layer in reversed(seen.layers) if layer.windows is None and layer.among_themselves), None)


def readers_of(layer: Layer, seen: Seen, readers: tuple[int, ...]) -> tuple[int, ...]:
    """The readers among a layer's tokens; none, which stands for all, of a pool, of windows, or where the layer has
    other patches than the last. Raises `UsageError` if nothing tells what its tokens are."""
    last, prefix = whole_layer(seen), layer.num_prefix_tokens
    others = last is not None and last.num_tokens != layer.num_tokens and any(reader >= prefix for reader in readers)
    beyond = any(reader >= layer.num_queries for reader in readers)
    if layer.windows is not None or not layer.among_themselves or others or beyond:
        return ()
    return readers


def named_reader(layer: Layer, readers: tuple[int, ...]) -> str:
    """Who reads, in words."""
    if layer.num_queries == 1:
        return "the pool's query"
    if not layer.among_themselves:
        return f"the mean of all {layer.num_queries} queries"
    if layer.windows is not None or not readers:
        return "the mean of all tokens"
    roles, prefix = layer.roles, layer.num_prefix_tokens
    if len(readers) <= prefix and all(reader < prefix for reader in readers):
        names = ["CLS" if roles[reader] == "cls" else roles[reader] for reader in readers]
        return names[0] if len(names) == 1 else f"the mean of {' and '.join(names)}"
    if prefix and set(readers) == set(range(prefix, layer.num_tokens)):
        return "the mean of all patches"
    return "the mean of all tokens" if len(readers) == layer.num_tokens else f"the mean of {len(readers)} tokens"
