"""A map that modules return is drawn where the image has it, or not at all: mirrored, turned, shifted, cropped."""

import math

import pytest
import torch
from torch import nn

import vitral
from tiny import tiny_vit
from vitral.base.errors import WatchError
from vitral.explain.feature_maps import width_axes
from vitral.recording.probes import order_masks

HEIGHT, WIDTH = 64, 96
INSIDE = {
    "mirrored": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "turned by half": lambda x: x.flip((-1, -2)),
    "turned by a quarter": lambda x: x.rot90(1, (-2, -1)),
    "transposed": lambda x: x.mT,
    "shifted by half": lambda x: x.roll((HEIGHT // 2, WIDTH // 2), (-2, -1)),
    "shifted by a quarter": lambda x: x.roll(WIDTH // 4, -1),
    "centre cropped": lambda x: x[..., 16:-16, 16:-16],
    "upper half": lambda x: x[..., : HEIGHT // 2, :],
    "right part": lambda x: x[..., 24:],
    "lower right": lambda x: x[..., 16:, 16:],
    "in stripes": lambda x: torch.cat([x[..., ::2], x[..., 1::2]], -1),
}


class Convolutions(nn.Module):
    """Convolutions, each with half of the places of the one before, after a change of the image."""

    def __init__(self, change, depth):
        super().__init__()
        self.change = change
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(3 if not i else 8, 8, 3, 2, 1), nn.ReLU()) for i in range(depth))
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layers(self.change(x)).mean((-2, -1)))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("change", INSIDE)
def test_a_map_in_another_order_is_none(change, depth):
    model, images = Convolutions(INSIDE[change], depth).eval(), torch.randn(1, 3, HEIGHT, WIDTH)
    assert width_axes(model, images) == {}
    with pytest.raises(WatchError, match=r"no module returns a feature map .* whose places are those of the image"):
        vitral.explain.grad_cam(model, images)


@pytest.mark.parametrize("depth", [2, 3])
def test_maps_in_the_order_of_the_image_are_found(depth):
    model, images = Convolutions(lambda x: x, depth).eval(), torch.randn(1, 3, HEIGHT, WIDTH)
    found = width_axes(model, images)
    assert {name for name, _ in found} >= {f"layers.{number}.0" for number in range(depth)}
    assert not any(found.values())


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (70, 100), (65, 33)])
def test_pixels_left_over_by_strides_are_no_crop(size):
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 2, 2), nn.Flatten(2)).eval()
    assert len(width_axes(model, torch.randn(1, 3, *size))) == 2


def test_a_planted_patch_is_where_the_map_is_largest():
    torch.manual_seed(1)
    model = Convolutions(lambda x: x, 2).eval()
    images = torch.zeros(1, 3, HEIGHT, WIDTH)
    images[..., 16:24, 32:40] = 5 * torch.randn(3, 8, 8)
    found = next(
        maps for target in range(3) if (maps := vitral.explain.grad_cam(model, images, target)).values.max() > 0
    )
    row, column = found.peak(0)[2:]
    rows, columns = found.values.shape[-2:]
    assert 12 <= row * HEIGHT / rows < 28 and 28 <= column * WIDTH / columns < 44


@pytest.mark.parametrize("grid", [(1, 9), (9, 1), (1, 40), (1, 300), (3, 5), (4, 4), (20, 1)])
def test_masks_tell_orders_apart_on_any_grid(grid):
    masks = order_masks(grid)
    assert masks.shape[1:] == grid
    for axis in (axis for axis in (1, 2) if masks.shape[axis] > 1):
        assert not torch.equal(masks, masks.flip(axis))


@pytest.mark.parametrize("strip", ["columns", "rows"])
@pytest.mark.parametrize("count", [9, 12])
def test_one_row_or_column_of_patches_is_watched(strip, count):
    patch = (16, 4) if strip == "columns" else (4, 16)
    size = (16, 4 * count) if strip == "columns" else (4 * count, 16)
    model = tiny_vit(img_size=size, patch_size=patch)
    images = torch.randn(2, 3, *size)
    with torch.no_grad(), vitral.watch(model, rows="all") as seen:
        model(images)
    assert seen.layers[0].tokens.grid == ((1, count) if strip == "columns" else (count, 1))


class Dates(nn.Module):
    """Two dates in the channels, whose tokens meet in the class token only, which is the mean of both."""

    def __init__(self, dates=2, depth=2, width=16):
        super().__init__()
        self.dates = dates
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 13, width))
        self.blocks = nn.ModuleList(nn.MultiheadAttention(width, 2, batch_first=True) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        images = x.unflatten(1, (self.dates, 3)).flatten(0, 1)
        x = self.patches(images).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
            shared = x[:, :1].unflatten(0, (-1, self.dates)).mean(1).repeat_interleave(self.dates, 0)
            x = torch.cat([shared, x[:, 1:]], 1)
        return self.head(x[:: self.dates, 0])


@pytest.mark.parametrize("dates", [2, 3])
def test_dates_that_share_a_class_token_are_views_and_not_heads(dates):
    model, images = Dates(dates).eval(), torch.randn(1, 3 * dates, 24, 32)
    with pytest.raises(vitral.base.errors.UsageError, match="several groups of tokens per image"):
        vitral.explain.rollout(model, images)


class OnAnotherGrid(nn.Module):
    """Tiles of the image as tokens, repeated to fill a square, which convolutions take for a map (Shao et al. 2021,
    "TransMIL", §3.3), between two layers of attention."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, width), nn.ReLU())
        self.maps = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, 2, batch_first=True) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def attend(self, x, number):
        y = self.norm(x)
        return x + self.attention[number](y, y, y)[0]

    def forward(self, images):
        x = self.embed(nn.functional.unfold(images, 8, stride=8).mT)
        side = math.ceil(math.sqrt(x.shape[1]))
        x = torch.cat([x, x[:, : side * side - x.shape[1]]], 1)
        x = self.attend(x, 0).mT.unflatten(2, (side, side))
        x = x + sum(each(x) for each in self.maps)
        return self.head(self.attend(x.flatten(2).mT, 1).mean(1))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(32, 48), (48, 40), (40, 56)])
def test_a_map_of_tokens_on_another_grid_is_none(size, seed):
    torch.manual_seed(seed)
    assert width_axes(OnAnotherGrid().eval(), torch.randn(1, 3, *size)) == {}


@pytest.mark.parametrize("side", [32, 48])
def test_a_map_of_tokens_on_the_grid_of_the_image_is_found(side):
    torch.manual_seed(0)
    found = width_axes(OnAnotherGrid().eval(), torch.randn(1, 3, side, side))
    assert found == {(f"maps.{number}", 1): False for number in range(3)}
