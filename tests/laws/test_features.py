"""`features` gives what the patches hold after a block, each at its place in the image."""

import pytest
import torch

from tiny import redraw, tiny_vit
from vitral.explain.observation import observe
from vitral.nn.zoo import create


def by_hooks(model, images):
    """The output of every block, taken by a hook while the whole model runs, laid out patch by patch."""
    taken = []
    hooks = [block.register_forward_hook(lambda _, __, out: taken.append(out)) for block in model.blocks]
    model(images)
    for hook in hooks:
        hook.remove()
    rows, columns = model.grid
    maps = []
    for tokens in taken:
        maps.append(torch.empty(len(images), tokens.shape[-1], rows, columns, dtype=tokens.dtype))
        for row in range(rows):
            for column in range(columns):
                maps[-1][:, :, row, column] = tokens[:, model.num_prefix_tokens + row * columns + column]
    return maps


@pytest.mark.parametrize("tokens", [{"cls_token": 1}, {"cls_token": 1, "reg_token": 2}])
def test_features_are_the_blocks_outputs_at_their_places(tokens, images):
    model = tiny_vit(tokens=tokens)
    expected = by_hooks(model, images)
    assert model.grid == (2, 3)
    for got, wanted in zip(model.features(images, [0, 1, 2]), expected, strict=True):
        assert got.shape == (2, 16, 2, 3)
        assert torch.equal(got, wanted)


def test_layers_come_in_the_order_asked_and_count_from_the_end_too(vit, images):
    expected = by_hooks(vit, images)
    for got, index in zip(vit.features(images, (-1, 0, 1, 0)), (2, 0, 1, 0), strict=True):
        assert torch.equal(got, expected[index])


def test_no_layers_give_no_features(vit, images):
    assert vit.features(images, []) == []


def test_features_pass_gradients_to_the_image(vit, images):
    images.requires_grad_()
    vit.features(images, [-1])[0][0, :, 1, 2].sum().backward()
    assert images.grad[0].abs().max() > 1e-6
    assert images.grad[1].abs().max() == 0


def test_maps_of_a_convolutional_model_are_those_with_their_width_first():
    """Its linear maps after a convolution give the width last: read as a map, a row would be a channel."""
    model = redraw(create("iso_dwconv3_nano_patch8_48", num_classes=3)).eval()
    maps = observe(model, torch.randn(1, 3, 48, 48), ["feature maps"]).feature_maps
    assert {tuple(features.tensor.shape[1:]) for features in maps} == {(64, 6, 6)}
    assert {features.grid for features in maps} == {(6, 6)}
