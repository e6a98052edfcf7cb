"""The reader's own module, named as file.py:Name, is trained, judged and explained like one of ours."""

import json
import sys

import numpy as np
import pytest

import vitral as package
from shell import Trained
from vitral.data.image import load_image

WORDS = ("train", "--data", "photos", "--img-size", 16, "--epochs", 4, "--batch-size", 8)


@pytest.fixture
def run(vitral, photos, own, tmp_path):
    vitral(*WORDS, "--model", "own.py:Mine", "--out", "run").done()
    return Trained(tmp_path / "run")


def test_it_is_trained_judged_and_explained(terminal, photos, own):
    """All verbs as a person types them, in processes of their own."""
    answer = terminal(*WORDS, "--model", "own.py:Mine", "--json").done()
    assert answer.json["run"] == "runs/photos-1"
    run = Trained(terminal.folder / "runs" / "photos-1")
    assert run.card["architecture"]["code"]["name"] == "Mine"
    assert "What CLS attends to" in (run.folder / "report.html").read_text()

    judged = terminal("eval", "runs/photos-1", "--json").done()
    assert judged.json["accuracy"] == answer.json["test_accuracy"]
    found = terminal("predict", "runs/photos-1", "photos/dark/0.png", "--json").done()
    assert set(found.json["predictions"][0]["classes"]) == {"dark", "light"}
    explained = terminal("explain", "runs/photos-1", "photos/dark/0.png", "--json").done()
    with np.load(terminal.folder / explained.json["explained"][0]["numbers"]) as numbers:
        assert numbers["values"].shape == (1, 2, 2, 4, 4)
        assert list(numbers["layers"]) == ["blocks.0", "blocks.1"]


def test_its_map_is_the_softmax_that_it_wrote_out(run, photos):
    model = package.load(run.folder)
    image = package.data.preprocess.batch_of([load_image(photos / "dark" / "0.png")], model.preprocessing)
    maps = package.explain.attention(model, image)
    tokens = model.patches(image).flatten(2).transpose(1, 2)
    tokens = np.concatenate([model.cls.detach().numpy(), tokens.detach().numpy()], axis=1)[0]
    block = model.blocks[0]
    q, k = (tokens @ part.weight.detach().numpy().T + part.bias.detach().numpy() for part in (block.q, block.k))
    for head in range(2):
        own = slice(8 * head, 8 * head + 8)
        scores = q[0, own] @ k[:, own].T * 8**-0.5
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        np.testing.assert_allclose(maps.values[0, 0, head].ravel(), weights[1:] / weights[1:].mean(), rtol=1e-4)
        assert maps.prefix_mass[0, 0, head] == pytest.approx(weights[0], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("(self, dim, heads):", "(self, dim, heads:"), ("own.py does not run", "SyntaxError in line HERE")),
        (("import torch\n", "import troch\n"), ("own.py does not run", "ModuleNotFoundError in line HERE", "troch")),
        (("nn.Parameter(", "nn.Parameterx("), ("own.py:Mine(", "AttributeError in line HERE", "Parameterx")),
        (("num_classes, img_size", "num_classes, width, img_size"), ("requires width", "Give it a default")),
        (("self.head(x[:, 0])", "self.head(x)"), ("must return logits of shape (1, 2)", "it returned (1, 17, 2)")),
        (("self.head(x[:, 0])", "{'out': x[:, 0], 'x': x}"), ("holds scores of the model's 2 classes", "'out'")),
        (("nn.Linear(dim, num_classes)", "nn.Linear(dim, 10)"), ("2 classes", "it returned (1, 10)")),
        (("block(x)", "block(y)"), ("own.py:Mine failed on one image of 16x16: NameError in line HERE", "'y'")),
        (("x[:, 0])", "x[:, 0].repeat(1, 2))"), ("RuntimeError in line HERE", "cannot be multiplied")),
    ],
    ids=["syntax", "import", "constructor", "argument", "tokens", "dictionary", "classes", "forward", "sizes"],
)  # fmt: skip
def test_a_mistake_in_it_is_named_with_its_line(vitral, photos, own, tmp_path, change, words):
    before, after = change
    assert before in own.read_text()
    own.write_text(own.read_text().replace(before, after))
    line = own.read_text()[: own.read_text().index(after)].count("\n") + 1
    vitral(*WORDS, "--model", "own.py:Mine").failed(2, *(word.replace("HERE", str(line)) for word in words))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("own.py:Mien", ("own.py does not define 'Mien'. Did you mean 'Mine'?", "It defines: Attention, Mine")),
        ("own.py", ("own.py does not name a class. Specify own.py:NAME; it defines: Attention, Mine.",)),
        ("won.py:Mine", ("There is no file won.py", "file.py:Name")),
        ("own.py:nn", ("own.py does not define 'nn'",)),
    ],
)
def test_a_wrong_name_for_it_gets_the_right_one(vitral, photos, own, tmp_path, model, words):
    vitral(*WORDS, "--model", model).failed(2, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("def made(num_classes):\n    return 'a model'\n", "returns a str, not a torch.nn.Module"),
        ("class made(nn.Module):\n    pass\n", "own.py:made has no parameters, so there is nothing to train."),
    ],
    ids=["no module", "nothing to learn"],
)
def test_what_is_no_module_or_has_nothing_to_learn_is_refused(vitral, photos, own, added, message):
    own.write_text(f"{own.read_text()}\n\n{added}")
    vitral(*WORDS, "--model", "own.py:made").failed(2, message)


def test_a_function_that_makes_a_module_will_do(vitral, photos, own):
    own.write_text(own.read_text() + "\n\ndef make(num_classes):\n    return Mine(num_classes, dim=8)\n")
    vitral(*WORDS, "--model", "own.py:make", "--json").done()


def test_a_file_that_changed_is_not_taken_for_the_one_that_was_trained(vitral, run, photos, own, tmp_path):
    before = vitral("eval", "run", "--json").done().json["accuracy"]
    changed = tmp_path / "changed.py"
    original = own.read_text()
    changed.write_text(original.replace('"""Softmax', '"""A softmax'))
    own.write_text(original.replace("dim=16", "dim=24"))
    for words in (("eval", "run"), ("predict", "run", "photos/dark/0.png"), ("explain", "run", "photos/dark/0.png")):
        answer = vitral(*words)
        answer.refused(1, "own.py:Mine, which is missing or has changed since", "--code file.py:Name")
    assert vitral("eval", "run", "--json", "--code", "changed.py:Mine").done().json["accuracy"] == before
    vitral("eval", "run", "--code", "own.py:Mine").refused(1, "do not fit")
    own.unlink()
    vitral("eval", "run").refused(1, "is missing or has changed since")


def test_a_changed_file_is_read_anew_and_leaves_nothing_beside_it(vitral, photos, quick, tmp_path, monkeypatch):
    """Same length, same second: what was compiled before must not be taken for it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    words = ("train", "--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--epochs", 1)
    vitral(*words, "--out", "a").done()
    quick.write_text(quick.read_text().replace("F.relu(self.inner(x))", "F.gelu(self.inner(x))"))
    vitral(*words, "--out", "b").done()
    a, b = (Trained(tmp_path / name).weights for name in "ab")
    assert any((a[name] != b[name]).any() for name in a)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_without_attention_is_trained_and_says_so(vitral, photos, quick, tmp_path):
    words = ("train", "--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--epochs", 2, "--out", "run")
    answer = vitral(*words).done()
    assert "No training film: No attention was seen." in answer.messages
    assert "No attention maps" in (tmp_path / "run" / "report.html").read_text()
    answer = vitral("explain", "run", "photos/dark/0.png")
    answer.failed(1, "No attention was seen. Looked for scaled_dot_product_attention")
    assert not (tmp_path / "explained").exists()


def test_the_card_alone_never_runs_code_that_was_not_hashed(vitral, run, own):
    """A card that names another file does not make it run: the file must have the hash that the card has."""
    evil = own.with_name("evil.py")
    evil.write_text("raise SystemExit('it ran')\n")
    card = run.card
    card["architecture"]["code"]["file"] = str(evil)
    (run.folder / "model.json").write_text(json.dumps(card))
    answer = vitral("eval", "run")
    assert answer.code == 1 and "evil.py" in answer.messages and "it ran" not in answer.messages


OVER_BATCH = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, num_classes, img_size=16):
        super().__init__()
        self.patches, self.attn = nn.Conv2d(3, 16, 4, 4), nn.MultiheadAttention(16, 2)
        self.head = nn.Linear(16, num_classes)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        return self.head((x + self.attn(x, x, x)[0]).mean(1))
"""


def test_attention_from_image_to_image_of_a_batch_is_said_before_it_trains(vitral, photos, tmp_path):
    (tmp_path / "batch.py").write_text(OVER_BATCH)
    words = ("train", "--data", "photos", "--img-size", 16, "--epochs", 1, "--batch-size", 8)
    assert "attends over the images of a batch" in vitral(*words, "--model", "batch.py:Mine").done().err
    (tmp_path / "right.py").write_text(OVER_BATCH.replace("(16, 2)", "(16, 2, batch_first=True)"))
    assert "over the images of a batch" not in vitral(*words, "--model", "right.py:Mine").done().err


def test_a_model_that_returns_probabilities_is_warned_of_wherever_they_are_taken_for_logits(vitral, photos, tmp_path):
    (tmp_path / "soft.py").write_text(OVER_BATCH.replace(".mean(1))", ".mean(1)).softmax(-1)"))
    words = ("train", "--data", "photos", "--img-size", 16, "--epochs", 1, "--batch-size", 8, "--out", "soft")
    warning = "returns probabilities that sum to 1"
    assert warning in vitral(*words, "--model", "soft.py:Mine").done().err
    assert warning in vitral("eval", "soft").done().err
    assert warning in vitral("predict", "soft", "photos").done().err


OUTPUTS = {  # what it returns in place of its logits, and what is said of it
    "features first": ("return x[:, 0], self.head(x[:, 0])", "Mine returns a tuple; its element 1, (1, 2), is taken"),
    "attention, too": ("return self.head(x[:, 0]), [x @ x.mT for _ in self.blocks]", "its element 0, (1, 2), is taken"),
    "dict": ("return {'tokens': x, 'classes': self.head(x[:, 0])}", "returns a dict; its field 'classes', (1, 2)"),
    "logits": ("return {'tokens': x, 'logits': self.head(x[:, 0])}", ""),
    "without the axis of images": ("return self.head(x[:, 0]).squeeze()", "Mine returns (2,) for one image, without"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_verb_takes_the_same_part_of_its_output_and_says_which(vitral, photos, own, tmp_path, kind):
    """The same as its twin that returns logits alone: trained, judged, predicted and explained."""
    output, said = OUTPUTS[kind]
    plain = own.read_text()
    assert "return self.head(x[:, 0])" in plain
    (tmp_path / "twin.py").write_text(plain.replace("return self.head(x[:, 0])", output))
    image, numbers, found = "photos/dark/0.png", {}, {}
    for name in ("own", "twin"):
        trained = vitral(*WORDS, "--model", f"{name}.py:Mine", "--out", f"run-{name}", "--json").done()
        judged = vitral("eval", f"run-{name}", "--json").done()
        predicted = vitral("predict", f"run-{name}", image, "--json").done()
        explained = vitral("explain", f"run-{name}", image, "--method", "attention", "chefer", "--json").done()
        for verb in (trained, predicted, explained) if name == "twin" else ():
            assert said in verb.messages and verb.messages.count("taken as") == bool(said)
        assert name == "own" or ("is taken as the scores" in judged.messages) == ("is taken" in said or "field" in said)
        with np.load(tmp_path / explained.json["explained"][1]["numbers"]) as maps:
            numbers[name] = maps["values"]
        found[name] = judged.json["accuracy"], predicted.json["predictions"][0]["classes"]
    assert found["twin"][0] == found["own"][0]
    assert found["twin"][1] == pytest.approx(found["own"][1])
    np.testing.assert_allclose(numbers["twin"], numbers["own"], rtol=1e-5, atol=1e-6)


def test_an_output_with_two_parts_that_may_be_the_scores_is_refused_before_it_trains(vitral, photos, own, tmp_path):
    own.write_text(own.read_text().replace("return self.head(x[:, 0])", "return x[:, 1, :2], self.head(x[:, 0])"))
    words = ("several parts could be the scores: element 0 (1, 2), element 1 (1, 2)", "in a dict as 'logits'")
    vitral(*WORDS, "--model", "own.py:Mine").failed(2, *words)
    own.write_text(own.read_text().replace("x[:, 1, :2]", "self.head(x[:, 1])"))
    words = ("several parts could be the scores: element 0 (1, 1000), element 1 (1, 1000)", "in a dict as 'logits'")
    vitral("explain", "own.py:Mine", "photos/dark/0.png").failed(2, *words)
    assert not (tmp_path / "runs").exists()


def test_an_untrained_module_is_explained_by_the_scores_that_it_was_built_for(vitral, photos, own):
    own.write_text(own.read_text().replace("return self.head(x[:, 0])", "return x[:, 0], self.head(x[:, 0])"))
    answer = vitral("predict", "own.py:Mine", "photos/dark/0.png", "--json").done()
    assert "its element 1, (1, 1000), is taken as the scores" in answer.messages
