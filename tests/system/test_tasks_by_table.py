"""Several classes at once, and numbers, from a table of labels through every verb."""

import pytest

from vitral.weights.load import load

FAST = ("--model", "vit_nano_patch8_48", "--epochs", 12, "--augment", "none", "--img-size", 32, "--lr", 0.004)


def test_several_classes_go_through_every_verb(vitral, colours):
    answer = vitral("train", "--data", "colours", *FAST, "--out", "run", "--json").done()
    assert "read as several classes, because the columns red, green, blue hold only 0 and 1" in answer.err
    result = answer.json
    assert result["task"] == "several classes" and result["test_accuracy"] is None
    assert result["figures"]["mAP"] > 0.8 and result["n"] == 18

    answer = vitral("eval", "run", "--json").done()
    assert answer.json["mAP"] == result["figures"]["mAP"] and answer.json["task"] == "several classes"
    assert set(answer.json["per_class"]) == {"red", "green", "blue"}
    assert "chance: mAP" in answer.err and "AP" in answer.err

    answer = vitral("predict", "run", colours / "000.png", "--json").done()
    (one,) = answer.json["predictions"]
    assert answer.json["task"] == one["task"] == "several classes" and set(one["classes"]) == {"red", "green", "blue"}
    assert one["thresholds"] == {"red": 0.5, "green": 0.5, "blue": 0.5}

    answer = vitral(
        "explain", "run", colours / "000.png", "--method", "occlusion", "--target", "green", "--json"
    ).done()
    (explained,) = answer.json["explained"]
    assert explained["target"] == "green" and explained["predicted"]["task"] == "several classes"
    assert "the logit of green" in answer.err

    vitral("convert", "run", "timm").done()
    again = vitral("predict", "timm", colours / "000.png", "--json").done().json["predictions"][0]
    assert again["classes"] == pytest.approx(one["classes"], abs=1e-5)


def test_numbers_go_through_every_verb(vitral, greys):
    answer = vitral("train", "--data", "greys", *FAST, "--label-smoothing", 0.1, "--out", "run", "--json").done()
    assert "'dose (mg)', the only one" in answer.err and "label_smoothing=0.1 is not used" in answer.err
    result = answer.json
    assert result["task"] == "numbers" and result["figures"]["R2"] > 0.5

    answer = vitral("eval", "run", "--json").done()
    assert answer.json["R2"] == result["figures"]["R2"]
    assert answer.json["per_number"]["dose (mg)"]["MAE"] < answer.json["per_number"]["dose (mg)"]["MAE_of_mean"]
    assert "always the mean of these images' numbers" in answer.err

    answer = vitral("predict", "run", greys / "000.png", "--json").done()
    (one,) = answer.json["predictions"]
    assert 500 < one["numbers"]["dose (mg)"] < 3000

    answer = vitral("explain", "run", greys / "000.png", "--method", "occlusion", "attention", "--json").done()
    assert answer.json["explained"][0]["class"] is None and answer.json["explained"][0]["target"] == "dose (mg)"
    assert "the predicted dose (mg)" in answer.err and "probability" not in answer.err

    vitral("convert", "run", "timm").done()
    again = vitral("predict", "timm", greys / "000.png", "--json").done().json["predictions"][0]
    assert again["numbers"] == pytest.approx(one["numbers"], rel=1e-4)


def test_a_run_of_numbers_is_resumed_and_fine_tuned(vitral, greys):
    vitral("train", "--data", "greys", *FAST, "--out", "run").done()
    answer = vitral("train", "--init", "run", "--data", "greys", "--epochs", 1, "--out", "tuned", "--json").done()
    first, tuned = (vitral("eval", name, "--json").done().json["R2"] for name in ("run", "tuned"))
    assert tuned > first - 0.1 and answer.json["task"] == "numbers"
    assert vitral("train", "--resume", "run").done()
    step = next((greys.parent / "run" / "checkpoints").iterdir())
    value = vitral("predict", step, greys / "000.png", "--json").done().json["predictions"][0]["numbers"]["dose (mg)"]
    assert 500 < value < 3000


def test_a_head_of_another_task_is_not_kept(vitral, greys, colours):
    vitral("train", "--data", "greys", *FAST, "--epochs", 1, "--out", "run").done()
    answer = vitral("train", "--init", "run", "--data", "colours", "--epochs", 0, "--out", "probe", "--json").done()
    assert answer.json["task"] == "several classes" and "linear probe: validation mAP" in answer.err
    assert load("probe").record.thresholds == (0.5, 0.5, 0.5)


def test_data_of_another_task_is_refused_with_both(vitral, greys, colours):
    vitral("train", "--data", "greys", *FAST, "--epochs", 1, "--out", "run").done()
    answer = vitral("eval", "run", "--data", "shapes:n=8,size=32")
    answer.refused(1, "shapes has labels for the task 'one class'; the model's is 'numbers'")
    vitral("explain", "run", "--data", "shapes:n=8,size=32", "--score").refused(
        2, "Methods can be scored only with a model that predicts one class per image"
    )


def test_data_shows_a_table(vitral, greys, colours):
    assert vitral("data", "show", "greys", "--json").done().json["numbers"]["dose (mg)"]["mean"] > 1000
    assert vitral("data", "show", "colours", "--json").done().json["classes"]["red"] > 10
