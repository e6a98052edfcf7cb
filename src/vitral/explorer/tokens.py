"""How similar the tokens of one image are between the blocks of a model.

Axes:  n tokens   d width   gy gx rows, columns of patches
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.explain.feature_maps import FeatureMap, stream_maps
from vitral.explain.graph import without_vmap
from vitral.explorer.similarities import Products, Vectors, encode_similarities
from vitral.recording.forward import run_model
from vitral.recording.indices import Grid
from vitral.recording.intercept import watch
from vitral.recording.layers import Recording

MOST = 2000  # patches: their similarities take the third power of the number in time
NOT_KNOWN = "which token is which patch between the blocks is not known."


@dataclass(frozen=True)
class TokensAtPlace:
    """The tokens at one place in the residual stream, in the page's order: CLS and registers, then the patches.

    index   the place, from 0: what enters the first block
    layers  the first attention layer between this place and the next, and the first after the next
    """

    index: int
    layers: tuple[int, int]
    grid: Grid
    prefix: tuple[str, ...]
    similarities: Products | Vectors


@torch.no_grad()
def tokens_between_blocks(model: nn.Module, images: Float[Tensor, "1 c y x"]) -> list[TokensAtPlace]:
    """The places whose patches are known, in their order. Raises `UsageError` or `WatchError` if there are none."""
    observer = watch(model, [0], stream=True)
    with evaluating(model), without_vmap(model), observer as recording:
        run_model(model, images)
    maps = list(stream_maps(recording, observer.stream_places()))
    if not maps:
        raise WatchError(f"{type(model).__name__} passes on no residual stream, or {NOT_KNOWN}")
    if (count := max(one.grid[0] * one.grid[1] for one in maps)) > MOST:
        raise UsageError(f"The model has {count:,} patches. Comparing all with all is done for up to {MOST:,}.")
    return list(places_of(recording, maps))


def places_of(recording: Recording, maps: list[FeatureMap]) -> Iterator[TokensAtPlace]:
    """The feature maps with their places in the stream, and the tokens that are no patches beside them."""
    ends = [*recording.next_layers[1:], len(recording.layers)]
    for index, (layer, end, tensor) in enumerate(zip(recording.next_layers, ends, recording.stream)):
        found = next((one for one in maps if one.tensor is tensor), None)
        if found is None:
            continue
        patches = found.patches[0].flatten(1).T
        prefix, others = prefix_tokens(recording, layer, found)
        vectors = torch.cat([others.to(patches), patches]).float().cpu().numpy()
        yield TokensAtPlace(index, (layer, end), found.grid, prefix, encode_similarities(vectors))


def prefix_tokens(recording: Recording, layer: int, found: FeatureMap) -> tuple[tuple[str, ...], Float[Tensor, "n d"]]:
    """The tokens that are no patches, and their names, where they are known: those of the next layer of attention."""
    with suppress(UsageError, WatchError):
        roles = recording.layers[min(layer, len(recording.layers) - 1)].tokens
        tokens = len(roles.other_tokens) + len(roles.patch_tokens)
        if found.layout == "b n d" and found.tensor.shape[1] == tokens and found.patch_tokens == roles.patch_tokens:
            return roles.prefix, found.tensor[0, list(roles.other_tokens)]
    return (), found.tensor.new_zeros(0, found.patches.shape[1])


def neighbours(places: list[TokensAtPlace], layer: int) -> tuple[int | None, int | None]:
    """Which of the places come before and after the block of an attention layer, by their numbers in the list.

    A block may have several layers of attention: all of them are between the same two places.
    """
    index = next((place.index for place in places if place.layers[0] <= layer < place.layers[1]), None)
    if index is None:
        return None, None
    numbers = {place.index: number for number, place in enumerate(places)}
    return numbers.get(index), numbers.get(index + 1)
