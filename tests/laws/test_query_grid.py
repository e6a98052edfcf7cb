"""`explain.query_grid`: each panel is one patch's row of attention."""

import dataclasses

import numpy as np
import pytest
import torch

from tiny import see_attention, tiny_vit
from vitral import explain
from vitral.base.errors import UsageError, WatchError
from vitral.nn.family.pool import MeanPool
from vitral.nn.head import CLSPool


@pytest.mark.parametrize("tokens", [{"cls_token": 1, "reg_token": 2}, {}], ids=["cls and registers", "none"])
@pytest.mark.parametrize(("layer", "head"), [(-1, None), (0, 2)])
def test_a_panel_is_the_patchs_row_in_times_uniform(tokens, layer, head, images):
    model = tiny_vit(tokens=tokens, pool=CLSPool if tokens else MeanPool)
    seen = see_attention(model, images)
    whole = seen.layers[layer].weights().double()
    whole = whole.mean(1) if head is None else whole[:, head]
    grid = explain.query_grid(model, images, queries=[(0, 1), (1, 2)], layer=layer, head=head)
    prefix = model.num_prefix_tokens
    assert grid.values.shape == (2, 2, 2, 3)
    for place, patch in enumerate((1, 5)):
        row = whole[:, prefix + patch, prefix:]
        expected = (6 * row / row.sum(1, keepdim=True)).reshape(2, 2, 3)
        np.testing.assert_allclose(grid.values[:, place], expected, rtol=1e-5)
    assert grid.layer == seen.layers[layer].name
    assert 0 < grid.residual < 1e-5


def test_by_default_the_patches_are_spread_over_the_image(vit, images):
    assert explain.query_grid(vit, images).queries == tuple((row, column) for row in range(2) for column in range(3))
    wide = tiny_vit(img_size=(28, 66))
    queries = explain.query_grid(wide, torch.randn(1, 3, 28, 66)).queries
    assert queries == tuple((row, column) for row in (1, 3, 5) for column in (1, 3, 5, 7, 9))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(layer=3), "no layer 3: the model has 3, 0 to 2"),
        (dict(head=4), "no head 4: the model has 4, 0 to 3"),
        (dict(queries=[(0, 3)]), "no patch at row 0, column 3: .* has rows 0 to 1 and columns 0 to 2"),
    ],
    ids=str,
)
def test_what_the_model_does_not_have_is_refused(vit, images, asked, message):
    with pytest.raises(UsageError, match=message):
        explain.query_grid(vit, images, **asked)


def test_uniform_rows_are_said_to_tell_nothing_apart(vit, images):
    torch.nn.init.zeros_(vit.blocks[0].attn.qkv.weight)
    torch.nn.init.zeros_(vit.blocks[0].attn.qkv.bias)
    flat = explain.query_grid(vit, images, layer=0)
    assert "All maps are constant, so they rank no patch." in flat.caption_of(1)
    assert flat.figure(1).get_label() == flat.caption_of(1)
    other = explain.query_grid(vit, images, layer=1)
    assert other.caption_of(0) == other.caption
    some = dataclasses.replace(other, values=other.values.copy())
    some.values[0, 1] = 1
    assert "Constant maps, which rank no patch: row, column 0, 1." in some.caption_of(0)
    assert some.caption_of(1) == some.caption


def test_a_check_without_any_error_says_so(vit, images):
    exact = dataclasses.replace(explain.query_grid(vit, images), residual=0.0)
    assert exact.caption.endswith("Checked: rows · v reproduces the output of the attention layers exactly.")


def test_layers_and_heads_counted_from_the_end_are_named_as_they_are(vit, images):
    grid = explain.query_grid(vit, images, layer=-1, head=-1)
    assert (grid.layer, grid.head) == ("blocks.2.attn", 3)


def test_a_model_without_attention_is_refused():
    with pytest.raises(WatchError, match="No attention was seen"):
        explain.query_grid(torch.nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8))


def test_it_is_saved_as_a_picture_and_as_numbers(vit, images, tmp_path):
    grid = explain.query_grid(vit, images)
    (picture,) = grid.save(tmp_path / "a.png", image=1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert grid.save(tmp_path / "b.png") == [tmp_path / f"b-image-{image}.png" for image in (0, 1)]
    (numbers,) = grid.save(tmp_path / "a.npz")
    with np.load(numbers) as held:
        np.testing.assert_array_equal(held["values"], grid.values)
        assert "head" not in held.files and held["layer"] == grid.layer
    with pytest.raises(UsageError, match="no image 2: the maps show 2, 0 to 1"):
        grid.figure(2)
    with pytest.raises(UsageError, match=r"saved as .png or .npz"):
        grid.save(tmp_path / "a.gif")
