"""Run a model on images of our own, in which each token attends to itself only, and show each call of attention.

The model may take one batch size only, or loop over the images of a batch; it is left as if it had not run.

Axes:  b images   u units (heads and windows of an image)   m key tokens   e width   k bits   y x rows, columns
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from vitral.base.modes import evaluating
from vitral.recording.calls import Call
from vitral.recording.eager import EAGER
from vitral.recording.indices import Grid
from vitral.recording.operators import name_of
from vitral.recording.places import divisors
from vitral.recording.recognizer import Operators, Recognizer
from vitral.recording.undisturbed import undisturbed

MOST_VALUES = 4096  # of a list of settings, such as the order of the tokens


# What is done with each call; it may give what each token gets instead of its own value.
Visit = Callable[[Call], Tensor | None]


class Reached(Exception):
    """The first attention was reached, which is all that was wanted. A model that catches it runs on, to no harm."""


class Unfused(TorchFunctionMode):
    """Changes nothing, but where any mode of functions is active PyTorch leaves out its fused encoder layers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Subject:
    """A model, and the arguments that it was called with, of which `images` are one."""

    model: nn.Module
    images: Float[Tensor, "b c y x"]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    fixed_batch: int = 0  # how many images it takes in a batch, if it takes no other number

    def run(self, images: Float[Tensor, "b c y x"]) -> Any:
        """Call the model in the same way with other images. Other tensors with a row for each image keep the first."""

        def exchange(value: Any) -> Any:
            if value is self.images:
                return images
            if isinstance(value, Tensor) and value.shape[:1] == self.images.shape[:1]:
                return value[:1].expand(len(images), *value.shape[1:])
            return value

        args, kwargs = tree_map(exchange, (self.args, self.kwargs))
        return self.model(*args, **kwargs)

    @property
    def others(self) -> list[Tensor]:
        """The tensors besides the images that may say what the tokens are, such as the numbers of those that are kept.

        One number for each image, a label, does not.
        """
        values = tree_leaves((self.args, self.kwargs))
        return [one for one in values if isinstance(one, Tensor) and one is not self.images and one.ndim > 1]

    @property
    def treats_images_alike(self) -> bool:
        """Whether these tensors are the same for each image of the batch."""
        own = [one for one in self.others if len(one) == len(self.images)]
        return all(torch.equal(one, one[:1].expand_as(one)) for one in own)

    @property
    def key(self) -> tuple[str, ...]:
        """What the places depend on besides the model's weights: the size of the images, the other arguments, and the
        model's settings, which may be changed between two runs."""
        values = tree_leaves((self.args, self.kwargs))
        plain = [repr(one) for one in values if not isinstance(one, Tensor)]
        tensors = [hashlib.sha256(one[:1].detach().cpu().numpy().tobytes()).hexdigest() for one in self.others]
        return (str(tuple(self.images.shape[1:])), *plain, *tensors, *settings_of(self.model))


def settings_of(model: nn.Module) -> Iterator[str]:
    """The plain attributes of a model's modules, such as a window size, and which lists of indices its buffers are."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key != "training" and is_plain(value):  # it always runs in eval mode here
                yield f"{name}.{key}={value!r}"
    for name, buffer in model.named_buffers():
        if not buffer.is_floating_point() and not buffer.is_inference() and buffer.ndim:
            yield f"{name}={id(buffer)}.{buffer._version}"


def is_plain(value: Any) -> bool:
    """Whether it is a word or a number, or a few of them."""
    if isinstance(value, (tuple, list)):
        return len(value) <= MOST_VALUES and all(map(is_plain, value))
    return value is None or isinstance(value, (str, int, float))


def first_call(subject: Subject, images: Float[Tensor, "b c y x"], grids: list[Grid]) -> Call | None:
    """The first call of attention that a model makes for images; `grids` gets the sizes of the maps before it."""
    found: list[Call] = []

    def stop(call: Call) -> Tensor | None:
        found.append(call)
        raise Reached

    with suppress(Reached):
        run_apart(subject, images, stop, grids)
    return next(iter(found), None)


def run_apart(
    subject: Subject,
    images: Float[Tensor, "b c y x"],
    visit: Visit,
    grids: list[Grid] | None = None,
    start: Callable[[], Any] | None = None,
) -> None:
    """Run a model in which each token attends to itself only, and show each call of attention.

    So no token learns of another: each holds what it held before, and its place can be measured in every layer. Where
    queries and keys are different tokens, the call returns zeros. What `visit` gives, each token gets instead of its
    own value. `start` is called when the user's hooks are out of the way.
    """
    if not subject.fixed_batch:
        run_together(subject, images, visit, grids, len(images), start)
        return
    others = torch.zeros_like(subject.images[: subject.fixed_batch - 1], dtype=images.dtype)
    runs: list[list[Call]] = []
    # Noise, and not zeros: a model that crops what is black would find nothing.
    noise = torch.randn(images[:1].shape, generator=torch.Generator().manual_seed(1)).to(images)
    for number, image in enumerate([noise, *images.split(1)]):
        runs.append([])
        with suppress(Exception):  # what comes after the last attention does not matter
            batch = torch.cat([image, others])
            run_together(subject, batch, runs[-1].append, grids, seed=number + len(images))
    for calls in zip(*runs):
        visit(replace(calls[0], values=of_first_image([call.values for call in calls], subject.fixed_batch)))


def of_first_image(values: Sequence[Float[Tensor, "b h m e"]], images: int) -> Float[Tensor, "b2 h2 m e"]:
    """The values of the first of several images, in several runs that differ in this image only, as if they were those
    of a batch that has an image for each run but the first.

    The units that differ are that image's. Where they are no such units of a batch, the values of one run.
    """
    other, *runs = values
    differs = (runs[0] != other).any(dim=(2, 3))
    for axis in (0, 1):
        length = other.shape[axis] // images
        for inner in divisors(length) if length * images == other.shape[axis] else []:
            layout = (length // inner, images, inner)
            split = differs.movedim(axis, 0).unflatten(0, layout)
            if bool(split[:, 0].all()) and not bool(split[:, 1:].any()):
                own = [run.movedim(axis, 0).unflatten(0, layout)[:, 0] for run in runs]
                return torch.stack(own, dim=1).flatten(0, 2).movedim(0, axis)
    return runs[0]


def run_together(
    subject: Subject,
    images: Float[Tensor, "b c y x"],
    visit: Visit,
    grids: list[Grid] | None,
    seed: int,
    start: Callable[[], Any] | None = None,
    see: Callable[[Any, Sequence[Any], dict[str, Any], Any], None] | None = None,
) -> None:
    """See `run_apart`; all images in one batch. `see` is called for each operator that is no attention, with its
    arguments and its result, which it may change."""
    recognizer = Recognizer(subject.model)

    def look(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        seen = recognizer.recognize(operator, args, kwargs, result)
        if seen is None:
            if see is not None:
                with operators.paused():
                    see(operator, args, kwargs, result)
            if grids is not None and name_of(operator) == "convolution" and result.ndim == 4:
                grids.append((result.shape[2], result.shape[3]))
            return result
        with operators.paused():
            given = visit(seen.call)
            own = seen.call.num_queries == seen.call.num_keys and not seen.is_cross
            kept = seen.call.values if given is None else given
            out = seen.call.output_of(kept) if own else torch.zeros_like(seen.call.out)
            recognizer.exchange(seen.call.out, out)
        return (out, *result[1:]) if isinstance(result, tuple) else out

    with ExitStack() as stack:
        stack.enter_context(evaluating(subject.model))
        stack.enter_context(undisturbed(subject.model))
        if start is not None:
            start()
        # Another seed for each run: of a model that draws its tokens at random no two agree.
        torch.default_generator.manual_seed(seed)
        stack.enter_context(torch.no_grad())
        stack.enter_context(EAGER)
        operators = stack.enter_context(Operators(look))
        stack.enter_context(Unfused())
        stack.enter_context(suppress(Reached))
        subject.run(images)
