"""What every file in `data/synthetic` keeps; a new one is enrolled by existing, and `SETS` says what its knobs do."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vitral.base.errors import ConfigError
from vitral.base.lookup import find, names
from vitral.data.dataset import Split

N = 2_000  # images; tests ask for a probability below 1e-4 before they fail, and the seeds are fixed
RARE = 1e-4


@dataclass(frozen=True)
class Knob:
    """A knob from an easy value to a hard one, what it changes (larger at the hard one), and values it refuses."""

    easy: dict[str, Any]
    hard: dict[str, Any]
    larger: Callable[[Split], float]
    refused: tuple[tuple[dict[str, Any], str], ...]


def objects_of(split):
    """The pixels of the object; of every object in a scene."""
    return split.labels > 0 if split.masks is None else split.masks


def contrast_of(split):
    """Distance between the mean colours inside and outside the mask."""
    pixels, masks = split.pixels / 255, objects_of(split)[..., None]
    inside = (pixels * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (pixels * ~masks).sum((1, 2)) / (~masks).sum((1, 2))
    return np.linalg.norm(inside - outside, axis=1)


def roughness(split):
    """Mean difference of neighbouring pixels outside the mask, of a median image."""
    steps = np.abs(np.diff(split.pixels.astype(float), axis=2)).mean(-1)
    masks = objects_of(split)
    apart = ~(masks[:, :, 1:] | masks[:, :, :-1])
    return float(np.median((steps * apart).sum((1, 2)) / apart.sum((1, 2))))


def area(split):
    return objects_of(split).sum((1, 2))


def blobs(split):
    """The share of images in which many pixels outside the mask are far from their surroundings."""
    pixels = np.where(split.masks[..., None], np.nan, split.pixels.astype(float))
    far = np.abs(pixels - np.nanmedian(pixels, axis=(1, 2), keepdims=True)).max(-1) > 60
    return float((far.sum((1, 2)) > 10).mean())


def tilt(split):
    """How far from upright the squares are: the corner beyond the half side, by the mask's bounding box."""
    squares = split.masks[split.labels == 2] if split.labels.ndim == 1 else split.labels == 3
    squares = squares[squares.any(axis=(1, 2))]
    widths = squares.any(1).sum(1) / np.sqrt(squares.sum((1, 2)))
    return float(widths.mean())


def flips(split):
    """Mean difference of neighbouring pixels inside the mask."""
    steps = np.abs(np.diff(split.pixels.astype(float), axis=2)).mean(-1)
    return float(steps[split.masks[:, :, 1:] & split.masks[:, :, :-1]].mean())


def mismatched(split):
    """The share of images whose texture is another class's."""
    return float((split.factors["texture"] != split.labels).mean())


def hidden(split):
    """The mean share of an object that lies under later ones, where all have the same area."""
    visible = np.stack([(split.factors["instances"] == number).sum((1, 2)) for number in range(1, 9)], axis=1)
    return float(1 - (visible / visible.max()).mean())


def smallest(easy, hard, *refused, **shared):
    return Knob(
        dict(smallest=easy) | shared, dict(smallest=hard) | shared, lambda split: -float(area(split).min()), refused
    )


def largest(easy, hard, *refused, **shared):
    return Knob(
        dict(largest=easy) | shared, dict(largest=hard) | shared, lambda split: -float(area(split).max()), refused
    )


def noisy(hard):
    return Knob(
        dict(noise=0), dict(noise=hard), roughness, ((dict(noise=-1), "noise"), (dict(noise=2), "0 <= noise <= 1"))
    )


# What every set of objects can do with them: turn them, and bring their colour near to the background's.
TURNED = {
    "rotation": Knob(
        dict(rotation=0),
        dict(rotation=45),
        tilt,
        ((dict(rotation=-1), "0 <= rotation <= 180"), (dict(rotation=181), "rotation")),
    ),
    "contrast": Knob(
        dict(contrast=0.7),
        dict(contrast=0.2),
        lambda split: -float(np.quantile(contrast_of(split), 0.02)),
        ((dict(contrast=-0.1), "contrast"), (dict(contrast=0.9), "0 <= contrast <= 0.8")),
    ),
}
ALONE: dict[str, Any] = dict(fewest=1, most=1)  # a scene of one object, which can be measured as in the other sets
SETS: dict[str, dict[str, Knob]] = {
    "scenes": {
        knob: Knob(turned.easy | ALONE, turned.hard | ALONE, turned.larger, turned.refused)
        for knob, turned in (TURNED | {"noise": noisy(0.1)}).items()
    }
    | {
        "fewest": Knob(
            dict(fewest=1),
            dict(fewest=8),
            lambda split: float(split.factors["objects"].min()),
            ((dict(fewest=0), "1 <= fewest"), (dict(fewest=9), "fewest <= most")),
        ),
        "most": Knob(
            dict(most=3),
            dict(most=12),
            lambda split: float(split.factors["instances"].max()),
            ((dict(most=41), "most <= 40"), (dict(most=2), "fewest <= most")),
        ),
        "smallest": smallest(
            0.3, 0.1, (dict(smallest=0), "0 < smallest"), (dict(smallest=0.4), "smallest <= largest"), **ALONE
        ),
        "largest": largest(
            0.5,
            0.2,
            (dict(largest=0.6), "largest <= 0.5"),
            (dict(size=16, largest=0.5), "largest <= 0.49 at this size"),
            **ALONE,
        ),
        "occlusion": Knob(
            dict(occlusion=0, fewest=8, smallest=0.2, largest=0.2),
            dict(occlusion=1, fewest=8, smallest=0.2, largest=0.2),
            hidden,
            ((dict(occlusion=-0.1), "occlusion"), (dict(occlusion=1.1), "0 <= occlusion <= 1")),
        ),
    },
    "shapes": TURNED
    | {
        "smallest": smallest(
            0.38, 0.2, (dict(smallest=0), "0 < smallest"), (dict(smallest=0.4, largest=0.3), "smallest <= largest")
        ),
        "largest": largest(
            0.45,
            0.29,
            (dict(largest=0.6), "largest <= 0.5"),
            (dict(size=8, largest=0.45), "largest <= 0.42 at this size"),
        ),
        "noise": noisy(0.1),
        "distractors": Knob(
            dict(distractors=0, noise=0),
            dict(distractors=4, noise=0),
            blobs,
            ((dict(distractors=-1), "distractors"), (dict(distractors=5), "0 <= distractors <= 4")),
        ),
    },
    "cued": TURNED
    | {
        "objects": Knob(
            dict(objects=2, noise=0),
            dict(objects=4, noise=0, largest=0.22),
            lambda split: float(split.factors["each class"].shape[1]),
            ((dict(objects=1), "2 <= objects <= 4"), (dict(objects=5), "2 <= objects <= 4")),
        ),
        "smallest": smallest(
            0.25, 0.15, (dict(smallest=0), "0 < smallest"), (dict(smallest=0.25, largest=0.2), "smallest <= largest")
        ),
        "largest": largest(
            0.25,
            0.21,
            (dict(largest=0.26), "largest <= 0.25 for so many objects"),
            (dict(size=16), "largest <= 0.2 for"),
        ),
        "noise": noisy(0.1),
    },
    "textures": TURNED
    | {
        "smallest": smallest(
            0.45, 0.2, (dict(smallest=0), "0 < smallest"), (dict(smallest=0.4, largest=0.3), "smallest <= largest")
        ),
        "largest": largest(
            0.5,
            0.41,
            (dict(largest=0.6), "largest <= 0.5"),
            (dict(size=16, largest=0.5), "largest <= 0.49 at this size"),
        ),
        "period": Knob(
            dict(period=8, noise=0),
            dict(period=3, noise=0),
            flips,
            ((dict(period=1.0), "2 <= period <= 32"), (dict(period=40.0), "period")),
        ),
        "tone": Knob(
            dict(tone=0.3, noise=0),
            dict(tone=0.1, noise=0),
            lambda split: -flips(split),
            ((dict(tone=0.0), "0 < tone <= 0.5"), (dict(tone=0.6), "tone")),
        ),
        "noise": noisy(0.1),
        "cue": Knob(dict(cue="both"), dict(cue="conflict"), mismatched, ((dict(cue="colour"), "cue one of both"),)),
    },
    "pairs": {
        "patch": Knob(
            dict(patch=8),
            dict(patch=4),
            lambda split: float(split.factors["distance"].max()),
            ((dict(patch=3), "patch in (4, 8, 16)"), (dict(size=28, patch=8), "size a multiple of patch")),
        ),
        "glyphs": Knob(
            dict(glyphs=2),
            dict(glyphs=15),
            lambda split: float(split.factors["glyphs"].max()),
            ((dict(glyphs=1), "2 <= glyphs <= 15"), (dict(glyphs=16), "glyphs")),
        ),
        "noise": noisy(0.3),
    },
}
EXTREMES = {
    "pairs": (dict(size=8), dict(size=64, patch=16), dict(size=40, glyphs=2)),
    "shapes": (dict(size=8), dict(size=64, largest=0.5), dict(size=20, largest=0.5, smallest=0.5, rotation=180)),
    "cued": (dict(size=16, largest=0.2, smallest=0.2), dict(size=64), dict(objects=2, largest=0.29, rotation=180)),
    "textures": (dict(size=16), dict(size=64, largest=0.5), dict(size=20, largest=0.5, smallest=0.5, rotation=180)),
}
EDGELESS = {"pairs"}  # what is drawn fills patches, and those at the border too
ONE_COLOUR = {"textures": dict(cue="shape")}  # settings with which an object has the colour that its factor says
COMMON = ("size", "n", "seed")
HELD_OUT = {"scenes": 600}  # images for validation and for the test, where they are fewer, and can be chosen
LARGEST = {"scenes": 2048}  # pixels
ALL = names("data.synthetic")
ONE_LABEL = [name for name in ALL if find("data.synthetic", name, "data set")().task == "one class"]
KNOBS = [(name, knob) for name, knobs in SETS.items() for knob in knobs]


def maker(name):
    return find("data.synthetic", name, "data set")


@pytest.fixture(params=ALL)
def make(request):
    return maker(request.param)


@pytest.fixture(scope="module", params=ALL)
def data(request):
    return maker(request.param)(n=N)


@pytest.fixture(params=ONE_LABEL)
def make_labelled(request):
    return maker(request.param)


@pytest.fixture(scope="module", params=ONE_LABEL)
def labelled_data(request):
    """Data in which an image has one class, and a mask of what shows it."""
    return maker(request.param)(n=N)


def same(one, other):
    return (
        (one.pixels == other.pixels).all()
        and (one.labels == other.labels).all()
        and np.array_equal(one.masks, other.masks)
        and all((one.factors[name] == other.factors[name]).all() for name in one.factors)
    )


@pytest.mark.parametrize("name", ALL)
def test_every_knob_says_here_what_it_does(name):
    parameters = inspect.signature(maker(name)).parameters
    assert set(COMMON) <= set(parameters)
    assert {*SETS.get(name, {}), *COMMON, *(["held_out"] if name in HELD_OUT else [])} == set(parameters)


def test_the_same_seed_gives_the_same_images_to_the_byte(make):
    assert same(make(n=520, seed=3).train, make(n=520, seed=3).train)  # images are drawn in chunks of 500


def test_another_seed_gives_other_images(make):
    one, other = (set(map(bytes, make(n=500, seed=seed).train.pixels)) for seed in (0, 1))
    assert not one & other


def test_no_image_is_in_two_splits_or_twice_in_one(data):
    images = [bytes(image) for split in (data.train, data.val, data.test) for image in split.pixels]
    assert len(set(images)) == len(images)


def test_a_shorter_set_is_the_beginning_of_a_longer_one(make):
    whole = make(n=540).train  # images are drawn in chunks of 500
    for n in (8, 500, 520):
        part = make(n=n).train
        assert len(part) == n
        assert (part.pixels == whole.pixels[:n]).all() and (part.labels == whole.labels[:n]).all()


def test_validation_and_test_images_do_not_depend_on_how_many_are_trained_on(data):
    assert same(maker(data.name)(n=8).test, data.test)


def test_images_are_of_the_size_that_is_asked_for(make):
    data = make(n=8, size=56)
    assert data.preprocessing.size == (56, 56)
    assert data.train.pixels.shape == (8, 56, 56, 3) and data.train.pixels.dtype == np.uint8
    masks = data.train.masks if data.task == "one class" else data.train.labels
    assert masks.shape == (8, 56, 56) and masks.dtype == (bool if data.task == "one class" else np.uint8)


def test_two_thousand_images_are_held_out_for_validation_and_for_the_test(data):
    held_out = HELD_OUT.get(data.name, 2_000)
    assert (len(data.val), len(data.test)) == (held_out, held_out)


@pytest.mark.parametrize("name", HELD_OUT)
def test_how_many_images_are_held_out_can_be_chosen(name):
    data = maker(name)(n=8, size=32, held_out=10)
    assert (len(data.train), len(data.val), len(data.test)) == (8, 10, 10)
    more = maker(name)(n=8, size=32, held_out=20)
    assert (more.test.pixels[:10] == data.test.pixels).all() and same(more.train, data.train)
    with pytest.raises(ConfigError, match="8 <= held_out <= 100000"):
        maker(name)(held_out=7)


def test_classes_are_equally_frequent(labelled_data):
    data = labelled_data
    for split in (data.train, data.val, data.test):
        count = np.bincount(split.labels, minlength=len(data.classes))
        assert len(count) == len(data.classes)
        assert count.max() - count.min() <= len(split) / 500  # a chunk of 500 may be one apart


def assert_masks_are_inside(masks, name):
    """Each marks something, and nothing at the border."""
    border = np.ones(masks.shape[1:], bool)
    border[1:-1, 1:-1] = False
    assert masks.any((1, 2)).all()
    assert not masks[:, border].any() or name in EDGELESS


def test_masks_mark_something_away_from_the_border(labelled_data):
    data = labelled_data
    assert_masks_are_inside(data.train.masks, data.name)


def test_masks_stay_inside_the_smallest_and_the_fullest_image(make_labelled):
    make = make_labelled
    for settings in EXTREMES[make.__name__]:
        assert_masks_are_inside(make(n=500, **settings).train.masks, make.__name__)


def test_the_area_of_a_mask_is_its_side_squared(make_labelled):
    """With pixels fine enough that half of one along the outline counts for little."""
    make = make_labelled
    split = make(n=100, size=144).train
    assert np.abs(area(split) / split.factors["side"] ** 2 - 1).max() <= 0.06


def test_classes_have_the_same_mean_area(labelled_data):
    data = labelled_data
    share = area(data.train) / data.train.factors["side"] ** 2
    means = [share[data.train.labels == label].mean() for label in range(len(data.classes))]
    assert max(means) - min(means) <= 0.01


def test_masks_are_where_the_factors_say(make_labelled):
    make = make_labelled
    split = make(n=500, noise=0, size=96, **ONE_COLOUR.get(make.__name__, {})).train
    rows, columns = np.indices(split.masks.shape[1:]) + 0.5
    middle = [(split.masks * where).sum((1, 2)) / area(split) for where in (rows, columns)]
    assert np.hypot(middle[0] - split.factors["y"], middle[1] - split.factors["x"]).max() <= split.factors["side"].max()
    inside = [np.median(image[mask], axis=0) / 255 for image, mask in zip(split.pixels, split.masks)]
    assert np.abs(np.stack(inside) - split.factors["colour"]).max() <= 0.01


def by_class(split, values):
    return [values[split.labels == label] for label in range(split.labels.max() + 1)]


def test_the_centre_is_anywhere_alike():
    """With one size, centres are uniform over the whole range that keeps the object inside."""
    split = maker("shapes")(n=N, smallest=0.3, largest=0.3).train
    for axis in ("y", "x"):
        centre = split.factors[axis]
        low, high = centre.min(), centre.max()
        assert low + high == pytest.approx(split.pixels.shape[1], abs=0.2)
        assert stats.kstest(centre, stats.uniform(low, high - low).cdf).pvalue > RARE
    assert abs(np.corrcoef(split.factors["y"], split.factors["x"])[0, 1]) < 0.1


@pytest.mark.parametrize("factor", ["y", "x", "side", "rotation", "colour", "background"])
def test_no_factor_differs_between_classes(labelled_data, factor):
    data = labelled_data
    if factor not in data.train.factors:
        assert factor == "rotation" and data.name == "pairs"  # which are not turned
        return
    values = data.train.factors[factor]
    for column in values.reshape(len(values), -1).T:
        classes = by_class(data.train, column)
        for label, mine in enumerate(classes):
            others = np.concatenate(classes[:label] + classes[label + 1 :])
            assert stats.ks_2samp(mine, others).pvalue > RARE, f"class {label}"


def probe(features, data):
    """Test accuracy of a linear classifier on these features, its upper and lower bound included."""
    scaler = StandardScaler().fit(features(data.train))
    linear = LogisticRegression(max_iter=500).fit(scaler.transform(features(data.train)), data.train.labels)
    return linear.score(scaler.transform(features(data.test)), data.test.labels)


def mean_colour(split):
    return split.pixels.mean(axis=(1, 2))


def histogram(split):
    return np.concatenate([(split.pixels // 32 == level).mean(axis=(1, 2)) for level in range(8)], axis=1)


@pytest.mark.parametrize("features", [mean_colour, histogram])
def test_colours_alone_do_not_tell_the_class(labelled_data, features):
    data = labelled_data
    right = round(probe(features, data) * len(data.test))
    chance = np.bincount(data.test.labels).max() / len(data.test)
    assert stats.binomtest(right, len(data.test), chance, alternative="greater").pvalue > RARE


@pytest.mark.parametrize(("name", "knob"), KNOBS)
def test_a_knob_makes_the_images_harder_the_way_it_says(name, knob):
    turned = SETS[name][knob]
    easy, hard = (maker(name)(n=500, **settings).train for settings in (turned.easy, turned.hard))
    assert turned.larger(hard) > turned.larger(easy)


@pytest.mark.parametrize(
    ("name", "settings", "rule"),
    [(name, *refused) for name, knobs in SETS.items() for knob in knobs.values() for refused in knob.refused]
    + [(name, settings, rule) for name in ALL for settings, rule in (
        (dict(size=4), f"<= size <= {LARGEST.get(name, 512)}"), (dict(n=0), "8 <= n <= 10000000"),
        (dict(seed=-1), "seed >= 0"), (dict(noise=float("nan")), "noise"),
    )],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_its_rule_and_what_was_found(name, settings, rule):
    with pytest.raises(ConfigError) as caught:
        maker(name)(**settings)
    assert rule in str(caught.value)
    assert all(f"{key}={value}" in str(caught.value) for key, value in settings.items() if key in rule)


@pytest.mark.parametrize("name", ALL)
def test_the_message_names_only_the_rules_that_were_broken(name):
    with pytest.raises(ConfigError) as caught:
        maker(name)(seed=-1)
    assert "size" not in str(caught.value)
