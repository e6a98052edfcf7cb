"""What a watched model did: its attention layers in the order they ran, and the tokens that passed from block to block.

Axes:  b batch   w windows   h heads   n m query, key tokens   r wanted rows   gy gx rows, columns of patches
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError
from vitral.recording.calls import Call, Queries
from vitral.recording.roles import Tokens
from vitral.recording.windows import Windows

CHUNK = 2**20  # weights that are formed at a time: 4 MB in single precision, and as much again for each step to them


@dataclass
class Layer:
    """One call of attention. `residual` is |rows · v - output| / max |output| over the rows that were checked.

    `call` is what was called, kept only where gradients are; `windows` says where in the image the tokens of each
    window stand, for a model that attends within windows (its windows are further items of the batch).
    """

    name: str
    num_queries: int
    num_tokens: int
    residual: float
    wanted: tuple[int, ...]
    seen: Float[Tensor, "b h r m"]
    told: Callable[[], Tokens]
    compute: Callable[[Queries], Float[Tensor, "b h r m"]] | None = None
    call: Call | None = None
    windows: Windows | None = None

    @property
    def num_heads(self) -> int:
        return self.seen.shape[1]

    @property
    def among_themselves(self) -> bool:
        """Whether the tokens read each other: not where a few learned queries pool them, or keys are fewer."""
        return self.num_queries == self.num_tokens

    @property
    def tokens(self) -> Tokens:
        """What each token is. Raises `UsageError` if nothing tells."""
        return self.told()

    def whole_image(self, asker: str) -> Tokens:
        """What each token is, of attention over the whole image. Raises `UsageError` for attention within windows."""
        if self.windows is not None:
            raise UsageError(f"{asker} is of attention over the whole image; {self.name} attends within windows.")
        return self.tokens

    @property
    def num_prefix_tokens(self) -> int:
        return len(self.tokens.prefix)

    @property
    def roles(self) -> tuple[str, ...]:
        """What each token is: `cls`, `register 0`, ..., then `patch 0 0`, `patch 0 1`, ... by row and column."""
        return self.tokens.roles

    def rows(self, queries: Sequence[int]) -> Float[Tensor, "b h r m"]:
        """What these tokens attend to: one weight for each token, summing to 1.

        Raises `UsageError` for tokens that do not exist or were not asked for when the model ran.
        """
        if wrong := [query for query in queries if not 0 <= query < self.num_queries]:
            raise UsageError(
                f"Tokens {wrong} do not exist: {self.name} has {self.num_queries} tokens, 0 to {self.num_queries - 1}."
            )
        if self.compute is not None:
            return self.compute(list(queries))
        if missing := [query for query in queries if query not in self.wanted]:
            raise UsageError(
                f"The rows of tokens {missing} were not kept; kept are {list(self.wanted)}. "
                'Watch with rows=[...], or rows="all" to choose later.'
            )
        return self.seen[:, :, [self.wanted.index(query) for query in queries]]

    def weights(self) -> Float[Tensor, "b h n m"]:
        """The whole attention matrix; needs `rows="all"`. `chunks` gives it piece by piece."""
        return self.rows(range(self.num_queries))

    def chunks(self) -> Iterator[tuple[slice, Float[Tensor, "b h r m"]]]:
        """The whole matrix in pieces of `CHUNK` weights, never more than one at a time; needs `rows="all"`."""
        if self.compute is None:
            self.rows(range(self.num_queries))  # which says that they were not kept
        assert self.compute is not None
        for queries in chunked(self.num_queries, self.seen.shape[0] * self.num_heads * self.num_tokens):
            yield queries, self.compute(queries)


def chunked(n: int, weights_each: int) -> Iterator[slice]:
    """Slices that share out n queries so that each has at most `CHUNK` weights, and at least one query."""
    step = max(1, CHUNK // max(1, weights_each))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of what each chunk gave, added up in place.

    A list of small results, each made while a chunk's memory was just free, would leave holes that no chunk fits.
    """
    each = iter(parts)
    whole = next(each).clone()
    for part in each:
        whole += part
    return whole


@dataclass
class Seen:
    """What a watched model did. `stream` (with `stream=True`) is what entered each block, then what left the last, and
    `before` the number of the layer that comes after each of these.

    `missed` counts softmaxes over tokens that were not seen to be multiplied by values: attention, perhaps, in a form
    that is not known.
    """

    layers: list[Layer] = field(default_factory=list)
    missed: int = 0
    stream: list[Float[Tensor, "b n d"]] = field(default_factory=list)
    before: list[int] = field(default_factory=list)

    @property
    def residual(self) -> float:
        """The largest residual of any layer; not a number as long as none was seen."""
        return max((layer.residual for layer in self.layers), default=float("nan"))

    def detach(self) -> None:
        """Let go of everything that holds the graph of the forward pass."""
        for layer in self.layers:
            layer.seen, layer.call = layer.seen.detach(), None
        self.stream = [torch.Tensor.detach(tokens) for tokens in self.stream]
