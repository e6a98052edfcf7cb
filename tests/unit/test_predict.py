"""`predict`: the probability of each class, for images of any size."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitral import predict
from vitral.base.errors import ImageError, UsageError
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.store import classifier as module


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((8, 18), (30, 20), (9, 40))]


def expected(model, pixels):
    with torch.no_grad():
        return model(batch_of(pixels, model.preprocessing)).softmax(1).numpy()


def test_each_image_gets_a_row_of_probabilities(labelled, pixels):
    rows = predict(labelled, pixels)
    assert rows.probabilities.shape == (3, 5) and len(rows) == 3
    np.testing.assert_allclose(np.asarray(rows).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(rows, expected(labelled, pixels), atol=1e-6)


def test_a_path_and_its_pixels_are_answered_alike(labelled, pixels, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(pixels[1]).save(path)
    rows = predict(labelled, [path, pixels[1], str(path)])
    for row in rows.probabilities[1:]:
        np.testing.assert_array_equal(rows.probabilities[0], row)
    assert [one.image for one in rows] == [str(path), "image-1", str(path)]


def test_a_prediction_names_the_classes_of_the_model(labelled, pixels):
    found = predict(labelled, pixels)
    likeliest = found.probabilities.argmax(1)
    assert [one.best(1)[0][0] for one in found] == [labelled.classes[index] for index in likeliest]
    assert found[0].names == found.classes == labelled.classes
    assert found[0].values == tuple(found.probabilities[0].tolist())


def test_a_folder_stands_for_its_images_and_what_cannot_be_read_may_be_left_out(labelled, pixels, tmp_path):
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("hello")
    with pytest.raises(ImageError, match=r"b\.png is not an image"):
        predict(labelled, tmp_path)
    found = predict(labelled, tmp_path, on_bad_image="skip")
    assert [one.image for one in found] == [str(tmp_path / "a.png")] and "1 of 2 images" in found.notes[0]


def test_a_model_without_classes_is_refused(vit, pixels):
    with pytest.raises(UsageError, match="VisionTransformer has no record of its classes"):
        predict(vit, pixels)
    with pytest.raises(UsageError, match="VisionTransformer has no classes to predict"):
        predict(attach_record(vit, ModelRecord((), vit.preprocessing)), pixels)


@pytest.mark.parametrize("one", ["pixels", "path", "text"])
def test_a_single_image_needs_no_list(labelled, pixels, tmp_path, one):
    path = tmp_path / "image.png"
    Image.fromarray(pixels[1]).save(path)
    image = {"pixels": pixels[1], "path": path, "text": str(path)}[one]
    np.testing.assert_allclose(predict(labelled, image), expected(labelled, pixels[1:2]), atol=1e-6)


def test_more_images_than_fit_at_once_keep_their_order(labelled, pixels, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    np.testing.assert_allclose(predict(labelled, pixels), expected(labelled, pixels), atol=1e-6)


def test_the_models_mode_is_left_as_it_was(labelled, pixels):
    labelled.train()
    labelled.blocks[0].eval()
    predict(labelled, pixels)
    with pytest.raises(ImageError):
        predict(labelled, ["missing.png"])
    assert labelled.training
    assert not labelled.blocks[0].mlp.training
    assert labelled.blocks[1].mlp.training


def test_no_images_and_no_image_are_refused(labelled, tmp_path):
    with pytest.raises(UsageError, match="No images"):
        predict(labelled, [])
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png is not an image"):
        predict(labelled, [tmp_path / "text.png"])
