"""Keys that are sampled at places that depend on the image stand on no grid, whatever their order."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain_vit import made
from vitral import explain, watch
from vitral.base.errors import UsageError

REASON = "sampled at places of the feature map that depend on what the image shows"


def split(x: Tensor) -> Tensor:
    return x.flatten(2).unflatten(1, (2, -1)).mT


class Deformable(nn.Module):
    """Two layers of deformable attention (Xia et al. 2022, "Vision Transformer with Deformable Attention", §3.2): 8 x 8
    queries, 4 x 4 keys that are moved by up to `amplitude` of the map's half."""

    def __init__(self, amplitude: float):
        super().__init__()
        self.amplitude, self.patch = amplitude, nn.Conv2d(3, 16, 4, 4)
        self.offset, self.qkv = (nn.ModuleList(kind() for _ in range(2)) for kind in (self.offsets, self.projections))
        self.pos, self.head = nn.Parameter(torch.randn(1, 16, 8, 8) * 0.3), nn.Linear(16, 5)

    def offsets(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.GELU(), nn.Conv2d(16, 2, 1, bias=False))

    def projections(self) -> nn.Module:
        return nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(3))

    def moves(self, offset: nn.Module, q: Tensor) -> Tensor:
        """(b, 4, 4, 2)"""
        return offset(q).tanh().permute(0, 2, 3, 1) * self.amplitude

    def sample(self, x: Tensor, moves: Tensor) -> Tensor:
        centres = torch.linspace(0.5, 3.5, 4) / 2 - 1
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), -1) + moves
        return F.grid_sample(x, grid.flip(-1), align_corners=False)

    def bias(self, moves: Tensor) -> Tensor | float:
        return 0.0

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images) + self.pos
        for offset, (to_q, to_k, to_v) in zip(self.offset, self.qkv):
            q = to_q(x)
            moves = self.moves(offset, q)
            z = self.sample(x, moves)
            weights = (split(q) @ split(to_k(z)).mT / 3 + self.bias(moves)).softmax(-1)
            x = x + (weights @ split(to_v(z))).mT.reshape(len(x), 16, 8, 8)
        return self.head(x.mean((2, 3)))


class Folded(Deformable):
    """Groups of channels with the images in the batch."""

    def sample(self, x: Tensor, moves: Tensor) -> Tensor:
        groups = x.unflatten(1, (2, 8)).flatten(0, 1)
        return super().sample(groups, moves.repeat_interleave(2, 0)).unflatten(0, (-1, 2)).flatten(1, 2)


class ByIndex(Deformable):
    """Bilinear interpolation written out: four corners by their numbers."""

    def sample(self, x: Tensor, moves: Tensor) -> Tensor:
        centres = torch.arange(4) * 2 + 0.5
        place = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), -1) + moves * 4
        low = place.clamp(0, 6.999).floor()
        part, low = (place.clamp(0, 6.999) - low)[:, None], low.long()
        result = 0.0
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            number = ((low[..., 0] + down) * 8 + low[..., 1] + right).flatten(1)
            corner = self.take(x.flatten(2), number).unflatten(2, (4, 4))
            share = (part[..., 0] - 1 + down).abs() * (part[..., 1] - 1 + right).abs()
            result = result + corner * share
        return result

    def take(self, x: Tensor, number: Tensor) -> Tensor:
        return x.gather(2, number[:, None].expand(-1, x.shape[1], -1))


class ByPicking(ByIndex):
    def take(self, x: Tensor, number: Tensor) -> Tensor:
        return x.mT[torch.arange(len(x))[:, None], number].mT


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def ready(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.8 if parameter.ndim > 1 else 1
    return made(model)


@pytest.mark.parametrize(
    ("kind", "amplitude"), [(Deformable, 0.2), (Deformable, 0.5), (Folded, 0.5), (ByIndex, 0.5), (ByPicking, 0.3)]
)
def test_keys_that_move_with_the_image_are_refused(kind, amplitude, images):
    torch.manual_seed(1)
    model = ready(kind(amplitude))
    with torch.no_grad(), watch(model, "all") as seen:
        model(images)
    for layer in seen.layers:
        assert layer.weights().shape == (2, 2, 64, 16)  # which are exact
        with pytest.raises(UsageError, match=f"{REASON}|places in the image are not known"):
            _ = layer.tokens
    for layers in (None, [0]):
        with pytest.raises(UsageError, match=f"{REASON}|places in the image are not known"):
            explain.attention(model, images, layers=layers)
    assert explain.occlusion(model, images, grid=(4, 4)).values.any()


class Still(Deformable):
    """The same moves for all images."""

    def moves(self, offset: nn.Module, q: Tensor) -> Tensor:
        return torch.linspace(-0.1, 0.1, 32).view(1, 4, 4, 2).expand(len(q), -1, -1, -1)


class Biased(Still):
    """Only the bias of the weights is sampled at places that depend on the image."""

    def __init__(self, amplitude: float):
        super().__init__(amplitude)
        self.table = nn.Parameter(torch.randn(1, 2, 8, 8))

    def bias(self, moves: Tensor) -> Tensor:
        return F.grid_sample(self.table.expand(len(moves), -1, -1, -1), self.drawn, align_corners=False).flatten(2)[
            :, :, None
        ]

    def moves(self, offset: nn.Module, q: Tensor) -> Tensor:
        self.drawn = Deformable.moves(self, offset, q)
        return super().moves(offset, q)


class Codes(Still):
    """Each pixel's colour is one of a codebook's, by an index that depends on the image."""

    def __init__(self, amplitude: float):
        super().__init__(amplitude)
        self.codes = nn.Parameter(torch.randn(64, 3))

    def forward(self, images: Tensor) -> Tensor:
        nearest = torch.cdist(images.permute(0, 2, 3, 1).flatten(1, 2), self.codes).argmin(-1)
        return super().forward(self.codes[nearest].mT.unflatten(2, (32, 32)))


@pytest.mark.parametrize("model", [Still(0.5), Biased(0.5), Deformable(0.0)])
def test_keys_that_stay_have_their_places(model, images):
    with torch.no_grad(), watch(ready(model), "all") as seen:
        model(images)
    assert [layer.tokens.grid for layer in seen.layers] == [(4, 4), (4, 4)]
    assert all(layer.tokens.patch_tokens == tuple(range(16)) for layer in seen.layers)


def test_a_codebook_is_not_sampled(images):
    model = ready(Codes(0.5))
    with torch.no_grad(), watch(model, "all") as seen:
        model(images)
    try:
        assert seen.layers[0].tokens.grid == (4, 4)
    except UsageError as error:
        assert REASON not in str(error)


def test_what_moves_after_training_is_refused_then(images):
    torch.manual_seed(1)
    model = ready(Deformable(0.2))
    weights = [offset[2].weight for offset in model.offset]
    trained = [one.detach().clone() for one in weights]
    for weight in weights:
        nn.init.zeros_(weight)
    assert explain.attention(model, images).grid == (4, 4)
    with torch.no_grad():
        for weight, value in zip(weights, trained):
            weight.copy_(value)
    with pytest.raises(UsageError, match=REASON):
        explain.attention(model, images)
