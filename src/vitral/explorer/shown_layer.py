"""The attention of one image in one layer, in the order that the page counts tokens in.

The page counts CLS and registers first, then the patches along rows, whatever the order of the model. A layer that
attends within windows has its patches only, and each row has the tokens of the query's own window.

Axes:  h heads   q queries   n keys   w windows
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from vitral.base.errors import UsageError, WatchError
from vitral.explain.flow import further_use_note
from vitral.explain.method import check_shares
from vitral.recording.indices import Grid
from vitral.recording.layers import Layer, Recording
from vitral.recording.windows import Windows


@dataclass(frozen=True)
class ShownLayer:
    """One layer of a page.

    number       its place among all layers of the model, from 0, as `--layer` counts
    grid         rows and columns of patches
    prefix       the tokens that are no patches: `cls`, `register 0`, ...; none where it attends within windows
    keys         the model's number of each token, in the page's order
    own_queries  the number of queries that are no tokens, as of an attention pool; 0 where the tokens attend themselves
    windows      where the tokens of each window stand
    note         where else the model uses the weights, in a sentence
    """

    number: int
    name: str
    layer: Layer
    grid: Grid
    prefix: tuple[str, ...]
    keys: tuple[int, ...]
    own_queries: int = 0
    windows: Windows | None = None
    note: str = ""

    @property
    def num_heads(self) -> int:
        return self.layer.num_heads

    @property
    def num_keys(self) -> int:
        """Weights per row."""
        return self.layer.num_tokens

    @property
    def num_queries(self) -> int:
        return self.own_queries or len(self.prefix) + self.grid[0] * self.grid[1]

    @property
    def prefix_queries(self) -> list[int]:
        """The queries that are no patches."""
        return list(range(self.own_queries or len(self.prefix)))

    def patch_queries(self, step: int) -> list[int]:
        """The patches in every `step`-th row and column, by their numbers as queries; none if patches do not attend."""
        if self.own_queries:
            return []
        columns = self.grid[1]
        some_rows, some_columns = (range(min((step - 1) // 2, count - 1), count, step) for count in self.grid)
        return [len(self.prefix) + row * columns + column for row in some_rows for column in some_columns]

    def places_of(self, query: int) -> Int[np.ndarray, " n"]:
        """The patch that each weight of a patch's row is of; -1 for padding. For layers without prefix tokens."""
        if self.windows is None:
            return np.arange(self.num_keys)
        window, _ = window_and_token(self.windows)
        return self.windows.places[int(window[query])].cpu().numpy()

    def rows(self, queries: Sequence[int]) -> Float[np.ndarray, "h q n"]:
        """What these queries attend to. Raises `UsageError` for weights that are not shares."""
        if self.windows is not None:
            return self.rows_in_windows(queries)
        own = list(queries) if self.own_queries else [self.keys[query] for query in queries]
        rows = self.layer.rows(own)[0].float()
        check_shares(rows, self.name)
        return rows[..., list(self.keys)].cpu().numpy()

    def rows_in_windows(self, patches: Sequence[int]) -> Float[np.ndarray, "h q n"]:
        window, token = (numbers[list(patches)] for numbers in window_and_token(self.windows))
        tokens = sorted(set(token.tolist()))
        rows = self.layer.rows(tokens).float()  # (w, h, len(tokens), n)
        check_shares(rows, self.name)
        place = torch.tensor([tokens.index(each) for each in token.tolist()], device=rows.device)
        return rows[window.to(rows.device), :, place].transpose(0, 1).cpu().numpy()


def window_and_token(windows: Windows | None) -> tuple[Int[torch.Tensor, " p"], Int[torch.Tensor, " p"]]:
    """The window of each patch, and its token there."""
    assert windows is not None
    places = windows.places.cpu()
    window, token = torch.meshgrid(*map(torch.arange, places.shape), indexing="ij")
    real = places >= 0
    found = torch.full((2, windows.grid[0] * windows.grid[1]), -1)
    found[:, places[real]] = torch.stack([window[real], token[real]])
    return found[0], found[1]


def shown_layers(recording: Recording) -> tuple[list[ShownLayer], dict[str, str]]:
    """The layers of one image that a page can show, and why it cannot show others, by their names.

    Raises `WatchError` if it can show none.
    """
    shown: list[ShownLayer] = []
    left_out: dict[str, str] = {}
    for number, layer in enumerate(recording.layers):
        name = recording.name_of(layer)
        try:
            shown.append(show(layer, number, name))
        except (UsageError, WatchError) as error:
            left_out[name] = str(error)
    if not shown:
        raise WatchError("No layer can be shown. " + " ".join(f"{name}: {why}" for name, why in left_out.items()))
    return shown, left_out


def show(layer: Layer, number: int, name: str) -> ShownLayer:
    """One layer. Raises `UsageError` or `WatchError` if it is not known which patch a token stands for."""
    roles, note = layer.tokens, further_use_note([layer]).strip()
    sequences = len(layer.kept_rows)
    if layer.windows is not None:
        if sequences != len(layer.windows.places) or layer.is_cross:
            raise UsageError(f"{name} attends within windows in a form whose queries have no known places.")
        found = ShownLayer(number, name, layer, layer.windows.grid, (), (), windows=layer.windows, note=note)
    else:
        if sequences != 1:
            raise UsageError(f"{name} attends in {sequences} separate sequences per image whose places are not known.")
        keys = (*roles.other_tokens, *roles.patch_tokens)
        own = 0 if layer.queries_are_keys else layer.num_queries
        found = ShownLayer(number, name, layer, roles.grid, roles.prefix, keys, own, note=note)
    found.rows(found.prefix_queries[:1] or found.patch_queries(1)[:1])  # raises for weights that are not shares
    return found
