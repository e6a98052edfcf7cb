"""What each part of the family promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import TINY, redraw, tiny_vit
from vitral import create
from vitral.base.errors import ConfigError
from vitral.nn.attention import Attention
from vitral.nn.family.block import ScaledBlock, stochastic_depth
from vitral.nn.family.relative import RelativeBiasAttention, displacement_index
from vitral.nn.family.resample import WAYS, resample_positions
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.family.stem import ConvStem
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.family.window import ShiftedWindows, same_region
from vitral.nn.high_resolution.any_size import AnySizeViT

GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(deadline=None, max_examples=20)
@given(GRIDS, st.integers(0, 3))
def test_rotary_logits_depend_on_the_displacement_alone(grid, prefix):
    attention = RotaryAttention(16, 2)
    attention.set_grid(grid, prefix)
    q, k = torch.randn(2, 1, 2, 1, 8).expand(2, 1, 2, prefix + grid[0] * grid[1], 8)
    logits = (attention.rotate(q) @ attention.rotate(k).mT)[0, :, prefix:, prefix:]
    apart = displacement_index(grid)
    for displacement in apart.unique():
        same = logits[:, apart == displacement]
        torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(attention.rotate(q)[..., :prefix, :], q[..., :prefix, :])


def test_turning_keeps_lengths():
    attention = RotaryAttention(16, 2)
    attention.set_grid((3, 4), 1)
    q = torch.randn(2, 2, 13, 8)
    torch.testing.assert_close(attention.rotate(q).norm(dim=-1), q.norm(dim=-1))


@settings(deadline=None, max_examples=20)
@given(GRIDS)
def test_a_bias_table_has_a_row_for_every_displacement_and_no_more(grid):
    index = displacement_index(grid)
    rows, columns = grid
    assert index.min() == 0 and index.max() == (2 * rows - 1) * (2 * columns - 1) - 1
    assert len(index.unique()) == (2 * rows - 1) * (2 * columns - 1)
    assert torch.equal(index + index.T, torch.full_like(index, (2 * rows - 1) * (2 * columns - 1) - 1))


def test_relative_attention_with_a_table_of_zeros_is_attention():
    relative, plain = RelativeBiasAttention(16, 4), Attention(16, 4)
    relative.set_grid((2, 3), 1)
    plain.load_state_dict({k: v for k, v in relative.state_dict().items() if k != "bias_table"})
    x = torch.randn(2, 7, 16)
    torch.testing.assert_close(relative(x), plain(x))
    redraw(relative)
    plain.load_state_dict({k: v for k, v in relative.state_dict().items() if k != "bias_table"})
    assert (relative(x) - plain(x)).abs().max() > 0.01


def windows_of(window, shift=0, dim=8):
    return redraw(ShiftedWindows(dim, 2, window, shift)).double()


@settings(deadline=None, max_examples=25)
@given(GRIDS, st.integers(0, 3))
def test_a_window_that_covers_the_grid_is_attention_over_all_of_it(grid, shift):
    local = windows_of(6, shift)
    whole = RelativeBiasAttention(8, 2)
    whole.set_grid(grid, 0)
    state = {k: v for k, v in local.state_dict().items() if "table" not in k}
    table = local.relative_position_bias_table[displacement_index(grid, (6, 6))]
    whole.load_state_dict(state | {"bias_table": torch.zeros_like(whole.bias_table)})
    whole.double()
    whole.bias_table.data[displacement_index(grid).flatten()] = table.flatten(0, 1)
    x = torch.randn(2, *grid, 8, dtype=torch.float64)
    torch.testing.assert_close(local(x).flatten(1, 2), whole(x.flatten(1, 2)))


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.integers(4, 9), st.integers(4, 9)), st.integers(0, 2))
def test_nothing_is_seen_across_the_seam(grid, shift):
    """A token's neighbours are within its shifted window: what is a window away on either axis changes nothing."""
    local = windows_of(4, shift)
    x = torch.randn(1, *grid, 8, dtype=torch.float64)
    row, column = grid[0] - 1, grid[1] - 1
    changed = x.clone()
    changed[:, row, column] += 1
    moved = ((local(changed) - local(x)).abs().amax(dim=-1)[0] > 1e-12).nonzero()
    assert len(moved)
    assert (row - moved[:, 0]).max() < 4 and (column - moved[:, 1]).max() < 4


def test_regions_are_those_that_the_roll_separated():
    seen = same_region(4, 4, (2, 2), (1, 1))
    assert seen.shape == (4, 4, 4)
    assert seen[0].all()  # the first window was not cut
    assert seen[3].sum() == 4  # each token of the last comes from another corner


@pytest.mark.parametrize("size", [(48, 48), (44, 52), (20, 100), (9, 9)])
def test_swin_takes_images_of_any_size(size):
    model = redraw(SwinTransformer(48, 4, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=3, num_classes=3))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        assert torch.isfinite(model(images)).all()
        first, last = model.features(images, [0, -1])
    assert first.shape[1:] == (8, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    assert last.shape[1:] == (16, math.ceil(first.shape[2] / 2), math.ceil(first.shape[3] / 2))


@pytest.mark.parametrize("how", [name for name in WAYS if name != "dinov2"])
def test_resampling_to_the_same_grid_changes_nothing(how):
    table = torch.randn(1, 1 + 12, 5)
    torch.testing.assert_close(resample_positions(table, (3, 4), (3, 4), how, always=True), table)
    assert resample_positions(table, (3, 4), (3, 4), how) is table


@pytest.mark.parametrize("how", WAYS)
def test_resampling_keeps_the_rows_before_the_patches_and_a_constant(how):
    table = torch.cat([torch.randn(1, 2, 5), torch.ones(1, 12, 5)], dim=1)
    again = resample_positions(table, (3, 4), (5, 7), how)
    assert again.shape == (1, 2 + 35, 5)
    assert torch.equal(again[:, :2], table[:, :2])
    torch.testing.assert_close(again[:, 2:], torch.ones(1, 35, 5))


def test_an_unknown_way_to_resample_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'tim'.*Did you mean 'timm'"):
        resample_positions(torch.zeros(1, 4, 2), (2, 2), (3, 3), "tim")


def test_any_size_is_the_model_itself_at_its_own_size_and_its_resampled_self_at_another():
    plain = tiny_vit()
    free = AnySizeViT(**TINY, resampling="hugging_face").eval()
    free.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 8, 18)
    torch.testing.assert_close(free(images), plain(images))
    other = tiny_vit(img_size=(12, 30))
    table = resample_positions(plain.pos_embed, (2, 3), (3, 5), "hugging_face")
    other.load_state_dict({**plain.state_dict(), "pos_embed": table})
    larger = torch.randn(2, 3, 12, 30)
    torch.testing.assert_close(free(larger), other(larger))
    torch.testing.assert_close(free(larger[:, :, :11, :28]), other(F.pad(larger[:, :, :11, :28], (0, 2, 0, 1))))


def test_stochastic_depth_leaves_out_branches_while_training_and_keeps_the_mean():
    model = tiny_vit(block=ScaledBlock)
    images = torch.randn(1, 3, 8, 18)
    plain = model(images)
    stochastic_depth([*model.blocks], 0.5)
    assert torch.equal(model(images), plain)
    block = model.blocks[2]
    x = torch.randn(4000, 2, 16)
    with torch.no_grad():
        branch = block.ls1(block.attn(block.norm1(x[:1]))).expand(4000, 2, 16)
        model.train()
        torch.manual_seed(0)
        kept = block.ls1(block.attn(block.norm1(x[:1].expand(4000, 2, 16))))
    left_out = (kept == 0).all(dim=(1, 2))
    assert 0.45 < left_out.float().mean() < 0.55
    torch.testing.assert_close(kept[~left_out][0], 2 * branch[0])
    first = model.blocks[0].ls1(model.blocks[0].attn(x[:8]))
    assert not (first == 0).all(dim=(1, 2)).any()


def test_drop_path_rate_is_a_setting_of_every_family():
    for name in ("vit_nano_patch8_48", "swin_nano_patch2_window6_48"):
        model = create(name, num_classes=3, drop_path_rate=0.9)
        redraw(model)
        assert model.config["drop_path_rate"] == 0.9
        images = torch.randn(16, 3, 48, 48)
        still = model(images[:1])
        model.train()
        assert (model(images[:1].expand(16, 3, 48, 48)) - still).abs().amax(dim=1).max() > 1e-3
    with pytest.raises(ConfigError, match="drop_path_rate=1"):
        create("vit_nano_patch8_48", drop_path_rate=1.0)


@pytest.mark.parametrize("patch", [3, 12, (4, 8), 1])
def test_a_stem_halves_its_patch_to_a_pixel(patch):
    with pytest.raises(ConfigError, match="cannot be halved to one pixel"):
        ConvStem(24, patch, 3, 16)
