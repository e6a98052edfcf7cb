"""Attention in forms that models really have: traced, under vmap, over the batch, changed later, in several runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError
from written_vits import SIZE, Style, WrittenViT


class Plain(nn.Module):
    """One head, written out; it keeps its weights."""

    def forward(self, x):
        self.kept = (x @ x.mT).softmax(-1)
        return self.kept @ x


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@torch.no_grad()
def test_a_traced_model_is_seen():
    x = torch.randn(2, 5, 4)
    traced = torch.jit.trace(Plain(), x, check_trace=False)
    plain = traced(x)
    with watch(traced, "all", num_prefix_tokens=0) as seen:
        assert torch.equal(traced(x), plain)
    torch.testing.assert_close(seen.layers[0].weights()[:, 0], (x @ x.mT).softmax(-1))


@torch.no_grad()
def test_a_model_under_vmap_is_seen():
    class Mapped(nn.Module):
        def forward(self, x):
            return torch.vmap(lambda own: (own @ own.mT).softmax(-1) @ own)(x)

    x = torch.randn(2, 5, 4)
    with watch(Mapped(), "all", num_prefix_tokens=0) as seen:
        Mapped()(x)
    torch.testing.assert_close(seen.layers[0].weights()[:, 0], (x @ x.mT).softmax(-1))


@torch.no_grad()
def test_weights_that_are_changed_after_the_product_are_those_of_the_product():
    class Later(Plain):
        def forward(self, x):
            out = super().forward(x)
            self.used = self.kept.clone()
            self.kept.div_(self.kept.amax(-1, keepdim=True))
            return out

    model = Later()
    with watch(model, "all", num_prefix_tokens=0) as seen:
        model(torch.randn(2, 5, 4))
    assert torch.equal(seen.layers[0].weights()[:, 0], model.used)
    assert not torch.equal(model.kept, model.used)


@torch.no_grad()
def test_weights_written_into_a_buffer_head_by_head_are_seen():
    class Buffered(nn.Module):
        def forward(self, x):
            q = x.unflatten(-1, (2, 2)).transpose(1, 2)
            self.kept = torch.zeros(len(x), 2, x.shape[1], x.shape[1])
            for head in range(2):
                self.kept[:, head] = (q[:, head] @ q[:, head].mT).softmax(-1)
            return (self.kept @ q).transpose(1, 2).flatten(2)

    model = Buffered()
    with watch(model, "all", num_prefix_tokens=0) as seen:
        model(torch.randn(3, 5, 4))
    assert torch.equal(seen.layers[0].weights(), model.kept) and not seen.missed


@torch.no_grad()
def test_several_runs_in_one_block_are_layers_of_their_own():
    model = Plain()
    with watch(model, "all", num_prefix_tokens=0) as seen:
        for _ in range(3):
            model(torch.randn(2, 5, 4))
    assert [layer.num_heads for layer in seen.layers] == [1, 1, 1]


@torch.no_grad()
def test_two_branches_that_never_meet_are_two_layers():
    class Towers(nn.Module):
        def forward(self, x):
            one, other = x, x + 1
            for _ in range(2):
                one, other = (F.scaled_dot_product_attention(tower, tower, tower) for tower in (one, other))
            return one, other

    x = torch.randn(2, 1, 5, 4)
    with watch(Towers(), "all", num_prefix_tokens=0) as seen:
        Towers()(x)
    assert [layer.num_heads for layer in seen.layers] == [1, 1, 1, 1]


class OverBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj, self.attn = nn.Conv2d(3, 16, 4, 4), nn.MultiheadAttention(16, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, images):
        x = self.proj(images).flatten(2).mT
        return self.head((x + self.attn(x, x, x)[0]).mean(1))


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_attention_over_the_images_of_a_batch_is_said_to_be_that(batch):
    with pytest.raises(UsageError, match=r"attends over the images of a batch.*batch_first=True"):
        explain.attention(OverBatch().eval(), torch.randn(batch, 3, 16, 16))


def test_registers_behind_the_patches_do_not_shift_the_map():
    model = WrittenViT(Style(prefix="registers behind")).eval()
    images = torch.randn(2, 3, *SIZE)
    maps = explain.attention(model, images, query=(1, 2))
    row = torch.stack(model.truth, 1)[..., 6, :16]
    expected = (row / row.mean(-1, keepdim=True)).unflatten(-1, (4, 4))
    torch.testing.assert_close(torch.from_numpy(maps.values), expected, atol=1e-4, rtol=1e-4)


class ChannelsLast(nn.Module):
    """A CNN whose modules return (B, rows, columns, D), and one that returns a matrix of attention."""

    def __init__(self):
        super().__init__()
        self.proj, self.head = nn.Conv2d(3, 12, 4, 4), nn.Linear(12, 3)
        self.cell = nn.Sequential(nn.Linear(12, 12), nn.ReLU())
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, images):
        x = self.cell(self.proj(images).permute(0, 2, 3, 1))
        flat = x.flatten(1, 2)
        self.softmax((flat @ flat.mT)[:, None])
        return self.head(x.mean((1, 2)))


def test_grad_cam_takes_a_map_for_a_map_whatever_its_layout():
    maps = explain.grad_cam(ChannelsLast().eval(), torch.randn(2, 3, 16, 16))
    assert maps.values.shape[-2:] == (4, 4) and maps.layers == ("cell",)


def test_rollout_refuses_a_model_of_which_it_knows_some_layers_only_until_they_are_named():
    class Entropy(WrittenViT):
        def forward(self, images):
            x = self.tokens(images)
            spread = (x @ x.mT).softmax(-1).square().sum(-1, keepdim=True)
            return super().forward(images) + spread.mean((1, 2))[:, None]

    model, images = Entropy(Style()).eval(), torch.randn(2, 3, *SIZE)
    for method in (explain.rollout, explain.chefer):
        with pytest.raises(UsageError, match=r"some attention could not be recorded.*it is summed over its keys"):
            method(model, images)
        named = method(model, images, layers=["blocks.0.attn", "blocks.1.attn"])
        assert named.layers == ("blocks.0.attn, blocks.1.attn",)
        with pytest.raises(UsageError, match=r"There is no attention layer 'blocks\.7'"):
            method(model, images, layers=["blocks.7"])


def test_probing_leaves_nothing_behind():
    model = nn.Sequential(nn.BatchNorm2d(3), WrittenViT(Style(prefix="last"))).train()
    images, before = torch.randn(2, 3, *SIZE), {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model.eval()
    with watch(model, "prefix") as seen:
        model(images)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert seen.layers[0].roles[-1] == "cls" and seen.layers[0].kept_queries == (16,)


def test_what_is_nearest_to_attention_is_named_where_none_was_seen():
    class Gate(nn.Module):
        def forward(self, images):
            return images.flatten(2).softmax(-1).square()

    nearest = r"Nearest to it: 2 x 3 x 256, summing to 1 over axis 2, in Gate, line \d+"
    with pytest.raises(WatchError, match=nearest), watch(Gate()):
        Gate()(torch.randn(2, 3, 16, 16))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("gradients", [False, True])
def test_flex_attention_is_named_where_its_weights_are_not_seen(gradients):
    from torch.nn.attention.flex_attention import flex_attention

    class Flexible(nn.Module):
        def forward(self, x):
            return flex_attention(x, x, x)

    x = torch.randn(2, 3, 16, 8)
    cause = "2 x 3 x 16 x 16, summing to 1 over axis 3, in Flexible.*flex_attention hides its weights"
    with (
        torch.set_grad_enabled(gradients),
        pytest.raises(WatchError, match=cause),
        watch(Flexible()),
    ):
        Flexible()(x)
