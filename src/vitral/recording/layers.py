"""What a watched model did: its attention layers in the order they ran, and the tokens that passed from block to block.

Axes:  b batch   w windows   h heads   n m query, key tokens   r wanted rows   gy gx rows, columns of patches
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, takewhile

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError, WatchError
from vitral.recording.calls import Call, Queries
from vitral.recording.dataflow import Meeting
from vitral.recording.further_uses import FurtherUse
from vitral.recording.indices import select
from vitral.recording.token_roles import TokenRoles
from vitral.recording.windows import Windows

TWICE = "it multiplies values twice, and its gradient is that of the first product"
CHUNK = 2**20  # weights formed at a time: 4 MB in single precision, and as much again for each step to them


@dataclass(eq=False)
class Layer:
    """One call of attention. `residual` is |rows · v - output| / max |output| over the rows that were checked.

    `kept_rows` are the rows of `kept_queries`; `compute` forms any others, if q and k were kept. `calls` are the calls
    themselves, kept only where gradients are recorded; their heads stand one after another, or their queries, of which
    `starts` are then the first. `bit` marks what depends on them, `values_depend` is what their values depend on (see
    `recording.dataflow`). `windows` is where the tokens of each window stand in the image, for attention within windows
    (whose windows are further items of the batch). `further_uses` are where else the model uses the weights, if its
    answer depends on that: ∂y/∂A is then more than `weight_gradients`. `kept_mean` is the mean row of the queries
    `mean_of`, of all if these are none, where single rows are not known (see `recording.handed_out`), and
    `kept_padding` the share of it that is on the padding of windows.
    """

    name: str
    num_queries: int
    num_tokens: int
    residual: float
    kept_queries: tuple[int, ...]
    kept_rows: Float[Tensor, "b h r m"]
    find_roles: Callable[[], TokenRoles]
    compute: Callable[[Queries], Float[Tensor, "b h r m"]] | None = None
    calls: tuple[Call, ...] = ()
    windows: Windows | None = None
    bit: int = 0
    starts: tuple[int, ...] = ()
    depends: int = 0
    is_cross: bool = False
    further_uses: tuple[FurtherUse, ...] = ()
    values_depend: int = 0
    mean_of: tuple[int, ...] = ()
    kept_mean: Float[Tensor, "b h m"] | None = None
    kept_padding: Float[Tensor, "b h"] | None = None

    @property
    def num_heads(self) -> int:
        return self.kept_rows.shape[1]

    @property
    def queries_are_keys(self) -> bool:
        """Whether the tokens attend to each other; false for a pool's learned queries, or where keys are fewer."""
        return self.num_queries == self.num_tokens and not self.is_cross

    @property
    def tokens(self) -> TokenRoles:
        """What each token is. Raises `UsageError` if that is not known."""
        return self.find_roles()

    def whole_image(self, caller: str) -> TokenRoles:
        """What each token is, in attention over the whole image. Raises `UsageError` for attention within windows."""
        if self.windows is not None:
            raise UsageError(f"{caller} needs attention over the whole image; {self.name} attends within windows.")
        return self.tokens

    @property
    def num_prefix_tokens(self) -> int:
        return len(self.tokens.prefix)

    @property
    def roles(self) -> tuple[str, ...]:
        """What each token is: `cls`, `register 0`, ..., then `patch 0 0`, `patch 0 1`, ... by row and column."""
        return self.tokens.names

    def rows(self, queries: Sequence[int]) -> Float[Tensor, "b h r m"]:
        """What these tokens attend to: one weight per token, summing to 1.

        Raises `UsageError` for tokens that do not exist, or whose rows were not kept when the model ran.
        """
        if wrong := [query for query in queries if not 0 <= query < self.num_queries]:
            raise UsageError(
                f"Tokens {wrong} do not exist: {self.name} has {self.num_queries} tokens, 0 to {self.num_queries - 1}."
            )
        if self.compute is not None:
            return self.compute(list(queries))
        if missing := [query for query in queries if query not in self.kept_queries]:
            raise UsageError(
                f"The rows of tokens {missing} were not recorded; recorded: {list(self.kept_queries)}. "
                'Watch with rows=[...], or rows="all" to choose later.'
            )
        return self.kept_rows[:, :, [self.kept_queries.index(query) for query in queries]]

    def weight_gradients(self, out_gradients: Sequence[Tensor], queries: slice) -> Float[Tensor, "b h r m"]:
        """∂y/∂A of the rows of these queries, from ∂y/∂(what each call returned); needs the calls."""
        pairs = list(zip(self.calls, out_gradients, strict=True))
        if self.starts:
            forms = [partial(call.weight_gradients, gradient) for call, gradient in pairs]
            return form_in_chunks(forms, (*self.starts, self.num_queries), queries)
        return torch.cat([call.weight_gradients(gradient, queries) for call, gradient in pairs], dim=1)

    def weights(self) -> Float[Tensor, "b h n m"]:
        """The whole attention matrix; needs `rows="all"`. `chunks` gives it piece by piece."""
        return self.rows(range(self.num_queries))

    def chunks(self) -> Iterator[tuple[slice, Float[Tensor, "b h r m"]]]:
        """The whole matrix in pieces of `CHUNK` weights, never more than one at a time; needs `rows="all"`."""
        if self.compute is None:
            self.rows(range(self.num_queries))  # raises: they were not kept
        assert self.compute is not None
        for queries in query_chunks(self.num_queries, self.kept_rows.shape[0] * self.num_heads * self.num_tokens):
            yield queries, self.compute(queries)


def query_chunks(num_queries: int, weights_per_query: int) -> Iterator[slice]:
    """Slices of all queries, each with at most `CHUNK` weights and at least one query."""
    step = max(1, CHUNK // max(1, weights_per_query))
    return (slice(start, min(start + step, num_queries)) for start in range(0, num_queries, step))


def sum_chunks(parts: Iterable[Tensor]) -> Tensor:
    """The sum of one result per chunk, added up in place.

    A list of small results, each allocated just after a chunk was freed, would leave holes that no chunk fits.
    """
    each = iter(parts)
    total = next(each).clone()
    for part in each:
        total += part
    return total


def joined(parts: Sequence[Layer]) -> Layer:
    """One layer of the heads of several calls, whose results the model joined."""
    first, computes = parts[0], [part.compute for part in parts]
    kept = tuple(query for query in first.kept_queries if all(query in part.kept_queries for part in parts))

    def compute(queries: Queries) -> Tensor:
        return torch.cat([one(queries) for one in computes if one is not None], dim=1)

    rows = [part.kept_rows[:, :, [part.kept_queries.index(query) for query in kept]] for part in parts]
    return replace(
        together(parts),
        kept_queries=kept,
        kept_rows=torch.cat(rows, dim=1),
        compute=None if first.compute is None else compute,
    )


def chunked(parts: Sequence[Layer]) -> Layer:
    """One layer of several calls, each of which attended from a chunk of the queries to all keys."""
    starts = tuple(accumulate((part.num_queries for part in parts[:-1]), initial=0))
    total = sum(part.num_queries for part in parts)
    computes = [part.compute for part in parts if part.compute is not None]
    kept = tuple(start + query for start, part in zip(starts, parts) for query in part.kept_queries)
    return replace(
        together(parts),
        num_queries=total,
        kept_queries=kept,
        kept_rows=torch.cat([part.kept_rows for part in parts], dim=2),
        compute=partial(form_in_chunks, computes, (*starts, total)) if computes else None,
        starts=starts,
    )


def form_in_chunks(
    forms: Sequence[Callable[[Queries], Tensor]], borders: Sequence[int], queries: Queries
) -> Float[Tensor, "b h r m"]:
    """The rows of some queries, where `forms[i]` forms those of the queries between two borders, counted from its own
    first."""
    wanted = list(range(borders[-1])[queries]) if isinstance(queries, slice) else list(queries)
    found: list[Tensor] = []
    order: list[int] = []
    for form, start, stop in zip(forms, borders, borders[1:]):
        if own := [query for query in wanted if start <= query < stop]:
            found.append(form([query - start for query in own]))
            order += own
    rows = torch.cat(found, dim=2)
    return rows if order == wanted else rows[:, :, [order.index(query) for query in wanted]]


def together(parts: Sequence[Layer]) -> Layer:
    """What several calls that are one layer have in common, under the name that theirs share."""
    # blocks.0.heads.0 and blocks.0.heads.1 -> blocks.0.heads
    words = takewhile(lambda words: len(set(words)) == 1, zip(*(part.name.split(".") for part in parts)))
    return replace(
        parts[0],
        name=".".join(each[0] for each in words) or parts[0].name,
        residual=max(part.residual for part in parts),
        calls=tuple(call for part in parts for call in part.calls),
        bit=sum(part.bit for part in parts),
    )


@dataclass
class Recording:
    """What a watched model did.

    `stream` (with `stream=True`) is what entered each block, then what left the last; `next_layers` are the numbers of
    the layers that come after each of these. `missed` lists every other tensor whose rows sum to one, and why it is not
    shown: attention, perhaps, in a form that is not recognised. `answer` has the bits of the layers that the model's
    answer depends on; 0 if that is not known. `meetings` are those of tokens of several depths, by their bits, and
    `projections` the bits of all projections of the image (see `recording.dataflow`). `only_rows` says why there are
    no whole matrices of weights, where a model handed out some rows itself.
    """

    layers: list[Layer] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    answer: int = 0
    meetings: dict[int, Meeting] = field(default_factory=dict)
    projections: int = 0
    stream: list[Float[Tensor, "b n d"]] = field(default_factory=list)
    next_layers: list[int] = field(default_factory=list)
    only_rows: str = ""

    @property
    def residual(self) -> float:
        """The largest residual of any layer; not a number before any was seen."""
        return max((layer.residual for layer in self.layers), default=float("nan"))

    @property
    def of_answer(self) -> list[Layer]:
        """The layers that the model's answer depends on; all, if that is not known."""
        return [layer for layer in self.layers if layer.bit & self.answer] or self.layers

    @property
    def not_of_answer(self) -> list[Layer]:
        """The other layers, as of a decoder whose result is returned beside the answer."""
        return [layer for layer in self.layers if layer not in self.of_answer]

    def name_of(self, layer: Layer) -> str:
        """The layer's name, and which of the calls it is, of a module that ran several times."""
        calls = [one for one in self.layers if one.name == layer.name]
        return f"{layer.name} (call {calls.index(layer) + 1} of {len(calls)})" if len(calls) > 1 else layer.name

    def detach(self) -> None:
        """Let go of everything that holds the graph of the forward pass."""
        for layer in self.layers:
            layer.kept_rows, layer.calls = layer.kept_rows.detach(), ()
        self.stream = [torch.Tensor.detach(tokens) for tokens in self.stream]


def comparable_layers(recording: Recording, layers: Sequence[int] | None) -> tuple[list[Layer], str]:
    """The selected layers, or the last one and all that are like it, and a note on what is not shown.

    Raises `UsageError` if selected layers have different grids or heads, or the roles of their tokens are not known.
    """
    everything, others = recording.layers, recording.not_of_answer
    twice = [one for one in recording.missed if one.endswith(TWICE)]
    note = f" Shown as two layers: {'; '.join(twice)}." if twice else ""
    if missed := [one for one in recording.missed if one not in twice]:
        note = f" Not shown: {'; '.join(missed)}." + note
    if layers is not None:
        selected = [everything[index] for index in select(layers, len(everything), "layer")]
        if len({kind(layer) for layer in selected}) > 1:
            sizes = ", ".join(f"{number} {layer.name}: {size(layer)}" for number, layer in enumerate(everything))
            raise UsageError(
                f"The layers have different numbers of heads and tokens ({sizes}), so they do not fit one figure. "
                "Select layers of one size: layers=[...]."
            )
        if unread := [recording.name_of(layer) for layer in selected if layer in others]:
            note = f" The output does not depend on {', '.join(unread)}." + note
        return selected, note
    everything = recording.of_answer
    last = everything[-1]
    try:
        kind(last)
    except (UsageError, WatchError) as error:  # its tokens are not known
        raise type(error)(f"{error}{advice_on_known(recording, everything)}") from error
    odd = [layer for layer in everything if difference(layer, last)]
    if odd:  # an attention pool stands beside the tokens it pools only if all layers are shown
        odd = [layer for layer in everything if difference(layer, last) or layer.num_queries != last.num_queries]
    reasons = dict.fromkeys(difference(layer, last) or "a different number of queries" for layer in odd)
    for reason in reversed(reasons):
        which = [layer for layer in odd if (difference(layer, last) or "a different number of queries") == reason]
        numbers = listed([recording.layers.index(layer) for layer in which])
        note = f" Not shown: layer{numbers}, which ha{'s' if len(which) == 1 else 've'} {reason}." + note
    if others:
        note = f" Not shown: {', '.join(map(recording.name_of, others))}, on which the output does not depend." + note
    return [layer for layer in everything if layer not in odd], note


def advice_on_known(recording: Recording, layers: Sequence[Layer]) -> str:
    """A sentence on the layers whose tokens are known, with those that fit one figure together; empty without any."""
    known = [layer for layer in layers if not difference(layer, layer)]
    if not known:
        return ""
    alike: dict[tuple[int, TokenRoles], list[int]] = {}
    for layer in known:
        alike.setdefault(kind(layer), []).append(recording.layers.index(layer))
    choices = ", or ".join(f"layers={numbers}" for numbers in alike.values())
    numbers = listed([recording.layers.index(layer) for layer in known])
    return f" The tokens of layer{numbers} are known: attention with {choices}."


def difference(layer: Layer, other: Layer) -> str:
    """Why a layer does not fit into one figure with another; empty if it does."""
    try:
        if kind(layer) == kind(other):
            return ""
        same_size = layer.num_heads == other.num_heads and layer.tokens.grid == other.tokens.grid
    except (UsageError, WatchError):
        return "tokens whose places are not known"
    return "different tokens, or tokens in a different order" if same_size else "a different grid or number of heads"


def listed(numbers: Sequence[int]) -> str:
    """The numbers of layers, in words after "layer".

    >>> listed([4]), listed([0, 1, 2, 4])
    (' 4', 's 0 to 2, 4')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ("s " if len(numbers) > 1 else " ") + ", ".join(words)


def kind(layer: Layer) -> tuple[int, TokenRoles]:
    """What layers in one figure have in common. Raises `UsageError` if the roles of the tokens are not known."""
    return layer.num_heads, layer.tokens


def size(layer: Layer) -> str:
    """The layer's heads and grid in words."""
    try:
        rows, columns = layer.tokens.grid
    except (UsageError, WatchError):
        return f"{layer.num_heads} heads, of tokens whose places are not known"
    return f"{layer.num_heads} heads, {rows} x {columns}"
