"""Calls of one layer in a loop: heads of the same tokens are joined; windows and a second use of weights are not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from vitral import explain, watch
from vitral.base.errors import UsageError

fused = F.scaled_dot_product_attention


def halves(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One softmax for two halves of the values."""
    return torch.cat([fused(q, k, v[..., :4]), fused(q, k, v[..., 4:])], -1)


def copied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    one, other = (fused(q.clone(), k.clone(), part) for part in v.chunk(2, -1))
    return torch.cat([one, other], -1)


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.ones(17, 17).tril().bool() | torch.eye(17, 17).bool()
    return torch.stack([fused(q, k, part, attn_mask=mask) for part in v.chunk(2, -1)], -2).flatten(-2)


def head_by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([fused(q[:, [h, h]], k[:, [h, h]], v[:, [h, h]])[:, :1] for h in range(2)], 1)


def one_mask_each(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    masks = torch.ones(17, 17).tril().bool(), torch.ones(17, 17).triu().bool()
    return torch.cat([fused(q[:, :1], k[:, :1], v[:, h, None], attn_mask=mask) for h, mask in enumerate(masks)], 1)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def seen_in(model: nn.Module, images: Tensor):
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    return seen


@pytest.mark.parametrize("attend", [halves, copied, masked])
def test_weights_that_a_kernel_forms_twice_are_not_twice_as_many_heads(attend, images):
    model = made(ViT(Attention, depth=3))
    model.blocks[2].attend = attend
    seen = seen_in(model, images)
    assert [layer.num_heads for layer in seen.layers] == [2, 2, 2, 2]
    assert len(seen.missed) == 1 and "it multiplies values twice" in seen.missed[0]
    with pytest.raises(UsageError, match="also depends on the weights in another way"):
        explain.attention_gradient(model, images)


@pytest.mark.parametrize("attend", [head_by_head, one_mask_each])
def test_heads_with_queries_or_masks_of_their_own_are_joined(attend, images):
    model = made(ViT(Attention, depth=3))
    model.blocks[2].attend = attend
    seen = seen_in(model, images)
    assert len(seen.layers) == 3 and not seen.missed
    assert explain.attention_gradient(model, images).values.any()


def test_heads_that_are_zero_are_not_taken_for_one(images):
    model = made(ViT(Attention))
    model.blocks[1].attend = lambda q, k, v: torch.cat(
        [fused(q[:, h, None], k[:, h, None], v[:, h, None]) for h in (0, 1)], 1
    )
    nn.init.zeros_(model.blocks[1].qkv.weight[:32])
    nn.init.zeros_(model.blocks[1].qkv.bias[:32])
    seen = seen_in(model, images)
    assert [layer.num_heads for layer in seen.layers] == [2, 2] and not seen.missed


class Loop(nn.Module):
    """A loop over four windows, or over two heads, of a map of 8 x 8 tokens whose patches overlap, or do not."""

    def __init__(self, overlaps: bool, join: str, heads: int, kernel: bool):
        super().__init__()
        convolutions = nn.Conv2d(3, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 16, 3, 2, 1)
        self.stem = nn.Sequential(*convolutions) if overlaps else nn.Conv2d(3, 16, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 16, 8, 8) * 0.3)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 5)
        self.join = getattr(self, join)
        self.heads, self.kernel, self.truth = heads, kernel, []

    def attend(self, y: Tensor) -> Tensor:
        q, k, v = self.qkv(y.flatten(1, -2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        self.truth.append(weights)
        out = fused(q, k, v) if self.kernel else weights @ v
        return out.transpose(1, 2).flatten(2).view(y.shape)

    def windows(self, y: Tensor) -> list[Tensor]:
        return [y[:, row : row + 4, column : column + 4] for row in (0, 4) for column in (0, 4)]

    def as_map(self, y: Tensor) -> Tensor:
        parts = [self.attend(one) for one in self.windows(y)]
        return torch.cat([torch.cat(parts[:2], 2), torch.cat(parts[2:], 2)], 1)

    def written(self, y: Tensor) -> Tensor:
        out = torch.empty_like(y)
        for part, one in zip(self.windows(out), self.windows(y)):
            part.copy_(self.attend(one))
        return out

    def as_tokens(self, y: Tensor) -> Tensor:
        return torch.cat([self.attend(one).flatten(1, 2) for one in self.windows(y)], 1)

    def stacked(self, y: Tensor) -> Tensor:
        return torch.stack([self.attend(one) for one in self.windows(y)], 1)

    def forward(self, images: Tensor) -> Tensor:
        self.truth = []
        out = self.join((self.stem(images) + self.position).permute(0, 2, 3, 1))
        return self.head(self.out(out.flatten(1, -2)).mean(1))


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize("join", ["as_map", "written", "as_tokens", "stacked"])
@pytest.mark.parametrize(("heads", "kernel"), [(4, True), (1, False)])
def test_windows_of_a_loop_are_no_heads_and_no_chunks_of_queries(overlaps, join, heads, kernel):
    torch.manual_seed(0)
    model = made(Loop(overlaps, join, heads, kernel))
    for parameter in model.parameters():
        parameter.data *= 1.8
    seen = seen_in(model, torch.randn(2, 3, 32, 32))
    assert len(seen.layers) == 4
    for layer, truth in zip(seen.layers, model.truth, strict=True):
        assert torch.allclose(layer.weights(), truth, atol=1e-5)


class HeadLoop(Loop):
    """A loop over heads, with tokens whose places are not known."""

    def together(self, y: Tensor) -> Tensor:
        x = y.flatten(1, 2)
        parts = []
        for one in self.qkv(x).chunk(4, -1):
            q, k, v = one.chunk(3, -1)
            weights = (q @ k.mT / 2).softmax(-1)
            self.truth.append(weights)
            parts.append(fused(q, k, v) if self.kernel else weights @ v)
        return torch.cat(parts, -1)

    def in_chunks(self, y: Tensor) -> Tensor:
        q, k, v = self.qkv(y.flatten(1, 2)).chunk(3, -1)
        self.truth.append((q @ k.mT / 4).softmax(-1))
        return torch.cat([fused(part, k, v) for part in q.chunk(4, 1)], 1)


FORMS = [("together", True, False), ("together", False, False), ("in_chunks", True, True), ("in_chunks", True, False)]


@pytest.mark.parametrize(("join", "kernel", "overlaps"), FORMS)
def test_heads_and_chunks_of_a_loop_are_one_layer(join, kernel, overlaps):
    torch.manual_seed(0)
    model = made(HeadLoop(overlaps, join, 1, kernel))
    for parameter in model.parameters():
        parameter.data *= 1.8
    seen = seen_in(model, torch.randn(2, 3, 32, 32))
    assert len(seen.layers) == 1
    assert torch.allclose(seen.layers[0].weights(), torch.stack(model.truth, 1), atol=1e-5)
