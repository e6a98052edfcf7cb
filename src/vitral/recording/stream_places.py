"""Measure where the patches are in what passes from block to block: on which axes, and in which order.

The tokens between the blocks need not be those within the attention: a model may keep (tokens, batch, width), a map
with its width first or last, windows beside their tokens, latents in place of patches, or sort its tokens for each
call. So the tensors that enter the blocks are decoded as the keys of a call are (`recording.places`), in a run in which
each token attends to itself only (`recording.apart`).

Axes:  b images   n tokens   d width
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.recording.apart import Subject, run_apart
from vitral.recording.calls import Call
from vitral.recording.indices import Grid
from vitral.recording.known_places import still_hold
from vitral.recording.places import Found, Places, decode
from vitral.recording.probes import mixtures, random_pair
from vitral.recording.stream import Stream

Layout = Literal["b n d", "n b d", "b ... d", "b d ..."]
StreamPlaces = tuple["StreamPlace | None", ...]
# With the places of the calls beside which they were measured.
KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], tuple[Sequence[Found], StreamPlaces]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class StreamPlace:
    """The layout of a tensor of the stream, the grid of its patches, and the patch of each token; -1 for none."""

    layout: Layout
    grid: Grid
    patches: tuple[int, ...]

    @property
    def patch_tokens(self) -> tuple[int, ...]:
        """The token of each patch, along rows."""
        return tuple(self.patches.index(patch) for patch in range(math.prod(self.grid)))

    @property
    def other_tokens(self) -> tuple[int, ...]:
        """The tokens that are no patches."""
        return tuple(token for token, patch in enumerate(self.patches) if patch < 0)


def tokens_in_layout(tensor: Tensor, layout: Layout) -> Float[Tensor, "b n d"]:
    """The tokens of a tensor of the stream, image by image."""
    if layout == "n b d":
        return tensor.transpose(0, 1)
    if layout == "b d ...":
        return tensor.flatten(2).mT
    return tensor.flatten(1, -2)


def stream_places(subject: Subject, found: Sequence[Found], stream: Stream) -> tuple[StreamPlace | None, ...]:
    """The places in each tensor of the stream, None where they are not known; nothing if those of the calls are not.

    `found` are the places of the calls, `stream` is that of a watched pass of the same model. Measured once for a model
    and an image size.
    """
    known_places = [one for one in found if isinstance(one, Places)]
    grids = [one.grid for one in known_places if not (one.is_cropped or one.follows_content)]
    if not grids:
        return ()
    if not still_hold(subject, found):
        return (None,)  # the model puts its tokens into another order in each run
    known = KNOWN.setdefault(subject.model, {})
    before = known.get(subject.key)
    if before is None or before[0] is not found:  # the calls were measured again, since they no longer held
        known[subject.key] = found, measured_stream(subject, max(grids, key=math.prod), stream)
    return known[subject.key][1]


def measured_stream(subject: Subject, grid: Grid, stream: Stream) -> tuple[StreamPlace | None, ...]:
    """See `stream_places`."""
    a, b = random_pair(subject)
    both = a, mixtures(a, b, grid)
    alone, together = ([stream_apart(subject, images, stream)] for images in both)
    if not (alone[0] and together[0]):  # it may take one batch size only: then the first image of each batch is seen
        others = torch.zeros_like(subject.images[1:])
        alone, together = (
            [stream_apart(subject, torch.cat([one, others]), stream) for one in images.split(1)] for images in both
        )
    if len({len(tensors) for tensors in (*alone, *together)}) > 1 or not alone[0]:
        return (None,)
    return tuple(place_of(one, several, grid) for one, several in zip(zip(*alone), zip(*together)))


def stream_apart(subject: Subject, images: Float[Tensor, "b c y x"], like: Stream) -> list[Tensor]:
    """The stream of a run in which each token attends to itself only; its calls belong together as those of `like`."""
    groups = list(like.groups.items())
    streams: list[Stream] = []
    calls: list[Call] = []

    def visit(call: Call) -> None:
        bit, group = groups[len(calls)]
        calls.append(call)
        streams[0].attended(bit, group, call.num_queries == call.num_keys)

    with suppress(Exception):  # what comes after the last attention does not matter
        run_apart(subject, images, visit, start=lambda: streams.append(Stream(subject.model)))
    if not streams or len(calls) != len(groups):
        return []
    streams[0].answer = like.answer
    return [tokens.detach() for tokens in streams[0].tokens]  # registers alone may be parameters


def place_of(alone: Sequence[Tensor], together: Sequence[Tensor], grid: Grid) -> StreamPlace | None:
    """The places in a tensor of the stream, for one image and for the mixtures; None if no layout explains it.

    `together` has all mixtures in one batch, or one in each of several batches, as its first image.
    """
    if alone[0].ndim < 3:  # what leaves an element of a list need not be tokens: scores, say
        return None
    layouts: dict[int, tuple[Layout, ...]] = {3: ("b n d", "n b d"), 4: ("b ... d", "b d ...")}
    for layout in layouts.get(alone[0].ndim, ("b ... d",)):
        one = tokens_in_layout(alone[0], layout)[:1]
        each = [tokens_in_layout(tensor, layout) for tensor in together]
        several = each[0] if len(each) == 1 else torch.cat([tokens[:1] for tokens in each])
        places = decode(one[:, None], several[:, None], grid) if one.ndim == several.ndim == 3 else None
        if places is None or places.batch_axis != "batch" or len(places.patches) != 1:
            continue
        patches = tuple(places.patches[0].tolist())
        if sorted(patch for patch in patches if patch >= 0) == list(range(math.prod(places.grid))):
            return StreamPlace(layout, places.grid, patches)
    return None
