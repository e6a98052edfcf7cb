"""Where a block runs twice in a pass, or two blocks side by side, `grad_cam` names the call whose features it shows."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from vitral import explain


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(16), Attention()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))


class TwoStreams(ViT):
    """Two streams of tokens share the mean of their last token after each block (Nagrani et al. 2021, "Attention
    Bottlenecks for Multimodal Fusion", §3.2), by the same blocks or by their own."""

    def __init__(self, same: bool):
        super().__init__(Block, depth=3)
        self.others = self.blocks if same else nn.ModuleList(Block() for _ in range(3))
        self.other_patch, self.shared = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, images: Tensor) -> Tensor:
        first, shared = self.tokens(images), self.shared.expand(len(images), -1, -1)
        second = torch.cat([first[:, :1], self.other_patch(images).flatten(2).mT + self.pos[:, 1:]], 1)
        for block, other in zip(self.blocks, self.others):
            first, second = block(torch.cat([first, shared], 1)), other(torch.cat([second, shared], 1))
            shared = (first[:, -1:] + second[:, -1:]) / 2
            first, second = first[:, :-1], second[:, :-1]
        return self.head(first[:, 0] + second[:, 0])


class Repeated(ViT):
    """One block, three times (Lan et al. 2020, "ALBERT", §3.1)."""

    def __init__(self):
        super().__init__(Block, depth=1)

    def through(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.blocks[0](x)
        return x


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: TwoStreams(same=True), "blocks.2.attention (call 2 of 2)"),
        (lambda: TwoStreams(same=False), "others.2.attention"),
        (Repeated, "blocks.0.attention (call 3 of 3)"),
    ],
)
def test_grad_cam_names_the_features_that_it_shows(make, name):
    torch.manual_seed(0)
    model, images = made(make()), torch.randn(2, 3, 16, 16)
    found = explain.grad_cam(model, images, target=1)
    assert found.layers == (f"entering the block of {name}",)
    entered: list[Tensor] = []
    block = model.get_submodule(name.split(".attention")[0])
    handle = block.register_forward_pre_hook(lambda module, given: entered.append(given[0]))
    scores = model(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), entered[-1])
    features, slopes = (one[:, 1:17].mT.unflatten(2, (4, 4)) for one in (entered[-1], gradient))
    cam = (slopes.mean((2, 3), keepdim=True) * features).sum(1).clamp_min(0)
    expected = cam / cam.mean((1, 2), keepdim=True)
    shown = torch.from_numpy(found.values[:, 0, 0])
    torch.testing.assert_close(shown / shown.mean((1, 2), keepdim=True), expected.detach(), atol=1e-4, rtol=1e-4)
