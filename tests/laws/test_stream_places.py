"""What passes from block to block is decoded as the keys are: any layout and order gives the same map."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from vitral import explain


class Between(ViT):
    """Its blocks pass on their tokens in a layout of their own; each attends as in the plain ViT."""

    def __init__(self, has_cls: bool = False):
        super().__init__(has_cls=has_cls)
        self.blocks = nn.ModuleList(Wrapped(self, block) for block in self.blocks)

    def there(self, x: Tensor) -> Tensor:
        return x

    def back(self, x: Tensor) -> Tensor:
        return x

    def through(self, x: Tensor) -> Tensor:
        x = self.there(x)
        for block in self.blocks:
            x = block(x)
        return self.back(x)


class Wrapped(nn.Module):
    def __init__(self, model: Between, block: nn.Module):
        super().__init__()
        self.there, self.back, self.inner = model.there, model.back, block

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.back(x)
        return self.there(tokens + self.inner(tokens))


class TokensFirst(Between):
    def there(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)

    back = there


class WidthFirst(Between):
    def there(self, x: Tensor) -> Tensor:
        return x.mT.unflatten(2, (4, 4))

    def back(self, x: Tensor) -> Tensor:
        return x.flatten(2).mT


class WidthLast(Between):
    def there(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (4, 4))

    def back(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2)


class Transposed(Between):
    """Columns before rows."""

    def there(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (4, 4)).transpose(1, 2)

    def back(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(1, 2)


class InWindows(Between):
    """(image, window, place in the window, width)."""

    order = torch.arange(16).unflatten(0, (2, 2, 2, 2)).transpose(1, 2).flatten()

    def there(self, x: Tensor) -> Tensor:
        return x[:, self.order].unflatten(1, (4, 4))

    def back(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2)[:, self.order.argsort()]


class Sorted(Between):
    """In an order of its own."""

    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))

    def there(self, x: Tensor) -> Tensor:
        return x[:, self.order]

    def back(self, x: Tensor) -> Tensor:
        return x[:, self.order.argsort()]


LAYOUTS = [TokensFirst, WidthFirst, WidthLast, Transposed, InWindows, Sorted]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 16])
def test_a_map_of_features_is_the_same_in_any_layout(layout, count):
    plain, other = made(Between()), made(layout())
    other.load_state_dict(plain.state_dict())
    images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(images), plain(images))
    for method in (explain.grad_cam, explain.attention, explain.rollout):
        found, expected = (torch.from_numpy(method(model, images).values) for model in (other, plain))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class InTheMiddle(Attention):
    """Puts CLS between the patches for its attention, and back."""

    order = torch.tensor([*range(1, 9), 0, *range(9, 17)])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, self.order])[:, self.order.argsort()]


def test_tokens_that_are_sorted_within_the_attention_are_those_of_the_stream():
    plain, other = made(ViT()), made(ViT(InTheMiddle))
    other.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for method in (explain.attention, explain.rollout, explain.chefer, explain.grad_cam):
        found, expected = method(other, images), method(plain, images)
        assert found.reader == expected.reader
        torch.testing.assert_close(torch.from_numpy(found.values), torch.from_numpy(expected.values))
