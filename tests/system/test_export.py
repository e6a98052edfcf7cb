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
from vitral.base.errors import ConfigError, StoreError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.exporting import verify as comparison
from vitral.exporting import verify_maps
from vitral.exporting.quantise import quantise
from vitral.exporting.to_openvino import convert
from vitral.exporting.weighted_layers import weighted_layers
from vitral.store.runtimes.graphs import open_graph

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "export-a-model.md").read_text(encoding="utf-8")
NEW_IN_CARDS = ("precision", "settings", "needs", "quantisation")
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
    "mean of patches": (
        "simplevit_tiny_patch16_224",
        dict(img_size=(32, 48), embed_dim=32, depth=2, num_heads=2, num_classes=3),
    ),
    "swin": ("swin_nano_patch2_window6_48", dict(num_classes=3, img_size=(40, 52))),  # whose windows are padded
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
    found = library.export(model, tmp_path / "out", maps=family != "cnn")
    assert found.agreement.same == found.agreement.images == 4
    loaded = library.load(tmp_path / "out")
    assert loaded.record.classes == model.record.classes and loaded.record.preprocessing == model.preprocessing
    for batch in (1, 2, 7):
        inputs = torch.randn(batch, model.config["in_channels"], *model.preprocessing.size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(inputs), model(inputs), atol=1e-4, rtol=1e-4)
        if family != "cnn":
            own, given = (library.explain.attention(one, inputs) for one in (model, loaded))
            np.testing.assert_allclose(given.values, own.values, atol=1e-4)
            assert given.explained == own.explained and given.layers == own.layers and given.residual < 1e-5
    in_other_formats(tmp_path / "out", tmp_path, inputs.numpy(), model(inputs).detach().numpy())


def in_other_formats(onnx, folder, inputs, expected):
    """What OpenVINO makes of the graphs, and both quantisers."""
    (folder / "openvino").mkdir()
    convert(onnx, folder / "openvino")
    assert relative_error(folder / "openvino", "openvino", "fp32", inputs, expected) < 1e-4
    assert 0 < relative_error(folder / "openvino", "openvino", "bf16", inputs, expected) < 0.1
    layers = weighted_layers(onnx / "model.onnx", inputs)
    for runtime in ("onnx", "openvino"):
        (folder / f"int8-{runtime}").mkdir()
        kept = quantise(onnx, folder / f"int8-{runtime}", runtime, inputs, layers, lambda: True)
        assert layers[0] in kept and layers[-1] in kept and len(kept) < len(layers)
        assert 1e-4 < relative_error(folder / f"int8-{runtime}", runtime, "int8", inputs, expected) < 0.1


def relative_error(folder, runtime, precision, inputs, expected):
    found = open_graph(folder, "model", runtime, precision).run({"pixels": inputs})["logits"]
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def few():
    """Images instead of the whole zoo."""
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
    vitral("explore", "out", "zoo/00.png").refused(2, "Explore the model that it was exported from")
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
    nothing = dataclasses.replace(comparison.TOLERANCES["fp32"], values=-1.0)
    monkeypatch.setitem(comparison.TOLERANCES, "fp32", nothing)
    with pytest.raises(StoreError, match=r"do not give the model's answers.*Nothing was written"):
        library.export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_changed_on_disk_is_refused(vitral, trained, tmp_path, monkeypatch):
    folder = exported_folder(trained, tmp_path, monkeypatch)
    card = json.loads((folder / "artifact.json").read_text())
    before = {key: value for key, value in card.items() if key not in NEW_IN_CARDS}
    assert len(before) == len(card) - len(NEW_IN_CARDS)
    (folder / "artifact.json").write_text(json.dumps(before))
    assert library.load(folder).record.classes  # written by an earlier version
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


def test_models_without_rows_are_exported_without_maps_only(vitral, tmp_path):
    cnn = recorded(library.create("resnet_nano_48", num_classes=3, img_size=(24, 40)))
    written_out = recorded(tiny_vit(num_classes=3))
    for block in written_out.blocks:
        block.attn.attend = lambda q, k, v: ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    masks = library.create("vit_nano_patch4_32", num_classes=3, decoder="linear")
    for model, why in (
        (cnn, "No attention was seen.*Without --maps the model is exported"),
        (written_out, "0 of its 3 layers attend by F.scaled_dot_product_attention.*Without --maps"),
        (recorded(masks, "segmentation"), "other tokens for each pixel.*Without --maps"),
    ):
        with pytest.raises(ConfigError, match=why):
            library.export(model, tmp_path / "out", maps=True)
    assert not (tmp_path / "out").exists()


def test_rows_that_differ_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("vitral.tasks.export.odd_images", few)
    monkeypatch.setitem(verify_maps.RESIDUAL_MOST, "fp32", -1.0)
    with pytest.raises(StoreError, match=r"do not give the model's rows of attention.*Nothing was written"):
        library.export(recorded(tiny_vit(num_classes=3)), tmp_path / "out", maps=True)
    assert not (tmp_path / "out").exists()


def test_an_exported_model_has_no_gradients(trained, tmp_path, monkeypatch):
    model = library.load(exported_folder(trained, tmp_path, monkeypatch))
    with pytest.raises(UsageError, match="has no gradients"):
        model(torch.zeros(1, 3, 16, 16, requires_grad=True))


def test_the_lines_of_the_guide_run_without_vitral(trained, tmp_path, monkeypatch):
    """In a process that can import neither Vitral nor PyTorch."""
    folder = exported_folder(trained, tmp_path, monkeypatch, maps=True)
    paint(tmp_path / "photos", {"dark": 60}, count=1)
    (tmp_path / "photos" / "dark" / "0.png").rename(tmp_path / "photo.jpg")
    answer, heat = (part for part in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "openvino" not in part)
    blocked = "import sys\nfor name in ('torch', 'vitral', 'onnx', 'onnxscript'): sys.modules[name] = None\n"
    command = [sys.executable, "-c", blocked + (answer + heat).replace("exported", str(folder))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    name, probability = first.split()
    probability = float(probability)
    best = library.predict(folder, tmp_path / "photo.jpg")[0].best(1)[0]
    assert best[0].split()[0] == name and best[1] == pytest.approx(probability, abs=1e-3)
    shown = library.explain.attention(library.load(folder), prepared(folder, tmp_path / "photo.jpg"))
    row, column = divmod(int(shown.merged[0].argmax()), shown.grid[1])
    assert second.startswith(f"CLS attends most to row {row}, column {column}; residual ")
    assert float(second.split()[-1]) < 1e-5
    drawn, photo = (library.load_image(tmp_path / name) for name in ("heat.png", "photo.jpg"))
    assert drawn.shape == photo.shape and drawn.max() > 0 and drawn.mean() < photo.mean()


def prepared(folder, file):
    return batch_of([library.load_image(file)], library.load(folder).preprocessing)
