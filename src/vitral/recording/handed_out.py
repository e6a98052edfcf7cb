"""What a model that cannot be watched hands out itself, as an exported one does: its answer and rows of attention.

Axes:  b images   c channels   y x pixels   h heads   m key tokens
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError
from vitral.recording.calls import Queries
from vitral.recording.layers import Layer, Recording
from vitral.recording.token_roles import TokenRoles

ROUNDING = 1e-3  # of a sum of weights, in the lowest precision


@dataclass(frozen=True)
class HandedOut:
    """One run: what the model answered, its rows, and the tokens among so many that the answer is read from.

    `note` says what was assumed of these, and what is not shown, in sentences; empty if nothing.
    """

    answer: Tensor
    recording: Recording
    readout: tuple[int, ...]
    among: int
    note: str = ""


@runtime_checkable
class HandsOutRows(Protocol):
    """A model that gives its rows of attention beside its answer."""

    def hand_out(self, images: Float[Tensor, "b c y x"]) -> HandedOut: ...


@dataclass(frozen=True)
class OnlyRow:
    """In place of a function that forms rows: gives the one row that was handed out, and refuses all others."""

    query: int | None  # None where it is the mean of several
    row: Float[Tensor, "b h 1 m"]
    why_no_others: str

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        """Raises `UsageError` for other rows."""
        if isinstance(queries, slice) or list(queries) != [self.query]:
            raise UsageError(self.why_no_others)
        return self.row


def handed_out_layer(
    name: str,
    row: Float[Tensor, "b h m"],
    residual: float,
    roles: TokenRoles,
    queries: Sequence[int],
    num_queries: int,
    is_cross: bool,
    in_windows: bool,
    why_no_others: str,
) -> Layer:
    """A layer of which one row is known: that of a query, or the mean over some queries, over all where none are
    named. What such a mean over windows lacks to 1 is on their padding."""
    missing = 1 - row.sum(dim=-1)
    named = tuple(queries)
    single = named[0] if len(named) == 1 else 0 if num_queries == 1 else None
    return Layer(
        name,
        num_queries,
        row.shape[-1],
        residual,
        () if single is None else (single,),
        row[:, :, :0] if single is None else row[:, :, None],
        lambda: roles,
        OnlyRow(single, row[:, :, None], why_no_others),
        is_cross=is_cross,
        mean_of=named,
        kept_mean=row,
        kept_padding=torch.where(missing > ROUNDING, missing, 0) if in_windows else None,
    )
