"""What a model's answer is read from is found by asking it, and methods start there."""

import numpy as np
import pytest
import torch
from torch import nn

from peers import shaken, timm
from tiny import redraw, see_attention, tiny_vit
from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError
from vitral.explain.observation import observe
from vitral.explain.readout import Tail
from vitral.nn.family.head import DistilledHead
from vitral.nn.family.pool import FirstTwo, MeanPool

REGISTERS = {"cls_token": 1, "reg_token": 2}


@pytest.mark.parametrize(
    ("parts", "read"),
    [
        ({}, (0,)),
        (dict(pool=MeanPool), tuple(range(1, 7))),
        (dict(tokens=REGISTERS, pool=MeanPool), tuple(range(3, 9))),
        (dict(tokens={}, pool=MeanPool), tuple(range(6))),
        (dict(tokens={"cls_token": 1, "dist_token": 1}, pool=FirstTwo, head=DistilledHead), (0, 1)),
    ],
    ids=["CLS", "patches, though there is CLS", "patches, with registers", "all", "CLS and distillation"],
)
def test_the_tokens_that_the_answer_depends_on(parts, read, images):
    model = tiny_vit(**parts)
    assert observe(model, images).readout == read
    modes = [(part.training, len(part._forward_hooks)) for part in model.modules()]
    with torch.inference_mode():
        assert observe(model, images).readout == read
    assert [(part.training, len(part._forward_hooks)) for part in model.modules()] == modes


def test_a_model_that_says_all_classes_alike_is_taken_to_read_cls(images):
    model = tiny_vit()
    nn.init.zeros_(model.head.weight)
    assert observe(model, images).readout == (0,)


def peer(kind=timm.models.vision_transformer.VisionTransformer, **changes):
    sizes = dict(img_size=(16, 32), patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=5)
    return shaken(kind(**sizes, **changes))


PEERS = {
    "timm, mean pool beside CLS": lambda: peer(global_pool="avg"),
    "timm, mean pool, registers": lambda: peer(global_pool="avg", reg_tokens=2),
    "timm EVA-02": lambda: peer(timm.models.eva.Eva),
}


@pytest.mark.parametrize("make", PEERS.values(), ids=PEERS)
def test_methods_start_from_the_patches_where_those_are_read(make):
    model, images = make(), torch.randn(2, 3, 16, 32)
    seen = see_attention(model, images)
    prefix = len(seen.layers[0].tokens.prefix)
    assert prefix
    weights = [layer.weights().mean(1) for layer in seen.layers]
    n = weights[0].shape[-1]
    row = torch.zeros(2, n)
    row[:, prefix:] = 1 / (n - prefix)
    rolled = row[:, None]
    for own in reversed(weights):
        rolled = rolled / 2 + rolled @ own / 2
    expected = rolled[:, 0, prefix:]
    expected = expected * expected.shape[1] / expected.sum(1, keepdim=True)
    maps = explain.rollout(model, images)
    np.testing.assert_allclose(maps.merged.reshape(2, -1), expected, rtol=1e-4)
    raw = explain.attention(model, images)
    assert raw.reader == "the mean of all patches"
    last = seen.layers[-1].weights()[:, :, prefix:, prefix:].mean(2)
    last = last * last.shape[-1] / last.sum(-1, keepdim=True)
    np.testing.assert_allclose(raw.values[:, -1].reshape(*last.shape), last, rtol=1e-4)
    assert not explain.attention_gradient(model, images).constant


def test_the_tail_is_the_model_after_its_blocks(vit, images):
    tail = Tail(vit, images)
    tokens = torch.randn(2, 7, 16)
    with torch.no_grad():
        torch.testing.assert_close(tail(tokens), vit.head(vit.norm(tokens)[:, 0]))
        torch.testing.assert_close(tail.answer, vit(images))


@pytest.mark.parametrize("make", PEERS.values(), ids=PEERS)
def test_the_logit_lens_ends_with_the_models_own_answer(make):
    """Of a token that all others are equal to, the head says what the model would."""
    model, images = make(), torch.randn(2, 3, 16, 32)
    lens = explain.logit_lens(model, images)
    tail = Tail(model, images)
    with torch.no_grad():
        alike = tail.recording.stream[-1][:, 3:4].expand_as(tail.recording.stream[-1])
        torch.testing.assert_close(lens[:, -1, 3], tail(alike))


class Folded(nn.Module):
    """Attention whose heads stand in the batch: written out with `bmm`, or three-dimensional SDPA."""

    num_prefix_tokens, grid = 1, (2, 4)

    def __init__(self, how):
        super().__init__()
        self.how, self.patch = how, nn.Conv2d(3, 16, 4, 4)
        self.cls, self.qkv, self.head = nn.Parameter(torch.zeros(1, 1, 16)), nn.Linear(16, 48), nn.Linear(16, 5)
        redraw(self)

    def embedded(self, images):
        x = self.patch(images).flatten(2).mT
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        return x, *self.qkv(x).reshape(len(x), 9, 3, 4, 4).permute(2, 0, 3, 1, 4)

    def forward(self, images):
        x, q, k, v = self.embedded(images)
        if self.how != "apart":
            q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        if self.how == "bmm":
            out = torch.bmm(torch.softmax(q @ k.mT / 2, dim=-1), v)
        else:
            out = nn.functional.scaled_dot_product_attention(q, k, v)
        out = out.reshape(len(x), 4, 9, 4).transpose(1, 2).flatten(2)
        return self.head((x + out)[:, 0])


@pytest.mark.parametrize("how", ["bmm", "sdpa"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_heads_that_stand_in_the_batch_are_taken_for_heads(how, count):
    images = torch.randn(count, 3, 8, 16)
    plain, folded = Folded("apart"), Folded(how)
    for method in (explain.attention, explain.rollout, explain.chefer, explain.attention_gradient):
        expected, found = method(plain, images), method(folded, images)
        assert found.values.shape == expected.values.shape
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-3, atol=1e-4)


def test_groups_that_no_window_explains_are_measured():
    """Attention over every other patch of a row, folded into the batch."""

    class Dilated(Folded):
        def forward(self, images):
            x = self.patch(images).permute(0, 2, 3, 1).unflatten(2, (2, 2)).transpose(2, 3).reshape(-1, 2, 16)
            q, k, v = self.qkv(x).reshape(len(x), 2, 3, 4, 4).permute(2, 0, 3, 1, 4)
            out = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.head((x + out).reshape(len(images), -1, 16).mean(1))

    model = Dilated("apart").eval()
    with torch.no_grad(), watch(model, "all") as seen:
        model(torch.randn(2, 3, 8, 16))
    assert seen.layers[0].windows.places.tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert len(seen.layers[0].weights()) == 2 * 4


def test_heads_that_are_mixed_before_the_product_are_shown_as_they_were_used():
    """What multiplies the values is what is shown."""

    class Talking(Folded):
        def forward(self, images):
            x, q, k, v = self.embedded(images)
            self.mixed = torch.softmax(q @ k.mT / 2, dim=-1).flip(1) * 0.5
            x = x + (self.mixed @ v).transpose(1, 2).flatten(2)
            return self.head((x + nn.functional.scaled_dot_product_attention(x, x, x))[:, 0])

    model = Talking("apart")
    with torch.no_grad(), watch(model, "all") as seen:
        model(torch.randn(2, 3, 8, 16))
    assert [layer.num_heads for layer in seen.layers] == [4, 1] and not seen.missed
    assert torch.equal(seen.layers[0].weights(), model.mixed)


def test_weights_that_multiply_no_values_are_listed_with_the_line_that_made_them():
    class Summed(Folded):
        def forward(self, images):
            x = self.embedded(images)[0]
            entropy = torch.softmax(x @ x.mT, dim=-1).square().sum(-1)
            return self.head((x + entropy[..., None] + nn.functional.scaled_dot_product_attention(x, x, x))[:, 0])

    maps = explain.attention(Summed("apart"), torch.randn(2, 3, 8, 16))
    assert len(maps.layers) == 1
    assert "Not shown: 2 x 9 x 9, summing to 1 over axis 2, in Summed, line " in maps.caption
    assert "of test_readout.py: it is summed over its keys." in maps.caption


def test_channels_are_not_taken_for_patches():
    """6 channels that read each other, where 2 x 4 patches were projected, in a model that has CLS."""

    class Channels(Folded):
        num_prefix_tokens = grid = None

        def forward(self, images):
            x = self.patch(images).flatten(2)  # (b, 16 channels, 8 patches)
            x = x[:, :6]
            x = nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
            return self.head(nn.functional.pad(x.mean(2), (0, 10)))

    message = "5 patches form neither a square grid nor one with the image"
    with pytest.raises((UsageError, WatchError), match=message):
        explain.attention(Channels("apart"), torch.randn(2, 3, 8, 16))
