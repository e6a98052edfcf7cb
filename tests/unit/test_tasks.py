"""What the verbs do, called from Python: typed results, nothing printed, progress for whoever asks for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitral
from vitral.base.errors import UnknownName, UsageError
from vitral.store.model import load_model
from vitral.tasks.describe_data import describe_data, first_of_groups
from vitral.tasks.progress import Progress
from vitral.tasks.score_methods import score_methods
from vitral.training.checkpoint import read_checkpoint
from vitral.training.recipe import preset

SETTINGS = dict(data="shapes:n=16,size=16", epochs=2.0, batch_size=8)


class Recorder(Progress):
    """Counts what is reported to it."""

    def __init__(self):
        super().__init__()
        self.steps, self.evaluations = [], []

    def stepped(self, pace):
        self.steps.append(pace.recent[-1].number)

    def evaluated(self, pace):
        self.evaluations.append(pace.evaluations[-1].step)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and what was reported of it."""
    recorder = Recorder()
    return vitral.train(**SETTINGS, out=tmp_path_factory.mktemp("runs") / "a", progress=recorder), recorder


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def test_a_run_is_reported_step_by_step(run):
    result, recorder = run
    assert recorder.steps == [1, 2, 3, 4] == list(range(1, result.steps + 1))
    assert recorder.evaluations == [1, 2, 3, 4]
    assert result.report.is_file() and result.interval[0] <= result.test_accuracy <= result.interval[1]
    assert result.notes == tuple(recorder.notes) and f"run: {result.run}" in result.notes


def test_nothing_is_printed_unless_it_is_asked_for(run, picture, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vitral.predict(run[0].run, picture)
    vitral.evaluate(run[0].run)
    vitral.explain_images(run[0].run, picture, ["occlusion"])
    describe_data("shapes:n=8,size=16")
    assert capfd.readouterr() == ("", "")
    vitral.explain_images(run[0].run, picture, ["occlusion"], progress=True)
    printed = capfd.readouterr()
    assert printed.out == "" and "picture.png: testing 1 map" in printed.err


def test_a_model_is_a_path_or_the_model_itself(run, picture):
    by_path, loaded = run[0].run, vitral.load(run[0].run)
    one, other = (vitral.evaluate(model, split="val") for model in (by_path, loaded))
    assert one.accuracy == other.accuracy and (one.confusion == other.confusion).all()
    assert (vitral.predict(by_path, picture).probabilities == vitral.predict(loaded, picture).probabilities).all()


def test_a_test_split_is_judged_as_training_judged_it(run):
    found = vitral.evaluate(run[0].run)
    assert (found.accuracy, found.interval, found.n) == (run[0].test_accuracy, run[0].interval, run[0].n)
    assert found.confusion.trace() / found.n == pytest.approx(found.accuracy)


def test_an_explanation_gives_its_maps_their_test_and_its_files(run, picture, tmp_path):
    found = vitral.explain_images(run[0].run, picture, ["attention", "rollout"], layers=[0], out=tmp_path / "maps")
    (image,) = found.images
    ((name, probability),) = vitral.predict(run[0].run, picture)[0].best(1)
    assert image.prediction == name and image.probability == pytest.approx(probability, rel=1e-5)
    assert [one.maps.method for one in image.maps] == ["attention", "rollout"] and not found.refused
    files = [file for one in image.maps for file in (one.picture, one.numbers)]
    assert all(file.is_file() for file in (*files, image.side_by_side, found.page))
    assert image.maps[0].trust.sentence in image.maps[0].maps.tested


def test_the_number_of_orders_is_taken_and_shown(run, picture, tmp_path):
    counted = []

    class Counts(Progress):
        def count(self, what, done, total):
            counted.append((what, done, total))

    progress = Counts()
    found = vitral.explain_images(run[0].run, picture, "occlusion", orders=19, out=tmp_path, progress=progress)
    (one,) = found.images[0].maps
    reports = [(done, total) for what, done, total in counted if "random orders" in what]
    if not one.trust.untested:
        assert len(one.trust.by_chance) == 19 and reports == [(done, 19) for done in range(19)]
    assert "testing 1 map against 19 random orders" in " ".join(found.notes)
    assert "19 (requested)" in found.page.read_text()


def test_without_orders_the_page_and_the_notes_say_that_no_test_was_run(run, picture, tmp_path):
    found = vitral.explain_images(run[0].run, picture, ["occlusion", "rollout"], orders=0, out=tmp_path)
    assert {one.trust.verdict for one in found.images[0].maps} == {"not tested"}
    assert "No test was run" in found.page.read_text() and "No test was run" in " ".join(found.notes)


def test_an_invalid_number_of_orders_is_refused_before_the_model_is_read(picture):
    with pytest.raises(UsageError, match="is not a number of random orders"):
        vitral.explain_images("nowhere", picture, orders=-1)


def test_methods_are_scored(run, tmp_path):
    found = score_methods(run[0].run, "shapes:n=8,size=16", ["rollout"], ["auroc"], n=4, out=tmp_path)
    assert found.markdown.read_text() == found.table.markdown() + "\n" and found.numbers.is_file()


def test_data_is_counted_and_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = describe_data("shapes:n=16,size=24", "val")
    assert sum(found.labels["classes"].values()) == found.n == 2_000 and found.size == (24, 24)
    assert found.sheet == Path("shapes.png") and found.sheet.is_file()


def test_a_contact_sheet_shows_the_first_images_of_each_group_alone():
    groups = {"a": np.arange(0, 90, 3), "b": np.arange(1, 90, 30), "none": np.empty(0, int)}
    places, some = first_of_groups(groups)
    assert {name: some[own].tolist() for name, own in places.items()} == {
        "a": list(range(0, 30, 3)),
        "b": [1, 31, 61],
        "none": [],
    }
    assert len(some) == 13


@pytest.mark.parametrize("home", ["", "train"])
def test_a_folder_of_masks_has_settings_of_its_own(tmp_path, home):
    """A batch of 128 images in which each pixel has an answer does not fit into memory."""
    for part in ("images", "masks"):
        (tmp_path / home / part).mkdir(parents=True)
    assert preset(str(tmp_path))["batch_size"] == 16 and preset(str(tmp_path / "other")).get("batch_size") is None
    assert preset(str(tmp_path), "run")["batch_size"] == 16


def test_a_stopped_run_is_continued_to_the_same_weights(run, tmp_path):
    calls = iter(range(100))
    stopped = vitral.train(**SETTINGS, out=tmp_path / "run", stop=lambda: next(calls) >= 1)
    assert stopped.stopped and stopped.test_accuracy is None
    done = vitral.train(resume=tmp_path / "run")
    one, other = (load_model(result.run).state_dict() for result in (run[0], done))
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (dict(epoch=3), UnknownName, r"There is no setting 'epoch'. Did you mean 'epochs'\?"),
        (dict(lr=-1.0), UsageError, "lr=-1.0 is out of range"),
        (dict(resume="run", lr=0.1), UsageError, "has its own settings"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, kind, message):
    with pytest.raises(kind, match=message):
        vitral.train(**settings)


def test_a_checkpoint_that_was_written_before_is_read():
    """Of the first format: the same files, whose shape is `Checkpoint` now."""
    old = read_checkpoint(Path(__file__).parents[1] / "old_files" / "default" / "checkpoints")
    assert old.progress.step == 2 and old.optimizers == [] and old.random.dtype == torch.uint8
    assert old.weights["head.weight"].ndim == 2
