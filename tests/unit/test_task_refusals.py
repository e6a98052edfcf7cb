"""What the verbs' functions refuse, and what they take besides, when they are called from Python."""

import numpy as np
import pytest
import torch
from PIL import Image

import vitral
from vitral.base.answer import answer_for
from vitral.base.errors import UnknownName, UsageError
from vitral.base.prediction import Prediction


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    return vitral.train(data="shapes:n=16,size=16", epochs=1.0, batch_size=8, out=out).run


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((2, 20, 20, 3), np.uint8), r"\(2, 20, 20, 3\) of uint8"),
        (np.zeros((20, 20), np.uint8), r"\(20, 20\) of uint8"),
        (np.zeros((20, 20, 3)), r"\(20, 20, 3\) of float64"),
        (torch.zeros(3, 16, 16), "type Tensor"),
        (Image.new("RGB", (20, 20)), "type Image"),
        (b"bytes", "type bytes"),
        (3, "type int"),
    ],
    ids=["batch", "grey", "float", "tensor", "PIL", "bytes", "number"],
)
@pytest.mark.parametrize("several", [False, True], ids=["alone", "in a list"])
def test_what_is_not_an_image_is_refused(run, image, found, several):
    with pytest.raises(UsageError, match=f"path or an array .* uint8.*{found}"):
        vitral.predict(run, [image] if several else image)


def test_images_from_a_generator(run, picture):
    assert len(vitral.predict(run, (path for path in [picture, picture]))) == 2


def test_a_bad_image_is_skipped_only_if_that_is_what_was_asked(run, picture, tmp_path):
    (tmp_path / "bad.png").write_text("no")
    (tmp_path / "photos" / "light").mkdir(parents=True)
    for images in ([picture, tmp_path / "bad.png"], [picture]):
        with pytest.raises(UsageError, match=r"on_bad_image='skp' .* fail, skip"):
            vitral.predict(run, images, on_bad_image="skp")
    with pytest.raises(UsageError, match=r"on_bad_image='skp' .* fail, skip"):
        vitral.evaluate(run, str(tmp_path / "photos"), on_bad_image="skp")


def test_one_method_may_be_named_alone(run, picture, tmp_path):
    result = vitral.explain_images(run, picture, "occlusion", out=tmp_path / "explained")
    assert [each.maps.method for each in result.images[0].maps] == ["occlusion"]


@pytest.mark.parametrize("spec", [None, 3, True, b"x", [], {}, torch.nn.Identity()], ids=str)
def test_what_cannot_name_a_model_is_refused(picture, spec):
    words = (
        r"A model is specified by a string or a path, not by .*Specify a run folder, a file, hf:OWNER/NAME, timm:NAME"
    )
    for use in (vitral.load, vitral.create):
        with pytest.raises(UsageError, match=words):
            use(spec)
    with pytest.raises(UsageError, match=f"({words}|Identity has no record of its classes)"):
        vitral.predict(spec, picture)


@pytest.mark.parametrize("spec", ["", " ", "\n"], ids=repr)
def test_an_empty_text_names_no_model(picture, spec):
    for use in (vitral.load, vitral.create, lambda given: vitral.predict(given, picture)):
        with pytest.raises(UsageError, match=r"does not name a model. Specify a run folder"):
            use(spec)


def test_a_name_that_is_too_long_for_a_file_is_the_name_of_no_model():
    for use in (vitral.load, vitral.create):
        with pytest.raises(UnknownName, match=r"There is no model 'xxxx.*File name too long"):
            use("x" * 5000)


def test_the_current_folder_names_the_run_in_it(run, monkeypatch):
    monkeypatch.chdir(run)
    assert vitral.load(".").classes == vitral.load(run).classes


def test_a_task_that_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(UnknownName, match="There is no task 'detection'"):
        answer_for("detection")
    with pytest.raises(UnknownName, match="Available: numbers, one_class, segmentation, several_classes"):
        Prediction("a.png", ("a",), (1.0,), "detection")
