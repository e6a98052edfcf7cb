"""Positions for another size of image are those that each library's own code makes, named as that library."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from test_weights_in import CLASSES, HF, hf, hf_answer, hf_model, images_of, reread, timm_vit

from peers import timm, torchvision
from tiny import redraw
from vitral.nn.family.resample import resample_positions
from vitral.store.model import save_model
from vitral.weights.load import load
from vitral.weights.published import load_published

GRIDS = [(7, 7), (3, 3), (4, 9), (5, 4)]


def table_of(grid, prefix=1, width=6):
    return torch.randn(1, prefix + grid[0] * grid[1], width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("new", GRIDS)
@pytest.mark.parametrize("old", [(5, 5), (3, 6)])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_timms(prefix, old, new):
    table = table_of(old, prefix)
    theirs = timm.layers.resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=prefix)
    assert torch.equal(resample_positions(table, old, new, "timm"), theirs)
    theirs = timm.layers.resample_abs_pos_embed(table, list(new), list(old), prefix, interpolation="bilinear")
    assert torch.equal(resample_positions(table, old, new, "flexivit"), theirs)


@pytest.mark.parametrize("side", [3, 7, 12])
def test_torchvisions(side):
    table = table_of((5, 5))
    theirs = torchvision.models.vision_transformer.interpolate_embeddings(
        side * 8, 8, OrderedDict({"encoder.pos_embedding": table})
    )["encoder.pos_embedding"]
    assert torch.equal(resample_positions(table, (5, 5), (side, side), "torchvision"), theirs)


@pytest.mark.parametrize("new", GRIDS)
@pytest.mark.parametrize("name", ["ViT", "DeiT", "DINOv2"])
def test_hugging_faces(name, new):
    kind, config, changes = HF[name]
    model = hf_model(kind, hf(config, **(changes | dict(image_size=40))))
    embeddings = getattr(model, model.base_model_prefix, model).embeddings
    tokens = torch.zeros(1, embeddings.position_embeddings.shape[1] - 25 + new[0] * new[1], 32)
    with torch.no_grad():
        theirs = embeddings.interpolate_pos_encoding(tokens, new[0] * 8, new[1] * 8)
        ours = resample_positions(embeddings.position_embeddings, (5, 5), new, "hugging_face")
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("side", [3, 7, 12])
def test_googles_is_scipys_zoom(side):
    ndimage = pytest.importorskip("scipy.ndimage")
    table = table_of((5, 5))
    grid = table[0, 1:].reshape(5, 5, -1).double().numpy()
    theirs = ndimage.zoom(grid, (side / 5, side / 5, 1), order=1)
    ours = resample_positions(table.double(), (5, 5), (side, side), "google")[0, 1:].reshape(side, side, -1)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


def cubic(x, a=-0.75):
    """Keys 1981, equation 4."""
    x = np.abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def kernel(old, new, factor):
    """Rows: new places; columns: the old ones, edges repeated."""
    matrix = np.zeros((new, old))
    for place in range(new):
        centre = (place + 0.5) / factor - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[place, min(max(tap, 0), old - 1)] += cubic(centre - tap)
    return matrix


@pytest.mark.parametrize("new", GRIDS)
@pytest.mark.parametrize(("how", "extra"), [("dinov2", 0.1), ("hugging_face", 0.0)])
def test_dinov2s_factor_is_a_tenth_of_a_patch_too_large(how, extra, new):
    table, old = table_of((5, 5)).double(), (5, 5)
    rows, columns = (kernel(5, side, (side + extra) / 5) for side in new)
    theirs = np.einsum("ya,xb,abd->yxd", rows, columns, table[0, 1:].reshape(5, 5, -1).numpy())
    ours = resample_positions(table, old, new, how)[0, 1:].reshape(*new, -1)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


# A checkpoint, read for another size, answers as its library does at that size.


@pytest.mark.parametrize("size", [(40, 40), (24, 56)], ids=["square", "not square"])
@pytest.mark.parametrize("name", ["ViT", "DeiT", "DeiT distilled", "DINOv2", "DINOv2 with registers", "SigLIP"])
def test_hugging_faces_at_another_size(name, size, tmp_path):
    kind, config, changes = HF[name]
    peer = hf_model(kind, hf(config, **changes))
    peer.save_pretrained(tmp_path)
    ours = load_published(tmp_path, img_size=size)
    asks = {} if "DINOv2" in name else dict(interpolate_pos_encoding=True)
    with torch.no_grad():
        theirs = hf_answer(peer(images_of(size).float(), **asks))
        torch.testing.assert_close(ours(images_of(size).float()), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 40), (24, 56)], ids=["square", "not square"])
@pytest.mark.parametrize("changes", [{}, dict(reg_tokens=3, no_embed_class=True)], ids=["plain", "registers"])
def test_timms_at_another_size(changes, size, tmp_path):
    peer = timm_vit((32, 32), **changes)
    ours = reread(peer, tmp_path / "model.safetensors", source="timm", num_heads=4, img_size=size)
    peer.set_input_size(size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images_of(size).float()), peer(images_of(size).float()), rtol=1e-5, atol=1e-5)


def test_one_model_for_images_of_every_size(tmp_path):
    """As Hugging Face's, which resamples for each image too; and it is built again from its own file."""
    peer = hf_model("Dinov2ForImageClassification", hf("Dinov2", image_size=32, mlp_ratio=2, num_labels=CLASSES))
    peer.save_pretrained(tmp_path)
    ours = load_published(tmp_path, any_size=True)
    save_model(ours, tmp_path / "own", {})
    for size in ((32, 32), (24, 56), (40, 40)):
        with torch.no_grad():
            expected = hf_answer(peer(images_of(size).float()))
            for model in (ours, load(tmp_path / "own")):
                torch.testing.assert_close(model(images_of(size).float()), expected, rtol=1e-5, atol=1e-5)


def test_torchvisions_at_another_size(tmp_path):
    build = torchvision.models.VisionTransformer
    peer = redraw(build(32, 8, 2, 4, 32, 64, num_classes=CLASSES))
    ours = reread(peer, tmp_path / "vit.pth", num_heads=4, img_size=48)
    larger = build(48, 8, 2, 4, 32, 64, num_classes=CLASSES).eval()
    state = torchvision.models.vision_transformer.interpolate_embeddings(48, 8, OrderedDict(peer.state_dict()))
    larger.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(images_of((48, 48)).float()), larger(images_of((48, 48)).float()))
