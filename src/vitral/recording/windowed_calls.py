"""Attention in windows that states them, as attention over the whole image whose weights outside of a window are zero.

A model of Vitral's whose blocks attend in windows cuts q, k and v itself and knows where each piece stands
(`nn.high_resolution.windows`), so nothing has to be found out. The prefix tokens, if there are any, attend to all
tokens in a call of their own, just before that of the patches; both are chunks of the queries of one layer.

Axes:  b images   w windows   h heads   p prefix tokens   n m tokens of a window (queries, and keys behind p)
       g patches   r wanted rows   e width of one head
"""

from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vitral.base.errors import WatchError
from vitral.recording.calls import Call, Queries, Rows


@runtime_checkable
class StatesWindows(Protocol):
    """What a function of q, k and v states about the windows that it cuts them into."""

    num_prefix_tokens: int

    @property
    def is_whole(self) -> bool: ...
    def places(self) -> Int[Tensor, "w n"]: ...


@dataclass(frozen=True)
class WindowPlaces:
    """Where the patches of the image stand: `window[g]`, and `position[g]` in it; `places` is the other way round."""

    places: Int[Tensor, "w n"]
    num_prefix_tokens: int

    @property
    def window_and_position(self) -> tuple[Int[Tensor, " g"], Int[Tensor, " g"]]:
        """The window of each patch, and its position in that."""
        windows, positions = (self.places >= 0).nonzero(as_tuple=True)
        order = self.places[windows, positions].argsort()
        return windows[order], positions[order]

    def gather(self, x: Shaped[Tensor, "bw h n e"], before: int = 0) -> Shaped[Tensor, "b h g e"]:
        """The patches along rows, of tensors of windows with `before` other tokens in front."""
        windows, positions = self.window_and_position
        return x.unflatten(0, (-1, len(self.places))).transpose(1, 2)[:, :, windows, before + positions]

    def gather_keys(self, x: Shaped[Tensor, "bw h m e"]) -> Shaped[Tensor, "b h pg e"]:
        """The prefix tokens, which each window has, and the patches along rows."""
        p = self.num_prefix_tokens
        return torch.cat([x[:: len(self.places), :, :p], self.gather(x, p)], dim=2)

    def scatter(self, x: Shaped[Tensor, "b h g e"]) -> Shaped[Tensor, "bw h n e"]:
        """The patches in their windows, zeros where there is none: the opposite of `gather`."""
        windows, positions = self.window_and_position
        out = x.new_zeros(len(x), x.shape[1], *self.places.shape, x.shape[-1])
        out[:, :, windows, positions] = x
        return out.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class WholeImageRows:
    """The rows of patches over all tokens of the image, from those over the tokens of their windows."""

    rows: Rows
    stand: WindowPlaces

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r pg"]:
        chosen = queries if isinstance(queries, slice) else list(queries)
        windows, positions = (index[chosen] for index in self.stand.window_and_position)
        wanted, which = positions.unique(return_inverse=True)
        inside = self.rows(wanted.tolist())
        inside = inside.unflatten(0, (-1, len(self.stand.places))).transpose(1, 2)[:, :, windows, which]
        p, places = self.stand.num_prefix_tokens, self.stand.places
        number = p + int(places.max()) + 1
        # One key more than there are takes the weights of padding, which are zero.
        patches = torch.where(places < 0, number, places + p)[windows]
        keys = torch.cat([torch.arange(p).expand(len(patches), -1), patches], dim=1).to(inside.device)
        rows = inside.new_zeros(*inside.shape[:3], number + 1)
        return rows.scatter(-1, keys.expand(*inside.shape[:2], -1, -1), inside)[..., :-1]

    def detached(self) -> "WholeImageRows":
        return replace(self, rows=self.rows.detached())

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.rows.tensors


def over_whole_image(call: Call, stated: StatesWindows, images: int) -> Call:
    """A call in windows as one of all patches over all tokens; the call of the prefix tokens as it is."""
    stand = WindowPlaces(stated.places(), stated.num_prefix_tokens)
    windows, size = stand.places.shape
    if call.num_keys != size + stated.num_prefix_tokens:
        return call
    if call.heads_in_batch:
        call = call.split_heads(images * windows)
    return replace(
        call,
        rows=WholeImageRows(call.rows, stand),
        values=stand.gather_keys(call.values),
        num_queries=int(stand.places.max()) + 1,
        view=lambda x: stand.gather(call.view(x)),
        fill=lambda out, product: call.fill_output(out, stand.scatter(product)),
        heads_in_batch=False,
    )


def stated_windows(frame: FrameType) -> tuple[StatesWindows, int] | None:
    """The windows that a running function states, by its frame, and the number of images; None if it does not.

    Raises `WatchError` if the function states that it attends in several images of different sizes.
    """
    if frame.f_code.co_name != "__call__":  # the locals of a frame that are looked at live until it ends
        return None
    owner, q = frame.f_locals.get("self"), frame.f_locals.get("q")
    if isinstance(q, Tensor) and getattr(owner, "joins_images", False) is True:
        raise WatchError(
            "The model runs images of different sizes at once, so its calls of attention have no common grid of "
            "patches. Watch the model inside of MixedSizes (its `model`) on one image, or images of one size."
        )
    if not isinstance(q, Tensor) or not isinstance(owner, StatesWindows) or owner.is_whole:
        return None
    return owner, len(q)
