"""A plain ViT whose blocks attend in windows: global attention restricted to them, and nothing else."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tiny import redraw, see_attention
from vitral import create, explain
from vitral.base.errors import ConfigError
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.attention import Attention, attend
from vitral.nn.cost import cost
from vitral.nn.families import build
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.checkpointing import checkpointed
from vitral.nn.family.mixer import DepthwiseMixing, QKNormAttention
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.relative import RelativeBiasAttention
from vitral.nn.family.rope import QKNormRotary, RotaryAttention
from vitral.nn.high_resolution.any_size import AnySizeViT
from vitral.nn.high_resolution.mixed_sizes import MixedSizes
from vitral.nn.high_resolution.token_merging import MergingViT
from vitral.nn.high_resolution.windowed import spaced_blocks, windowed
from vitral.nn.high_resolution.windows import Windows
from vitral.nn.vit import VisionTransformer
from vitral.store.model import load_model, save_model

MIXERS = (Attention, QKNormAttention, RotaryAttention, QKNormRotary, RelativeBiasAttention)
GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 7))
PREFIXES = st.sampled_from([{}, {"cls_token": 1}, {"cls_token": 1, "reg_token": 3}])


def made(grid=(5, 7), tokens=None, mixer=Attention, kind=VisionTransformer, **parts):
    tokens = {"cls_token": 1} if tokens is None else tokens
    sizes = dict(img_size=(4 * grid[0], 4 * grid[1]), patch_size=4, num_classes=3, embed_dim=16, depth=3, num_heads=2)
    return redraw(kind(**sizes, mixer=mixer, tokens=tokens, pool=MeanPool, **parts))


def masked(model, size):
    """The same model, whose blocks but the last attend to all tokens under a mask that is written out here."""
    rows, columns = model.grid
    place = [(row // size, column // size) for row in range(rows) for column in range(columns)]
    prefix = model.num_prefix_tokens
    window = torch.tensor([-1] * prefix + [100 * row + column for row, column in place])
    allowed = (window[:, None] == window) | (window < 0) | (window < 0)[:, None]
    hidden = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)[None, None]

    def attend_in_mask(q, k, v, bias=None):
        return attend(q, k, v, (hidden if bias is None else hidden + bias).to(q.dtype))

    copy = windowed(model, size)
    for block in copy.blocks[:-1]:
        block.attn.attend = attend_in_mask
    return copy


@given(GRIDS, st.integers(1, 8), PREFIXES, st.sampled_from(MIXERS))
def test_windows_are_global_attention_under_a_mask(grid, size, tokens, mixer):
    """Padding of the last windows changes nothing, positions are those of the image, prefix tokens see everything."""
    model = made(grid, tokens, mixer).double()
    images = torch.randn(2, 3, 4 * grid[0], 4 * grid[1], dtype=torch.float64)
    torch.testing.assert_close(windowed(model, size)(images), masked(model, size)(images), rtol=1e-9, atol=1e-9)


@given(GRIDS, PREFIXES, st.sampled_from(MIXERS), st.integers(0, 3))
def test_windows_that_cover_the_grid_are_global_attention(grid, tokens, mixer, larger):
    model = made(grid, tokens, mixer)
    images = torch.randn(2, 3, 4 * grid[0], 4 * grid[1])
    with torch.no_grad():
        assert torch.equal(windowed(model, max(grid) + larger)(images), model(images))
        assert torch.equal(windowed(model, 1, global_blocks=range(3))(images), model(images))


@given(GRIDS, st.integers(1, 8))
def test_each_patch_stands_in_one_window_and_comes_back_to_its_place(grid, size):
    windows, x = Windows(size, grid, 0), torch.randn(2, 3, grid[0] * grid[1], 4)
    places, cut = windows.places(), windows.cut(x)
    assert sorted(places[places >= 0].tolist()) == list(range(grid[0] * grid[1]))
    for window, held in enumerate(places):
        inside = cut[window][:, held >= 0], cut[window][:, held < 0]
        assert torch.equal(inside[0], x[0][:, held[held >= 0]]) and not inside[1].any()
    joined = windows.join(cut.transpose(1, 2).flatten(2))
    assert torch.equal(joined, x.transpose(1, 2).flatten(2))


@settings(max_examples=8)
@given(GRIDS, st.integers(1, 4), PREFIXES, st.sampled_from(MIXERS), st.booleans())
def test_watch_sees_the_weights_over_the_image(grid, size, tokens, mixer, with_graph):
    model = made(grid, tokens, mixer)
    images = torch.randn(2, 3, 4 * grid[0], 4 * grid[1])
    with torch.set_grad_enabled(with_graph):
        seen, expected = (see_attention(one, images) for one in (windowed(model, size), masked(model, size)))
    assert [layer.name for layer in seen.layers] == [f"blocks.{number}.attn" for number in range(3)]
    for layer, other in zip(seen.layers, expected.layers, strict=True):
        assert layer.roles == other.roles and layer.windows is None and layer.queries_are_keys
        torch.testing.assert_close(layer.weights(), other.weights(), rtol=1e-4, atol=1e-6)
        some = [len(layer.roles) - 1, 0]
        torch.testing.assert_close(layer.rows(some), other.rows(some), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", [{}, {"cls_token": 1}, {"cls_token": 1, "reg_token": 2}])
@pytest.mark.parametrize("method", ["attention", "rollout", "chefer", "attention_gradient", "grad_cam"])
def test_explanations_are_those_of_the_masked_model(method, tokens):
    model, images = made(tokens=tokens), torch.randn(1, 3, 20, 28)
    maps, expected = (getattr(explain, method)(one, images) for one in (windowed(model, 3), masked(model, 3)))
    assert maps.grid == expected.grid == (5, 7)
    torch.testing.assert_close(torch.as_tensor(maps.values), torch.as_tensor(expected.values), rtol=1e-3, atol=1e-4)


def test_the_row_of_cls_is_seen_as_it_passes():
    model, images = made(), torch.randn(2, 3, 20, 28)
    seen, expected = (see_attention(one, images, rows="prefix") for one in (windowed(model, 3), masked(model, 3)))
    for layer, other in zip(seen.layers, expected.layers, strict=True):
        assert layer.roles[0] == "cls"
        torch.testing.assert_close(layer.rows([0]), other.rows([0]))


@pytest.mark.parametrize("kind", [VisionTransformer, AnySizeViT])
def test_a_config_builds_the_windows_again(kind):
    model = windowed(made(kind=kind, block=ScaledBlock), 3, global_blocks=(0, -1))
    again = build(json.loads(json.dumps(model.config))).eval()
    assert again.config["global_blocks"] == (0, 2)
    again.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(2, 3, 20, 28)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_the_global_model_is_left_as_it_is_and_its_weights_fit():
    model, images = made(), torch.randn(1, 3, 20, 28)
    before = model(images)
    local = windowed(model, 2)
    assert torch.equal(model(images), before) and "window_size" not in model.config
    assert local.state_dict().keys() == model.state_dict().keys()
    assert (local(images) - before).abs().max() > 1e-3


@pytest.mark.parametrize("tokens", [{}, {"cls_token": 1, "reg_token": 2}])
def test_gradients_are_those_of_the_masked_model_and_the_same_when_blocks_are_run_again(tokens):
    images, found = torch.randn(2, 3, 20, 28, dtype=torch.float64), []
    model = made(tokens=tokens).double()
    local = windowed(model, 3)
    for one, again in ((masked(model, 3), False), (local, False), (local, True)):
        one.zero_grad()
        if again:
            with checkpointed(one):
                one(images).square().sum().backward()
        else:
            one(images).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in one.parameters()])
    for expected, plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, expected, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(recomputed, plain, rtol=1e-9, atol=1e-12)


@given(GRIDS, st.integers(1, 4))
def test_windows_are_cut_from_the_grid_of_each_image(grid, size):
    """A model for any size has the windows of a model of the image's size; a landscape is no portrait."""
    free = windowed(made((4, 4), kind=AnySizeViT), size)
    fixed = windowed(made(grid), size)
    images = torch.randn(1, 3, 4 * grid[0], 4 * grid[1])
    with torch.no_grad():
        tokens = free.embed(images)
        for block, other in zip(free.blocks, fixed.blocks):
            other.load_state_dict(block.state_dict())
            tokens = other(tokens)
        expected = free.head(free.pool(free.norm(tokens), 1))
        torch.testing.assert_close(free(images), expected, rtol=1e-4, atol=1e-5)
        (features,) = free.features(images, [-1])
    torch.testing.assert_close(features.flatten(2).mT, tokens[:, 1:], rtol=1e-4, atol=1e-5)
    assert see_attention(free, images).layers[0].tokens.grid == grid


@pytest.mark.parametrize("tokens", [{}, {"cls_token": 1, "reg_token": 3}])
@pytest.mark.parametrize("grid", [(5, 7), (4, 6), (2, 2)])
def test_torch_counts_the_cost(grid, tokens):
    model = windowed(made(grid, tokens), 2, global_blocks=(2,)).to("meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 4 * grid[0], 4 * grid[1], device="meta"))
    assert counter.get_total_flops() == 2 * cost(model).macs


def test_create_takes_windows():
    model = create("vit_nano_patch8_48", num_classes=3, window_size=2, global_blocks=[-1], drop_path_rate=0.1)
    assert model.config["window_size"] == 2 and model.config["global_blocks"] == (3,)
    assert [isinstance(block.attn.attend, Windows) for block in model.blocks] == [True, True, True, False]


def test_saved_and_loaded(tmp_path):
    model = windowed(made(), 3)
    attach_record(model, ModelRecord(("a", "b", "c"), model.preprocessing))
    save_model(model, tmp_path, {})
    again, images = load_model(tmp_path), torch.randn(2, 3, 20, 28)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_the_paper_s_global_blocks():
    assert spaced_blocks(12) == (2, 5, 8, 11) and spaced_blocks(24) == (5, 11, 17, 23)  # ViT-B and ViT-L, §3
    assert spaced_blocks(1) == (0,)


class OwnWay(Attention):
    """A mixer that calls the kernel by itself."""

    def forward(self, x):
        return self.proj(attend(*self.project(x)))


def test_what_cannot_be_windowed_is_refused():
    with pytest.raises(ConfigError, match="window_size=0"):
        windowed(made(), 0)
    with pytest.raises(ConfigError, match=r"global_blocks=\[3\] do not exist: there are 3 blocks"):
        windowed(made(), 2, [3])
    with pytest.raises(ConfigError, match="DepthwiseMixing is not attention over all tokens"):
        windowed(made(tokens={}, mixer=DepthwiseMixing), 2)
    with pytest.raises(ConfigError, match="OwnWay is not attention over all tokens"):
        windowed(made(mixer=OwnWay), 2)
    with pytest.raises(ConfigError, match="OwnWay cannot keep the tokens of several images apart"):
        MixedSizes(made(mixer=OwnWay, kind=AnySizeViT))
    with pytest.raises(ConfigError, match="OwnWay is not attention over all tokens"):
        MergingViT(made(mixer=OwnWay))
    with pytest.raises(ConfigError, match="specify window_size"):
        create("vit_nano_patch8_48", global_blocks=(1,))
