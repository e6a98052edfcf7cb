"""The measures of `positions` on tables whose structure is known."""

import copy

import numpy as np
import pytest
import torch

from tiny import redraw
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.position import NoPosition, sines_and_cosines
from vitral.nn.family.rope import QKNormRotary
from vitral.nn.zoo import create
from vitral.report.similarity import cosine_similarity, mosaic
from vitral.studies.claims.positions import correlation_with_nearness
from vitral.studies.dataset_changes import permute_patches
from vitral.studies.model_parts.wide_positions import WideStart

SIDE = 6


def similar(table):
    return cosine_similarity(table.reshape(SIDE, SIDE, -1)).reshape(SIDE**2, SIDE**2)


def test_sines_and_cosines_follow_the_grid_and_noise_does_not():
    index = np.arange(SIDE**2)
    assert correlation_with_nearness(similar(sines_and_cosines((SIDE, SIDE), 64).double().numpy()), index, SIDE) > 0.7
    rng = np.random.default_rng(0)
    noise = [correlation_with_nearness(similar(rng.standard_normal((SIDE**2, 64))), index, SIDE) for _ in range(20)]
    assert np.abs(noise).max() < 0.15


def test_a_table_of_original_places_follows_the_images_and_not_the_index():
    """The order is that of `permute_patches`: images that show each patch's number give it back."""
    seed = 3
    numbers = np.arange(SIDE**2, dtype=np.uint8).reshape(1, SIDE, SIDE, 1).repeat(8, 1).repeat(8, 2)
    shown = permute_patches(numbers, seed)[0, ::8, ::8, 0].reshape(-1)
    order = np.random.default_rng(seed).permutation(SIDE**2)
    assert (shown == order).all()
    table = sines_and_cosines((SIDE, SIDE), 64).double().numpy()[order]
    assert correlation_with_nearness(similar(table), order, SIDE) > 0.7
    assert abs(correlation_with_nearness(similar(table), np.arange(SIDE**2), SIDE)) < 0.15


def test_on_permuted_patches_a_model_with_a_permuted_table_is_and_learns_the_same():
    one = redraw(create("iso_attention_nano_patch8_48", num_classes=3, position=WideStart).double(), deviation=0.1)
    other = copy.deepcopy(one)
    order = np.random.default_rng(1).permutation(SIDE**2)
    other.pos_embed.data = one.pos_embed.data[:, order]
    pixels = np.random.default_rng(2).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    answers = []
    for model, shown in ((one, pixels), (other, np.ascontiguousarray(permute_patches(pixels, 1)))):
        answers.append(model(torch.from_numpy(shown).permute(0, 3, 1, 2).double() / 255))
        torch.nn.functional.cross_entropy(answers[-1], torch.tensor([0, 2])).backward()
    assert torch.allclose(*answers, rtol=0, atol=1e-12)
    for (name, mine), (_, theirs) in zip(one.named_parameters(), other.named_parameters()):
        gradient = mine.grad[:, order] if name == "pos_embed" else mine.grad
        assert torch.allclose(gradient, theirs.grad, rtol=0, atol=1e-10), name


def test_a_wide_start_has_the_stated_deviation():
    table = WideStart().table(1, (20, 20), 64)
    assert table.shape == (1, 401, 64) and float(table.std()) == pytest.approx(1 / 8, rel=0.02)


def test_normalised_rotary_attention_without_rotation_is_normalised_attention():
    turned, plain = QKNormRotary(16, 2), QKNormAttention(16, 2)
    turned.set_grid((2, 3), 0)
    plain.load_state_dict(turned.state_dict())
    tokens = torch.randn(2, 6, 16)
    assert not torch.allclose(turned(tokens), plain(tokens), atol=1e-4)
    turned.cos, turned.sin = torch.ones_like(turned.cos), torch.zeros_like(turned.sin)
    assert torch.equal(turned(tokens), plain(tokens))


def test_normalised_rotary_attention_depends_only_on_relative_positions():
    """With the same token everywhere, the weight is the same for all pairs of places with the same offset."""
    attention = QKNormRotary(16, 2).double()
    attention.set_grid((3, 3), 0)
    one = torch.randn(1, 2, 1, 8, dtype=torch.float64).expand(1, 2, 9, 8)
    weights = attention.rotate(one) @ attention.rotate(one).transpose(-1, -2)
    assert torch.allclose(weights[..., 0, 1], weights[..., 4, 5]) and torch.allclose(
        weights[..., 0, 4], weights[..., 4, 8]
    )
    assert not torch.allclose(weights[..., 0, 1], weights[..., 0, 2])


def test_a_model_with_rotary_attention_needs_no_table():
    model = create("iso_attention_nano_patch8_48", num_classes=3, mixer=QKNormRotary, position=NoPosition)
    assert model.pos_embed is None and model(torch.zeros(1, 3, 48, 48)).shape == (1, 3)


def test_the_mosaic_puts_each_patch_map_where_the_patch_is():
    similar = np.arange(16.0).reshape(2, 2, 2, 2)
    drawn = mosaic(similar)
    assert drawn.shape == (5, 5) and np.isnan(drawn[2]).all() and np.isnan(drawn[:, 2]).all()
    assert (drawn[:2, 3:] == similar[0, 1]).all() and (drawn[3:, :2] == similar[1, 0]).all()
