"""An operator of another library may be attention that nobody sees: it is listed, unless it mixes no tokens."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError
from vitral.recording.intercept import NothingSeen

REASON = "an operator that is not PyTorch's and mixes tokens, perhaps by attention"


@torch.library.custom_op("kernels_of_tests::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


@torch.library.custom_op("kernels_of_tests::attend_packed", mutates_args=())
def attend_packed(qkv: Tensor) -> Tensor:
    q, k, v = qkv.unbind(2)
    return torch.einsum("bhnm,bmhe->bnhe", torch.einsum("bnhe,bmhe->bhnm", q, k).softmax(-1), v)


@torch.library.custom_op("kernels_of_tests::attend_into", mutates_args={"out"})
def attend_into(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    out.copy_((q @ k.mT).softmax(-1) @ v)


@torch.library.custom_op("kernels_of_tests::norm_of_sum", mutates_args=())
def norm_of_sum(x: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.layer_norm(x + residual, x.shape[-1:], weight)


class Kernel(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v)


class Packed(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_packed(torch.stack([q, k, v]).permute(1, 3, 0, 2, 4)).transpose(1, 2)


class Into(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty(q.shape)
        attend_into(q, k, v, out)
        return out


class Normed(Attention):
    """Its norm is PyTorch's, or an operator of another library."""

    norm = staticmethod(lambda x, residual, weight: nn.functional.layer_norm(x + residual, x.shape[-1:], weight))

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x, x.flip(-1), self.weight))


class FusedNorm(Normed):
    norm = staticmethod(norm_of_sum)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [Kernel, Packed, Into])
def test_attention_in_an_operator_of_another_library_is_listed(kind, images):
    model = ViT(Attention)
    model.blocks[-1] = kind()
    made(model)
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    assert len(seen.layers) == len(model.blocks) - 1
    assert len(seen.missed) == 1 and REASON in seen.missed[0] and "in blocks.1, line" in seen.missed[0]
    with pytest.raises(UsageError, match=f"some attention could not be recorded.*{REASON}"):
        explain.rollout(model, images)
    assert f"Not shown: {seen.missed[0]}" in explain.attention(model, images).caption


def test_an_operator_without_a_backward_pass_is_explained_without_gradients(images):
    model = made(ViT(Attention))
    model.blocks.append(Kernel())
    assert "since no gradient of the output reaches them" in explain.attention(model.eval(), images).caption
    for method in (explain.grad_cam, explain.attention_gradient, explain.input_gradient):
        with pytest.raises(WatchError, match=r"ViT has no gradients, since its backward pass failed: .* need none\."):
            method(model, images)
    assert explain.occlusion(model, images, grid=(4, 4)).values.any()


@pytest.mark.parametrize("kind", [Kernel, Packed, Into])
def test_a_model_of_such_operators_only_is_refused_with_the_cause(kind, images):
    with torch.no_grad(), pytest.raises(NothingSeen, match=REASON), watch(made(ViT(kind)), rows="all"):
        made(ViT(kind))(images)


def test_an_operator_that_treats_each_token_by_itself_is_not_listed(images):
    model, twin = made(ViT(FusedNorm)), made(ViT(Normed))
    twin.load_state_dict(model.state_dict())
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    assert seen.missed == []
    torch.testing.assert_close(explain.rollout(model, images).values, explain.rollout(twin, images).values)
