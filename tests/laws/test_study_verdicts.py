"""What decides a study: matched arms; neither a ceiling nor a floor; and a headline that has its scope."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studied import arm, study
from vitral.base.errors import DataError
from vitral.data.spec import find_data
from vitral.studies.arms import DWCONV3, RESNET, VIT
from vitral.studies.dataset_changes import apply_change
from vitral.studies.decision_rules import (
    CANNOT_DIFFER,
    CEILING,
    NOTHING_LEARNED,
    Beyond,
    Exactly,
    Within,
    exceeds_chance,
    limit_reached,
)
from vitral.studies.effects import Measure, accuracy, log2, mean, train_accuracy
from vitral.studies.pages import finding_record, read_results, study_record, verdict_label
from vitral.studies.results import Results, first_sentence
from vitral.studies.study import Condition, Hypothesis, studies, with_custom_inputs

ROOT = Path(__file__).parents[2]
WORDS = {"supported", "refuted", "inconclusive", "holds", "broken", "not measured"}
RULES = st.one_of(st.builds(Beyond, st.floats(-0.5, 0.5)), st.builds(Within, st.floats(0.001, 0.5)))
VERDICTS = st.sampled_from(["supported", "refuted", "inconclusive"])
HIGH, SHARES = st.floats(CEILING, 1, exclude_min=True), st.floats(0, 1)
DIFFERENCE = accuracy["vit"] - accuracy["dwconv3"]
BETTER = (Hypothesis("It is better.", DIFFERENCE, Beyond(0.02)),)
COMMITTED = {results.study.name: results for results in read_results(ROOT / "docs" / "studies")}


@given(RULES, VERDICTS, st.lists(HIGH, min_size=2), st.lists(st.booleans()))
def test_at_a_ceiling_only_a_difference_is_a_result(rule, verdict, shares, learned):
    limit = limit_reached(rule, verdict, shares, [True, *learned])
    assert limit == (None if verdict == rule.difference else CANNOT_DIFFER)


@given(RULES, VERDICTS, st.lists(SHARES, min_size=2), st.integers(0, 9))
def test_one_arm_below_the_ceiling_leaves_room(rule, verdict, shares, at):
    shares[at % len(shares)] = CEILING
    assert limit_reached(rule, verdict, shares, [True]) is None


@given(RULES, VERDICTS, st.lists(SHARES), st.integers(1, 5))
def test_at_the_floor_nothing_is_a_result(rule, verdict, shares, arms):
    assert limit_reached(rule, verdict, shares, [False] * arms) == NOTHING_LEARNED
    assert limit_reached(rule, verdict, [], [False] * arms + [True]) is None


@given(RULES, st.lists(HIGH), st.lists(st.booleans()))
def test_what_is_proved_or_not_measured_stands_at_any_limit(rule, shares, learned):
    assert limit_reached(Exactly(0), "holds", shares, learned) is None
    assert limit_reached(rule, "not measured", shares, learned) is None


@given(st.floats(0.01, 0.9), st.integers(100, 10_000))
def test_guessing_is_not_above_chance_and_a_point_more_is_once_there_are_enough_images(chance, images):
    assert not exceeds_chance(chance, chance, images)
    assert exceeds_chance(chance + 0.01 + 2 * (0.25 / images) ** 0.5, chance, images)


def run(name, seed, correct, condition="plain", samples=256, chance=None, val=None, **measures):
    accuracies = dict(test_accuracy=correct, val_accuracy=correct if val is None else val, train_accuracy=correct)
    sample = {} if chance is None else {"sample": {s: dict(chance=chance) for s in ("train", "val", "test")}}
    record = accuracies | sample | dict(n=dict(train=2000, val=2000, test=2000), diverged=False)
    known = dict(arm=name, condition=condition, seed=seed, status="done", record=record, measures=measures, seconds=1.0)
    return known | dict(size=dict(parameters=150_000, macs=1), training=dict(samples=samples, recipe=dict(lr=0.1)))


def results(accuracies, hypotheses=BETTER, **changes):
    """Results of three seeds; `accuracies` by arm, and options of `run` by name."""
    options = {name: changes.pop(name) for name in ("samples", "chance", "val") if name in changes}
    runs = [
        run(name, seed, correct + 1e-3 * seed * (-1) ** seed, **options)
        for name, correct in accuracies.items()
        for seed in range(3)
    ]
    return Results(study(hypotheses=hypotheses, **changes), "quick", tuple(runs))


@pytest.mark.parametrize(
    ("vit", "convolution", "rule", "verdict"),
    [
        (0.99, 0.98, Beyond(0.02), CANNOT_DIFFER),
        (0.98, 0.99, Beyond(0.0), CANNOT_DIFFER),
        (0.96, 0.99, Beyond(0.02), CANNOT_DIFFER),
        (0.99, 0.99, Within(0.02), CANNOT_DIFFER),
        (0.99, 0.96, Within(0.02), "refuted"),
        (0.99, 0.96, Beyond(0.02), "supported"),
        (0.99, 0.99, Beyond(-0.02), CANNOT_DIFFER),
        (0.99, 0.90, Beyond(0.02), "supported"),
        (0.90, 0.99, Beyond(0.02), "refuted"),
        (0.93, 0.93, Within(0.02), "supported"),
    ],
)
def test_the_ceiling_in_results(vit, convolution, rule, verdict):
    found = results({"vit": vit, "dwconv3": convolution}, (Hypothesis("It is so.", DIFFERENCE, rule),))
    assert found.verdict == verdict == found.findings[0].verdict
    if verdict == CANNOT_DIFFER:
        assert "Cannot differ here" in found.headline and "above 95%" in found.headline
        assert f"vit {vit:.1%}"[:6] in found.headline and "dwconv3" in found.headline


@pytest.mark.parametrize(
    ("effect", "decides"),
    [
        (accuracy["vit"] - accuracy["dwconv3"], False),
        (mean(accuracy["vit"], accuracy["vit"]) - accuracy["dwconv3"], False),
        (abs(accuracy["dwconv3"] - accuracy["vit"]), False),
        (-(accuracy["vit"] - accuracy["dwconv3"]), False),
        (accuracy["vit"] - 0.95, True),  # one arm is not compared with another
        (train_accuracy["vit"] - train_accuracy["dwconv3"], True),  # fitting all training images is a result
        (log2(Measure("steps")["vit"] / Measure("steps")["dwconv3"]), True),
    ],
)
def test_only_comparisons_of_arms_by_accuracy_have_a_ceiling(effect, decides):
    found = results({"vit": 0.99, "dwconv3": 0.985}, (Hypothesis("It is so.", effect, Beyond(0.2)),))
    for one in found.runs:
        one["measures"]["steps"] = 4
    assert (found.findings[0].verdict == "refuted") == decides


@pytest.mark.parametrize(
    ("accuracies", "options", "verdict"),
    [
        ({"vit": 0.13, "dwconv3": 0.12}, dict(chance=0.13), NOTHING_LEARNED),
        ({"vit": 0.5, "dwconv3": 0.5}, dict(chance=0.5), NOTHING_LEARNED),  # two classes
        ({"vit": 0.9, "dwconv3": 0.9}, dict(chance=0.9), NOTHING_LEARNED),  # nine of ten images are of one class
        ({"vit": 0.13, "dwconv3": 0.4}, dict(chance=0.13), "refuted"),
        ({"vit": 0.4, "dwconv3": 0.13}, dict(chance=0.13), "supported"),
        ({"vit": 0.13, "dwconv3": 0.12}, dict(chance=0.13, val=0.9), "refuted"),  # learned, but not transferred
        ({"vit": 0.13, "dwconv3": 0.12}, dict(chance=0.13, samples=0), "refuted"),  # untrained on purpose
        ({"vit": 0.13, "dwconv3": 0.12}, {}, "refuted"),  # a record from before chance was recorded
    ],
)
def test_the_floor_in_results(accuracies, options, verdict):
    found = results(accuracies, **options, reference=None)
    assert found.verdict == verdict
    assert ("at chance" in found.headline) == (verdict == NOTHING_LEARNED)


RESNET_LEAD = Hypothesis("It beats the ResNet.", accuracy["vit"] - accuracy["resnet"], Beyond(0.02))
MATCHED_LEAD = Hypothesis("It beats the convolution.", DIFFERENCE, Beyond(0.02))
ARMS = dict(arms=(arm(VIT), arm(DWCONV3), RESNET))


@given(st.floats(0.2, 0.9), st.floats(0.2, 0.9), st.permutations([RESNET_LEAD, MATCHED_LEAD]))
def test_the_matched_arm_decides_whatever_the_order_and_the_others(convolution, resnet, hypotheses):
    accuracies = {"vit": 0.6, "dwconv3": convolution, "resnet": resnet}
    found = results(accuracies, tuple(hypotheses), **ARMS)
    own = next(one for one in found.findings if one.hypothesis is MATCHED_LEAD)
    other = next(one for one in found.findings if one.hypothesis is RESNET_LEAD)
    assert found.verdict == own.verdict and not own.unmatched
    assert finding_record(other)["context"] == ["resnet"] and finding_record(own)["context"] == []


def test_without_matched_arms_the_headline_says_that_sizes_differ():
    found = results({"vit": 0.9, "resnet": 0.5}, (RESNET_LEAD,), **ARMS)
    assert found.verdict == "supported"
    assert f"Not matched in size: resnet ({RESNET.unmatched})." in found.details
    assert "arms of different sizes, 3 seeds: " in found.headline


def test_a_hypothesis_about_one_unmatched_arm_compares_no_sizes():
    alone = Hypothesis("The ResNet learns.", accuracy["resnet"], Beyond(0.2))
    assert study(hypotheses=(alone,), **ARMS).unmatched_in(alone) == ()


def assert_scoped(found):
    """The headline names the data, the size and training, and the seeds, before a sentence of several words."""
    scope, _, sentence = found.headline.partition(": ")
    assert scope == found.scope and re.search(rf"\b{len(found.seeds)} seeds?$", scope)
    assert scope.startswith("On ")
    if any(run["training"]["samples"] for run in found.runs):
        assert re.search(r"at [\d.]+( to [\d.]+)? M parameters, [\d,]+ samples", scope)
        assert found.data_names in scope
    assert len(sentence.split()) >= 2 and sentence.rstrip(".").lower() not in WORDS


@pytest.mark.parametrize("found", COMMITTED.values(), ids=COMMITTED)
def test_every_claims_headline_has_its_scope_and_stands_on_its_page(found):
    assert_scoped(found)
    for outcome in (found.study.outcomes.supported, found.study.outcomes.refuted, found.study.outcomes.inconclusive):
        assert len(first_sentence(outcome).split()) >= 5
    record = study_record(found)
    assert record["headline"] == found.headline and record["verdict"] == verdict_label(found)
    folder = ROOT / "docs" / "studies"
    for page in (folder / f"{found.study.name}.html", folder / "index.html"):
        text = page.read_text(encoding="utf-8").replace("&#39;", "'").replace("&gt;", ">")
        assert found.headline in text, f"{page}: run python -m benchmarks.study_pages"
        assert page.stat().st_size < 1_000_000
    summary = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'class="word|>\s*(supported|refuted|inconclusive)\s*<', summary)
    lecture = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
    assert f"**{found.scope}:**" in lecture


@given(st.sampled_from(["supported", "refuted", "inconclusive"]), st.integers(1, 6))
def test_every_outcome_has_a_scope(outcome, seeds):
    lead = {"supported": 0.2, "refuted": -0.2, "inconclusive": 0.02}[outcome]
    runs = [
        one
        for seed in range(seeds)
        for one in (run("vit", seed, 0.6 + lead + 0.01 * (-1) ** seed), run("dwconv3", seed, 0.6))
    ]
    assert_scoped(Results(study(hypotheses=(MATCHED_LEAD,)), "quick", tuple(runs)))


def test_the_convolution_decides_shape_or_texture_and_the_resnet_is_context():
    found = COMMITTED["shape_or_texture"]
    deciding = found.findings[found.study.deciding]
    assert deciding.hypothesis.effect.arms == {"vit", "dwconv3"} and found.verdict == "refuted"
    assert deciding.decision.mean == pytest.approx(-0.273, abs=1e-3)
    assert all(one.unmatched for one in found.findings if "resnet" in one.hypothesis.effect.arms)


def test_locality_stands_at_the_ceiling():
    assert COMMITTED["locality"].verdict == CANNOT_DIFFER


@pytest.mark.parametrize("name", [name for name, one in studies().items() if one.own_data])
def test_a_study_on_own_images_names_them_and_not_the_drawn_ones(name, tmp_path):
    folder = tmp_path / "garden birds"
    own = with_custom_inputs(studies()[name], folder, None)
    assert {one.data for one in own.conditions} == {str(folder)} and own.reference is None
    assert len({(one.change, one.data) for one in own.conditions}) == len(own.conditions), "two conditions are the same"
    assert not re.search("large shapes|small shapes", " ".join(one.effect.text for one in own.hypotheses))
    runs = tuple(run(one.name, seed, 0.5) for one in own.arms for seed in range(2))
    assert "On the images in garden birds, " in Results(own, "quick", runs).scope


@pytest.mark.parametrize("count", ["8", "30", "1,000"])
def test_a_condition_may_keep_some_training_images(count):
    whole = find_data("shapes:n=1500,size=16")
    data, n = apply_change(whole, f"{count} training images", 0), int(count.replace(",", ""))
    assert len(data.train) == n and len(data.test) == len(whole.test) and len(data.val) == len(whole.val)
    assert (data.train.pixels == whole.train.pixels[:n]).all()


def test_more_training_images_than_there_are_is_refused():
    data = apply_change(find_data("shapes:n=64,size=16"), "1,024 training images", 0)
    with pytest.raises(DataError, match=r"training images, and this condition needs 1,024"):
        _ = data.train


def test_the_first_sentence_ends_where_the_next_begins():
    assert first_sentence("By 5.5 points, vs. none. It is so.") == "By 5.5 points, vs. none."
    assert first_sentence("Only one.") == "Only one."
    assert replace(COMMITTED["pooling"], preset="smoke").headline.endswith("it gives no verdict.")
    assert Condition("plain", "shapes").change == ""
