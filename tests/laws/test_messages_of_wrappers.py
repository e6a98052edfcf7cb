"""Side-by-side models, vmap and traced modules: a map, or the cause and the way out."""

import pytest
import torch
from torch import nn

from own_vit import OwnViT
from tiny import redraw, see_attention
from vitral import explain
from vitral.base.errors import WatchError


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 16, 16)


class SideBySide(nn.Module):
    """Two models of one layer on one embedding; their calls of attention look like two heads of one layer."""

    def __init__(self, in_lists):
        super().__init__()
        self.embedding = OwnViT(depth=0)
        self.one, self.other = OwnViT(depth=1).blocks, OwnViT(depth=1).blocks
        if not in_lists:
            self.one, self.other = self.one[0], self.other[0]
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, images):
        x = self.embedding.patches(images).flatten(2).mT
        x = torch.cat([self.embedding.cls.expand(len(x), -1, -1), x], 1) + self.embedding.position
        blocks = [each[0] if isinstance(each, nn.ModuleList) else each for each in (self.one, self.other)]
        return self.head(self.norm(sum(block(x) for block in blocks))[:, 0])


@pytest.mark.parametrize("in_lists", [True, False])
@pytest.mark.parametrize("name", ["grad_cam", "occlusion", "input_gradient"])
def test_models_side_by_side_on_one_embedding_are_no_error_of_the_users(name, in_lists, pictures):
    maps = getattr(explain, name)(redraw(SideBySide(in_lists)), pictures)
    assert maps.values.shape[-2:] == (4, 4)


class ByImage(OwnViT):
    def forward(self, images):
        answer = torch.func.vmap(lambda image: OwnViT.forward(self, image[None])[0])(images)
        for block in self.blocks:
            del block.weights  # nothing of what vmap runs may be kept
        return answer


@pytest.mark.parametrize("name", ["attention", "rollout", "chefer", "grad_cam", "input_gradient"])
def test_a_model_that_calls_vmap_is_watched_and_not_explained(name, pictures):
    model = redraw(ByImage())
    assert see_attention(model, pictures).layers[0].roles[0] == "cls"
    with pytest.raises(WatchError, match=r"cannot be explained under torch\.func\.vmap.*vitral\.watch still shows"):
        getattr(explain, name)(model, pictures)


@pytest.mark.parametrize("name", ["attention", "chefer", "occlusion", "input_gradient"])
def test_a_method_within_vmap_is_refused_with_the_way_out(name, pictures):
    model = redraw(OwnViT())
    with pytest.raises(WatchError, match=r"under torch\.func\.vmap.*on the model itself, with a batch"):
        torch.func.vmap(lambda image: torch.as_tensor(getattr(explain, name)(model, image[None]).values))(pictures)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["chefer", "attention_gradient"])
def test_a_traced_model_is_called_traced(name, wrapped, pictures):
    traced = torch.jit.trace(redraw(OwnViT()), pictures)
    model = nn.Sequential(traced) if wrapped else traced
    with pytest.raises(WatchError, match=r"was traced \(torch\.jit\.trace\).*Explain the module that was traced"):
        getattr(explain, name)(model, pictures)
    assert "could not measure which tokens" in explain.attention(model, pictures).caption
