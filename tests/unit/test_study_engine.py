"""The parts of the engine: what is refused, how formulas are read, what a verdict is made of."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from studied import DATA, arm, study
from vitral.base.errors import ConfigError, UnknownName
from vitral.studies.arms import BAG, CIRCULAR, DWCONV3, DWCONV5, DWCONV7, RESNET, VIT
from vitral.studies.changes import CHANGES, changed
from vitral.studies.code import hash_of, hashes, imports
from vitral.studies.matching import MACS, PARAMETERS, check_matched, size_of
from vitral.studies.results import Results
from vitral.studies.rules import Beyond, Exactly
from vitral.studies.runner import planned
from vitral.studies.study import Budget, Condition, Hypothesis, Regime, smaller
from vitral.studies.task import FIRST, measured
from vitral.studies.training import data_of, plain


def run(arm, seed, accuracy, condition="plain", status="done", **measures):
    """A record as a run leaves it."""
    known = {"study": "tried", "arm": arm, "condition": condition, "seed": seed, "rate": 1.0, "sweep": False}
    record = {f"{split}_accuracy": accuracy for split in ("test", "val", "train")} | {"diverged": False, "seconds": 1}
    training = {"samples": 256, "recipe": {"lr": 0.002}}
    return known | dict(
        status=status,
        record=record,
        measures=measures,
        seconds=1.0,
        training=training,
        size=dict(parameters=100, macs=1000),
        time=f"2026-01-0{1 + seed}",
    )


def results(*runs, preset="quick", **changes):
    return Results(study(**changes), preset, tuple(runs))


def pair(effects, base=0.9):
    """Runs of two arms whose accuracies differ by so much, seed by seed."""
    return [
        one
        for seed, effect in enumerate(effects)
        for one in (run("vit", seed, base), run("dwconv3", seed, base - effect))
    ]


DIFFERENCE = 'accuracy["vit", "plain"] - accuracy["dwconv3"]'


LEAST = Beyond(0.02)


def decided(effects, rule=LEAST, **changes):
    found = results(*pair(effects), hypotheses=(Hypothesis("", DIFFERENCE, rule),), **changes)
    return found, found.findings[0]


def test_a_formula_is_of_one_seed_at_a_time():
    _, finding = decided([0.1, 0.2, 0.3])
    assert finding.effects == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ('mean(accuracy["vit"], accuracy["dwconv3"])', 0.85),
        ('max(accuracy["vit"], 0.95)', 0.95),
        ('log2(parameters["vit"] / 25)', 2.0),
        ('reach["vit"][1] - reach["vit"][0]', 3.0),
    ],
)
def test_what_a_formula_may_say(formula, value):
    runs = [run("vit", 0, 0.9, reach=[1.0, 4.0]), run("dwconv3", 0, 0.8)]
    assert results(*runs).effect(formula) == pytest.approx((value,))


@pytest.mark.parametrize("formula", ['accuracy["vit"] +', '__import__("os")', 'accuracy["vit"]["x"]', "accuracy"])
def test_a_formula_that_has_no_value_is_refused_with_its_words(formula):
    with pytest.raises(ConfigError, match="has no value"):
        results(run("vit", 0, 0.9)).effect(formula)


def test_a_seed_that_is_missing_decides_nothing():
    """The seeds that are there might be those that went well."""
    runs = pair([0.1, 0.11, 0.12])
    runs[3] |= {"status": "failed", "why": "a test's"}
    found = results(*runs, hypotheses=(Hypothesis("", DIFFERENCE, Beyond(0.02)),))
    assert math.isnan(found.findings[0].effects[1])
    assert found.verdict == "not measured"
    assert [run["seed"] for run in found.lost] == [1]


def test_a_run_that_diverged_counts_as_chance_and_is_listed():
    runs = pair([0.1, 0.11, 0.12])
    runs[1] |= {"status": "diverged", "why": "its loss is no number"}
    runs[1]["record"]["test_accuracy"] = 0.125
    found = results(*runs, hypotheses=(Hypothesis("", DIFFERENCE, Beyond(0.02)),))
    assert found.findings[0].effects[0] == pytest.approx(0.9 - 0.125)
    assert len(found.lost) == 1


def test_one_seed_decides_nothing():
    assert decided([0.5])[1].verdict == "not measured"


def test_arms_are_not_compared_before_the_reference_has_learned():
    found, _ = decided([0.1, 0.11, 0.12], regime=Regime("vit", "plain", 0.95))
    assert found.verdict == "not in regime"
    assert "vit stands at 90.0%" in found.sentence and "95%" in found.sentence
    assert decided([0.1, 0.11, 0.12], regime=Regime("vit", "plain", 0.9))[0].verdict == "supported"


def test_the_verdict_is_the_sentence_that_was_written_before():
    assert decided([0.1, 0.11, 0.12])[0].sentence == "It runs."
    assert decided([-0.1, -0.11, -0.12])[0].sentence == "It does not run."
    assert decided([-0.3, 0.0, 0.3])[0].sentence == "These runs cannot tell."


def test_a_smoke_run_gives_no_verdict():
    found = results(*pair([0.1, 0.11]), preset="smoke", hypotheses=(Hypothesis("", DIFFERENCE, Beyond(0.02)),))
    assert "nothing else" in found.sentence


def test_what_is_proved_is_decided_by_one_seed_and_not_corrected():
    found = results(
        *pair([1e-9]), hypotheses=(Hypothesis("", DIFFERENCE, Exactly(1e-6)), Hypothesis("", DIFFERENCE, Beyond(0)))
    )
    assert [finding.verdict for finding in found.findings] == ["holds", "not measured"]
    assert found.verdict == "supported"


def test_more_hypotheses_ask_for_clearer_effects():
    one = decided([0.029, 0.030, 0.034])[0]
    assert one.verdict == "supported"
    unclear = tuple(Hypothesis("", f"{DIFFERENCE} - {shift}", Beyond(0.02)) for shift in (0.009, 0.01, 0.011, 0.012))
    assert replace(one, study=study(hypotheses=(*one.study.hypotheses, *unclear))).verdict == "inconclusive"


@pytest.mark.parametrize("size", [32, 48])
def test_iso_arms_match(size):
    sizes = {
        known.name: size_of(known.model, plain(known.settings), 8, (size, size))
        for known in (VIT, DWCONV3, DWCONV5, DWCONV7, CIRCULAR, BAG)
    }
    reference = sizes["vit"]
    for name, found in sizes.items():
        assert abs(found.parameters / reference.parameters - 1) <= PARAMETERS, name
        assert abs(found.macs / reference.macs - 1) <= MACS, name
    assert RESNET.unmatched


def test_arms_that_do_not_match_are_refused():
    wide = replace(VIT, name="wide", settings=dict(embed_dim=128))
    with pytest.raises(ConfigError, match=r"'wide' has .* parameters and 'vit' has .* apart"):
        planned(study(arms=(VIT, wide)), "quick")
    planned(study(arms=(VIT, replace(wide, unmatched="it is a test's"))), "quick")


def test_multiply_adds_are_held_against_the_reference_too():
    one, other = size_of("vit_nano_patch8_48", {}, 8, (48, 48)), size_of("vit_nano_patch8_48", {}, 8, (48, 48))
    with pytest.raises(ConfigError, match="multiply-adds"):
        check_matched(("a", one), [("b", replace(other, macs=2 * one.macs))])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(arms=()), "has the arms"),
        (dict(arms=(VIT, VIT)), "each needs a name of its own"),
        (dict(conditions=()), "has the conditions"),
        (dict(hypotheses=()), "no hypothesis"),
    ],
)
def test_a_study_that_is_none(changes, message):
    with pytest.raises(ConfigError, match=message):
        study(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        dict(regime=Regime("vitt", "plain", 0.5)),
        dict(regime=Regime("vit", "plane", 0.5)),
        dict(sweep="plane"),
        dict(conditions=(Condition("plain", DATA, arms=("vitt",)),)),
    ],
)
def test_names_within_a_study_are_checked(changes):
    with pytest.raises(UnknownName, match="Did you mean"):
        study(**changes)


def test_a_preset_leaves_out_what_it_says():
    budget = Budget(256, 1, images=16, only=("other",), without=("dwconv3",))
    conditions = (Condition("plain", DATA), Condition("other", DATA))
    tasks = planned(study(conditions=conditions, budgets={"smoke": budget}), "smoke").tasks()
    assert [(task.arm, task.condition) for task in tasks] == [("vit", "other"), ("bag of patches", "other")]
    assert {task.training.data for task in tasks} == {"shapes:n=16,size=16"}
    assert smaller("digits", 16) == "digits"


def test_seeds_share_nothing_and_arms_share_all_but_themselves():
    tasks = list(measured(study(), Budget(256, 2), {"dwconv3": 0.5}))
    trainings = {(task.arm, task.seed): task.training for task in tasks}
    for name in ("dwconv3", "bag of patches"):
        for seed in (FIRST, FIRST + 1):
            one, other = trainings["vit", seed], trainings[name, seed]
            assert (one.data, one.seed, one.samples, one.change) == (
                other.data,
                other.seed,
                other.samples,
                other.change,
            )
    assert trainings["dwconv3", FIRST].recipe["lr"] == trainings["vit", FIRST].recipe["lr"] / 2
    first, second = (trainings["vit", seed].dataset().train.pixels for seed in (FIRST, FIRST + 1))
    assert not np.array_equal(first, second)


def test_the_key_of_a_training_is_of_all_that_decides_it():
    one = next(measured(study(), Budget(256, 1), {})).training
    others = [
        replace(one, seed=2),
        replace(one, samples=512),
        replace(one, recipe={"lr": 0.1}),
        replace(one, settings={}),
        replace(one, change=CHANGES[0]),
        replace(one, data="shapes:n=72,size=16"),
        replace(one, model="vit_nano_patch8_48"),
        replace(one, judged=10),
    ]
    keys = {other.key for other in (one, *others)}
    assert len(keys) == 1 + len(others)
    assert replace(one).key == one.key


def test_the_same_training_in_two_studies_is_one():
    one, other = (next(measured(replace(study(), name=name), Budget(256, 1), {})) for name in ("one", "other"))
    assert one.training.key == other.training.key


def test_code_is_known_by_what_it_does_and_by_what_it_imports():
    found = hashes("studies.training")
    assert {"nn/vit.py", "training/steps.py", "data/batches.py"} <= found.keys()
    assert not any(name.startswith(("report/", "cli/", "studies/report", "studies/claims")) for name in found)
    assert "data/synthetic/shapes.py" not in found
    assert "nn.attention" in imports("nn.vit")


def test_comments_and_docstrings_are_not_code(tmp_path, monkeypatch):
    from vitral.studies import code

    monkeypatch.setattr(code, "ROOT", tmp_path)
    found = []
    for number, source in enumerate(
        [
            '"""A."""\n\ndef f(x):\n    """B."""\n    return x  # c\n',
            '"""D."""\ndef f(x):\n    """E."""\n    return x\n',
            '"""A."""\ndef f(x):\n    """B."""\n    return -x\n',
        ]
    ):
        (tmp_path / f"m{number}.py").write_text(source)
        found.append(hash_of(f"m{number}"))
    assert found[0] == found[1] != found[2]


PIXELS = "shapes:n=16,size=16"


@pytest.mark.parametrize("change", [change for change in CHANGES if "permuted" in change])
def test_a_permutation_moves_every_image_alike_and_loses_nothing(change):
    whole, other = data_of(PIXELS, "", 0), data_of(PIXELS, change, 0)
    for split in ("train", "test"):
        before, after = getattr(whole, split).pixels, getattr(other, split).pixels
        assert before.shape == after.shape and not np.array_equal(before, after)
        for one, moved in zip(before, after):
            assert np.array_equal(np.sort(one.reshape(-1, 3), axis=0), np.sort(moved.reshape(-1, 3), axis=0))
    marked = np.arange(16 * 16, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    from vitral.studies.changes import PERMUTATIONS

    order = PERMUTATIONS[change](marked, 0)[0, :, :, 0].ravel()
    assert sorted(order) == list(range(256))
    assert np.array_equal(whole.train.pixels[0].reshape(256, 3)[order], other.train.pixels[0].reshape(256, 3))


def test_shuffled_labels_are_the_same_labels_in_another_order_and_only_in_training():
    whole, other = data_of(PIXELS, "", 0), data_of(PIXELS, "labels shuffled", 0)
    assert np.array_equal(whole.test.labels, other.test.labels)
    assert not np.array_equal(whole.train.labels, other.train.labels)
    assert sorted(whole.train.labels) == sorted(other.train.labels)
    assert np.array_equal(whole.train.pixels, other.train.pixels)


def test_a_change_that_is_not_known():
    with pytest.raises(UnknownName, match="patches permuted"):
        changed(data_of(PIXELS, "", 0), "patches permutted", 0)


def test_settings_are_written_down_as_plain_values():
    assert json.dumps(plain(DWCONV3.settings))
    assert arm(DWCONV3).settings["patch_size"] == 4
