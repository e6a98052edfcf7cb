"""What the outputs mean, as transformers means it: its sigmoid and its numbers, read, written and read again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from peers import transformers
from tiny import redraw
from vitral.base.answer import answer_of
from vitral.base.errors import ConfigError, StoreError
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.head import DistilledHead, WideHead
from vitral.nn.family.pool import CLSAndMeanPool, FirstTwo
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.head import MLPHead
from vitral.nn.vit import VisionTransformer
from vitral.store.model import load_model, save_model
from vitral.store.numbers_head import numbers_head_of, with_numbers_head
from vitral.tasks.predict import predict
from vitral.weights.convert import write
from vitral.weights.load import load

NAMES = {0: "cat", 1: "dog", 2: "frog"}
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32)
OURS = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2.0, num_classes=2)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(file)
    return files


@pytest.fixture
def saved(tmp_path):
    """Save a transformers model of a task: its folder, and its logits for images."""

    def save(kind="ViT", names=NAMES, **config):
        torch.manual_seed(0)
        label2id = {name: index for index, name in names.items()}
        own = SIZES | {"patch_size": 8, "id2label": names, "label2id": label2id} | config
        own = {key: value for key, value in own.items() if kind == "ViT" or key != "intermediate_size"}
        model = getattr(transformers, f"{kind}ForImageClassification")(getattr(transformers, f"{kind}Config")(**own))
        redraw(model.eval())
        folder = tmp_path / "saved"
        model.save_pretrained(folder)
        processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
        processor.save_pretrained(folder)

        @torch.no_grad()
        def logits(files):
            return model(**processor([Image.open(file) for file in files], return_tensors="pt")).logits.double().numpy()

        return folder, logits

    return save


@pytest.mark.parametrize("kind", ["ViT", "Dinov2"])
@pytest.mark.parametrize(
    ("problem_type", "task"),
    [
        ("multi_label_classification", "several classes"),
        ("single_label_classification", "one class"),
        ("regression", "numbers"),
        (None, "one class"),
    ],
)
def test_predictions_are_what_transformers_means_by_its_outputs(saved, images, kind, problem_type, task):
    folder, logits = saved(kind, problem_type=problem_type)
    found, theirs = predict(folder, images), logits(images)
    right = {
        "several classes": 1 / (1 + np.exp(-theirs)),
        "one class": np.exp(theirs) / np.exp(theirs).sum(1, keepdims=True),
        "numbers": theirs,
    }[task]
    assert found.task == task and found.classes == ("cat", "dog", "frog")
    np.testing.assert_allclose(found.values, right, rtol=1e-4, atol=1e-5)


def test_one_output_without_a_problem_type_is_a_number_and_that_is_said(saved, images):
    folder, logits = saved(names={0: "LABEL_0"})
    found = predict(folder, images)
    assert found.task == "numbers" and found.classes == ("number 0",)
    assert any("transformers takes one output as regression" in note for note in found.notes)
    np.testing.assert_allclose(found.values, logits(images), rtol=1e-4, atol=1e-5)
    model = load(folder, task="several_classes")
    assert model.record.task == "several classes" and not any("regression" in note for note in model.record.notes)


def test_a_task_that_is_specified_wins_and_both_are_said(saved):
    folder, _ = saved(problem_type="regression")
    model = load(f"{folder},task=several_classes")
    assert model.record.task == "several classes"
    assert any("'several classes', as specified" in note and "'regression'" in note for note in model.record.notes)
    with pytest.raises(ConfigError, match="task=multi is not a task"):
        load(f"{folder},task=multi")


def test_a_problem_type_that_transformers_does_not_have_is_refused(saved):
    folder, _ = saved()
    config = json.loads((folder / "config.json").read_text()) | {"problem_type": "ranking"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(StoreError, match="problem_type='ranking'; supported: single_label_classification, multi"):
        load(folder)


def of_task(task, parts, kind=VisionTransformer):
    """One of our models for a task; numbers are far from 0 and of different sizes."""
    torch.manual_seed(0)
    sizes = OURS if kind is VisionTransformer else dict(img_size=32, num_classes=2, embed_dim=12, depths=(1, 1))
    if kind is SwinTransformer:
        sizes |= dict(num_heads=(2, 2), window_size=4)
    model = redraw(kind(**(sizes | parts)))
    if task == "numbers":
        targets = np.random.default_rng(0).normal(size=(50, 2)) * [300, 0.02] + [5000, -1]
        with_numbers_head(model, targets, keeps_numbers=False)
    thresholds = (0.5, 0.25) if task == "several classes" else None
    return attach_record(model.eval(), ModelRecord(("a", "b"), model.preprocessing, task, thresholds))


@torch.no_grad()
def values(model):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    output = model(images)
    return answer_of(model).values(getattr(output, "logits", output)) if hasattr(model, "record") else output.logits


@pytest.mark.parametrize("task", ["several classes", "numbers", "one class"])
@pytest.mark.parametrize("format", ["hf", "timm"])
def test_the_task_is_written_and_read_again(tmp_path, task, format):
    model = of_task(task, {})
    _, notes = write(model, tmp_path / "out", format)
    again = load(tmp_path / "out")
    assert again.record.task == task and again.classes == ("a", "b")
    torch.testing.assert_close(values(again), values(model), rtol=1e-5, atol=1e-6)
    assert any("thresholds" in note for note in notes) == (task == "several classes")


@pytest.mark.parametrize(
    ("kind", "parts", "peer"),
    [
        (VisionTransformer, {}, "ViTForImageClassification"),
        (
            VisionTransformer,
            dict(block=ScaledBlock, pool=CLSAndMeanPool, head=WideHead),
            "Dinov2ForImageClassification",
        ),
        (
            VisionTransformer,
            dict(tokens={"cls_token": 1, "dist_token": 1}, pool=FirstTwo, head=DistilledHead),
            "DeiTForImageClassificationWithTeacher",
        ),
        (SwinTransformer, {}, "SwinForImageClassification"),
    ],
)
def test_transformers_reads_numbers_in_their_unit(tmp_path, kind, parts, peer):
    model = of_task("numbers", parts, kind)
    write(model, tmp_path / "out", "hf")
    theirs = getattr(transformers, peer).from_pretrained(tmp_path / "out").eval()
    assert theirs.config.problem_type == "regression"
    assert model.head.head is not None and numbers_head_of(load(tmp_path / "out")) is None
    torch.testing.assert_close(values(theirs), values(model), rtol=1e-4, atol=1e-4)


def test_a_format_that_cannot_state_the_task_says_so(tmp_path):
    _, notes = write(of_task("several classes", {}), tmp_path / "out", "torchvision")
    assert "torchvision files do not state the task; their user must specify it: several classes" in notes
    again = load(tmp_path / "out", task="several_classes", num_heads=4)
    assert again.record.task == "several classes"


@pytest.mark.parametrize("parts", [{}, dict(head=MLPHead)])
def test_a_stored_model_gives_numbers_in_their_unit(tmp_path, parts):
    model = of_task("numbers", parts)
    save_model(model, tmp_path, {})
    again = load_model(tmp_path)
    assert again.record.task == "numbers" and numbers_head_of(again) is not None
    torch.testing.assert_close(values(again), values(model), rtol=0, atol=0)
    assert values(again)[:, 0].min() > 1000


def test_thresholds_are_stored(tmp_path, images):
    model = of_task("several classes", {})
    save_model(model, tmp_path / "run", {})
    found = predict(tmp_path / "run", images)
    assert load_model(tmp_path / "run").record.thresholds == (0.5, 0.25)
    for one, row in zip(found, found.values):
        assert set(one.above_threshold) == {
            name for name, value, least in zip("ab", row, (0.5, 0.25)) if value >= least
        }
