"""From which tokens of the last block a model reads its answer, and what it would answer for other tokens.

A model may have a class token and still read the mean of its patches, so this is measured: the tokens that leave the
last block are taken as a variable, the rest of the model runs on them, and its answer is differentiated.

Axes:  b images   n tokens   d width   k classes
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from vitral.base.errors import UsageError, WatchError
from vitral.base.output import find_output
from vitral.explain.exits import drop_layers_behind, last_layers_reached, why_several_exits
from vitral.explain.readout_notes import NO_GRADIENT, NOT_MEASURED, NOT_PLACED, NOT_REACHED, NOT_RETURNED, UNSETTLED
from vitral.explain.token_gradients import (
    AfterBlock,
    Norm,
    depends_by_norm,
    gradients_of,
    is_cut_off,
    last_global_layer,
    layers_read_side_by_side,
    parts_of_last,
    patches_reached,
    reached_after_block,
    reached_in_attention,
    token_axis,
)
from vitral.recording.calls import relative_difference
from vitral.recording.eager import EAGER
from vitral.recording.forward import model_output, run_model
from vitral.recording.intercept import TOLERANCE, watch
from vitral.recording.layers import Layer, Recording
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

    def __call__(self, tokens: Float[Tensor, "b ... d"]) -> Tensor:
        """The answer for these tokens, of any batch size."""
        assert self.block is not None
        hook = self.block.register_forward_hook(lambda module, args, output: replace_tokens(output, tokens.clone()))
        try:
            with EAGER:
                return find_output(self.model, run_model(self.model, self.images), len(tokens)).tensor
        finally:
            hook.remove()


def replace_tokens(output: Any, tokens: Tensor) -> Any:
    """A block's output with other tokens in it, in place of its first tensor."""
    first = first_tensor(output)
    return tree_map(lambda part: tokens if part is first else part, output)


@contextmanager
def tail_recorded(block: nn.Module | None) -> Iterator[AfterBlock]:
    """Inside it, gradients are recorded from a block's output on; it gives the tensors that left the block, each time
    that it ran, in their order; none if the first of them holds no real numbers.

    They are leaves of the graph, so that nothing before the block is recorded.
    """
    left = AfterBlock()

    def record(module: nn.Module, args: tuple, output: Any) -> Any:
        torch.set_grad_enabled(True)
        leaves: dict[int, Tensor] = {}

        def as_leaf(part: Any) -> Any:
            if not isinstance(part, Tensor) or not part.is_floating_point():
                return part
            if id(part) not in leaves:
                leaves[id(part)] = part.detach().clone().requires_grad_()
            return leaves[id(part)].clone()  # a copy: a model may change its tokens in place

        replaced = tree_map(as_leaf, output)
        first = leaves.pop(id(first_tensor(output)), None)
        left.left([] if first is None else [first, *leaves.values()])
        return replaced

    # Fused encoder layers may pass on nested tensors, and record no gradients; any mode of functions turns them off.
    with torch.inference_mode(False), torch.no_grad(), EAGER, left:
        hook = block.register_forward_hook(record) if block is not None else None
        try:
            yield left
        finally:
            if hook is not None:
                hook.remove()


@dataclass(frozen=True)
class Readout:
    """From which tokens a prediction is read.

    tokens   those of any image, by their numbers within the last attention; () if none are known
    among    how many tokens these are some of; 0 if that is not known
    of_each  which of them each image is read from, where that differs from image to image; else None
    of_patches  where the last layer attends within windows: the patches that each image is read from; None for all
    beside   the numbers of the layers that it is read from side by side, as of two branches; () for a chain of layers
    norm     whether the answer depends on other tokens, too, by a normalisation over all of them
    note     what was assumed instead of measured, in a sentence; empty if nothing was
    refusal  why the images of this batch have no readout in common; empty if they have
    """

    tokens: tuple[int, ...] = ()
    among: int = 0
    of_each: Bool[Tensor, "b n"] | None = None
    of_patches: Bool[Tensor, "b p"] | None = None
    beside: tuple[int, ...] = ()
    norm: Norm = "none"
    note: str = ""
    refusal: str = ""

    def without_empty_rows(self) -> "Readout":
        """With all tokens that any image is read from for an image that no gradient tells of, and a note."""
        changed: dict[str, Any] = {}
        for name in ("of_each", "of_patches"):
            marked = getattr(self, name)
            if marked is not None and (empty := ~marked.any(dim=1)).any():
                changed |= {name: marked | (empty[:, None] & marked.any(dim=0)), "note": self.note or NO_GRADIENT}
        return replace(self, **changed)


def find_readout(
    recording: Recording,
    left: AfterBlock,
    answer: Tensor,
    places: Sequence[StreamPlace | None],
    record_attention: Callable[[], tuple[Recording, Tensor]],
) -> Readout:
    """Measure from which tokens the answer is read. It may have any shape: a segmenter's depends on its patches.

    `left` is what `tail_recorded` recorded; `places` says what the tokens between the blocks are, if that was measured.
    Where the last block returns no single tensor of all tokens, the gradient at its attention tells: `record_attention`
    runs the model with the graph. Where no gradient tells, it is CLS if there is one, else all tokens, with a note.
    Layers behind an early exit are taken out of those that the answer depends on.
    """
    found = measure_readout(recording, left, answer, places, record_attention)
    marked = [each for each in (found.of_each, found.of_patches) if each is not None]
    if not found.note and all(bool(each.any(dim=1).all()) for each in marked):
        return found
    seen, recorded = record_attention()
    last = (
        last_layers_reached(seen, recorded)
        if len(seen.layers) == len(recording.layers)
        else torch.empty(0, dtype=torch.long)
    )
    if refusal := why_several_exits(recording, last):
        return replace(found, refusal=refusal)
    exit_at = int(last.amax()) if len(last) else -1
    if 0 <= exit_at < recording.layers.index(recording.of_answer[-1]):
        for each in {id(one): one for one in (recording, seen)}.values():
            drop_layers_behind(each, exit_at)
        found = measure_readout(recording, AfterBlock(), answer, (), lambda: (seen, recorded))
    return found.without_empty_rows()


def measure_readout(
    recording: Recording,
    left: AfterBlock,
    answer: Tensor,
    places: Sequence[StreamPlace | None],
    record_attention: Callable[[], tuple[Recording, Tensor]],
) -> Readout:
    """See `find_readout`; a model with early exits may give images that no token is read from."""
    layers = recording.of_answer
    beside = layers_beside(recording, record_attention)
    if layers[-1].windows is not None:
        patches, norm = patches_reached(layers[-1], left, answer, places[-1] if places else None)
        found = Readout(assumed_readout(recording), tokens_that_left(recording, left, answer), beside=beside)
        if patches is None:
            note = NOT_REACHED if is_cut_off(left, answer) else NOT_MEASURED
            return replace(found, note=note.format("the mean of all tokens"))
        some = None if patches.all() else patches
        return replace(found, of_patches=some, norm=norm, note=UNSETTLED if norm == "perhaps" else "")
    reached, norm = reached_after_block(recording, left, answer)
    if reached is not None and places:
        reached = within_attention(layers, reached, places[-1])
    if reached is None:
        reached = reached_in_attention(*record_attention())
        norm = "perhaps" if depends_by_norm(left, answer) else "none"
    if reached is None:
        assumed = assumed_readout(recording)
        last = last_global_layer(layers)
        name = "CLS" if last is not None and 0 < len(assumed) < last.num_tokens else "the mean of all tokens"
        single = layers[-1].num_queries == 1  # a pool's query, which the prediction is read from in any case
        why = NOT_REACHED if is_cut_off(left, answer) else NOT_PLACED if left.tensors else NOT_RETURNED
        note = "" if single else why.format(name)
        return Readout(assumed, tokens_that_left(recording, left, answer), beside=beside, note=note)
    alike = bool((reached == reached[0]).all())
    tokens = tuple(reached.any(dim=0).nonzero()[:, 0].tolist())
    of_each = None if alike else reached
    note = UNSETTLED if norm == "perhaps" else ""
    return Readout(tokens, reached.shape[1], of_each, beside=beside, norm=norm, note=note)


def layers_beside(recording: Recording, record_attention: Callable[[], tuple[Recording, Tensor]]) -> tuple[int, ...]:
    """The numbers of the layers that the answer is read from, where several stand side by side; else ()."""
    several = layers_read_side_by_side(recording)
    if len(several) < 2:
        return ()
    numbers = [number for number, layer in enumerate(recording.layers) if layer in several]
    seen, answer = record_attention()
    if len(seen.layers) != len(recording.layers):
        return tuple(numbers)
    calls = [(number, call.out) for number in numbers for call in seen.layers[number].calls]
    found = zip(calls, gradients_of(answer, [out for _, out in calls]))
    read = {number for (number, _), gradient in found if gradient is not None and bool(gradient.any())}
    return tuple(sorted(read)) or tuple(numbers)


def check_beside(recording: Recording, read: Sequence[Layer], shown: Sequence[Layer], num_tokens: int) -> str:
    """A sentence for captions on those of the layers that the prediction is `read` from that stand side by side with
    what is shown, and are not shown; empty if there are none.

    Raises `UsageError` where these are calls of one module that each have a part of the `num_tokens` queries, so that
    the last one does not have the readout tokens.
    """
    parts, several = parts_of_last(recording), layers_read_side_by_side(recording)
    own = [layer for layer in read if layer in parts]
    together = sum(part.num_queries for part in parts)
    # A call with one key, the first of a causal loop, has no weights that differ from 1, and is not seen.
    grows = len({part.num_tokens for part in parts}) > 1
    are_parts = len(parts) > 1 and num_tokens - together in ((0, 1) if grows else (0,))
    if are_parts and any(layer is not shown[-1] for layer in own):
        name, number = parts[0].name, next(at for at, layer in enumerate(recording.layers) if layer is own[-1])
        raise UsageError(
            f"{name} attends in {len(parts)} calls, each with a part of the queries and different keys, and the "
            f"prediction is read from the queries of {len(own)} of them, so no single layer shows where they attend. "
            f"Choose one call and one of its queries: attention with layers=[{number}], query=0; or try grad_cam or "
            "occlusion."
        )
    if shown[-1] not in several:
        return ""
    missing = [layer.name for layer in read if layer in several and layer not in shown]
    calls = {layer.name for layer in shown}
    others = list(dict.fromkeys(f"other calls of {name}" if name in calls else name for name in missing))
    also = "also " if shown[-1] in read else ""
    return f" The prediction is {also}read from {', '.join(others)}, which this map does not show." if others else ""


def tokens_that_left(recording: Recording, left: AfterBlock, answer: Tensor) -> int:
    """How many tokens left the last block in its first tensor; 0 if that is not known."""
    if not left.tensors or left.tensors[0].ndim != 3:
        return 0
    return left.tensors[0].shape[token_axis(recording, left.tensors[0], answer)]


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


def within_attention(
    layers: Sequence[Layer], reached: Bool[Tensor, "b n"], place: StreamPlace | None
) -> Bool[Tensor, "b n"] | None:
    """The tokens between the blocks, marked image by image, in the order of the last layer's attention, which may be
    another; None if the two are not the same tokens. `place` says what those between the blocks are, if it is known."""
    layer = last_global_layer(layers)
    try:
        tokens = layer.tokens if layer is not None else None
    except (UsageError, WatchError):
        tokens = None
    if tokens is None:
        return reached
    if place is None or len(place.patches) != reached.shape[1]:
        return None
    counts = [(len(each.patch_tokens), len(each.other_tokens)) for each in (tokens, place)]
    if counts[0] != counts[1]:
        return None
    moved = reached.clone()
    moved[:, list(tokens.patch_tokens + tokens.other_tokens)] = reached[
        :, list(place.patch_tokens + place.other_tokens)
    ]
    return moved


def readers_of_each(layer: Layer, readout: Sequence[int], read_from: Readout) -> Bool[Tensor, "b n"] | None:
    """Which queries of a layer each image is read from, if that differs; `readout` as `readout_in` gives it. Of a layer
    that attends within windows, which patches, if not all."""
    if layer.windows is not None:
        patches, (rows, columns) = read_from.of_patches, layer.windows.grid
        return patches if patches is not None and patches.shape[1] == rows * columns else None
    of_each = read_from.of_each
    return of_each if of_each is not None and readout and of_each.shape[1] == layer.num_queries else None


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
    if len(readout) == 1:
        return "the token that the prediction is read from"
    return "the mean of all tokens" if len(readout) == layer.num_tokens else f"the mean of {len(readout)} tokens"


def reader_name(layers: Sequence[Layer], readouts: Sequence[Sequence[int]]) -> str:
    """Whose attention a figure of several layers shows, in words; where the last layer differs, it is named too."""
    names = list(dict.fromkeys(map(readout_name, layers, readouts)))
    return names[0] if len(names) == 1 else f"{names[0]} (in the last layer {names[-1]})"


def readers_name(of_each: Bool[Tensor, "b n"]) -> str:
    """Whose attention a map shows that starts from marked tokens of each image, in words."""
    number = int(of_each[0].sum())
    if bool((of_each != of_each[0]).any()):
        return "the mean of the tokens that each image is read from"
    return f"the mean of {number} tokens" if number > 1 else "the token that the prediction is read from"
