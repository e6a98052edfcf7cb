"""A patch embedding cuts an image into patches, row by row, and maps each by the same linear map."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tiny import redraw
from vitral import PatchEmbedding

small = st.integers(1, 4)


@given(grid=st.tuples(small, small), patch=st.tuples(small, small), channels=small, width=small, batch=small)
def test_patch_embedding_is_unfold_and_a_linear_map(grid, patch, channels, width, batch):
    size = grid[0] * patch[0], grid[1] * patch[1]
    embed = redraw(PatchEmbedding(size, patch, channels, width).double(), deviation=1.0)
    images = torch.randn(batch, channels, *size, dtype=torch.float64)
    patches = F.unfold(images, kernel_size=patch, stride=patch).transpose(1, 2)
    expected = F.linear(patches, embed.proj.weight.flatten(1), embed.proj.bias)
    assert embed.grid == grid
    assert expected.shape == (batch, grid[0] * grid[1], width)
    torch.testing.assert_close(embed(images), expected, rtol=0, atol=1e-12)


@given(grid=st.tuples(small, small), patch=st.tuples(small, small))
def test_patches_are_read_row_by_row(grid, patch):
    embed = PatchEmbedding((grid[0] * patch[0], grid[1] * patch[1]), patch, 1, 1)
    with torch.no_grad():
        embed.proj.weight.fill_(1 / (patch[0] * patch[1]))
        embed.proj.bias.zero_()
    image = torch.empty(grid[0] * patch[0], grid[1] * patch[1])
    for row in range(grid[0]):
        for column in range(grid[1]):
            inside = slice(row * patch[0], (row + 1) * patch[0]), slice(column * patch[1], (column + 1) * patch[1])
            image[inside] = row * grid[1] + column
    tokens = embed(image[None, None])[0, :, 0]
    torch.testing.assert_close(tokens, torch.arange(grid[0] * grid[1], dtype=torch.float32))


def test_a_patch_reaches_its_own_token_and_no_other():
    embed = redraw(PatchEmbedding((8, 12), (4, 3), 2, 5))
    images = torch.randn(1, 2, 8, 12)
    changed = images.clone()
    changed[:, :, 4:, 3:6] += 1  # row 1, column 1 of a grid of 2 x 4
    differs = (embed(changed) - embed(images)).abs().amax(-1)[0] > 1e-6
    assert differs.nonzero().flatten().tolist() == [1 * 4 + 1]


def test_the_lectures_image_becomes_196_tokens_of_768_numbers():
    embed = PatchEmbedding()
    assert embed(torch.randn(2, 3, 224, 224)).shape == (2, 196, 768)
    assert embed.grid == (14, 14)
    assert (embed.proj.kernel_size, embed.proj.stride, embed.proj.padding) == ((16, 16), (16, 16), (0, 0))


@pytest.mark.parametrize("size", [32, (32, 32)])
def test_one_number_stands_for_height_and_width(size):
    assert PatchEmbedding(size, 8, 3, 4).grid == PatchEmbedding(32, (8, 8), 3, 4).grid == (4, 4)
