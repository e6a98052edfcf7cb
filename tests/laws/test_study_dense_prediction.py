"""Dense prediction: arms of equal size, what attention costs with and without windows, and what guessing reaches."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitral.base.answers.segmentation import MaskTally
from vitral.data.dataset import Dataset
from vitral.data.spec import find_data
from vitral.studies.claims import dense_prediction as claim
from vitral.studies.effects import MissingMeasure, measured_value, recorded_score
from vitral.studies.running.plan import count_size
from vitral.studies.study import MATCHED
from vitral.studies.training import Trained, Training, build_model, guessing_score, plain_values, train

ARMS = (claim.CONVOLUTIONS, claim.SWIN, claim.WINDOWS, claim.GLOBAL)
CLASSES, PATCH, BLOCKS = 9, 8, 4


def training(arm, samples, data="scenes:n=32,size=64,held_out=8"):
    recipe = dict(batch_size=8, optimizer="adamw", lr=1e-3)
    return Training(arm.model, plain_values(arm.settings), data, "", recipe, samples, 0, eval_images=8)


def forward_macs(arm, size):
    with torch.device("meta"):
        model = build_model(arm.model, plain_values(arm.settings), CLASSES, (size, size))
        image = torch.zeros(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


def test_all_arms_have_equally_many_parameters():
    sizes = [count_size(arm.model, plain_values(arm.settings), CLASSES, (128, 128)).parameters for arm in ARMS]
    assert max(sizes) / sizes[0] - 1 <= MATCHED["parameters"][1] and 1 - min(sizes) / sizes[0] <= 0.01


@pytest.mark.parametrize("size", [128, 256, 512])
def test_windows_save_what_attention_outside_of_them_takes(size):
    tokens, window, width = (size // PATCH) ** 2, 64, claim.PLAIN["embed_dim"]
    saved = forward_macs(claim.GLOBAL, size) - forward_macs(claim.WINDOWS, size)
    assert saved == (BLOCKS - 1) * 2 * width * (tokens**2 - tokens * window)


def test_costs_are_those_of_an_untrained_model_at_each_size(monkeypatch):
    monkeypatch.setattr(claim, "SIZES", (64, 128))
    one = training(claim.WINDOWS, 0)
    found = claim.costs(Trained(one.build(), one.dataset(), one, {}, {}))
    assert [len(found[name]) for name in ("multiply_adds", "seconds", "saved")] == [2, 2, 2]
    assert 3 * found["multiply_adds"][0] < found["multiply_adds"][1] < 5 * found["multiply_adds"][0]  # 4x the pixels
    assert 3 * found["saved"][0] < found["saved"][1] < 5 * found["saved"][0]
    trained = training(claim.WINDOWS, 8)
    assert claim.costs(Trained(trained.build(), trained.dataset(), trained, {}, {})) == {}


def test_a_training_records_the_mean_iou_of_each_split():
    model, record = train(training(claim.CONVOLUTIONS, 32))
    assert {"train_mIoU", "val_mIoU", "test_mIoU"} <= record.keys() and "test_accuracy" not in record
    assert 0 <= record["test_mIoU"] <= 1 and len(record["curve"]) == 4
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, CLASSES, 64, 64)


def test_a_record_of_masks_has_mean_iou_and_no_accuracy():
    run = {"status": "done", "record": {"test_mIoU": 0.5, "val_mIoU": 0.6, "train_mIoU": 0.7}}
    assert measured_value(run, "mIoU") == 0.5 and recorded_score(run["record"], "val") == 0.6
    with pytest.raises(MissingMeasure):
        measured_value(run, "val_accuracy")


@pytest.mark.parametrize("names", [("background", "a", "b"), ("c", "a", "b")])
@pytest.mark.parametrize("most", [0, 1])
def test_guessing_reaches_what_a_tally_of_constant_masks_finds(names, most):
    labels = np.random.default_rng(0).choice(3, (4, 8, 8), p=np.roll([0.8, 0.1, 0.1], most)).astype(np.uint8)
    labels[:, 0] = 255  # ignored
    tally = MaskTally(names)
    tally.add(torch.eye(3)[most].view(1, 3, 1, 1).expand(4, 3, 8, 8), labels)
    data = Dataset("any", names, find_data("scenes").preprocessing, lambda split: None, "segmentation")
    assert guessing_score(labels, data) == pytest.approx(tally.figures("").value)
