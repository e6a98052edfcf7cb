"""`vitral export`: files that give what the model gives, run by Vitral and without it, and what is refused."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export_effects import exported_folder
from PIL import Image

import vitral as library
from shell import paint
from tiny import redraw, tiny_vit
from vitral.base.calibration import Calibration
from vitral.base.errors import StoreError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.exporting import verify as comparison

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "export-a-model.md").read_text(encoding="utf-8")
SMALL = dict(img_size=(16, 24), num_classes=3)
FAMILIES = {
    "vit": ("vit_nano_patch4_32", SMALL),
    "distilled": (
        "deit_tiny_distilled_patch16_224",
        dict(img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=3),
    ),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        dict(img_size=28, embed_dim=32, depth=2, num_heads=2, num_classes=3),
    ),
    "rotary": ("vit_small_patch16_dinov3", dict(img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=3)),
    "attention pool": (
        "vit_base_patch16_siglip_224",
        dict(img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=3),
    ),
    "swin": ("swin_nano_patch2_window6_48", dict(num_classes=3)),
    "cnn": ("resnet_nano_48", dict(num_classes=3, img_size=(24, 40))),
    "one channel": ("vit_nano_patch4_32", SMALL | dict(in_channels=1)),
}


def recorded(model, task="one class", **record):
    redraw(model, deviation=0.05)
    return attach_record(model, ModelRecord(("cat", "dog", "fish"), model.preprocessing, task, **record))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported_and_answers_alike(family, tmp_path, monkeypatch):
    monkeypatch.setattr("vitral.tasks.export.odd_images", few)  # the whole zoo is tried with one family
    name, settings = FAMILIES[family]
    model = recorded(library.create(name, **settings))
    found = library.export(model, tmp_path / "out")
    assert found.agreement.same == found.agreement.images == 4
    loaded = library.load(tmp_path / "out")
    assert loaded.record.classes == model.record.classes and loaded.record.preprocessing == model.preprocessing
    for batch in (1, 2, 7):
        inputs = torch.randn(batch, model.config["in_channels"], *model.preprocessing.size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(inputs), model(inputs), atol=1e-4, rtol=1e-4)


def few():
    generator = np.random.default_rng(1)
    for height, width in ((17, 33), (64, 16), (3, 50), (200, 90)):
        yield f"{height} x {width}", generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_whole_zoo_through_vitrals_verbs(vitral, trained, tmp_path):
    """The run, and what was exported of it, give the same answers for image files of any kind."""
    trained.copy(tmp_path / "run")
    (tmp_path / "zoo").mkdir()
    for number, (_, pixels) in enumerate(library.tasks.export.odd_images()):
        Image.fromarray(pixels).save(tmp_path / "zoo" / f"{number:02}.png")
    answer = vitral("export", "run", "out", "--images", "zoo").done()
    assert "verified:" in answer.printed and "vitral predict out" in answer.messages
    own, other = (vitral("predict", model, "zoo", "--json").done().json["predictions"] for model in ("run", "out"))
    for one, two in zip(own, other, strict=True):
        assert one["classes"] == pytest.approx(two["classes"], abs=1e-3)
    judged = [vitral("eval", model, "--data", "shapes:n=64,size=16", "--json").done().json for model in ("run", "out")]
    assert judged[0]["accuracy"] == judged[1]["accuracy"]
    vitral("explain", "out", "zoo/00.png", "--method", "occlusion", "--orders", 0).done()
    vitral("explore", "out", "zoo/00.png").refused(2, "Explore the model that it was made of")
    vitral("export", "out", "again").refused(2, "is an exported model already")


def test_the_tasks_and_what_validation_chose_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("vitral.tasks.export.odd_images", few)
    images = torch.rand(3, 3, 8, 18)
    several = recorded(tiny_vit(num_classes=3), "several classes", thresholds=(0.2, 0.5, 0.9))
    library.export(several, tmp_path / "several")
    assert library.load(tmp_path / "several").record.thresholds == (0.2, 0.5, 0.9)
    numbers = recorded(tiny_vit(num_classes=3), "numbers")
    library.export(numbers, tmp_path / "numbers")
    torch.testing.assert_close(
        library.load(tmp_path / "numbers")(images), numbers(images).detach(), atol=1e-4, rtol=1e-4
    )
    calibrated = recorded(tiny_vit(num_classes=3))
    attach_record(calibrated, dataclasses.replace(calibrated.record, calibration=Calibration(n=60, temperature=2.5)))
    library.export(calibrated, tmp_path / "calibrated")
    pixels = [pixels for _, pixels in few()]
    own, other = (library.predict(model, pixels).values for model in (calibrated, tmp_path / "calibrated"))
    np.testing.assert_allclose(own, other, atol=1e-3)
    segmenter = library.create("resnet_nano_48", num_classes=3, decoder="pyramid", img_size=(24, 40))
    library.export(recorded(segmenter, "segmentation"), tmp_path / "masks")
    own, other = (library.predict(model, pixels).masks for model in (segmenter, tmp_path / "masks"))
    assert all((one == two).mean() > 0.99 for one, two in zip(own, other))


def test_files_that_give_something_else_are_not_kept(tmp_path, monkeypatch):
    model = recorded(tiny_vit(num_classes=3))
    monkeypatch.setattr("vitral.tasks.export.odd_images", few)
    monkeypatch.setattr(comparison, "VALUES_APART", -1.0)
    with pytest.raises(StoreError, match=r"do not give what the model gives.*Nothing was written"):
        library.export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_changed_on_disk_is_refused(vitral, trained, tmp_path, monkeypatch):
    folder = exported_folder(trained, tmp_path, monkeypatch)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + b"x")
    vitral("predict", folder, "photo.png").refused(1, "is not the file that", "Export the model again")
    (folder / "model.onnx").unlink()
    vitral("predict", folder, "photo.png").refused(1, "model.onnx is missing")
    card = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(card | {"task": "detection"}))
    vitral("predict", folder, "photo.png").refused(1, "does not describe an exported model: task")


def test_what_cannot_be_exported(vitral, trained, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    vitral("export", trained.folder, "full").refused(1, "exists and is not empty")
    vitral("export", "nowhere", "out").refused(2, "There is no run 'nowhere'")
    two = recorded(
        tiny_vit(num_classes=3, in_channels=2),
    )
    two.preprocessing = Preprocessing((8, 18), mean=(0.5, 0.5), std=(0.5, 0.5))
    attach_record(two, dataclasses.replace(two.record, preprocessing=two.preprocessing))
    with pytest.raises(library.base.errors.ConfigError, match="takes 2 channels"):
        library.export(two, tmp_path / "two")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    vitral("export", trained.folder, "out").refused(2, "pip install 'vitral[export]'")
    assert not (tmp_path / "out").exists()


def test_an_exported_model_has_no_gradients(trained, tmp_path, monkeypatch):
    model = library.load(exported_folder(trained, tmp_path, monkeypatch))
    with pytest.raises(UsageError, match="has no gradients"):
        model(torch.zeros(1, 3, 16, 16, requires_grad=True))


def test_the_lines_of_the_guide_run_without_vitral(trained, tmp_path, monkeypatch):
    """In a process that can import neither Vitral nor PyTorch."""
    folder = exported_folder(trained, tmp_path, monkeypatch)
    paint(tmp_path / "photos", {"dark": 60}, count=1)
    (tmp_path / "photos" / "dark" / "0.png").rename(tmp_path / "photo.jpg")
    (code,) = re.findall(r"```python\n(import json.*?)```", PAGE, re.DOTALL)
    blocked = "import sys\nfor name in ('torch', 'vitral', 'onnx', 'onnxscript'): sys.modules[name] = None\n"
    command = [sys.executable, "-c", blocked + code.replace("exported", str(folder))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.split(maxsplit=1)[0], float(done.stdout.split()[-1])
    best = library.predict(folder, tmp_path / "photo.jpg")[0].best(1)[0]
    assert best[0].split()[0] == name and best[1] == pytest.approx(probability, abs=1e-3)
