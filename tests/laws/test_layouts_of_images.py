"""Images packed into one sequence are measured one at a time; images with channels last are named as the cause."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError
from vitral.recording.known_places import attends_over_batch


class OfOneImage(Attention):
    """Tokens attend to those of their own image only, in a sequence of several."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        image = torch.arange(q.shape[-2]) // 16
        return (q @ k.mT * 0.35).masked_fill(image[:, None] != image, -torch.inf).softmax(-1)


class Packed(ViT):
    """All images in one sequence (Dehghani et al. 2023, "NaViT", §2.1)."""

    def __init__(self):
        super().__init__(OfOneImage, has_cls=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.through(rearrange(self.tokens(images), "b n d -> 1 (b n) d"))
        return self.head(rearrange(x, "1 (b n) d -> b n d", n=16).mean(1))


class TwoSizes(Packed):
    """A large and a small copy of each image in its sequence."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Attention()])

    def tokens(self, images: Tensor) -> Tensor:
        small = self.patch(nn.functional.avg_pool2d(images, 2)).flatten(2).mT
        return torch.cat([super().tokens(images), small], 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.through(self.tokens(images)).mean(1))


def test_a_packed_image_is_seen_by_itself():
    model, images = made(Packed()), torch.randn(3, 3, 16, 16)
    with pytest.raises(UsageError, match="one image at a time"):
        explain.attention(model, images)
    layers = see_attention(model, images[:1]).layers
    assert all(layer.tokens.patch_tokens == tuple(range(16)) for layer in layers)
    assert explain.attention(model, images[:1]).grid == (4, 4)
    assert not attends_over_batch(model, (16, 16))


@pytest.mark.parametrize("count", [1, 2])
def test_two_sizes_in_one_sequence_have_no_single_grid(count):
    with pytest.raises(UsageError, match="places in the image are not known"):
        explain.attention(made(TwoSizes()), torch.randn(count, 3, 16, 16))


class ChannelsLast(ViT):
    def tokens(self, images: Tensor) -> Tensor:
        return super().tokens(images.permute(0, 3, 1, 2))


class Grey(ViT):
    def tokens(self, images: Tensor) -> Tensor:
        return super().tokens(images.movedim(-1, 1).expand(-1, 3, -1, -1))


class ByReshaping(ViT):
    def __init__(self):
        super().__init__()
        self.patch = nn.Linear(48, 16)

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(rearrange(images, "b (y p) (x q) c -> b (y x) (p q c)", p=4, q=4))
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("model, channels", [(ChannelsLast, 3), (Grey, 1), (ByReshaping, 3)])
def test_channels_last_are_named_as_the_cause(model, channels, count):
    model, images = made(model()), torch.randn(count, 16, 16, channels)
    for layer in see_attention(model, images).layers:
        with pytest.raises(UsageError, match="images with channels last"):
            _ = layer.tokens


class Permuting(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.permute(0, 2, 3, 1))


@pytest.mark.parametrize("inner", [ChannelsLast, ByReshaping])
def test_the_way_out_for_channels_last(inner):
    assert explain.attention(made(Permuting(inner())), torch.randn(2, 3, 16, 16)).grid == (4, 4)


@pytest.mark.filterwarnings("ignore:.*quantiz.*are deprecated:UserWarning", "ignore:torch.ao:DeprecationWarning")
@pytest.mark.parametrize("has_cls", [True, False])
def test_a_model_in_eight_bits_is_seen_or_named_as_the_cause(has_cls):
    model = torch.ao.quantization.quantize_dynamic(made(ViT(has_cls=has_cls)), {nn.Linear}, dtype=torch.qint8)
    first = see_attention(model, torch.randn(2, 3, 16, 16)).layers[0]
    try:
        assert first.tokens.patch_tokens == tuple(range(has_cls, 16 + has_cls))
    except UsageError as error:
        assert "the model is quantised" in str(error)
