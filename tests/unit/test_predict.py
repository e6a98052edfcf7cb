"""`predict`: class probabilities for images of any size."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitral import predict
from vitral.base.errors import ImageError, UsageError
from vitral.data.preprocess import preprocess
from vitral.store import predict as module


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((8, 18), (30, 20), (9, 40))]


def expected(model, pixels):
    with torch.no_grad():
        return model(preprocess(pixels, model.preprocessing)).softmax(1).numpy()


def test_each_image_gets_a_row_of_probabilities(wrapped, pixels):
    rows = predict(wrapped, pixels)
    assert rows.shape == (3, 5)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(rows, expected(wrapped, pixels), atol=1e-6)


def test_a_path_and_its_pixels_are_answered_alike(wrapped, pixels, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(pixels[1]).save(path)
    rows = predict(wrapped, [path, pixels[1], str(path)])
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


@pytest.mark.parametrize("one", ["pixels", "path", "text"])
def test_a_single_image_needs_no_list(wrapped, pixels, tmp_path, one):
    path = tmp_path / "image.png"
    Image.fromarray(pixels[1]).save(path)
    image = {"pixels": pixels[1], "path": path, "text": str(path)}[one]
    np.testing.assert_allclose(predict(wrapped, image), expected(wrapped, pixels[1:2]), atol=1e-6)


def test_more_images_than_fit_at_once_keep_their_order(wrapped, pixels, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    np.testing.assert_allclose(predict(wrapped, pixels), expected(wrapped, pixels), atol=1e-6)


def test_the_models_mode_is_left_as_it_was(wrapped, pixels):
    wrapped.train()
    wrapped.blocks[0].eval()
    predict(wrapped, pixels)
    with pytest.raises(ImageError):
        predict(wrapped, ["missing.png"])
    assert wrapped.training
    assert not wrapped.blocks[0].mlp.training
    assert wrapped.blocks[1].mlp.training


def test_no_images_and_no_image_are_refused(wrapped, tmp_path):
    with pytest.raises(UsageError, match="no images"):
        predict(wrapped, [])
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png is not an image"):
        predict(wrapped, [tmp_path / "text.png"])
