"""Memory that held attention weights, or the result of a call, may hold other values later: nothing is mistaken."""

import pytest
import torch
from torch import nn

from handmade import Attention, Block, Plain
from tiny import redraw, see_attention
from vitral import explain
from vitral.recording.operators import storage_of
from vitral.recording.recognizer import Recognizer


def test_nothing_is_known_of_memory_that_is_new():
    recognizer = Recognizer(nn.Identity())
    for _ in range(1000):
        tensor = torch.rand(8)
        assert storage_of(tensor) not in recognizer.results
        recognizer.remember(tensor)
        recognizer.results[storage_of(tensor)] = (2, ())
    assert len(recognizer.known) < 100


def test_what_is_remembered_holds_no_values():
    recognizer = Recognizer(nn.Identity())
    tensor = torch.rand(8)
    recognizer.remember(tensor)
    known = recognizer.known[storage_of(tensor)]
    assert not known.expired()
    del tensor
    assert known.expired()


def test_a_result_that_is_exchanged_for_a_view_of_itself_is_still_that_of_its_call():
    recognizer, result = Recognizer(nn.Identity()), torch.rand(1, 2, 6, 4)
    recognizer.results[storage_of(result)] = (2, ())
    recognizer.exchange(result, result.transpose(1, 2))
    assert recognizer.results[storage_of(result)] == (2, ())


class Indexed(Attention):
    """Head after head, whose channels are chosen by `indices`: with a list, PyTorch makes a tensor out of sight."""

    def __init__(self):
        super().__init__()
        self.indices = [list(range(head, 12, 3)) for head in range(3)]

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        out = torch.empty_like(x)
        for own in map(self.index, self.indices):
            out[:, :, own] = self.weights(q[:, :, own], k[:, :, own]) @ v[:, :, own]
        return out

    def index(self, channels):
        return channels


class MadeAnew(Indexed):
    def index(self, channels):
        return torch.tensor(channels)


class OfNumPy(Indexed):
    def index(self, channels):
        return torch.from_numpy(torch.tensor(channels).numpy().copy())


class Held(Indexed):
    """The twin: its indices are tensors that live as long as it does."""

    def __init__(self):
        super().__init__()
        self.indices = [torch.tensor(channels) for channels in self.indices]


class Model(Plain):
    attention = Indexed

    def block(self):
        return Block(self.attention)


@pytest.mark.parametrize("attention", [Indexed, MadeAnew, OfNumPy])
@pytest.mark.parametrize("batch", [1, 3])
def test_tensors_that_no_operator_made_change_nothing(attention, batch):
    images = torch.randn(batch, 3, 16, 24)
    models = [redraw(type("Own", (Model,), dict(attention=kind))()) for kind in (Held, attention)]
    expected = see_attention(models[0], images)
    assert [(layer.num_heads, layer.tokens.prefix) for layer in expected.layers] == [(3, ("cls",))] * 2
    for _ in range(4):
        seen = see_attention(models[1], images)
        assert [layer.num_heads for layer in seen.layers] == [3, 3]
        for layer, other in zip(seen.layers, expected.layers):
            torch.testing.assert_close(layer.rows(range(7)), other.rows(range(7)))
            assert layer.tokens == other.tokens and not layer.further_uses
    maps, others = (explain.rollout(model, images) for model in models)
    torch.testing.assert_close(torch.as_tensor(maps.values), torch.as_tensor(others.values))
    assert maps.caption == others.caption
