"""What a run chooses on its validation images goes with its weights, and with no others."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import vitral
from shell import paint
from vitral.base.calibration import Calibration
from vitral.base.errors import ConfigError, UsageError
from vitral.base.intervals import interval
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.dataset import Split
from vitral.store.classifier import answers
from vitral.store.model import load_model, save_calibration, save_model
from vitral.tasks.predict_table import predict_table
from vitral.tasks.prepare import prepare
from vitral.tasks.progress import Progress
from vitral.training.calibrate import calibrate
from vitral.training.recipe import Recipe
from vitral.weights.convert import write

SETTINGS = dict(data="shapes:n=600,size=16", model="vit_nano_patch4_32", epochs=6.0, batch_size=32, lr=3e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vitral.train(**SETTINGS, out=tmp_path_factory.mktemp("runs") / "a").run


@pytest.fixture
def model(run):
    return load_model(run)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)


def without(model):
    """The same weights with the model's own probabilities."""
    return attach_record(model, replace(model.record, calibration=None))


def test_a_run_states_calibrated_probabilities_everywhere(run, model, pixels):
    temperature = model.record.calibration.temperature
    assert temperature > 0 and model.record.version == 3
    calibrated = answers(model, pixels)
    found, predicted = vitral.evaluate(run), vitral.predict(run, list(pixels))
    own = answers(without(model), pixels)
    logits = np.log(own.astype(np.float64)) / temperature
    np.testing.assert_allclose(calibrated, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-4)
    assert (calibrated.argmax(axis=1) == own.argmax(axis=1)).all()
    np.testing.assert_allclose(predicted.values, calibrated, rtol=1e-5)
    stated = found.to_json()["calibration"]
    assert stated["temperature"] == temperature == predicted.calibration.temperature
    assert stated["error_without_temperature"] != stated["error"]
    before = vitral.evaluate(without(load_model(run)), "shapes:n=600,size=16")
    assert before.accuracy == found.accuracy and before.loss != found.loss
    assert before.to_json()["calibration"]["error"] == pytest.approx(stated["error_without_temperature"], abs=1e-6)
    assert f"Temperature {temperature:.3g}, fitted on" in " ".join(found.remarks)


def test_explanations_state_the_same_probability(run, model, pixels):
    target = int(answers(model, pixels[:1])[0].argmax())
    images = torch.from_numpy(pixels[:1])
    from vitral.data.preprocess import normalise
    from vitral.explain.observation import observe
    from vitral.explain.trials import Trials

    observation = observe(model, normalise(images, model.preprocessing))
    score = Trials(observation).answer.score(observation.logits)[0, target]
    assert score == pytest.approx(answers(model, pixels[:1])[0, target], rel=1e-5)


def test_the_temperature_is_not_that_of_the_test_images(run, model):
    """Fitted on the validation images, it is the one that is stored."""
    from vitral.data.spec import find_data

    data = find_data(SETTINGS["data"])
    assert calibrate(without(model), data.val).calibration == load_model(run).record.calibration
    other = calibrate(without(model), data.test).calibration
    assert other.temperature != load_model(run).record.calibration.temperature


def test_validation_images_judge_with_a_warning(run):
    assert "too good" in vitral.evaluate(run, split="val").remarks[-1]
    assert not any("too good" in remark for remark in vitral.evaluate(run).remarks)


def test_a_model_that_starts_from_it_has_its_own_probabilities(run, tmp_path):
    """The new run fits a temperature of its own, or none, as with few images."""
    photos = paint(tmp_path / "photos", {"dark": 60, "light": 190})
    started, _ = prepare(Recipe(data=str(photos), init=str(run)), Progress())
    assert started.record.calibration is None
    same = {key: value for key, value in SETTINGS.items() if key != "model"}
    started, _ = prepare(Recipe(**same, init=str(run)), Progress())
    assert started.classes == load_model(run).classes and started.record.calibration is None
    started, data = prepare(Recipe(data=str(photos), init=str(run)), Progress())
    calibration = calibrate(started, data.val).calibration
    assert calibration.temperature is None and "and it takes 50" in calibration.notes[0]
    save_model(started, tmp_path / "small", {})
    save_calibration(tmp_path / "small", calibration)
    assert "temperature" not in json.loads((tmp_path / "small" / "model.json").read_text())["calibration"]
    assert load_model(tmp_path / "small").record.calibration == calibration


def test_weights_that_go_on_training_lose_it(run):
    resumed, _ = prepare(Recipe(**SETTINGS), Progress())
    assert resumed.record.calibration is None
    started, _ = prepare(
        Recipe(**{key: value for key, value in SETTINGS.items() if key != "model"}, init=str(run)), Progress(), run
    )
    assert started.record.calibration is None
    (checkpoint,) = [path for path in (run / "checkpoints").iterdir() if path.is_dir()][-1:]
    assert vitral.load(checkpoint).record.calibration is None


def test_a_finished_run_is_calibrated_once(run, tmp_path):
    before = (run / "model.json").read_bytes()
    vitral.train(resume=run)
    assert (run / "model.json").read_bytes() == before


def test_a_model_without_it_is_written_as_before(model, tmp_path):
    save_model(without(model), tmp_path, {})
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["version"] == 2 and "calibration" not in card
    assert answers(load_model(tmp_path), np.zeros((1, 16, 16, 3), np.uint8)).dtype == np.float32
    save_calibration(tmp_path, Calibration(60, 2.0, ((0.0, 60, 40),), ("A note.",)))
    assert load_model(tmp_path).record.calibration == Calibration(60, 2.0, ((0.0, 60, 40),), ("A note.",))
    assert json.loads((tmp_path / "model.json").read_text())["version"] == 3


def test_another_format_has_no_place_for_it(model, tmp_path):
    _, notes = write(model, tmp_path / "timm", "timm")
    assert f"divide the logits by {model.record.calibration.temperature:.6g}" in " ".join(notes)
    assert vitral.load(tmp_path / "timm").record.calibration is None


def test_a_table_does_not_go_on_with_another_temperature(run, model, tmp_path, monkeypatch):
    from PIL import Image

    for number in range(3):
        Image.fromarray(np.full((16, 16, 3), 80 * number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    with pytest.raises(Exception, match=r"1\.png"):
        predict_table(model, tmp_path, tmp_path / "out.csv")
    changed = replace(model.record.calibration, temperature=9.0)
    attach_record(model, replace(model.record, calibration=changed))
    with pytest.raises(UsageError, match="was begun with other settings"):
        predict_table(model, tmp_path, tmp_path / "out.csv", on_bad_image="skip")


def test_classes_that_validation_images_lack_are_named(model):
    data = vitral.tasks.evaluate.find_data(SETTINGS["data"]).val
    some = data.only(np.flatnonzero(data.labels > 1))
    notes = calibrate(without(model), some).calibration.notes
    assert notes[1] == f"The temperature was fitted without images of {', '.join(model.classes[:2])}."


class Sigmoids(torch.nn.Module):
    """Independent classes; the first shows in the red channel, the second in the green one."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, images):
        return images.mean(dim=(2, 3)) * self.scale - 3.0


@pytest.fixture
def several(pixels):
    seen = Preprocessing((16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    record = ModelRecord(("a", "b", "rare"), seen, "several classes", (0.5, 0.5, 0.5))
    return attach_record(Sigmoids().eval(), record)


def test_thresholds_of_several_classes_are_chosen_or_stay(several):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (120, 3))
    images = np.broadcast_to(levels[:, None, None].astype(np.uint8), (120, 16, 16, 3)).copy()
    labels = np.stack([levels[:, 0] > 90, levels[:, 1] > 200, np.arange(120) < 4], axis=1)
    chosen = calibrate(several, Split(images, labels))
    first, second, rare = chosen.thresholds
    assert rare == 0.5 and 0.15 < first < 0.25 and 0.5 < second < 0.6
    assert "The threshold stays 50% for rare" in chosen.calibration.notes[1]
    reached = answers(several, images) >= np.array(chosen.thresholds)
    assert (reached[:, :2] == labels[:, :2]).all()


def test_numbers_have_nothing_to_calibrate(several):
    attach_record(several, replace(several.record, task="numbers", thresholds=None))
    assert calibrate(several, Split(np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 3)))) is None


def test_unknown_is_an_answer_with_a_threshold(run, pixels):
    levels = load_model(run).record.calibration.levels
    wanted = max(interval(right / reached, reached)[0] for _, reached, right in levels if reached) - 1e-9
    found = vitral.predict(run, list(pixels), at_least=wanted)
    for one in found:
        assert one.is_unknown == (max(one.values) < found.abstention.threshold)
        assert one.to_json()["answer"] == ("unknown" if one.is_unknown else one.best(1)[0][0])
    judged = vitral.evaluate(run, at_least=wanted)
    answering = judged.answering
    sure = judged.figures.values.max(axis=1) >= found.abstention.threshold
    assert 0 < answering.reached == sure.sum() < answering.n == judged.n
    assert judged.to_json()["at_least"]["answered"] == pytest.approx(sure.mean())
    with pytest.raises(ConfigError, match="do not show such an accuracy"):
        vitral.predict(run, list(pixels), at_least=0.999)


def test_another_task_has_no_unknown_answers(several, pixels):
    with pytest.raises(ConfigError, match="the task of Sigmoids is 'several classes'"):
        vitral.predict(several, list(pixels), at_least=0.9)


def test_a_class_that_is_called_unknown_is_refused(model, pixels):
    levels = ((0.0, 100, 100),)
    classes = ("unknown", *model.classes[1:])
    record = replace(model.record, classes=classes, calibration=Calibration(100, levels=levels))
    with pytest.raises(ConfigError, match="rename that class"):
        vitral.predict(attach_record(model, record), list(pixels), at_least=0.9)


def test_the_confusion_matrix_is_a_table_with_names(run, tmp_path):
    found = vitral.evaluate(run, csv=tmp_path / "confusion.csv")
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        heading, *rows = csv.reader(file)
    assert tuple(heading[1:]) == found.classes == tuple(name for name, *_ in rows)
    assert [[int(cell) for cell in row[1:]] for row in rows] == found.confusion.tolist()
    assert (run / "confusion.csv").read_bytes() == (tmp_path / "confusion.csv").read_bytes()
    with pytest.raises(UsageError, match="exists and is not overwritten"):
        vitral.evaluate(run, csv=tmp_path / "confusion.csv")
