"""Attention that a model computes for a few queries at a time is one layer; of other orders it is not made up."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral import explain, watch
from vitral.base.errors import WatchError
from vitral.recording.edits import without_token


class InChunks(nn.Module):
    """Attention of two heads; how the chunks of queries are cut and joined is a function of the part."""

    def __init__(self, form: str, is_fused: bool):
        super().__init__()
        self.form, self.is_fused = form, is_fused
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        self.kept = q.detach(), k.detach()

        def attend(part: Tensor) -> Tensor:
            if self.is_fused:
                return F.scaled_dot_product_attention(part, k, v)
            return (part @ k.mT / 8**0.5).softmax(-1) @ v

        match self.form:
            case "uneven":
                out = torch.cat([attend(part) for part in q.split(5, 2)], 2)
            case "even":
                out = torch.cat([attend(part) for part in q.split(q.shape[2] // 2 + 1, -2)], dim=-2)
            case "one by one":
                out = torch.cat([attend(q[:, :, at : at + 1]) for at in range(q.shape[2])], 2)
            case "written":
                out = torch.empty_like(q)
                for at in range(0, q.shape[2], 4):
                    out[:, :, at : at + 4] = attend(q[:, :, at : at + 4])
            case "projected":
                return torch.cat([self.proj(attend(part).transpose(1, 2).flatten(2)) for part in q.split(5, 2)], 1)
            case "reversed":
                out = torch.cat([attend(part) for part in q.split(4, 2)][::-1], 2)
            case "stacked":
                out = torch.stack([attend(part) for part in q.chunk(2, 2)], 2).flatten(2, 3)
            case _:
                raise ValueError(self.form)
        return self.proj(out.transpose(1, 2).flatten(2))

    @property
    def truth(self) -> Tensor:
        q, k = self.kept
        return (q @ k.mT / 8**0.5).softmax(-1)


class Chunked(nn.Module):
    def __init__(self, form: str, is_fused: bool, has_cls: bool):
        super().__init__()
        self.has_cls = has_cls
        self.patch, self.cls_token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.blocks, self.head = nn.ModuleList(InChunks(form, is_fused) for _ in range(2)), nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) if self.has_cls else x
        for block in self.blocks:
            x = x + block(x)
        return self.head(x[:, 0])


def made(form: str, is_fused: bool = True, has_cls: bool = True) -> tuple[Chunked, Tensor]:
    torch.manual_seed(0)
    return Chunked(form, is_fused, has_cls).eval(), torch.randn(2, 3, 16, 16)


FORMS = [("uneven", True), ("even", True), ("one by one", True), ("projected", True), ("written", False)]


@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize(("form", "has_cls"), FORMS)
def test_chunks_of_queries_are_one_layer(form, has_cls, is_fused):
    model, images = made(form, is_fused, has_cls)
    with torch.no_grad(), watch(model, "all") as seen:
        model(images)
    assert len(seen.layers) == 2 and not seen.missed
    for layer, block in zip(seen.layers, model.blocks):
        torch.testing.assert_close(layer.weights(), block.truth)
        torch.testing.assert_close(layer.rows([14, 2, 7]), block.truth[:, :, [14, 2, 7]])
        assert layer.queries_are_keys and layer.tokens.grid == (4, 4)


def test_rows_that_are_kept_as_they_pass_are_those_of_their_chunk():
    model, images = made("uneven")
    for rows, kept in (("prefix", [0]), ([16, 3], [3, 16])):
        with torch.no_grad(), watch(model, rows) as seen:
            model(images)
        for layer, block in zip(seen.layers, model.blocks):
            torch.testing.assert_close(layer.rows(kept), block.truth[:, :, kept])


@pytest.mark.parametrize("form", ["uneven", "one by one"])
def test_relevance_through_chunks_is_that_of_the_whole(form):
    model, images = made(form)
    one = Whole(model)
    for method in (explain.rollout, explain.chefer, explain.attention_gradient):
        torch.testing.assert_close(
            torch.from_numpy(method(model, images).values), torch.from_numpy(method(one, images).values)
        )


class Whole(nn.Module):
    """The same model, each layer of which is one call."""

    def __init__(self, model: Chunked):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        x = self.model.patch(images).flatten(2).mT
        x = torch.cat([self.model.cls_token.expand(len(x), -1, -1), x], 1)
        for block in self.model.blocks:
            q, k, v = block.qkv(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
            x = x + block.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.model.head(x[:, 0])


@pytest.mark.parametrize("form", ["reversed", "stacked"])
def test_chunks_whose_order_was_not_seen_are_layers_of_their_own(form):
    model, images = made(form, has_cls=False)
    with torch.no_grad(), watch(model, "all") as seen:
        model(images)
    assert len(seen.layers) > 2
    assert all(layer.num_heads == 2 and not layer.queries_are_keys for layer in seen.layers)


def test_attention_in_chunks_is_not_changed():
    model, images = made("uneven")
    refused = pytest.raises(
        WatchError, match="splits its queries over several calls of attention, which cannot be edited"
    )
    with refused, torch.no_grad(), watch(model, "all", edit=without_token(3)):
        model(images)
