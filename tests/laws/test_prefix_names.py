"""A token without a patch has the name of the learned parameter that changes it, in each layer, and else a number."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from plain_vit import Attention, NullKey, ViT, made
from tiny import see_attention
from vitral import explain


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class ClassAttention(ViT):
    """CLS reads the patches in the last block only (Touvron et al. 2021, "CaiT", §2)."""

    def __init__(self, attention: type):
        super().__init__(attention, has_cls=False)
        self.last = Attention()

    def read(self, x: Tensor) -> Tensor:
        q, k, v = self.last.split(torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1))
        return self.head(rearrange(self.last.attend(q[:, :, :1], k, v), "b h n e -> b n (h e)")[:, 0])


def test_a_null_key_is_not_the_cls_of_a_later_layer(images):
    *blocks, last = see_attention(made(ClassAttention(NullKey)), images).layers
    assert [layer.roles[0] for layer in blocks] == ["prefix 0"] * 2 and last.roles[0] == "cls"


def test_a_null_key_is_no_warning_where_gradients_are_recorded(images):
    assert explain.attention_gradient(made(ClassAttention(NullKey)), images).grid == (4, 4)


class Behind(ViT):
    """One token more, with an unused `cls_token` or `dist_token` besides."""

    def __init__(self, unused: str):
        super().__init__(has_cls=False)
        del self.cls_token
        setattr(self, unused, nn.Parameter(torch.randn(1, 1, 16)))
        self.pos = nn.Parameter(torch.randn(1, 17, 16))
        self.time = nn.Linear(8, 16)

    def more(self, x: Tensor) -> Tensor:
        return self.time(torch.arange(8.0).cos()).expand(len(x), 1, -1)

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT
        return torch.cat([self.more(x), x], 1) + self.pos


class Label(Behind):
    """A token of a class label, as a diffusion model has it."""

    def more(self, x: Tensor) -> Tensor:
        return self.time.weight.T[:1].expand(len(x), 1, -1)


@pytest.mark.parametrize("unused", ["cls_token", "dist_token", "reg_token", "cls"])
@pytest.mark.parametrize("model", [Behind, Label])
def test_a_parameter_that_changes_no_token_names_none(model, unused, images):
    assert [layer.roles[0] for layer in see_attention(made(model(unused)), images).layers] == ["prefix 0"] * 2


class Swapped(ViT):
    """The CLS token is exchanged for a register behind the first block."""

    def __init__(self):
        super().__init__()
        self.reg_token = nn.Parameter(torch.randn(1, 1, 16))

    def through(self, x: Tensor) -> Tensor:
        first, second = self.blocks
        x = x + first(x)
        x = torch.cat([self.reg_token.expand(len(x), -1, -1), x[:, 1:]], 1)
        return x + second(x)


def test_each_layer_has_its_own_names(images):
    assert [layer.roles[0] for layer in see_attention(made(Swapped()), images).layers] == ["cls", "register 0"]


@pytest.mark.parametrize("has_cls", [True, False])
def test_a_cls_token_that_is_used_is_cls(has_cls, images):
    layers = see_attention(made(ViT(has_cls=has_cls)), images).layers
    assert all(layer.roles[0] == ("cls" if has_cls else "patch 0 0") for layer in layers)


class Stated(Behind):
    """The model states a token before the patches, and has registers whose names say so."""

    num_prefix_tokens = 1


def test_a_token_that_the_model_states_is_cls_unless_a_parameter_is(images):
    assert see_attention(made(Stated("reg_token")), images).layers[0].roles[0] == "cls"
    assert see_attention(made(Stated("cls_token")), images).layers[0].roles[0] == "prefix 0"
