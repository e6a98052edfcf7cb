"""Exported models in OpenVINO and in int8: run by Vitral and without it, calibrated on enough images, and refused."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export_effects import some_images
from PIL import Image

import vitral as library
from shell import paint
from tiny import redraw, tiny_vit
from vitral.base.errors import ConfigError, StoreError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import crop_and_resize
from vitral.exporting import quantise as quantising
from vitral.exporting.graphs import Preprocess
from vitral.exporting.to_onnx import ANY, write_graph
from vitral.exporting.to_openvino import read, save
from vitral.store.runtimes.graphs import open_graph
from vitral.store.runtimes.openvino import import_quietly
from vitral.tasks import export as task

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "export-a-model.md").read_text(encoding="utf-8")
CLASSES = ("cat", "dog", "fish")


@pytest.fixture(scope="module")
def in_openvino(trained, tmp_path_factory):
    """What was exported of a trained run, in float32."""
    folder = tmp_path_factory.mktemp("openvino") / "exported"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "odd_images", some_images)
        library.export(trained.folder, folder, to="openvino")
    return folder


def noise(folder, count):
    """Images without classes."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (count, 9, 20, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def recorded(model, **changes):
    return attach_record(model, ModelRecord(CLASSES, Preprocessing((8, 18)), **changes))


def test_vitrals_verbs_run_it(vitral, trained, in_openvino, tmp_path):
    paint(tmp_path / "photos", {"dark": 60, "light": 190}, count=3)
    own, other = (
        vitral("predict", model, "photos", "--json").done().json["predictions"]
        for model in (trained.folder, in_openvino)
    )
    for one, two in zip(own, other, strict=True):
        assert one["classes"] == pytest.approx(two["classes"], abs=1e-3)
    words = ("--data", "shapes:n=64,size=16", "--json")
    judged = [vitral("eval", model, *words).done().json["accuracy"] for model in (trained.folder, in_openvino)]
    assert judged[0] == judged[1]
    vitral("explain", in_openvino, "photos/dark/0.png", "--method", "occlusion", "--orders", 0).done()
    with pytest.raises(UsageError, match=r"takes images of 16 x 16.*found 16 x 24"):
        library.load(in_openvino)(torch.zeros(1, 3, 16, 24))


def test_the_lines_of_the_guide_run_without_vitral(in_openvino, tmp_path):
    """In a process that can import neither Vitral nor PyTorch nor what OpenVINO was converted from."""
    paint(tmp_path / "photos", {"dark": 60}, count=1)
    (tmp_path / "photos" / "dark" / "0.png").rename(tmp_path / "photo.jpg")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "import openvino" in block]
    blocked = ("torch", "vitral", "onnx", "onnxruntime", "nncf", "openvino_telemetry")
    start = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    command = [sys.executable, "-c", start + code.replace("faster", str(in_openvino))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.split(maxsplit=1)[0], float(done.stdout.split()[-1])
    best = library.predict(in_openvino, tmp_path / "photo.jpg")[0].best(1)[0]
    assert best[0].split()[0] == name and best[1] == pytest.approx(probability, abs=1e-3)


def test_files_that_changed_are_refused(vitral, in_openvino, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in in_openvino.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "model.bin").write_bytes((copy / "model.bin").read_bytes()[:-1] + b"x")
    vitral("predict", copy, "photo.png").refused(1, "model.bin is not the file that", "Export the model again")
    (copy / "model.bin").unlink()
    vitral("predict", copy, "photo.png").refused(1, "model.bin is missing")


def test_no_telemetry_and_nothing_in_the_home_folder(tmp_path):
    """Both libraries report their use on import, and write to the home folder, where nothing forbids it."""
    code = (
        "import sys\nfrom vitral.store.runtimes.openvino import import_quietly\n"
        "import_quietly('openvino', 'a test')\nnncf = import_quietly('nncf', 'a test')\n"
        "from nncf.telemetry import telemetry\n"
        "assert 'openvino_telemetry' not in sys.modules\nprint(type(telemetry).__name__)"
    )
    home = {"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(Path(library.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "MagicMock" and not list(tmp_path.iterdir())


def test_a_missing_library_is_named(vitral, trained, in_openvino, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    vitral("export", trained.folder, "out", "--to", "openvino").refused(2, "pip install 'vitral[openvino]'")
    vitral("predict", in_openvino, "photo.png").refused(2, "model.xml needs openvino", "pip install 'vitral[openvino]'")
    monkeypatch.setattr("vitral.store.runtimes.openvino.import_module", broken)
    with pytest.raises(ConfigError, match="is installed, but cannot be imported: libtbb"):
        import_quietly("openvino", "a test")


def broken(name):
    raise ImportError("libtbb.so.12: cannot open shared object file")


def test_what_cannot_calibrate(vitral, trained, tmp_path):
    words = ("export", trained.folder, "out", "--precision", "int8", "--calibrate")
    noise(tmp_path / "few", 63)
    vitral(*words, "few").refused(1, "31 images that calibrate int8 and 32 others", "at least 64 images")
    noise(tmp_path / "wrong" / "lorry", 70)
    vitral(*words, "wrong").refused(1, "has images in lorry; the model has the classes")
    (tmp_path / "empty").mkdir()
    vitral(*words, "empty").refused(2, "There are no images in empty")
    vitral(*words, "nowhere").refused(2, "There is no folder nowhere")
    model = recorded(tiny_vit(num_classes=3))
    with pytest.raises(UsageError, match=r"does not record what it was trained on.*--calibrate DIR"):
        library.export(model, tmp_path / "out", precision="int8")
    near = recorded(tiny_vit(num_classes=3))
    near.preprocessing = Preprocessing((8, 18), interpolation="nearest")
    attach_record(near, ModelRecord(CLASSES, near.preprocessing))
    with pytest.raises(ConfigError, match=r"nearest pixel.*Specify --to onnx"):
        library.export(near, tmp_path / "out", to="openvino")
    with pytest.raises(UsageError, match="--to takes onnx, openvino; found 'tflite'"):
        library.export(model, tmp_path / "out", to="tflite")
    assert not (tmp_path / "out").exists()


def test_int8_that_changes_answers_is_not_kept(tmp_path, monkeypatch):
    """Two classes as likely on most images, of which 8 bits choose the other one now and then."""
    monkeypatch.setattr(task, "odd_images", some_images)
    monkeypatch.setattr(quantising, "SHARES", (0.0,))
    model = recorded(redraw(tiny_vit(num_classes=3), deviation=0.5))
    photos = noise(tmp_path / "photos", 96)
    images = np.stack([crop_and_resize(library.load_image(file), model.preprocessing) for file in photos.iterdir()])
    with torch.no_grad():
        model.head.bias -= torch.from_numpy(np.log(library.predict(model, list(images)).values)).median(0).values
    with pytest.raises(StoreError, match=r"first classes are the same on 48 images.*--min-agreement.*Nothing was"):
        library.export(model, tmp_path / "out", precision="int8", calibrate=photos, min_agreement=1.0)
    assert not (tmp_path / "out").exists()


def test_a_run_is_calibrated_on_its_own_training_images(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "odd_images", some_images)
    calls = []
    monkeypatch.setattr(task, "write_precision", lambda *parts: calls.append(parts[6]) or written(*parts))
    written = task_write
    found = library.export(trained.folder, tmp_path / "out", precision="int8", min_agreement=0.5)
    data = library.data.spec.find_data("shapes:n=64,size=16")
    assert found.quantised.images.source.startswith("the training images of shapes")
    np.testing.assert_array_equal(calls[0], data.train.pixels[: len(calls[0])])
    np.testing.assert_array_equal(found.quantised.images.judging, data.val.pixels[:2000])


task_write = task.write_precision


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_openvino_prepares_images_as_vitral_does(interpolation, tmp_path):
    """In single precision: to two grey levels in the worst noise, and to one in most of it."""
    preprocessing = Preprocessing((24, 20), crop=0.9, interpolation=interpolation)
    image = torch.zeros(1, 48, 64, 3, dtype=torch.uint8)
    graph = Preprocess(preprocessing, task.pillow_version())
    write_graph(graph, image, {1: ANY, 2: ANY}, tmp_path / "preprocess.onnx", ["image"], ["pixels"])
    save(read(tmp_path, "preprocess"), tmp_path, "preprocess")
    session, generator = open_graph(tmp_path, "preprocess", "openvino", "fp32"), np.random.default_rng(0)
    apart = []
    for _ in range(60):
        height, width = generator.integers(1, int(generator.choice([30, 300])), 2)
        pixels = (generator.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
        found = (session.run({"image": pixels[None]})["pixels"][0] / 2 + 0.5) * 255
        apart.append(np.abs(crop_and_resize(pixels, preprocessing).transpose(2, 0, 1) - found).max())
    assert max(apart) < 2.01 and np.mean(np.array(apart) < 1.01) > 0.9
