"""What a ViT knows of places, it knows from its positions alone."""

import copy

import pytest
import torch
from einops import rearrange

from tiny import tiny_vit
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import NoPosition, SinCosStart


def permuted(images, model, order):
    """The images with their patches put in another order."""
    (rows, columns), (height, width) = model.grid, model.patch_embed.patch_size
    patches = rearrange(images, "b c (gy py) (gx px) -> b (gy gx) c py px", py=height, px=width)[:, order]
    return rearrange(patches, "b (gy gx) c py px -> b c (gy py) (gx px)", gy=rows, gx=columns)


def double(**parts):
    model = tiny_vit(**parts).double()
    return model, torch.randn(2, 3, *model.patch_embed.img_size, dtype=torch.float64), torch.tensor([4, 0, 5, 1, 3, 2])


@pytest.mark.parametrize("mixer", [{}, {"mixer": QKNormAttention}, {"pool": MeanPool}])
def test_without_positions_permuting_patches_leaves_the_logits_unchanged(mixer):
    model, images, order = double(position=NoPosition, **mixer)
    assert model(images).std() > 0.01
    torch.testing.assert_close(model(permuted(images, model, order)), model(images), rtol=0, atol=1e-12)


def test_without_positions_permuting_patches_permutes_their_features():
    model, images, order = double(position=NoPosition)
    for after, before in zip(
        model.features(permuted(images, model, order), [0, 1, 2]), model.features(images, [0, 1, 2])
    ):
        torch.testing.assert_close(after.flatten(2), before.flatten(2)[:, :, order], rtol=0, atol=1e-12)


def test_without_positions_there_is_no_position_parameter():
    model, *_ = double(position=NoPosition)
    assert model.pos_embed is None
    assert "pos_embed" not in model.state_dict()


@pytest.mark.parametrize("position", [{}, {"position": SinCosStart}])
def test_with_positions_permuting_patches_changes_the_logits(position):
    model, images, order = double(**position)
    assert (model(permuted(images, model, order)) - model(images)).abs().max() > 1e-3


def test_positions_move_with_their_patches():
    model, images, order = double()
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.pos_embed[:, 1:] = model.pos_embed[:, 1:][:, order]
    torch.testing.assert_close(moved(permuted(images, model, order)), model(images), rtol=0, atol=1e-12)


def test_a_position_for_cls_is_the_same_function_as_none():
    """The lecture adds positions to patches only: the row for CLS can be folded into the class token."""
    model, images, _ = double()
    folded = copy.deepcopy(model)
    with torch.no_grad():
        assert model.pos_embed[:, :1].abs().max() > 0.01
        folded.cls_token += model.pos_embed[:, :1]
        folded.pos_embed[:, :1] = 0
    torch.testing.assert_close(folded(images), model(images), rtol=0, atol=1e-12)


def test_the_table_has_a_row_for_each_token_and_adds_it():
    model, images, _ = double()
    plain, _, _ = double(position=NoPosition)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name != "pos_embed"})
    assert model.pos_embed.shape == (1, 1 + 2 * 3, 16)
    torch.testing.assert_close(model.embed(images), plain.embed(images) + model.pos_embed, rtol=0, atol=1e-12)


def test_sines_and_cosines_start_half_by_column_and_half_by_row():
    rows, columns, width = 3, 5, 12
    table = SinCosStart().table(2, (rows, columns), width)
    assert table.shape == (1, 2 + rows * columns, width)
    assert torch.equal(table[0, :2], torch.zeros(2, width))
    for row in range(rows):
        for column in range(columns):
            expected = []
            for place in (column, row):
                angles = torch.tensor([place / 10_000 ** (i / (width / 4)) for i in range(width // 4)])
                expected += [angles.sin(), angles.cos()]
            torch.testing.assert_close(table[0, 2 + row * columns + column], torch.cat(expected))
