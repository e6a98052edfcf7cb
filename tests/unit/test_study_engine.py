"""The engine of studies: effects, verdicts, sizes that must match, changes of data, and what makes a record stale."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from studied import DATA, arm, study
from vitral.base.errors import ConfigError, UnknownName
from vitral.studies.arms import BAG, CIRCULAR, DWCONV3, DWCONV5, DWCONV7, RESNET, VIT
from vitral.studies.code_fingerprint import hash_of, hashes, imports
from vitral.studies.dataset_changes import CHANGES, PERMUTATIONS, apply_change
from vitral.studies.decision_rules import Beyond, Exactly
from vitral.studies.effects import Measure, accuracy, log2, maximum, mean, minimum, parameters
from vitral.studies.results import Results
from vitral.studies.running.plan import (
    FIRST_SEED,
    check_sizes_match,
    count_size,
    measured_tasks,
    plan_study,
)
from vitral.studies.study import MATCHED, Budget, Condition, Hypothesis, Reference, limit_images
from vitral.studies.training import plain_values, seeded_dataset


def run(arm, seed, correct, condition="plain", status="done", **measures):
    """A record as a run leaves it."""
    known = dict(study="tried", arm=arm, condition=condition, seed=seed, rate=1.0, sweep=False, status=status)
    record = {f"{split}_accuracy": correct for split in ("test", "val", "train")} | {"diverged": False, "seconds": 1}
    known |= dict(record=record, measures=measures, seconds=1.0, time=f"2026-01-0{1 + seed}")
    return known | dict(size=dict(parameters=100, macs=1000), training={"samples": 256, "recipe": {"lr": 0.002}})


def results(*runs, preset="quick", **changes):
    return Results(study(**changes), preset, tuple(runs))


def pair(effects, base=0.9):
    """Runs of two arms whose accuracies differ by so much, seed by seed."""
    return [
        one
        for seed, effect in enumerate(effects)
        for one in (run("vit", seed, base), run("dwconv3", seed, base - effect))
    ]


DIFFERENCE = accuracy["vit", "plain"] - accuracy["dwconv3"]
BEYOND = Beyond(0.02)


def decided(effects, rule=BEYOND, **changes):
    found = results(*pair(effects), hypotheses=(Hypothesis("", DIFFERENCE, rule),), **changes)
    return found, found.findings[0]


def test_an_effect_is_computed_for_each_seed():
    _, finding = decided([0.1, 0.2, 0.3])
    assert finding.effects == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("effect", "value", "text"),
    [
        (mean(accuracy["vit"], accuracy["dwconv3"]), 0.85, 'mean(accuracy["vit"], accuracy["dwconv3"])'),
        (maximum(accuracy["vit"], 0.95), 0.95, 'max(accuracy["vit"], 0.95)'),
        (minimum(accuracy["vit", "plain"], 0.95), 0.9, 'min(accuracy["vit", "plain"], 0.95)'),
        (log2(parameters["vit"] / 25), 2.0, 'log2(parameters["vit"] / 25)'),
        (Measure("reach")["vit"][1] - Measure("reach")["vit"][0], 3.0, 'reach["vit"][1] - reach["vit"][0]'),
        (1 - (accuracy["vit"] - accuracy["dwconv3"]), 0.9, '1 - (accuracy["vit"] - accuracy["dwconv3"])'),
        (accuracy["vit"] - accuracy["dwconv3"] + 1, 1.1, 'accuracy["vit"] - accuracy["dwconv3"] + 1'),
        (-(accuracy["vit"] - 1) * 2, 0.2, '-(accuracy["vit"] - 1) * 2'),
        ((accuracy["vit"] + 1) / (accuracy["vit"] * 2), 1.9 / 1.8, '(accuracy["vit"] + 1) / (accuracy["vit"] * 2)'),
        (abs(accuracy["dwconv3"] - accuracy["vit"]), 0.1, 'abs(accuracy["dwconv3"] - accuracy["vit"])'),
    ],
)
def test_an_effect_computes_what_its_text_says(effect, value, text):
    runs = [run("vit", 0, 0.9, reach=[1.0, 4.0]), run("dwconv3", 0, 0.8)]
    assert results(*runs).effect(effect) == pytest.approx((value,))
    assert effect.text == text
    names = {"accuracy": {"vit": 0.9, ("vit", "plain"): 0.9, "dwconv3": 0.8}, "parameters": {"vit": 100}}
    functions = {"mean": lambda *numbers: sum(numbers) / len(numbers), "max": max, "min": min, "abs": abs}
    assert eval(text, {"log2": math.log2, "reach": {"vit": [1.0, 4.0]}, **names, **functions}) == pytest.approx(value)


@pytest.mark.parametrize(
    "effect",
    [
        accuracy["vit"][0],
        accuracy["vit"] / (accuracy["vit"] - 0.9),
        log2(accuracy["vit"] - 1),
        Measure("reach")["vit"][2],
    ],
)
def test_an_effect_that_has_no_value_is_refused_with_its_text(effect):
    with pytest.raises(ConfigError, match="has no value") as caught:
        results(run("vit", 0, 0.9, reach=[1.0, 4.0])).effect(effect)
    assert effect.text in str(caught.value)


def test_a_measure_without_an_arm_is_not_an_effect():
    one = Hypothesis("Better.", accuracy["vit"], BEYOND)
    object.__setattr__(one, "effect", accuracy)  # a run with checked types refuses it as an argument
    with pytest.raises(ConfigError, match="needs an effect that names arms"):
        study(hypotheses=(one,))


def test_without_all_seeds_nothing_is_decided():
    """The seeds that finished may be those that went well."""
    runs = pair([0.1, 0.11, 0.12])
    runs[3] |= {"status": "failed", "why": "a test's"}
    found = results(*runs, hypotheses=(Hypothesis("", DIFFERENCE, Beyond(0.02)),))
    assert math.isnan(found.findings[0].effects[1])
    assert found.verdict == "not measured"
    assert [run["seed"] for run in found.unfinished] == [1]


def test_a_run_that_diverged_counts_as_chance_and_is_listed():
    runs = pair([0.1, 0.11, 0.12])
    runs[1] |= {"status": "diverged", "why": "its loss is not finite"}
    runs[1]["record"]["test_accuracy"] = 0.125
    found = results(*runs, hypotheses=(Hypothesis("", DIFFERENCE, Beyond(0.02)),))
    assert found.findings[0].effects[0] == pytest.approx(0.9 - 0.125)
    assert len(found.unfinished) == 1


def test_one_seed_decides_nothing():
    assert decided([0.5])[1].verdict == "not measured"


def test_arms_are_not_compared_unless_the_reference_is_trained_well_enough():
    found, _ = decided([0.1, 0.11, 0.12], reference=Reference("vit", "plain", 0.95))
    assert found.verdict == "reference model not trained well enough"
    assert "vit reaches 90.0%" in found.sentence and "required 95%" in found.sentence
    assert decided([0.1, 0.11, 0.12], reference=Reference("vit", "plain", 0.9))[0].verdict == "supported"


def test_the_verdict_is_explained_by_the_sentence_written_in_advance():
    assert decided([0.1, 0.11, 0.12])[0].sentence == "It runs."
    assert decided([-0.1, -0.11, -0.12])[0].sentence == "It does not run."
    assert decided([-0.3, 0.0, 0.3])[0].sentence == "These runs do not decide it."


def test_a_smoke_run_gives_no_verdict():
    found = results(*pair([0.1, 0.11]), preset="smoke", hypotheses=(Hypothesis("", DIFFERENCE, Beyond(0.02)),))
    assert "gives no verdict" in found.sentence


def test_what_is_proved_is_decided_by_one_seed_and_not_corrected():
    both = tuple(Hypothesis("", DIFFERENCE, rule) for rule in (Exactly(1e-6), Beyond(0)))
    found = results(*pair([1e-9]), hypotheses=both)
    assert [finding.verdict for finding in found.findings] == ["holds", "not measured"]
    assert found.verdict == "supported"


def test_more_hypotheses_require_clearer_effects():
    one = decided([0.029, 0.030, 0.034])[0]
    assert one.verdict == "supported"
    unclear = tuple(Hypothesis("", DIFFERENCE - shift, Beyond(0.02)) for shift in (0.009, 0.01, 0.011, 0.012))
    assert replace(one, study=study(hypotheses=(*one.study.hypotheses, *unclear))).verdict == "inconclusive"


@pytest.mark.parametrize("size", [32, 48])
def test_iso_arms_match(size):
    sizes = {
        known.name: count_size(known.model, plain_values(known.settings), 8, (size, size))
        for known in (VIT, DWCONV3, DWCONV5, DWCONV7, CIRCULAR, BAG)
    }
    reference = sizes["vit"]
    for name, found in sizes.items():
        for quantity, (_, most) in MATCHED.items():
            assert abs(getattr(found, quantity) / getattr(reference, quantity) - 1) <= most, (name, quantity)
    assert RESNET.unmatched


def test_arms_that_do_not_match_are_refused():
    wide = replace(VIT, name="wide", settings=dict(embed_dim=128))
    with pytest.raises(ConfigError, match=r"'wide' has .* parameters and 'vit' has .* a difference of"):
        plan_study(study(arms=(VIT, wide)), "quick")
    plan_study(study(arms=(VIT, replace(wide, unmatched="it is a test's"))), "quick")


def test_multiply_adds_must_match_too():
    one, other = count_size("vit_nano_patch8_48", {}, 8, (48, 48)), count_size("vit_nano_patch8_48", {}, 8, (48, 48))
    with pytest.raises(ConfigError, match="multiply-adds"):
        check_sizes_match(("a", one), [("b", replace(other, macs=2 * one.macs))])
    check_sizes_match(("a", one), [("b", replace(other, macs=2 * one.macs))], ("parameters",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(arms=()), "needs at least one entry in arms"),
        (dict(arms=(VIT, VIT)), "each with its own name"),
        (dict(conditions=()), "needs at least one entry in conditions"),
        (dict(hypotheses=()), "no hypothesis"),
    ],
)
def test_an_incomplete_study_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        study(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        dict(reference=Reference("vitt", "plain", 0.5)),
        dict(reference=Reference("vit", "plane", 0.5)),
        dict(sweep="plane"),
        dict(conditions=(Condition("plain", DATA, arms=("vitt",)),)),
    ],
)
def test_names_within_a_study_are_checked(changes):
    with pytest.raises(UnknownName, match="Did you mean"):
        study(**changes)


def test_a_preset_leaves_out_the_named_conditions_and_arms():
    budget = Budget(256, 1, images=16, only=("other",), without=("dwconv3",))
    conditions = (Condition("plain", DATA), Condition("other", DATA))
    tasks = plan_study(study(conditions=conditions, budgets={"smoke": budget}), "smoke").tasks()
    assert [(task.arm, task.condition) for task in tasks] == [("vit", "other"), ("bag of patches", "other")]
    assert {task.training.data for task in tasks} == {"shapes:n=16,size=16"}
    assert limit_images("digits", 16) == "digits"


def test_seeds_share_nothing_and_arms_share_everything_else():
    tasks = list(measured_tasks(study(), Budget(256, 2), {"dwconv3": 0.5}))
    trainings = {(task.arm, task.seed): task.training for task in tasks}
    for name in ("dwconv3", "bag of patches"):
        for seed in (FIRST_SEED, FIRST_SEED + 1):
            one, other = trainings["vit", seed], trainings[name, seed]
            for field in ("data", "seed", "samples", "change"):
                assert getattr(one, field) == getattr(other, field)
    assert trainings["dwconv3", FIRST_SEED].recipe["lr"] == trainings["vit", FIRST_SEED].recipe["lr"] / 2
    first, second = (trainings["vit", seed].dataset().train.pixels for seed in (FIRST_SEED, FIRST_SEED + 1))
    assert not np.array_equal(first, second)


def test_the_key_of_a_training_depends_on_everything_that_determines_it():
    one = next(measured_tasks(study(), Budget(256, 1), {})).training
    others = [
        replace(one, seed=2),
        replace(one, samples=512),
        replace(one, recipe={"lr": 0.1}),
        replace(one, settings={}),
        replace(one, change=CHANGES[0]),
        replace(one, data="shapes:n=72,size=16"),
        replace(one, model="vit_nano_patch8_48"),
        replace(one, eval_images=10),
    ]
    keys = {other.key for other in (one, *others)}
    assert len(keys) == 1 + len(others)
    assert replace(one).key == one.key


def test_the_same_training_in_two_studies_is_one():
    one, other = (next(measured_tasks(replace(study(), name=name), Budget(256, 1), {})) for name in ("one", "other"))
    assert one.training.key == other.training.key


def test_a_fingerprint_covers_all_imported_code():
    found = hashes("studies.training")
    assert {"nn/vit.py", "training/steps.py", "data/batches.py"} <= found.keys()
    others = ("report/", "cli/", "studies/pages", "studies/results", "studies/claims")
    assert not any(name.startswith(others) for name in found)
    assert "data/synthetic/shapes.py" not in found
    assert "nn.attention" in imports("nn.vit")


def test_comments_and_docstrings_do_not_change_the_fingerprint(tmp_path, monkeypatch):
    from vitral.studies import code_fingerprint

    monkeypatch.setattr(code_fingerprint, "ROOT", tmp_path)
    found, sources = [], ['"""A."""\n\ndef f(x):\n    """B."""\n    return x  # c\n']
    sources += [f'"""D."""\ndef f(x):\n    """E."""\n    return {value}\n' for value in ("x", "-x")]
    for number, source in enumerate(sources):
        (tmp_path / f"m{number}.py").write_text(source)
        found.append(hash_of(f"m{number}"))
    assert found[0] == found[1] != found[2]


PIXELS = "shapes:n=16,size=16"


@pytest.mark.parametrize("change", [change for change in CHANGES if "permuted" in change])
def test_a_permutation_is_the_same_for_every_image_and_loses_no_pixel(change):
    whole, other = seeded_dataset(PIXELS, "", 0), seeded_dataset(PIXELS, change, 0)
    for split in ("train", "test"):
        before, after = getattr(whole, split).pixels, getattr(other, split).pixels
        assert before.shape == after.shape and not np.array_equal(before, after)
        for one, moved in zip(before, after):
            assert np.array_equal(np.sort(one.reshape(-1, 3), axis=0), np.sort(moved.reshape(-1, 3), axis=0))
    marked = np.arange(16 * 16, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    order = PERMUTATIONS[change](marked, 0)[0, :, :, 0].ravel()
    assert sorted(order) == list(range(256))
    assert np.array_equal(whole.train.pixels[0].reshape(256, 3)[order], other.train.pixels[0].reshape(256, 3))


def test_shuffled_labels_are_the_same_labels_in_another_order_and_only_in_training():
    whole, other = seeded_dataset(PIXELS, "", 0), seeded_dataset(PIXELS, "labels shuffled", 0)
    assert np.array_equal(whole.test.labels, other.test.labels)
    assert not np.array_equal(whole.train.labels, other.train.labels)
    assert sorted(whole.train.labels) == sorted(other.train.labels)
    assert np.array_equal(whole.train.pixels, other.train.pixels)


def test_an_unknown_change_is_refused():
    with pytest.raises(UnknownName, match="patches permuted"):
        apply_change(seeded_dataset(PIXELS, "", 0), "patches permutted", 0)


def test_settings_are_recorded_as_plain_values():
    assert json.dumps(plain_values(DWCONV3.settings))
    assert arm(DWCONV3).settings["patch_size"] == 4
