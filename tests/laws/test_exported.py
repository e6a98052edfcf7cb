"""`torch.export` takes every family, with any number of images, and a ViT of any size with images of any size."""

import pytest
import torch
from torch.export import Dim, export

from tiny import redraw
from vitral import create
from vitral.nn.high_resolution.any_size import AnySizeViT

NAMES = ("vit_nano_patch8_48", "swin_nano_patch2_window6_48", "resnet_nano_48")
NAMES += ("iso_dwconv3_nano_patch8_48", "iso_window3_nano_patch8_48")


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_images(name):
    model = redraw(create(name, num_classes=3))
    exported = export(model, (torch.randn(2, 3, 48, 48),), dynamic_shapes=({0: Dim("batch", min=2, max=64)},)).module()
    for count in (2, 5):
        images = torch.randn(count, 3, 48, 48)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images))


def test_images_of_any_size():
    model = redraw(AnySizeViT(48, 8, num_classes=3, embed_dim=16, depth=2, num_heads=2))
    sides = {2: 8 * Dim("rows", min=2, max=64), 3: 8 * Dim("columns", min=2, max=64)}
    exported = export(model, (torch.randn(2, 3, 48, 64),), dynamic_shapes=(sides,)).module()
    for size in ((48, 48), (48, 64), (96, 32)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_compiles_to_one_graph(name):
    torch.compiler.reset()
    model = redraw(create(name, num_classes=3))
    images = torch.randn(2, 3, 48, 48)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))
    torch.compiler.reset()
