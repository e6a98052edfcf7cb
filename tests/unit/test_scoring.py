"""The table of scores: who is in it, what its intervals are, and when a method beats its controls."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import DataError, UnknownName, UsageError
from vitral.base.lookup import find
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record, number_classes
from vitral.data.class_names import describe_classes
from vitral.data.classes import match_classes
from vitral.data.dataset import Dataset, Split
from vitral.data.spec import find_data
from vitral.explain import scoring
from vitral.explain.entry import explainer
from vitral.explain.maps import as_maps
from vitral.explain.method import PatchMap
from vitral.explain.metric import metric
from vitral.explain.observation import observe

SIZE = (8, 18)


def data_for(model, masks=True, right=True, n=30):
    """Images of noise whose labels are the model's own answers, or never those."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, *SIZE, 3), dtype=np.uint8)
    from vitral.data.preprocess import normalise

    with torch.no_grad():
        answers = model(normalise(torch.from_numpy(pixels), model.preprocessing)).argmax(1).numpy()
    labels = answers if right else (answers + 1) % 5
    marked = np.zeros((n, *SIZE), bool)
    marked[:, :4, :6] = True
    split = Split(pixels, labels, marked if masks else None)
    return Dataset("noise", tuple("abcde"), model.preprocessing, lambda name: split)


@pytest.fixture
def model():
    return attach_record(tiny_vit(), ModelRecord(tuple("abcde"), Preprocessing(size=SIZE)))


def oracle(model, images, target=None):
    """Knows the mask."""
    values = torch.zeros(len(images), 2, 3)
    values[:, 0, 0] = 1
    return as_maps(
        "oracle", PatchMap(values + 0.01 * torch.rand(2, 3), (2, 3), "The mask."), observe(model, images, [])
    )


def test_every_control_is_in_every_table(model):
    table = explain.score(["rollout"], ["auroc", "agreement"], model, data_for(model), n=10)
    found = [(score.method, score.metric) for score in table.scores]
    methods = ["rollout", "centre", "edges", "random", "untrained"]
    assert found == [(method, metric) for method in methods for metric in ("auroc", "agreement")]
    assert [score.control for score in table.scores] == [False] * 2 + [True] * 8
    assert all(score.beats_controls is None for score in table.scores if score.control or score.metric == "agreement")


def test_who_knows_the_mask_beats_the_controls_and_noise_does_not(model):
    noise = explainer(find("explain.controls", "random", "control"))

    def again(model, images, target=None):
        return noise(model, images, seed=7)

    table = explain.score([oracle, again], ["auroc"], model, data_for(model), n=30)
    by = {score.method: score for score in table.scores}
    assert by["oracle"].beats_controls is True and by["oracle"].value == 1
    assert by["again"].beats_controls is False
    assert "| oracle | 1.000 (1.000 to 1.000) |" in table.markdown()
    assert r"\* |" in table.markdown().splitlines()[3]


def test_the_interval_is_the_bootstraps(model):
    @metric(better="higher")
    def image_number(maps, case):
        return np.arange(len(maps), dtype=float)

    table = explain.score([oracle], [image_number], model, data_for(model), n=30)
    mine = next(score for score in table.scores if score.method == "oracle")
    assert mine.value == pytest.approx(14.5) and mine.n == 30
    spread = np.arange(30).std() / 30**0.5
    assert mine.low == pytest.approx(14.5 - 1.96 * spread, abs=0.5)
    assert mine.high == pytest.approx(14.5 + 1.96 * spread, abs=0.5)


def test_only_images_that_are_answered_right_count(model):
    with pytest.raises(DataError, match="classifies none of 30 test images of noise correctly"):
        explain.score(["rollout"], ["auroc"], model, data_for(model, right=False))
    table = explain.score([oracle], ["auroc"], model, data_for(model), n=12)
    assert all(score.n == 12 for score in table.scores)
    assert table.caption.startswith("12 test images of noise that the model classifies correctly, of ")


def sorted_by_class(data):
    """The same data, read class by class."""
    split = data.read("test")
    order = np.argsort(split.labels, kind="stable")
    return dataclasses.replace(data, read=lambda name: split.only(order))


def test_images_that_were_read_class_by_class_are_a_fair_sample_and_the_caption_describes_it(model):
    data = sorted_by_class(data_for(model, n=400))
    counts = np.bincount(data.read("test").labels, minlength=5)
    table = explain.score([oracle], ["deletion"], model, data, n=40)
    found = np.bincount(data.test.labels[:40], minlength=5)  # the model answers all of them correctly
    assert np.abs(found - 40 * counts / 400).max() < 5 * np.sqrt(40) / 2
    missing = [name for name, count in zip("abcde", found) if not count]
    assert table.caption.startswith(
        "40 test images of noise that the model classifies correctly, of 40 drawn at random from 400; "
        f"{describe_classes(5 - len(missing), missing)}; 95% intervals"
    )


def test_fewer_images_than_classes_and_more_than_there_are_score_what_there_is(model):
    data = sorted_by_class(data_for(model, n=30))
    few = explain.score([oracle], ["deletion"], model, data, n=2)
    present = {"abcde"[label] for label in data.test.labels[:2]}
    missing = ", ".join(name for name in "abcde" if name not in present)
    assert few.images == 2
    assert f"of 2 drawn at random from 30; {len(present)} of 5 classes (none of {missing});" in few.caption
    every = explain.score([oracle], ["deletion"], model, data, n=10_000)
    assert every.images == 30 and "classifies correctly, of 30; " in every.caption


def test_images_after_the_last_one_that_is_scored_are_not_counted_as_tried(model):
    """The caption states the share of correct answers: here one in two."""
    right, wrong = (data_for(model, right=answer, n=60).read("test") for answer in (True, False))
    labels = np.where(np.arange(60) % 2 == 0, right.labels, wrong.labels)
    split = dataclasses.replace(right, labels=labels, source_index=np.arange(60))
    data = dataclasses.replace(data_for(model), read=lambda name: split)
    table = explain.score([oracle], ["deletion"], model, data, n=10)
    assert (
        "10 test images of noise that the model classifies correctly, of 19 drawn at random from 60;" in table.caption
    )


def test_a_control_without_any_value_is_named_and_beaten_by_nobody(model):
    @metric(better="higher")
    def of_maps_that_vary(maps, case):
        return np.where(np.ptp(maps.reshape(len(maps), -1), axis=1) == 0, np.nan, 1.0) + (maps[:, 0, 0] > 4)

    constant = PatchMap(torch.ones(30, 2, 3), (2, 3), "Nothing.")

    def centre(model, images, target=None):
        return as_maps("centre", constant, observe(model, images, []))

    with pytest.MonkeyPatch.context() as patch:
        known = scoring.resolve_methods
        patch.setattr(
            scoring,
            "resolve_methods",
            lambda folder, names: known(folder, names) | ({"centre": centre} if folder == "explain.controls" else {}),
        )
        table = explain.score([oracle], [of_maps_that_vary, "agreement"], model, data_for(model), n=30)
    sentence = (
        "The control centre has no value by of_maps_that_vary: no method is reported to beat every control by it."
    )
    assert table.caption.endswith(sentence) and table.caption.count("no value by") == 1
    (mine,) = (one for one in table.scores if one.method == "oracle" and one.metric == "of_maps_that_vary")
    assert mine.beats_controls is False


def test_metrics_that_need_masks_are_refused_without(model):
    with pytest.raises(UsageError, match="auroc needs masks of the object"):
        explain.score(["rollout"], ["auroc"], model, data_for(model, masks=False))
    table = explain.score(["rollout"], ["deletion"], model, data_for(model, masks=False), n=4)
    assert len(table.scores) == 5


@pytest.mark.parametrize(
    ("methods", "metrics", "message"),
    [(["rolout"], ["auroc"], "Did you mean 'rollout'"), (["rollout"], ["aurok"], "Did you mean 'auroc'")],
)
def test_names_that_are_not_known(model, methods, metrics, message):
    with pytest.raises(UnknownName, match=message):
        explain.score(methods, metrics, model, data_for(model))


def test_progress_is_told(model):
    heard = []
    explain.score(
        ["rollout"], ["auroc"], model, data_for(model), n=4, progress=lambda what, done, of: heard.append((done, of))
    )
    assert heard == [(step, 10) for step in range(10)]


def mostly_blank(model, images, target=None):
    """A hot patch on the mask for some images, nothing for the rest."""
    values = torch.ones(len(images), 2, 3)
    values[::4, 0, 0] = 5
    return as_maps("mostly_blank", PatchMap(values, (2, 3), "Now and then."), observe(model, images, []))


def test_a_method_that_mostly_says_nothing_beats_nobody(model):
    table = explain.score([mostly_blank], ["pointing_game", "deletion"], model, data_for(model), n=30)
    found = {score.metric: score for score in table.scores if score.method == "mostly_blank"}
    assert found["pointing_game"].value == pytest.approx(8 / 30)  # a blank map is a miss
    assert found["deletion"].n == 8 and not found["deletion"].beats_controls
    assert ", n = 8" in table.markdown()


def test_a_method_that_cannot_explain_the_model_is_left_out_with_its_reason(model):
    def never(model, images, target=None):
        raise UsageError("it only knows CNNs.")

    table = explain.score(["rollout", never], ["deletion"], model, data_for(model), n=4)
    assert table.refused == {"never": "it only knows CNNs."}
    assert "never was left out: it only knows CNNs." in table.caption
    assert "never" not in {score.method for score in table.scores}
    with pytest.raises(UsageError, match=r"No method can explain the model\. it only knows CNNs\."):
        explain.score([never], ["deletion"], model, data_for(model), n=4)


def edges(model, images, target=None):
    return oracle(model, images)


@pytest.mark.parametrize(
    ("methods", "metrics", "n", "message"),
    [
        ([edges], ["auroc"], 4, "controls have these names already"),
        ([oracle, oracle], ["auroc"], 4, "Two of the methods are called 'oracle'"),
        ("attention", ["auroc"], 4, "No method was chosen: give a list"),
        (["rollout"], [], 4, "No metric was chosen"),
        ([], ["auroc"], 4, "No method was chosen"),
        (["rollout"], [edges], 4, "declare it with @metric"),
        (["rollout"], ["auroc"], 0, "n=0: at least one image"),
        (["rollout"], ["auroc"], -3, "n=-3: at least one image"),
    ],
)
def test_what_cannot_be_scored_is_refused(model, methods, metrics, n, message):
    with pytest.raises(UsageError, match=message):
        explain.score(methods, metrics, model, data_for(model), n=n)


class Wrapped(nn.Module):
    """A model that takes pixels in 0..1, and normalises them itself; it says so, or not."""

    def __init__(self, model):
        super().__init__()
        self.model, self.grid = model, model.grid

    def forward(self, images):
        return self.model(images * 2 - 1)


def test_images_are_prepared_as_the_model_says(model):
    """The data's own words are for models that say nothing."""
    data = data_for(model)
    wrapped = Wrapped(model)
    wrapped.preprocessing = Preprocessing(SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for one in (model, wrapped, Bare(model)):
        table = explain.score(["occlusion"], ["auroc"], one, data)
        assert table.images == 30 and "classifies correctly, of 30;" in table.caption


class Bare(nn.Module):
    """Says nothing of itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images)


def test_classes_of_other_names_are_refused(model):
    with pytest.raises(DataError, match="noise has the classes cat, dog, a, b, c; the model has a, b, c, d, e"):
        data = dataclasses.replace(data_for(model), classes=("cat", "dog", *"abc"))
        explain.score(["rollout"], ["deletion"], model, data)


@pytest.mark.parametrize("classes", [number_classes(5), None, 5], ids=str)
def test_a_model_whose_classes_nobody_named_must_have_as_many(model, classes):
    data = data_for(model)
    model.classes = classes
    assert explain.score(["rollout"], ["deletion"], model, data, n=4).images == 4
    with pytest.raises(DataError, match="noise has 4 classes; the model scores 5"):
        explain.score(["rollout"], ["deletion"], model, dataclasses.replace(data, classes=tuple("abcd")), n=4)


def test_images_of_another_size_are_refused(model):
    data = dataclasses.replace(data_for(model), preprocessing=Preprocessing((8, 8)))
    with pytest.raises(DataError, match=r"noise has images of 8x8; the model takes 8x18\.$"):
        explain.score(["rollout"], ["deletion"], model, data)
    with pytest.raises(DataError, match=r"digits has images of 8x8; the model takes 16x16\.$"):
        match_classes(find_data("digits"), None, (16, 16))
    with pytest.raises(DataError, match=r"shapes has images of 64x64; the model takes 16x16\. Try shapes:size=16\.$"):
        match_classes(find_data("shapes:n=8,size=64"), None, (16, 16))


def test_a_map_that_does_not_divide_the_image_is_scored_against_its_controls():
    """A CNN's map of 3 x 3 on 20 x 26 pixels: the controls take its grid, and what must divide is left out."""
    torch.manual_seed(0)
    first, second = (nn.Conv2d(channels, 8, 3, stride=3, padding=1) for channels in (3, 8))
    cnn = nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    cnn.preprocessing = Preprocessing((20, 26))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 26, 3), dtype=np.uint8)
    labels = cnn((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).argmax(1).numpy()
    masks = np.zeros((12, 20, 26), bool)
    masks[:, :7, :9] = True
    data = Dataset("noise", tuple("abcde"), cnn.preprocessing, lambda name: Split(pixels, labels, masks))
    metrics = ["auroc", "pointing_game", "mass_ratio", "iou", "deletion"]
    table = explain.score(["grad_cam", "occlusion"], metrics, cnn, data)
    assert {one.method for one in table.scores} == {"grad_cam", "centre", "edges", "random", "untrained"}
    assert "cannot be divided into 3 x 3 patches" in table.refused["occlusion"]
    assert all(np.isfinite(one.value) for one in table.scores if one.method in ("centre", "edges", "random"))


def test_a_method_under_which_the_model_fails_is_left_out(model):
    class Fragile(Bare):
        def forward(self, images):
            if images.requires_grad:
                raise KeyError("no gradients here")
            return super().forward(images)

    table = explain.score(["rollout", "input_gradient"], ["deletion"], Fragile(model), data_for(model), n=4)
    assert "Fragile raised KeyError" in table.refused["input_gradient"]


def test_what_the_star_means_stands_below_the_table_only(model):
    table = explain.score(["rollout"], ["deletion"], model, data_for(model), n=4)
    assert table.markdown().endswith(r"over the images. \* does not beat every control.")
    assert "\\" not in table.caption and table.caption.endswith("intervals over the images.")
