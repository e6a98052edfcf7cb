"""A model comes back from its file as it was, or not at all."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from tiny import tiny_vit, with_record
from vitral.base.errors import ConfigError, StoreError, UnknownName, VitralError
from vitral.base.preprocessing import Preprocessing
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.position import SinCosStart
from vitral.store.model import load_model, save_model

WEIGHTS, CARD = "model.safetensors", "model.json"


@pytest.fixture
def saved(labelled, tmp_path):
    save_model(labelled, tmp_path, {"command": ["vitral", "train"], "n": 3})
    return tmp_path


def rewrite(folder, change):
    """Apply a change to the JSON of a saved model."""
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    "parts",
    [{}, dict(mixer=QKNormAttention, position=SinCosStart), dict(tokens={"cls_token": 1, "reg_token": 2})],
    ids=["lecture", "parts", "registers"],
)
def test_a_model_comes_back_with_all_that_travels_with_it(tmp_path, images, parts):
    model = with_record(tiny_vit(**parts))
    save_model(model, tmp_path, {"seed": 4, "machine": {"cores": 2}})
    again = load_model(tmp_path)
    assert torch.equal(again(images), model(images))
    for (name, was), (same, now) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == same
        assert torch.equal(was, now)
    assert not again.training
    assert again.classes == model.classes
    assert again.preprocessing == model.preprocessing
    assert again.provenance == {"seed": 4, "machine": {"cores": 2}}
    assert again.config == model.config
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, CARD}


@pytest.mark.parametrize("name", ["", WEIGHTS, CARD])
def test_a_model_is_named_by_its_folder_or_either_file(saved, labelled, images, name):
    assert torch.equal(load_model(str(saved / name))(images), labelled(images))


def test_saving_twice_gives_the_same_bytes(labelled, tmp_path):
    for name in ("a", "b"):
        save_model(labelled, tmp_path / name, {})
    for file in (WEIGHTS, CARD):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_training_models_mode_and_weights_are_left_alone_by_saving(labelled, tmp_path):
    labelled.train()
    before = copy.deepcopy(labelled.state_dict())
    save_model(labelled, tmp_path, {})
    assert labelled.training
    assert all(torch.equal(value, labelled.state_dict()[name]) for name, value in before.items())


def test_any_flipped_bit_of_the_weights_is_found(saved):
    content = (saved / WEIGHTS).read_bytes()
    rng = np.random.default_rng(0)
    for place in (0, 7, 8, len(content) - 1, *rng.integers(0, len(content), 40).tolist()):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        (saved / WEIGHTS).write_bytes(bytes(flipped))
        with pytest.raises(StoreError, match=rf"{WEIGHTS} is not the file that .* describes"):
            load_model(saved)
    (saved / WEIGHTS).write_bytes(content)
    load_model(saved)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_weights_are_found(saved, kept):
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[:kept])
    with pytest.raises(StoreError, match="damaged or was replaced"):
        load_model(saved)


@pytest.mark.parametrize("kept", [0, 1, 0.5, -2])
def test_a_truncated_card_is_found(saved, kept):
    content = (saved / CARD).read_text().strip()
    (saved / CARD).write_text(content[: int(kept * len(content)) if kept == 0.5 else kept])
    with pytest.raises(StoreError, match=f"{CARD} cannot be read as JSON"):
        load_model(saved)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"vitral-model"', "{}", '{"format": "other"}'])
def test_json_of_another_kind_is_no_card(saved, content):
    (saved / CARD).write_text(content)
    with pytest.raises(StoreError, match="is not a valid Vitral model card"):
        load_model(saved)


def test_a_card_that_is_not_text_is_refused(saved):
    (saved / CARD).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match=CARD):
        load_model(saved)


CARDS = {
    "a later version": (dict(version=4), r"version 4; this Vitral reads up to version 3\. Update"),
    "a task that does not exist": (
        dict(task="detection"),
        "task: input should be 'one class', 'several classes', 'numbers' or 'segmentation'",
    ),
    "thresholds of another task": (
        dict(thresholds=[0.5, 0.5, 0.5]),
        "thresholds need one number per class, and the task 'several classes'",
    ),
    "a temperature that is not above 0": (
        dict(calibration=dict(n=60, temperature=0.0)),
        "calibration: temperature must be above 0",
    ),
    "another model's grid": (
        dict(grid=[3, 2]),
        r"has grid=\(3, 2\), but the model that it describes has grid=\(2, 3\)",
    ),
    "a task of another model": (
        dict(task="segmentation"),
        "its task is segmentation, but the model gives one answer for each image",
    ),
    "fewer names than answers": (dict(classes=["one"]), "5"),
    "more names than answers": (dict(classes=[f"class {i}" for i in range(6)]), "5"),
}


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_that_cannot_be_right_is_refused(saved, kind):
    changes, message = CARDS[kind]
    rewrite(saved, lambda card: card.update(changes))
    with pytest.raises(StoreError, match=message):
        load_model(saved)


def test_the_whole_record_comes_back(saved, labelled):
    record = load_model(saved).record
    assert record == dataclasses.replace(labelled.record, provenance=record.provenance)
    assert (record.grid, record.num_prefix_tokens, record.task) == ((2, 3), 1, "one class")


def places(value, path=()):
    """The way to each entry of a JSON value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


@pytest.mark.parametrize("junk", [None, -1, 1e9, "x", [], {}, ["x", 2], {"x": 1}, "os:system", "remove it"], ids=str)
def test_a_card_with_anything_else_in_any_place_is_refused_in_a_sentence_or_harmless(saved, images, junk):
    original = json.loads((saved / CARD).read_text())
    free = ("classes", "provenance", "preprocessing")  # these hold what they hold
    for path in places(original):
        card = copy.deepcopy(original)
        holder = card
        for key in path[:-1]:
            holder = holder[key]
        if junk == "remove it":
            del holder[path[-1]]
        else:
            holder[path[-1]] = junk
        (saved / CARD).write_text(json.dumps(card))
        try:
            model = load_model(saved)
        except VitralError as error:
            assert isinstance(error, StoreError), path
            assert len(str(error)) > 20
        else:
            unknown = junk is None and path in (("grid",), ("num_prefix_tokens",))
            harmless = path[0] in free or unknown or junk == "remove it" or path[:2] == ("architecture", "vit")
            assert harmless, (path, junk)
            assert len(model.classes) == 5
            assert model(images).shape == (2, 5)


def test_a_card_and_weights_of_two_models_are_not_mixed(saved, tmp_path):
    save_model(with_record(tiny_vit(depth=1)), tmp_path / "other", {})
    (saved / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(StoreError, match="was replaced"):
        load_model(saved)


def test_weights_that_do_not_fit_the_architecture_are_refused(saved):
    rewrite(saved, lambda card: card["architecture"]["vit"].update(embed_dim=32))
    with pytest.raises(StoreError, match="do not fit the model"):
        load_model(saved)


def test_no_file_outside_the_folder_is_read(saved, tmp_path):
    (tmp_path / "elsewhere.safetensors").write_bytes((saved / WEIGHTS).read_bytes())
    rewrite(saved, lambda card: card["weights"].update(file="../elsewhere.safetensors"))
    with pytest.raises(StoreError):
        load_model(saved)


def test_what_is_missing_is_named(saved, tmp_path):
    with pytest.raises(UnknownName, match=r"no run '.*nowhere'.*`vitral train`"):
        load_model(tmp_path / "nowhere")
    (saved / WEIGHTS).unlink()
    with pytest.raises(StoreError, match=f"{WEIGHTS} is missing"):
        load_model(saved)
    (saved / CARD).unlink()
    with pytest.raises(StoreError, match=f"there is no {CARD} in it"):
        load_model(saved)


def test_a_model_that_nothing_describes_is_not_saved(tmp_path):
    model = with_record(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"Linear cannot be saved.*--model file\.py:Name"):
        save_model(model, tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


def test_preprocessing_comes_back_as_it_went(saved, labelled):
    expected = Preprocessing((8, 18), 0.9, "bilinear", (0.1, 0.2, 0.3))
    assert load_model(saved).preprocessing == labelled.preprocessing == expected
