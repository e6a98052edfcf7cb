"""What each token is: CLS, register, or the patch at a row and column; and where that comes from."""

from dataclasses import dataclass, field

from jaxtyping import Int, Shaped
from torch import Tensor, nn

from vitral.base.errors import WatchError
from vitral.recording.indices import Grid
from vitral.recording.places import Places
from vitral.recording.prefix_tokens import numbered, prefix_names


@dataclass(frozen=True)
class TokenRoles:
    """The names of the tokens that are no patches, the number of patches, and their rows and columns where known.

    `source` states in words how this is known. `order` is the token of each patch, along rows; where it is empty the
    patches follow the others in that order. `why_no_grid` says why there is none, where that is known.
    """

    prefix: tuple[str, ...]
    num_patches: int
    known_grid: Grid | None
    source: str = field(compare=False)  # two ways of knowing the same
    order: tuple[int, ...] = ()
    why_no_grid: str = field(default="", compare=False)

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches. Raises `WatchError` if they are not known."""
        if self.known_grid is None:
            raise WatchError(
                self.why_no_grid
                or f"{self.num_patches} patches form neither a square grid nor one with the image's aspect ratio. "
                "Set `grid` = (rows, columns) and `num_prefix_tokens` on the model."
            )
        return self.known_grid

    @property
    def has_cls(self) -> bool:
        return self.prefix[:1] == ("cls",)

    @property
    def patch_tokens(self) -> tuple[int, ...]:
        """The token of each patch, along rows."""
        return self.order or tuple(range(len(self.prefix), len(self.prefix) + self.num_patches))

    @property
    def other_tokens(self) -> tuple[int, ...]:
        """The tokens that are no patches: CLS, registers."""
        patches = set(self.patch_tokens)
        return tuple(token for token in range(len(self.prefix) + self.num_patches) if token not in patches)

    def patches(self, values: Shaped[Tensor, "*b n"]) -> Shaped[Tensor, "*b g"]:
        """The values of the patches, along rows, of one value per token."""
        return values[..., list(self.order)] if self.order else values[..., len(self.prefix) :]

    def others(self, values: Shaped[Tensor, "*b n"]) -> Shaped[Tensor, "*b p"]:
        """The values of the tokens that are no patches, of one value per token."""
        return values[..., list(self.other_tokens)] if self.order else values[..., : len(self.prefix)]

    @property
    def names(self) -> tuple[str, ...]:
        """`cls`, `register 0`, ..., `patch 0 0`, ... by token: row and column, or a number without a grid."""
        columns = self.known_grid[1] if self.known_grid else 0
        names = dict(zip(self.other_tokens, self.prefix))
        for patch, token in enumerate(self.patch_tokens):
            names[token] = f"patch {patch // columns} {patch % columns}" if columns else f"patch {patch}"
        return tuple(names[token] for token in range(len(names)))


def measured_roles(model: nn.Module, patches: Int[Tensor, " m"], places: Places) -> TokenRoles:
    """The roles of tokens of which the patch is known, -1 for none. Each patch of the grid has a token."""
    number, tokens = places.grid[0] * places.grid[1], patches.tolist()
    order = tuple(tokens.index(patch) for patch in range(number))
    # Where the queries are others than the keys, a learned token may ask and be no key.
    known = places.prefix or (prefix_names(model, len(tokens) - number) if places.asks_itself is not False else ())
    names = known or numbered(len(tokens) - number)
    source = "measured: the token that each patch of the image changes"
    in_order = order == tuple(range(len(names), len(tokens)))
    return TokenRoles(names, number, places.grid, source, () if in_order else order)
