"""The limit of models that never compare two glyphs: the accuracy of sums, and which models compute a sum."""

from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
import torch
from torch import nn

from tiny import redraw
from vitral.data.synthetic.pairs import EVERY, all_glyphs, by_distance, glyph_mask, pairs, to_grey
from vitral.nn.attention import Attention
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import NoPosition
from vitral.nn.head import MLPHead
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer
from vitral.studies.model_parts.tokenwise_pool import TokenwisePool

SIDE, PATCH = 7, 4
SIZES = dict(num_classes=2, embed_dim=16, num_heads=2, mlp_ratio=2.0, tokens={})


def accuracy(same):
    """Accuracy of the prediction `same` (k, k) by first and second glyph, if half of all pairs are the same."""
    k = len(same)
    diagonal = np.eye(k, dtype=bool)
    return same[diagonal].mean() / 2 + (~same[~diagonal]).mean() / 2


def general(k):
    return max(m / (2 * k) + 0.5 - m * (m - 1) / (4 * k * (k - 1)) for m in range(k + 1))


def symmetric(k):
    return max(m / (2 * k) + 0.5 - m * (m - 1) / (2 * k * (k - 1)) for m in range(k + 1))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_no_sum_is_right_in_more_than_three_of_four_cases(k):
    """a(i) + b(j) > t takes, of the columns in the order of b, the first r(i): these are all of them."""
    best = 0.0
    for order in permutations(range(k)):
        for taken in product(range(k + 1), repeat=k):
            same = np.zeros((k, k), bool)
            for row, first in enumerate(taken):
                same[row, list(order[:first])] = True
            best = max(best, accuracy(same))
    assert best == pytest.approx(0.75) == general(k)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_no_symmetric_sum_is_better_than_the_formula(k):
    weights = np.array(list(product(range(2 * k), repeat=k)))
    sums = weights[:, :, None] + weights[:, None]
    best = max(accuracy(same) for least in range(4 * k) for same in np.unique(sums > least, axis=0))
    assert best == pytest.approx(symmetric(k))


def test_the_formulas_for_more_glyphs():
    assert [general(k) for k in (2, 3, 8, 15)] == pytest.approx([0.75] * 4)
    assert symmetric(8) == pytest.approx(0.643, abs=5e-4)


def model_with(radius, head=nn.Linear, **parts):
    """A model with `radius` blocks that mix and others that do not, with random weights."""
    pool = partial(TokenwisePool, depth=max(1, radius))
    settings = SIZES | dict(mixer=DepthwiseMixing, position=NoPosition, pool=pool, head=head) | parts
    return redraw(VisionTransformer(SIDE * PATCH, PATCH, depth=radius, **settings).double(), radius, 0.5)


@torch.no_grad()
def contrasts(model):
    """The interaction contrast at each distance, relative to the size of its terms."""
    found = []
    for places in by_distance(SIDE):
        some = places[:: max(1, len(places) // 12)]
        answers = {}
        for a, b in product((0, 1), repeat=2):
            images = to_grey(glyph_mask(some, np.tile([a, b], (len(some), 1)), SIDE * PATCH, PATCH))
            answers[a, b] = model(torch.from_numpy(images).double().permute(0, 3, 1, 2))
        crossed = answers[0, 0] - answers[0, 1] - answers[1, 0] + answers[1, 1]
        found.append(float(crossed.abs().max() / answers[0, 0].abs().max()))
    return np.array(found)


@pytest.mark.parametrize("radius", [1, 2])
def test_beyond_twice_the_radius_the_output_is_a_sum_whatever_the_weights(radius):
    found = contrasts(model_with(radius))
    assert found[2 * radius :].max() < 1e-12
    assert found[: 2 * radius].min() > 1e-6


def test_learned_positions_do_not_change_that():
    found = contrasts(model_with(1, position=LearnedPosition))
    assert found[2:].max() < 1e-12 < 1e-6 < found[:2].min()


def test_with_a_nonlinear_head_it_is_not_a_sum():
    assert contrasts(model_with(1, head=MLPHead)).min() > 1e-6


class OverTokens(nn.Module):
    """Normalised over all tokens, as group norm does."""

    def __init__(self, embed_dim):
        super().__init__()
        self.norm = nn.GroupNorm(1, embed_dim)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def test_with_a_norm_over_all_tokens_it_is_not_a_sum():
    assert contrasts(model_with(1, norm=OverTokens)).min() > 1e-6


def test_with_attention_it_is_not_a_sum_at_any_distance():
    assert contrasts(model_with(1, mixer=Attention)).min() > 1e-6


def test_blocks_in_the_pool_are_blocks_without_mixing():
    """The same model as one whose last block has no mixer, weight by weight."""
    sizes = SIZES | dict(mixer=NoMixing, position=NoPosition)
    one = VisionTransformer(SIDE * PATCH, PATCH, depth=1, pool=TokenwisePool, **sizes)
    two = VisionTransformer(SIDE * PATCH, PATCH, depth=2, pool=MeanPool, **sizes)
    redraw(one, deviation=0.3)
    names = (key.replace("pool.blocks.0", "blocks.1").replace("pool.norm", "norm") for key in one.state_dict())
    two.load_state_dict(dict(zip(names, one.state_dict().values())))
    images = torch.randn(3, 3, SIDE * PATCH, SIDE * PATCH)
    assert torch.equal(one(images), two.eval()(images))


def test_blocks_in_the_pool_start_as_the_identity():
    pool = partial(TokenwisePool, depth=2)
    model = VisionTransformer(SIDE * PATCH, PATCH, depth=1, embed_dim=16, num_heads=2, tokens={}, pool=pool)
    tokens = torch.randn(2, 5, 16)
    assert all(torch.equal(block(tokens), tokens) for block in model.pool.blocks)


def test_glyphs_are_equally_bright_and_equally_far_from_each_other():
    cells = all_glyphs().reshape(15, 16)
    assert (cells.sum(axis=1) == 8).all()
    apart = (cells[:, None] != cells).sum(axis=2)
    assert (apart[~np.eye(15, dtype=bool)] == 8).all()


@pytest.fixture(scope="module")
def data():
    return pairs(n=20_000, glyphs=4)


def test_labels_and_distances_agree_with_the_factors(data):
    for split in (data.train, data.val, data.test):
        which, places = split.factors["glyphs"], split.factors["places"]
        assert ((which[:, 0] == which[:, 1]) == split.labels).all()
        assert (np.abs(places[:, 0] - places[:, 1]).max(axis=1) == split.factors["distance"]).all()
        assert (glyph_mask(places, which, 24, 4) == split.masks).all()


def test_at_each_distance_half_are_the_same(data):
    for distance in range(1, 6):
        own = data.train.labels[data.train.factors["distance"] == distance]
        assert len(own) == pytest.approx(4_000, abs=300)
        assert own.mean() == pytest.approx(0.5, abs=0.04)


def test_one_glyph_alone_carries_no_information_about_the_label(data):
    for place in (0, 1):
        counts = [np.bincount(data.train.factors["glyphs"][data.train.labels == label, place]) for label in (0, 1)]
        assert np.abs(counts[0] / counts[0].sum() - counts[1] / counts[1].sum()).max() < 0.03


def test_a_fifth_of_the_pairs_of_places_occurs_only_in_the_test_split(data):
    def seen(split):
        return {tuple(sorted(map(tuple, both))) for both in split.factors["places"].tolist()}

    assert not seen(data.test) & (seen(data.train) | seen(data.val))
    all_of_them = sum(len(places) for places in by_distance(6))
    assert len(seen(data.train)) == pytest.approx(all_of_them * (1 - 1 / EVERY), rel=0.03)
