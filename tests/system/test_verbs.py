"""What each verb does when all is well: results on standard output, prose beside it, only the files it names."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vitral as package
from shell import tree
from vitral.base.lookup import names
from vitral.data.spec import find_data

RUN_FILES = [
    "config.yaml",
    "film.npz",
    "film.webp",
    "metrics.jsonl",
    "model.json",
    "model.safetensors",
    "confusion.csv",
    "report.html",
    "training_images.safetensors",
]
CHECKPOINT_FILES = ["optimizers.pt", "state.json", "weights.safetensors"]


@pytest.fixture
def pictures(tmp_path):
    """Three test images of the shapes, as a person has them: files."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(find_data("shapes:n=8,size=16").test.pixels[:3]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_train_writes_a_run_and_nothing_else(trained):
    last = trained.last_checkpoint
    assert last.name == "step-000008"
    folders = ("step-000007", last.name)  # the last two
    expected = [*RUN_FILES, *(f"checkpoints/{folder}/{name}" for folder in folders for name in CHECKPOINT_FILES)]
    assert tree(trained.folder) == sorted(expected)
    assert tree(trained.folder.parents[1]) == sorted(f"runs/shapes-1/{name}" for name in expected)


def test_train_prints_its_result_as_json_and_its_prose_beside_it(trained):
    result = trained.answer.json
    assert result["run"] == "runs/shapes-1" and result["report"] == "runs/shapes-1/report.html"
    assert 0 <= result["interval"][0] <= result["test_accuracy"] <= result["interval"][1] <= 1
    assert result["n"] == 2_000
    assert len(trained.answer.out.splitlines()) == 1
    for word in ("64 training images", "parameters", "8 steps of 16 images", "validation", "test accuracy", "report:"):
        assert word in trained.answer.err
    assert "vitral explain runs/shapes-1 IMAGE" in trained.answer.err


def test_train_logs_every_evaluation_and_the_test_once(trained):
    assert [record["step"] for record in trained.metrics if "best" in record] == list(range(1, 9))
    (tested,) = [record for record in trained.metrics if "test_accuracy" in record]
    assert tested["test_accuracy"] == trained.answer.json["test_accuracy"]


def test_the_model_is_the_best_by_validation(trained):
    evaluations = [record for record in trained.metrics if "best" in record]
    assert trained.card["provenance"]["step"] == max(evaluations, key=lambda record: record["accuracy"])["step"]


def test_the_model_says_where_it_came_from(trained):
    origin = trained.card["provenance"]
    assert origin["command"][:3] == ["vitral", "train", "--data"]
    assert origin["data"] == "shapes:n=64,size=16" and origin["seed"] == 0
    assert {"python", "torch", "vitral"} <= origin["versions"].keys()
    assert {"cpu", "cores"} <= origin["machine"].keys()


def test_the_settings_that_were_saved_give_the_same_run(vitral, trained, tmp_path):
    vitral("train", "--config", trained.folder / "config.yaml", "--out", tmp_path / "again").done()
    again = type(trained)(tmp_path / "again")
    assert all((again.weights[name] == values).all() for name, values in trained.weights.items())


def test_eval_repeats_the_accuracy_that_training_found(terminal, trained):
    answer = terminal("eval", trained.folder, "--json").done()
    assert answer.json["accuracy"] == trained.answer.json["test_accuracy"]
    assert (answer.json["split"], answer.json["n"]) == ("test", 2_000)
    matrix = np.array(answer.json["confusion"])
    assert matrix.shape == (8, 8) and matrix.sum() == 2_000
    assert matrix.trace() / 2_000 == pytest.approx(answer.json["accuracy"])
    assert len(answer.out.splitlines()) == 1
    assert all(name in answer.err for name in ("disk", "half-disk", "95% interval"))
    assert tree(terminal.folder) == []


def test_predict_names_classes_with_probabilities(terminal, trained, pictures):
    answer = terminal("predict", trained.folder, pictures, pictures / "1.png", "--json").done()
    found = answer.json["predictions"]
    assert [row["image"].rpartition("/")[2] for row in found] == ["0.png", "1.png", "2.png", "1.png"]
    model = package.load(trained.folder)
    for row in found:
        expected = package.predict(model, [row["image"]]).probabilities[0]
        likeliest = np.argsort(-expected)[:3]
        assert list(row["classes"]) == [model.classes[index] for index in likeliest]
        np.testing.assert_allclose(list(row["classes"].values()), expected[likeliest], rtol=1e-4)
    assert len(answer.out.splitlines()) == 1 and answer.err.count("%") == 12
    assert tree(terminal.folder) == ["pictures/0.png", "pictures/1.png", "pictures/2.png"]


def test_explain_draws_a_map_and_keeps_its_numbers(terminal, trained, pictures):
    answer = terminal("explain", trained.folder, pictures / "0.png", "--json").done()
    (found,) = answer.json["explained"]
    assert tree(terminal.folder / "explained") == ["0.attention.npz", "0.attention.png", "0.html"]
    with np.load(terminal.folder / found["numbers"]) as numbers:
        values, mass = numbers["values"], numbers["prefix_mass"]
    model = package.load(trained.folder)
    depth, heads = len(model.blocks), model.config["num_heads"]
    assert values.shape == (1, depth, heads, *model.grid)
    np.testing.assert_allclose(values.mean((-1, -2)), 1, rtol=1e-4)  # in units of uniform attention
    assert found["largest"] == pytest.approx(values.max()) and found["prefix_mass"] == pytest.approx(mass.mean())
    assert 0 < found["residual"] < 1e-4
    with Image.open(terminal.folder / found["picture"]) as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    assert "CLS keeps" in answer.err and "times uniform" in answer.err


def test_explain_never_writes_over_an_earlier_map(vitral, trained, pictures, tmp_path):
    for _ in range(2):
        vitral("explain", trained.folder, pictures / "0.png", "--layer", 0).done()
    pictures = [name for name in tree(tmp_path / "explained") if name.endswith(".png")]
    assert pictures == ["0.attention-2.png", "0.attention.png"]


def test_models_lists_every_name_with_its_size(terminal):
    answer = terminal("models", "--json").done()
    listed = {row["name"]: row for row in answer.json["models"]}
    assert list(listed) == package.list_models()
    assert listed["vit_base_patch16_224"]["parameters"] == 86_567_656
    assert listed["vit_base_patch16_224"]["tokens"] == 197
    assert len(answer.out.splitlines()) == 1
    assert "86,567,656" in answer.err


def test_models_prints_its_table_for_a_person(vitral):
    answer = vitral("models").done()
    assert all(name in answer.out for name in package.list_models())
    assert answer.err == ""


EQUAL = "(2 × width + hidden width of the MLP)"


@pytest.mark.parametrize(
    ("name", "equal"),
    [
        ("vit_tiny_patch16_224", f"at 1,152 tokens {EQUAL}; this model has 197"),
        ("swin_small_patch4_window7_224", f"at 576 tokens per window {EQUAL}; this model has 49"),
        ("iso_dwconv3_nano_patch8_48", ""),  # no attention
    ],
)
def test_the_cost_of_a_model_is_told_without_a_word_cut_short(name, equal, vitral):
    table = vitral("models", name).done().out
    headings = table.splitlines()[1]
    assert headings.split()[-1] == "train" and "MACs, linear  MACs, attention  entries per head" in headings
    assert (f"attention costs as much as the linear layers {equal}" in table) == bool(equal)


def test_data_draws_a_contact_sheet(terminal):
    answer = terminal("data", "show", "shapes:n=64,size=16", "--json").done()
    assert sum(answer.json["classes"].values()) == 64 and next(iter(answer.json["classes"])) == "disk"
    assert tree(terminal.folder) == ["shapes.png"] and answer.json["sheet"] == "shapes.png"
    with Image.open(terminal.folder / "shapes.png") as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 300
        assert np.asarray(sheet.convert("RGB")).std() > 10
    assert "64 images of 16x16 in 8 classes" in answer.err


def test_a_set_is_shown_whatever_its_size(vitral, photos):
    """Also where no model's patches would divide it."""
    assert "images of 21x21" in vitral("data", "show", "shapes:n=8,size=21").done().printed
    assert "images of 33x33" in vitral("data", "show", "photos", "--img-size", 33).done().printed


def test_data_never_writes_over_another_picture(vitral, photos, tmp_path, monkeypatch):
    (tmp_path / "photos.png").write_text("mine")
    assert vitral("data", "show", "photos", "--json").done().json["sheet"] == "photos-2.png"
    assert (tmp_path / "photos.png").read_text() == "mine"
    monkeypatch.chdir(photos)
    assert vitral("data", "show", ".", "--json").done().json["sheet"] == "photos.png"


def test_a_folder_of_photos_is_trained_on_and_judged(vitral, photos, tmp_path):
    words = ("train", "--data", "photos", "--model", "vit_nano_patch8_48", "--epochs", 6, "--batch-size", 16)
    answer = vitral(*words, "--img-size", 16, "--json").done()
    assert answer.json["run"] == "runs/photos-1" and answer.json["n"] == 4
    assert "images were divided at random (seed 0) into" in answer.err
    judged = vitral("eval", "runs/photos-1", "--json").done()
    assert judged.json["accuracy"] == answer.json["test_accuracy"]
    found = vitral("predict", "runs/photos-1", photos / "dark" / "0.png", "--json").done()
    assert set(found.json["predictions"][0]["classes"]) == {"dark", "light"}


def test_digits_are_trained_on(vitral):
    answer = vitral("train", "--data", "digits", "--epochs", 0.1, "--json").done()
    assert (answer.json["run"], answer.json["n"]) == ("runs/digits-1", 359)


def test_runs_are_numbered_and_none_is_written_over(vitral, quick, photos, tmp_path):
    words = ("train", "--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--epochs", 1, "--json")
    assert [vitral(*words).json["run"] for _ in range(2)] == ["runs/photos-1", "runs/photos-2"]
    before = {name: (tmp_path / "runs" / name).read_bytes() for name in tree(tmp_path / "runs")}
    shutil.rmtree(tmp_path / "runs" / "photos-1")
    assert vitral(*words).json["run"] == "runs/photos-1"
    after = {name: (tmp_path / "runs" / name).read_bytes() for name in tree(tmp_path / "runs") if "photos-2" in name}
    assert after.items() <= before.items() and after


# verb -> arguments, a result on standard output, and what stands on standard error ("" for nothing at all)
STREAMS = {
    "train": (("--data", "shapes:n=16,size=8", "--model", "quick.py:Quick", "--epochs", 1), "test accuracy", "step "),
    "eval": (("RUN",), "shapes:n=64,size=16, test: accuracy", ""),
    "predict": (("RUN", "pictures"), "pictures/0.png: ", ""),
    "embed": (("RUN", "pictures", "--out", "out/a.npy"), "out/a.npy: 3 images", ""),
    "explain": (("RUN", "pictures/0.png", "--layer", 0), "page: explained/0.html", "0.png: testing 1 map"),
    "explore": (("RUN", "pictures/0.png", "--out", "out/page.html"), "page: out/page.html", ""),
    "models": (("vit_nano*",), "vit_nano_patch8_48", ""),
    "convert": (("RUN", "out"), "wrote out/model.safetensors", ""),
    "data": (("show", "shapes:n=8,size=16"), "contact sheet: ", ""),
    "export": (("RUN", "out"), "wrote out/model.onnx", "comparing with the model"),
    "bench": (
        ("RUN", "--ways", "eager", "--batches", 1, "--seconds", 0.1),
        "At batch 1 only eager was measured",
        "preparing eager",
    ),
    "sweep": (("RUN", "--lr", 0.01, "--out", "out"), "Best on", "lr 0.01, run 1 of 1: out/lr-0.01"),
    "study": (("list", "--preset", "smoke"), "locality", ""),
    "lab": (("list",), "patchify", ""),
}


@pytest.mark.parametrize("verb", names("cli"))
def test_results_go_to_standard_output_and_with_json_only_json_does(vitral, trained, pictures, quick, verb):
    words, result, prose = STREAMS[verb]
    words = [trained.folder if word == "RUN" else word for word in words]
    plain = vitral(verb, *words).done()
    assert result in plain.out and result not in plain.err
    assert prose in plain.err and prose not in plain.out if prose else plain.err == ""
    shutil.rmtree("out", ignore_errors=True)
    answer = vitral(verb, *words, "--json").done()
    assert isinstance(json.loads(answer.out), dict) and len(answer.out.splitlines()) == 1
    assert result.partition("explained")[0] in answer.err


def test_a_redirected_prediction_holds_the_predictions(terminal, trained, pictures):
    answer = terminal("predict", trained.folder, pictures, "gone.png")
    assert answer.code == 1 and answer.out == "" and "gone.png" in answer.err
    lines = terminal("predict", trained.folder, pictures, "--top", 1).done().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{pictures}/{number}.png" for number in range(3)]


def test_an_image_unlike_the_training_images_is_called_so(vitral, trained, tmp_path):
    """By a trained run; and one whose file is gone says once that its training images are unknown."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    files = tmp_path / "0.png", tmp_path / "1.png"
    answer = vitral("predict", trained.folder, *files, "--json").done()
    assert answer.err.count("unlike what it was trained on") == 2
    assert all(row["unlike_training_images"] is True for row in answer.json["predictions"])
    explained = vitral("explain", trained.folder, files[0], "--method", "occlusion", "--json").done()
    assert explained.err.count("unlike what it was trained on") >= 2
    assert "unlike what it was trained on" in (tmp_path / explained.json["page"]).read_text()
    old = tmp_path / "old"
    shutil.copytree(trained.folder, old)
    (old / "training_images.safetensors").unlink()
    answer = vitral("predict", old, *files, "--json").done()
    assert answer.err.count("training images unknown") == 1 and "unlike what" not in answer.err
    assert answer.json["training_images"] is None and "vitral train" in answer.json["why_unknown"]
