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
from vitral.explain.seen import Layer, Seen
from vitral.explain.stream import first_tensor
from vitral.explain.subject import answered
from vitral.explain.watch import watch


class Tail:
    """A model after its last block: tokens (B, N, D) -> what it answers.

    `seen` is what was seen of it for `images`, with the stream. Raises `UsageError` if the tokens that leave the last
    block are not what a module of the model gives.
    """

    def __init__(self, model: nn.Module, images: Float[Tensor, "b c y x"]):
        observer = watch(model, rows=[0], stream=True)
        with torch.no_grad(), observer as self.seen:
            self.answer = answered(model, images)
        self.model, self.images, stream = model, images, observer.stream
        assert stream is not None
        self.block = stream.units[-1] if stream.units else None
        self.leaving = None if self.block is None else stream.left.get(id(self.block))
        if self.leaving is None or self.leaving.ndim != 3:
            raise UsageError(f"{type(model).__name__} has no blocks whose tokens (B, N, D) could be read.")

    @property
    def whole(self) -> bool:
        """Whether what the last block's module gives is the stream itself, not a branch that is added to it."""
        return self.seen.stream[-1] is self.leaving

    def __call__(self, tokens: Float[Tensor, "b n d"]) -> Tensor:
        """Gradients are recorded from the tokens on, if they are where this is called."""
        recording = torch.is_grad_enabled()

        def exchange(module: nn.Module, args: tuple, output: Any) -> Any:
            torch.set_grad_enabled(recording)
            if isinstance(output, Tensor):
                return tokens
            return type(output)(tokens if part is first_tensor(output) else part for part in output)

        assert self.block is not None
        hook = self.block.register_forward_hook(exchange)
        try:
            with torch.no_grad():
                return answered(self.model, self.images)
        finally:
            hook.remove()


def tokens_read(model: nn.Module, images: Float[Tensor, "b c y x"]) -> tuple[int, ...]:
    """The tokens of the last block that the answer depends on; none if there are no such tokens, as with windows.

    Where a model's blocks cannot be told, or its answer depends on none yet: CLS if it has one, else all.
    """
    first = images[:1]
    try:
        tail = Tail(model, first)
    except UsageError:
        with torch.no_grad(), watch(model, rows=[0]) as seen:
            answered(model, first)
        return without_asking(seen)
    if tail.seen.layers[-1].windows is not None:
        return ()
    assert tail.leaving is not None
    with torch.inference_mode(False), torch.enable_grad():
        tokens = tail.leaving.detach().clone().requires_grad_()
        answer = tail(tokens)
        if not answer.requires_grad or answer.ndim != 2:
            return without_asking(tail.seen)
        signs = torch.randn(answer.shape, generator=torch.Generator().manual_seed(0)).to(answer)
        slope = torch.autograd.grad((answer * signs).sum(), tokens)[0]
    found = (slope.abs().sum(dim=(0, 2)) > 0).nonzero()[:, 0].tolist()
    return tuple(found) or without_asking(tail.seen)


def without_asking(seen: Seen) -> tuple[int, ...]:
    """CLS if there is one, else every token."""
    layer = whole_layer(seen)
    if layer is None:
        return ()
    return (0,) if layer.tokens.has_cls else tuple(range(layer.num_tokens))


def whole_layer(seen: Seen) -> Layer | None:
    """The last layer in which tokens of the whole image read each other."""
    return next(
        (layer for layer in reversed(seen.layers) if layer.windows is None and layer.num_queries == layer.num_tokens),
        None,
    )


def named_reader(layer: Layer, readers: tuple[int, ...]) -> str:
    """Who reads, in words."""
    if layer.num_queries == 1:
        return "the pool's query"
    if layer.windows is not None or not readers:
        return "the mean of all tokens"
    roles, prefix = layer.roles, layer.num_prefix_tokens
    if len(readers) <= prefix and all(reader < prefix for reader in readers):
        names = ["CLS" if roles[reader] == "cls" else roles[reader] for reader in readers]
        return names[0] if len(names) == 1 else f"the mean of {' and '.join(names)}"
    if prefix and set(readers) == set(range(prefix, layer.num_tokens)):
        return "the mean of all patches"
    return "the mean of all tokens" if len(readers) == layer.num_tokens else f"the mean of {len(readers)} tokens"
