"""Any ViT of a grammar of styles is shown exactly or refused: never shown wrongly."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError
from written_vits import (
    AXES,
    DEPTH,
    GRID,
    HEADS_AS,
    PREFIX,
    PRODUCT,
    SIZE,
    Style,
    WrittenViT,
    is_possible,
)

STYLES = st.builds(Style, **{name: st.sampled_from(values) for name, values in AXES.items()}).filter(is_possible)


def made(style: Style, batch: int = 3) -> tuple[WrittenViT, torch.Tensor]:
    torch.manual_seed(0)
    return WrittenViT(style).eval(), torch.randn(batch, 3, *SIZE)


def keys_of(model: WrittenViT) -> tuple[tuple[int, int], list[int]] | None:
    """The grid of the keys and the place of each, -1 for none; None where a key is made of tokens that are apart."""
    if model.style.keys != "pooled":
        return GRID, model.places
    if model.front:  # CLS and the first patch are one key
        return None
    grid = (GRID[0] // 2, GRID[1]) if model.style.columns else (GRID[0], GRID[1] // 2)
    of_patch = [
        (patch // GRID[1] * grid[0] // GRID[0]) * grid[1] + patch % GRID[1] * grid[1] // GRID[1]
        for patch in range(GRID[0] * GRID[1])
    ]
    return grid, [-1 if place < 0 else of_patch[place] for place in model.places[::2]]


def names(model: WrittenViT) -> list[str | None] | None:
    """The role of each key; None for keys whose names do not matter."""
    if (found := keys_of(model)) is None:
        return None
    (_, columns), places = found
    return [None if place < 0 else f"patch {place // columns} {place % columns}" for place in places]


def check_seen(style: Style, batch: int) -> bool:
    """Compare what is seen with the truth; whether the places of the tokens were known too."""
    model, images = made(style, batch)
    with torch.no_grad():
        plain = model(images)
        with watch(model, "all") as seen:
            watched = model(images)
    torch.testing.assert_close(watched, plain)
    truth = model.truth
    assert len(seen.layers) == DEPTH and not seen.missed
    known = True
    for layer, weights in zip(seen.layers, truth):
        found = layer.weights()
        try:
            roles = layer.roles
        except (UsageError, WatchError):
            known = False
            continue
        if style.keys == "windows":
            assert layer.windows is not None
            weights = rearrange(weights, "b h w n m -> (b w) h n m")
            places = torch.arange(16).unflatten(0, GRID)
            expected = rearrange(places, "(y p) (x q) -> (y x) (p q)", y=2, x=2)
            order = [layer.windows.places.tolist().index(row) for row in expected.tolist()]
            found = rearrange(found, "(b w) h n m -> b w h n m", b=batch)[:, order].flatten(0, 1)
        else:
            shown = [role if role.startswith("patch") else None for role in roles]
            assert shown == names(model)
        torch.testing.assert_close(found, weights)
    return known


@settings(max_examples=120, deadline=None)
@given(STYLES, st.integers(1, 3))
def test_what_is_seen_is_what_was_used(style, batch):
    known = check_seen(style, batch)
    assert known or keys_of(made(style)[0]) is None


@settings(max_examples=40, deadline=None)
@given(STYLES)
def test_maps_are_those_of_the_weights_or_refused(style):
    model, images = made(style)
    try:
        maps = explain.attention(model, images)
    except (UsageError, WatchError):
        assert keys_of(model) is None
        return
    weights = torch.stack(model.truth, 1)  # (b, l, h, n, m)
    if style.keys == "windows":
        column = rearrange(weights.sum(-2), "b l h (y x) (p q) -> b l h (y p) (x q)", y=2, p=2)
    else:
        places = torch.tensor(model.places)
        reads = (
            (places >= 0).double()
            if style.prefix in ("none", "registers behind")
            else torch.nn.functional.one_hot((places < 0).nonzero()[0, 0], len(places)).double()
        )
        row = torch.einsum("blhnm,n->blhm", weights.double(), reads)
        grid, keys = keys_of(model)
        order = [keys.index(patch) for patch in range(grid[0] * grid[1])]
        column = row[..., order].unflatten(-1, grid)
    expected = column / column.mean(dim=(-1, -2), keepdim=True)
    torch.testing.assert_close(torch.from_numpy(maps.values).double(), expected.double(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heads", HEADS_AS)
@pytest.mark.parametrize("product", PRODUCT)
def test_every_product_of_every_arrangement_of_heads(product, heads):
    assert check_seen(Style(product=product, heads=heads), 2)


@pytest.mark.parametrize("prefix", PREFIX)
@pytest.mark.parametrize("columns", [False, True])
def test_tokens_in_every_order(prefix, columns):
    assert check_seen(Style(prefix=prefix, columns=columns), 2)
