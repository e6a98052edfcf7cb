"""Merged tokens: what is merged, what stays, and how it goes back to the grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import redraw, see_attention
from vitral import explain
from vitral.base.errors import ConfigError, WatchError
from vitral.nn.attention import Attention
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.pool import AttentionPool, MeanPool
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.head import CLSPool
from vitral.nn.high_resolution.any_size import AnySizeViT
from vitral.nn.high_resolution.merged_tokens import MergedTokens, match
from vitral.nn.high_resolution.token_merging import MergingViT
from vitral.nn.high_resolution.windowed import windowed
from vitral.nn.vit import VisionTransformer

GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6))
PREFIXES = st.sampled_from([{}, {"cls_token": 1}, {"cls_token": 1, "reg_token": 2}])


def made(grid=(4, 5), tokens=None, pool=None, kind=VisionTransformer, **parts):
    tokens = {"cls_token": 1} if tokens is None else tokens
    pool = pool or (CLSPool if tokens else MeanPool)
    sizes = dict(img_size=(4 * grid[0], 4 * grid[1]), patch_size=4, num_classes=3, embed_dim=16, depth=3, num_heads=2)
    return redraw(kind(**sizes, tokens=tokens, pool=pool, **parts))


def drawn(grid=(4, 5), batch=2):
    return torch.randn(batch, 3, 4 * grid[0], 4 * grid[1])


@given(GRIDS, PREFIXES, st.sampled_from([None, MeanPool, AttentionPool]), st.sampled_from([Attention, QKNormAttention]))
def test_merging_nothing_is_the_model_itself(grid, tokens, pool, mixer):
    model, images = made(grid, tokens, pool, mixer=mixer, block=ScaledBlock), drawn(grid)
    with torch.no_grad():
        merging = MergingViT(model, r=0)
        assert torch.equal(merging(images), model(images))
        for maps, expected in zip(merging.features(images, [0, -1]), model.features(images, [0, -1]), strict=True):
            assert torch.equal(maps, expected)


@given(GRIDS, PREFIXES, st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_each_patch_is_held_by_one_token_and_prefix_tokens_hold_themselves(grid, tokens, r):
    model = MergingViT(made(grid, tokens), r)
    with torch.no_grad():
        model(drawn(grid))
    prefix, count = sum(tokens.values()), sum(tokens.values()) + grid[0] * grid[1]
    for before, after, wanted in zip(model.steps, model.steps[1:], r):
        merged = before.sizes.shape[1] - after.sizes.shape[1]
        patches = before.sizes.shape[1] - prefix
        assert min(wanted, patches // 2) <= merged <= min(wanted, (patches + 1) // 2)
    for step in model.steps:
        assert step.holder.shape == (2, count)
        held = torch.stack([row.bincount(minlength=step.sizes.shape[1]) for row in step.holder])
        assert torch.equal(held, step.sizes.long())
        assert torch.equal(step.holder[:, :prefix], torch.arange(prefix).expand(2, -1))
        assert (step.sizes[:, :prefix] == 1).all()


@given(st.integers(2, 12), st.integers(0, 3), st.integers(0, 12))
def test_the_most_similar_pairs_are_chosen(n, prefix, r):
    keys = torch.randn(2, n + prefix, 4, dtype=torch.float64)
    source, target = match(keys, prefix, r)
    similarity = torch.cosine_similarity(keys[:, :, None], keys[:, None], dim=-1)
    for image in range(2):
        pairs = {}
        for first in range(0, n + prefix, 2):
            others = [(float(similarity[image, first, other]), other) for other in range(1, n + prefix, 2)]
            allowed = [pair for pair in others if pair[1] >= prefix]
            if first >= prefix and allowed:
                pairs[first] = max(allowed)
        expected = sorted(pairs, key=lambda first: -pairs[first][0])[:r]
        assert source[image].tolist() == expected
        assert target[image].tolist() == [pairs[first][1] for first in expected]


def test_a_merged_token_is_the_mean_of_what_it_holds():
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    tokens = MergedTokens(torch.arange(6).expand(2, -1), torch.ones(2, 6, dtype=torch.float64), (2, 3), 0)
    now, left = x, tokens
    for source, target in (([[0, 4], [2, 4]], [[1, 1], [3, 5]]), ([[0], [2]], [[3], [1]])):
        now, left = left.merge(now, torch.tensor(source), torch.tensor(target))
    assert left.sizes.sum(1).tolist() == [6, 6]
    for image in range(2):
        for token in range(now.shape[1]):
            held = left.holder[image] == token
            torch.testing.assert_close(now[image, token], x[image, held].mean(0))
    assert torch.equal(left.unmerge(now), torch.stack([now[image, left.holder[image]] for image in range(2)]))


@given(PREFIXES, st.sampled_from([MeanPool, AttentionPool]))
def test_tokens_that_are_alike_can_be_merged_without_a_trace(tokens, pool):
    """Proportional attention and pools count a token as often as it holds patches: equal patches may become one."""
    model = made(tokens=tokens, pool=pool).double()
    with torch.no_grad():
        model.pos_embed.zero_()
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64).tile(1, 1, 4, 5)
    with torch.no_grad():
        merging = MergingViT(model, r=4)
        torch.testing.assert_close(merging(images), model(images), rtol=1e-9, atol=1e-9)
        assert merging.steps[-1].sizes.max() > 1
        torch.testing.assert_close(merging.features(images, [-1])[0], model.features(images, [-1])[0])


@given(GRIDS, PREFIXES)
def test_the_features_of_a_patch_are_the_token_that_holds_it(grid, tokens):
    model, images = MergingViT(made(grid, tokens), r=3), drawn(grid)
    with torch.no_grad():
        after = [x for _, x in model.encode(images)]
        features = model.features(images, [0, 1, 2])
    for maps, x, step in zip(features, after, model.steps[1:], strict=True):
        holder = step.holder[:, step.num_prefix_tokens :].reshape(2, *grid)
        for row in range(grid[0]):
            for column in range(grid[1]):
                for image in range(2):
                    assert torch.equal(maps[image, :, row, column], x[image, holder[image, row, column]])


@settings(max_examples=8)
@given(GRIDS, PREFIXES)
def test_watch_sees_the_merged_tokens_and_their_rows_spread_over_the_grid(grid, tokens):
    model, images = MergingViT(made(grid, tokens), r=2), drawn(grid)
    seen = see_attention(model, images)
    for layer, step in zip(seen.layers, model.steps):
        rows, prefix = layer.weights(), step.num_prefix_tokens
        spread = step.spread(rows)
        assert spread.shape == (2, 2, step.sizes.shape[1], *grid)
        torch.testing.assert_close(spread.sum((-1, -2)), rows[..., prefix:].sum(-1))
        first = step.holder[0, prefix]
        torch.testing.assert_close(spread[0, :, :, 0, 0], rows[0, :, :, first] / step.sizes[0, first])
        if step.are_all:
            assert layer.tokens.grid == grid
            torch.testing.assert_close(spread, rows[..., prefix:].unflatten(-1, grid))
        else:
            assert layer.tokens.prefix == seen.layers[0].tokens.prefix
            with pytest.raises(WatchError, match=r"merged into \d+ tokens.*steps\[block\]\.spread"):
                _ = layer.tokens.grid


def test_merged_tokens_that_could_form_a_grid_are_not_taken_for_patches():
    """4 x 4 patches less 7 are 3 x 3 by number alone."""
    model = MergingViT(made((4, 4)), r=[7, 0, 0])
    seen = see_attention(model, drawn((4, 4)), rows="prefix")
    assert [layer.num_tokens for layer in seen.layers] == [17, 10, 10]
    for layer in seen.layers[1:]:
        with pytest.raises(WatchError, match="merged into 9 tokens"):
            _ = layer.tokens.grid
    with pytest.raises(WatchError, match="merged into 9 tokens"):
        explain.attention(model, drawn((4, 4)))


def test_images_of_any_size():
    model = MergingViT(made((4, 4), kind=AnySizeViT), r=3)
    images = torch.randn(1, 3, 9, 27)
    with torch.no_grad():
        assert model.features(images, [-1])[0].shape == (1, 16, 3, 7)


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(ConfigError, match="RotaryAttention needs to know where each token stands"):
        MergingViT(made(mixer=RotaryAttention))
    with pytest.raises(ConfigError, match="Block 0 attends in windows"):
        MergingViT(windowed(made(), 2))
    with pytest.raises(ConfigError, match="one for each block"):
        MergingViT(made(), [1, 2])
    with pytest.raises(ConfigError, match="one for each block"):
        MergingViT(made(), -1)
    with pytest.raises(ConfigError, match="training mode"):
        MergingViT(made()).train()(drawn())
