"""The cost of one block: multiply-adds by formula, where attention overtakes the rest, and memory for training."""

import pytest
import torch

from vitral.nn.attention import Attention
from vitral.studies.claims.attention_cost import (
    MIXERS,
    SIZES,
    WINDOW,
    WrittenOut,
    build_block,
    count_macs,
    crossing,
    exponent,
    random_tokens,
)
from vitral.studies.costs import saved_bytes

HEADS = {64: 4, 192: 3}


@pytest.mark.parametrize("width", HEADS)
@pytest.mark.parametrize("n", [16, 64, 512, 4_096])
def test_a_block_takes_12_n_d_squared_and_2_n_squared_d(width, n):
    assert count_macs("fused", width, HEADS[width], n) == 12 * n * width**2 + 2 * n**2 * width
    assert count_macs("projections only", width, HEADS[width], n) == 12 * n * width**2
    assert count_macs("windows", width, HEADS[width], n) == 12 * n * width**2 + 2 * WINDOW**2 * n * width


@pytest.mark.parametrize("width", [64, 192, 768])
def test_attention_and_the_rest_take_equally_many_multiply_adds_at_six_times_the_width(width):
    assert count_macs("fused", width, width // 64, 6 * width) == 2 * count_macs(
        "projections only", width, width // 64, 6 * width
    )


def test_attention_is_four_percent_of_vit_b_at_224_pixels():
    whole, rest = (count_macs(kind, 768, 12, 197) for kind in ("fused", "projections only"))
    assert round(100 * (1 - rest / whole)) == 4


def test_written_out_it_is_the_same_function():
    torch.manual_seed(0)
    fused, written = Attention(32, 4).double(), WrittenOut(32, 4).double()
    written.load_state_dict(fused.state_dict())
    x = torch.randn(2, 20, 32, dtype=torch.float64)
    assert (fused(x) - written(x)).abs().max() < 1e-12


@pytest.mark.parametrize("n", [64, 256])
def test_a_block_keeps_the_matrices_only_without_a_fused_kernel(n):
    heads = HEADS[64]
    fused, written = (
        saved_bytes(build_block(MIXERS[kind], 64, heads), torch.randn(1, n, 64)) for kind in ("fused", "written out")
    )
    twice = saved_bytes(build_block(MIXERS["fused"], 64, heads), torch.randn(1, 2 * n, 64))
    assert twice == 2 * fused  # nothing of n² is in it
    assert written - fused == 4 * heads * (n**2 - n)  # every weight, without the sum that the kernel keeps for each row


@pytest.mark.parametrize("n", SIZES)
def test_windows_divide_the_grids_and_every_size_has_its_number_of_tokens(n):
    x = random_tokens("windows", n, 8, 2)
    assert x.shape[1] * x.shape[2] == n and x.shape[1] % WINDOW == x.shape[2] % WINDOW == 0
    assert random_tokens("fused", n, 8, 2).shape == (2, n, 8)


def test_exponents_and_crossings_of_powers():
    rest, meeting = ([3.0 * n for n in SIZES], [n**2 / 64 for n in SIZES])
    assert exponent(meeting, slice(-3, None)) == pytest.approx(2)
    assert crossing(meeting, rest) == pytest.approx(192)
    assert crossing([one / 100 for one in meeting], rest) == pytest.approx(19_200)  # beyond the last size
