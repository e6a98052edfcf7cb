"""Outlier patches are found on grids of every size, however many of them there are up to half, and only they."""

import pytest
import torch

from vitral.explain.outlier_tokens import is_outlier

SIZES = (16, 36, 64, 196)


@pytest.mark.parametrize("width", [8, 64, 384])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.45], ids="{:.0%}".format)
def test_planted_outliers_are_all_found(n, width, share):
    planted = max(1, int(share * n))
    generator = torch.Generator().manual_seed(n)
    tokens = torch.randn(20, n, width, generator=generator)
    where = torch.stack([torch.randperm(n, generator=generator)[:planted] for _ in range(20)])
    expected = torch.zeros(20, n, dtype=torch.bool).scatter(1, where, True)
    above = is_outlier(torch.where(expected[..., None], 50 * tokens, tokens))
    assert above[expected].all()
    assert above[~expected].float().mean() < 1 / 500


@pytest.mark.parametrize("width", [8, 64, 384])
@pytest.mark.parametrize("n", SIZES)
def test_of_normal_tokens_fewer_than_1_in_5000_is_taken_for_one(n, width):
    tokens = torch.randn(400_000 // n, n, width, generator=torch.Generator().manual_seed(0))
    assert is_outlier(tokens).float().mean() < 1 / 5000


def test_norms_that_are_almost_alike_have_no_outlier():
    """As after a norm, where they differ by rounding, or all but one."""
    tokens = torch.nn.functional.normalize(torch.randn(50, 64, 16), dim=-1)
    assert not is_outlier(tokens).any()
    assert not is_outlier(torch.ones(2, 16, 4)).any()
    assert not is_outlier(torch.zeros(2, 16, 4)).any()
    tokens[:, 0] *= 1.5
    assert not is_outlier(tokens).any()
    tokens[:, 0] *= 2
    assert is_outlier(tokens).nonzero()[:, 1].tolist() == [0] * 50
