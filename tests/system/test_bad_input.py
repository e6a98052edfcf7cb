"""Whatever is typed wrong, or wrong with a file: one clear message, the right exit code, no trace left.

Each kind is typed once as a real process; its variants go to the same entry point in this one.
"""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from shell import TINY, flip_a_bit, paint, tree
from vitral.cli import main

USAGE, FAILURE = 2, 1
SMALL = ("train", "--data", "shapes:n=16,size=16", "--epochs", 1)

TYPED = {
    "unknown verb": (("tran",), "There is no verb 'tran'. Did you mean 'train'?", "See: vitral --help"),
    "unknown option": ((*SMALL, "--epoch", 3), "There is no option --epoch. Did you mean --epochs?"),
    "another program's option": ((*SMALL, "--learning-rate", 0.1), "Did you mean --lr?"),
    "an option that is not needed": ((*SMALL, "--workers=4"), "no option --workers. Images are read by threads"),
    "unknown value": (
        (*SMALL, "--optimizer", "admw"),
        "optimizer='admw' is not valid: it must be one of muon, adamw. Did you mean 'adamw'?",
    ),
    "value of the wrong type": ((*SMALL, "--batch-size", "many"), "--batch-size", "'many'", "INT"),
    "value out of range": ((*SMALL, "--warmup", 1.5), "warmup=1.5 is out of range: it must be 0 to 0.9."),
    "unknown data set": (
        ("train", "--data", "shaeps"),
        "There is no data set or folder 'shaeps'. Did you mean 'shapes'?",
        "or one of: cued, pairs, scenes, shapes, textures, digits",
    ),
    "unknown data option": (
        ("data", "show", "shapes:nosie=0.1"),
        "shapes has no option 'nosie'. Did you mean 'noise'?",
        "contrast",
    ),
    "unknown model": (
        (*SMALL, "--model", "vit_nona_patch8_48"),
        "There is no model 'vit_nona_patch8_48'. Did you mean 'vit_nano_patch8_48'?",
        "`vitral models` lists them; specify your own as file.py:Name.",
    ),
    "image size that the patch does not divide": (
        ("train", "--data", "shapes:n=16,size=50"),
        "img_size=50x50 cannot be cut into patches of 8x8",
        "The nearest size that works: 48x48.",
    ),
    "unknown run": (
        ("eval", "runs/shapes-7"),
        "There is no run 'runs/shapes-7'.",
        "Specify a folder that `vitral train` wrote",
    ),
}


@pytest.mark.parametrize("kind", TYPED)
def test_a_wrong_request_gets_a_sentence_and_exit_code_2(terminal, kind):
    typed, *words = TYPED[kind]
    terminal(*typed).refused(USAGE, *words)
    assert tree(terminal.folder) == []


MORE = {
    "no verb at all": ((), None),
    "an upper-case verb": (("Train",), "Did you mean 'train'?"),
    "an option of another verb": (("models", "--epochs", 3), "--epochs"),
    "an argument too many": (("train", "shapes"), "shapes"),
    "an option without its value": (("train", "--seed"), "--seed"),
    "an unknown augmentation": (
        (*SMALL, "--augment", "shiff"), "There is no augmentation 'shiff'. Did you mean 'shift'?"),
    "an unknown precision": ((*SMALL, "--precision", "bfloat61"), "Did you mean 'bfloat16'?", "auto, float32"),
    "an unknown split": (("data", "show", "shapes", "--split", "tset"), "split='tset'", "Did you mean 'test'?"),
    "a whole number with a fraction": ((*SMALL, "--batch-size", "8.5"), "--batch-size", "'8.5'"),
    "a number that is none": ((*SMALL, "--lr", "nan"), "lr=nan is out of range: it must be 0 to 10."),
    "a batch of nothing": ((*SMALL, "--batch-size", 0), "batch_size=0 is out of range: it must be 1 to 65,536."),
    "no epochs": ((*SMALL, "--epochs", -1), "epochs=-1.0 is out of range: it must be 0 to 100,000."),
    "nothing to train": ((*SMALL, "--epochs", 0), "--epochs 0 trains nothing: use it with --init only"),
    "a checkpoint that is not there": (("convert", "none.pth,source=deit", "out"), "There is no file none.pth"),
    "a start that is not there": (("train", "--init", "runs/none"), "There is no run 'runs/none'"),
    "a start and a model": (("train", "--init", "x", "--model", "vit_nano_patch8_48"), "leave out --model"),
    "a data option of the wrong type": (("data", "show", "shapes:n=many"), "must be of type int, as in shapes:n="),
    "a data option out of range": (("data", "show", "shapes:noise=3"), "noise=3.0", "0 <= noise <= 1"),
    "two wrong data options": (("data", "show", "shapes:noise=3,size=2"), "0 <= noise <= 1", "8 <= size <= 512"),
    "a digit split that cannot be": (("data", "show", "digits:seed=-4"), "digits:seed=-4 is out of range"),
    "the size of a built-in set given twice": (
        (*SMALL, "--img-size", 32),
        "--img-size applies to folders of images;",
        "data set in its name: shapes:size=32.",
    ),
    "the size of a contact sheet's built-in set": (("data", "show", "shapes", "--img-size", 32), "shapes:size=32"),
    "no image to classify": (("predict", "RUN"), "No images were specified."),
    "no run to classify with": (("predict",), "MODEL"),
    "no data to look at": (("data", "show"), "DATA"),
    "a model pattern that fits none": (
        ("models", "vit_tinny*"), "No model matches 'vit_tinny*'", "`vitral models` lists"),
    "no class to name": (("predict", "RUN", "IMAGE", "--top", 0), "top=0 is out of range: it must be 1 to 1,000."),
    "a block that does not exist": (
        ("explain", "RUN", "IMAGE", "--layer", 99), "There is no layer 99: the model has 4, 0 to 3."),
    "a head that does not exist": (
        ("explain", "RUN", "IMAGE", "--head", 0, 7), "There is no head 7: the model has 4, 0 to 3."),
    "a token that does not exist": (("explain", "RUN", "IMAGE", "--query", 99), "99", "0 to 4"),
    "a negative number of orders": (
        ("explain", "RUN", "IMAGE", "--orders", -1), "orders=-1 is out of range: it must be 0 to 100,000."),
    "orders that are not a number": (("explain", "RUN", "IMAGE", "--orders", "many"), "--orders", "many"),
    "orders for scores": (
        ("explain", "RUN", "--data", "cued", "--score", "--orders", 19), "--orders applies to the test of each"),
    "a region for scores": (
        ("explain", "RUN", "--data", "cued", "--score", "--region", "1,2"), "--target and --region apply to images"),
    "a run to train": ((*SMALL, "--model", "RUN"), "has weights, but create builds untrained models"),
    "options beside --resume": (("train", "--resume", "RUN", "--lr", 0.9), "leave out --lr"),
    "options beside --resume that look like the defaults": (
        ("train", "--resume", "RUN", "--data", "digits"), "leave out --data"),
    "classes that the model does not know": (
        ("eval", "RUN", "--data", "digits"), "digits has the classes 0, 1", "the model has disk, ring"),
    "images of another size than the model's": (
        ("eval", "RUN", "--data", "shapes:n=8,size=24"), "the model takes 16x16", "shapes:size=16"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MORE)
def test_a_wrong_request_of_any_kind_gets_a_sentence(vitral, trained, tmp_path, kind):
    typed, *words = MORE[kind]
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    answer = vitral(*({"RUN": trained.folder, "IMAGE": "a.png"}.get(word, word) for word in typed))
    if words == [None]:
        assert answer.code == USAGE and "usage: vitral VERB" in answer.out
        return
    assert answer.code in (USAGE, FAILURE)
    answer.refused(answer.code, *words)
    assert tree(tmp_path) == ["a.png"]


# Folders of images


def test_an_empty_folder_is_a_failure(terminal):
    (terminal.folder / "photos").mkdir()
    answer = terminal("train", "--data", "photos")
    answer.refused(FAILURE, "photos has no images in class folders", "Put each class in a folder of its own")
    assert tree(terminal.folder) == []


def test_one_class_is_a_failure(terminal):
    paint(terminal.folder / "photos", {"cat": 100})
    answer = terminal("train", "--data", "photos")
    answer.refused(FAILURE, "photos has only one class, 'cat'", "Add a second class folder.")
    assert not (terminal.folder / "runs").exists()


@pytest.fixture
def corrupt(photos):
    """A picture that ends halfway, among good ones."""
    path = photos / "light" / "3.png"
    path.write_bytes(path.read_bytes()[:300])
    return path


def test_a_corrupt_image_is_named(terminal, corrupt):
    answer = terminal("train", "--data", "photos", "--epochs", 1)
    answer.refused(FAILURE, "photos/light/3.png is damaged or incomplete", "--on-bad-image skip")
    assert not (terminal.folder / "runs").exists()


def test_skipped_images_are_counted_and_listed(terminal, corrupt, quick):
    messages = terminal("train", *TINY, "--epochs", 1, "--on-bad-image", "skip").done().messages
    assert "1 of 16 train images could not be read and were left out: photos/light/3.png." in messages
    assert "15 training images" in messages


def test_an_image_that_is_none_is_named_before_anything_is_written(vitral, trained, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    for verb in ("predict", "explain"):
        vitral(verb, trained.folder, "a.png", "b.png").refused(FAILURE, "b.png is not an image", "JPEG, PNG")
        vitral(verb, trained.folder, "gone.png").refused(FAILURE, "There is no image gone.png.")
    (tmp_path / "empty").mkdir()
    vitral("predict", trained.folder, "empty").refused(USAGE, "There are no images in empty.")
    assert tree(tmp_path) == ["a.png", "b.png"]


def test_a_contact_sheet_is_of_images_that_can_be_read(vitral, corrupt, tmp_path):
    before = tree(tmp_path)
    vitral("data", "show", "photos").refused(FAILURE, "photos/light/3.png is damaged", "--on-bad-image skip")
    assert tree(tmp_path) == before


# Settings in a file


def test_an_unknown_setting_in_a_file_gets_the_nearest(terminal):
    (terminal.folder / "mine.yaml").write_text("epoch: 3\n")
    answer = terminal("train", "--config", "mine.yaml")
    answer.refused(USAGE, "mine.yaml sets 'epoch', which is not a setting. Did you mean 'epochs'?")
    assert tree(terminal.folder) == ["mine.yaml"]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("epochs: many", USAGE, "mine.yaml: epochs='many' is not valid"),
        ("epochs: -1", USAGE, "mine.yaml: epochs=-1 is out of range"),
        ("optimizer: admw", USAGE, "Did you mean 'adamw'?"),
        ("data: 5", USAGE, "mine.yaml: data=5 is not valid"),
        ("data: shaeps", USAGE, "Did you mean 'shapes'?"),
        ("- epochs\n- 3", FAILURE, "mine.yaml contains no settings"),
        ("epochs: [", FAILURE, "mine.yaml is not YAML"),
        ("epochs: \0", FAILURE, "mine.yaml is not YAML"),
        (None, FAILURE, "mine.yaml cannot be read: No such file"),
    ],
)
def test_a_wrong_setting_in_a_file_names_the_file(vitral, tmp_path, content, code, words):
    if content is not None:
        (tmp_path / "mine.yaml").write_text(content)
    vitral("train", "--config", "mine.yaml", "--batch-size", 4).refused(code, words)
    assert not (tmp_path / "runs").exists()


def test_a_number_in_a_file_may_be_written_as_people_do(vitral, tmp_path, quick, photos):
    (tmp_path / "mine.yaml").write_text("data: photos\nmodel: quick.py:Quick\nimg_size: 8\nepochs: 1\nlr: 1e-3\n")
    vitral("train", "--config", "mine.yaml", "--out", "run").done()
    assert "lr: 0.001" in (tmp_path / "run" / "config.yaml").read_text()


# Runs and models


def test_a_folder_that_is_taken_is_not_written_to(terminal):
    (terminal.folder / "mine").mkdir()
    (terminal.folder / "mine" / "thesis.txt").write_text("years of work")
    answer = terminal(*SMALL, "--out", "mine")
    answer.refused(FAILURE, "mine exists and is not overwritten. Choose another --out", "--resume mine")
    assert tree(terminal.folder) == ["mine/thesis.txt"]


def test_a_file_where_the_run_should_be_is_not_written_to(vitral, tmp_path):
    (tmp_path / "mine").write_text("years of work")
    vitral(*SMALL, "--out", "mine").refused(FAILURE, "mine exists and is not overwritten")
    assert (tmp_path / "mine").read_text() == "years of work"


def test_a_folder_that_is_no_run_is_told_apart(terminal, photos):
    terminal("eval", "photos").refused(FAILURE, "photos does not contain a model: there is no model.json in it.")


@pytest.mark.parametrize("verb", ["eval", "predict", "explain"])
def test_every_verb_refuses_what_is_no_run(vitral, photos, verb):
    images = () if verb == "eval" else (photos / "dark" / "0.png",)
    vitral(verb, "photos", *images).refused(FAILURE, "photos does not contain a model")
    vitral(verb, "vit_nano_patch8_48", *images).refused(USAGE, "is an architecture without weights", "vitral.create(")


def test_a_damaged_model_is_refused(terminal, trained):
    run = trained.copy(terminal.folder / "run")
    flip_a_bit(run.folder / "model.safetensors")
    answer = terminal("eval", "run")
    answer.refused(FAILURE, "run/model.safetensors is not the file that run/model.json describes", "damaged")


def changed(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run.folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda run: (run.folder / "model.safetensors").write_bytes(b""), "it is damaged or was replaced"),
        (lambda run: (run.folder / "model.json").write_text("{"), "cannot be read as JSON"),
        (lambda run: (run.folder / "model.json").write_text("[]"), "is not a valid Vitral model card"),
        (lambda run: (run.folder / "model.json").write_text("\xff" * 3, "latin1"), "cannot be read"),
        (lambda run: changed(run.folder / "model.json", version=9), "has version 9; this Vitral reads up to version 3"),
        (lambda run: changed(run.folder / "model.json", classes=["a", "b", "c"]), "cannot be built"),
        (lambda run: changed(run.folder / "model.json", weights={}), "is not a valid Vitral model card"),
        (lambda run: changed(run.folder / "model.json", architecture={}), "model.json"),
        (lambda run: changed(run.folder / "model.json", architecture={"vit": {"embed_dim": 7}}), "model.json"),
    ],
    ids=["no weights", "empty weights", "half a card", "another card", "no text", "newer", "other classes", "no hash",
         "nothing to build", "not to be built"],
)  # fmt: skip
def test_a_damaged_run_is_refused(vitral, trained, tmp_path, damage, words):
    run = trained.copy(tmp_path / "run")
    damage(run)
    vitral("eval", "run").refused(FAILURE, "run/", words)


def test_the_weights_of_another_model_are_refused(vitral, trained, quick, photos, tmp_path):
    """Exchanged with their hash, as by someone who edits the card."""
    words = ("--data", "photos", "--model", "vit_nano_patch8_48", "--img-size", 24, "--epochs", 1)
    vitral("train", *words, "--out", "b").done()
    run = trained.copy(tmp_path / "a")
    shutil.copy("b/model.safetensors", "a/model.safetensors")
    vitral("eval", "a").refused(FAILURE, "a/model.safetensors is not the file that a/model.json describes")
    changed(run.folder / "model.json", weights=json.loads((tmp_path / "b" / "model.json").read_text())["weights"])
    vitral("eval", "a").refused(FAILURE, "The weights in a/model.safetensors do not fit the model in a/model.json")


# Going on with a run


def test_a_run_whose_settings_were_changed_is_not_resumed(terminal, trained):
    run = trained.copy(terminal.folder / "run")
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("warmup: 0.05", "warmup: 0.1"))
    before = run.contents
    answer = terminal("train", "--resume", "run")
    answer.failed(FAILURE, "run/config.yaml has changed since the run stopped", "Restore it")
    assert run.contents == before


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizers.pt", "state.json"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_run_whose_checkpoints_were_changed_is_not_resumed(vitral, trained, tmp_path, file, how):
    run = trained.copy(tmp_path / "run")
    checkpoints = list((run.folder / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    for checkpoint in checkpoints:
        path = checkpoint / file
        if how == "gone":
            path.unlink()
        elif file == "state.json":
            path.write_text(path.read_text()[:-9])
        else:
            flip_a_bit(path)
    before = run.contents
    vitral("train", "--resume", "run").failed(FAILURE, file, "cannot be resumed")
    assert run.contents == before


@pytest.mark.parametrize("where", ["train/dark/0.png", "val/light/5.png"])
def test_a_run_whose_images_were_changed_is_not_resumed(vitral, quick, tmp_path, where):
    photos = tmp_path / "photos"
    for split in ("train", "val", "test"):
        paint(photos / split, {"dark": 60, "light": 190}, count=6)
    vitral("train", *TINY, "--epochs", 2, "--out", "run").done()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / where)
    vitral("train", "--resume", "run").failed(FAILURE, "images of photos have changed since the run started")


def test_a_run_whose_code_was_changed_is_not_resumed(vitral, photos, quick, tmp_path):
    vitral("train", *TINY, "--epochs", 2, "--out", "run").done()
    quick.write_text(quick.read_text().replace("F.relu(self.inner(x))", "F.gelu(self.inner(x))"))
    vitral("train", "--resume", "run").failed(FAILURE, "quick.py", "changed")


def test_a_checkpoint_of_another_model_is_refused(vitral, trained, tmp_path):
    """Exchanged with its hash, as by someone who edits the record."""
    run = trained.copy(tmp_path / "run")
    weights = run.last_checkpoint / "weights.safetensors"
    save_file({f"other.{name}": values for name, values in load_file(weights).items()}, weights)
    from vitral.base.files import sha256

    state = json.loads((run.last_checkpoint / "state.json").read_text())
    changed(run.last_checkpoint / "state.json", files=state["files"] | {"weights.safetensors": sha256(weights)})
    vitral("train", "--resume", "run").failed(FAILURE, "belongs to another model")


def test_what_is_no_run_is_not_resumed(vitral, photos, trained, tmp_path):
    vitral("train", "--resume", "photos").refused(FAILURE, "photos is not a run folder: it has no config.yaml.")
    vitral("train", "--resume", "nowhere").refused(FAILURE, "nowhere is not a run folder")
    run = trained.copy(tmp_path / "run")
    shutil.rmtree(run.folder / "checkpoints")
    vitral("train", "--resume", "run").failed(FAILURE, "has no checkpoint to resume from. Start again with")


# Whatever else


def test_a_mistake_of_ours_is_a_traceback_and_no_message():
    """What no user can cause is not presented as a user's mistake."""
    broken = SimpleNamespace(__doc__="", Options=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vitral.cli.models", broken)
        with pytest.raises(TypeError):
            main(["models"])


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["--help"], ["train", "--help"]])
def test_a_reader_that_closes_early_is_no_error(terminal, words):
    process = terminal.start(*words)
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read()
    process.wait(timeout=60)
    assert "Error" not in said and "Traceback" not in said
