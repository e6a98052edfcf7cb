"""Watch a model that Vitral has never seen: attention written out by hand, without a line changed in it."""

import torch
from torch import nn

import vitral


class Mine(nn.Module):
    """A tiny ViT as one would write it on a blackboard."""

    def __init__(self, width: int = 32, heads: int = 2, classes: int = 10):
        super().__init__()
        self.patches = nn.Conv2d(3, width, kernel_size=8, stride=8)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
        self.head = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.head(x[:, 0] + self.out((weights @ v).transpose(1, 2).flatten(2))[:, 0])


torch.manual_seed(0)
model, images = Mine().eval(), torch.randn(2, 3, 48, 48)

with torch.no_grad(), vitral.watch(model) as seen:
    model(images)

for layer in seen.layers:
    row = layer.rows([0])
    kept, total = row[..., 0].mean(), row.sum(-1).mean()
    print(f"{layer.name}: CLS keeps {kept:.1%} for itself; rows sum to {total:.6f}; residual {layer.residual:.0e}")
