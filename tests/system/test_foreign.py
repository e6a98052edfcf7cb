"""Other people's models on the command line: `timm:NAME`, and folders that transformers wrote."""

import sys

import pytest
import transformers

import peers  # noqa: F401 - makes torchvision, and so timm, importable

FAILURE, USAGE = 1, 2


SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48)
PIXELS = dict(image_size=32, patch_size=8)
NAMES = {0: "cat", 1: "dog", 2: "fox"}
NAMED = SIZES | PIXELS | dict(id2label=NAMES)
DECODER = dict(decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
WORDS = dict(text_config=SIZES | dict(vocab_size=40, bos_token_id=1, eos_token_id=2))
OURS = {  # that a source of Vitral's reads
    "ViT": ("ViTForImageClassification", "ViTConfig", NAMED),
    "one channel": ("ViTForImageClassification", "ViTConfig", SIZES | PIXELS | dict(num_channels=1)),
    "no classifier": ("ViTModel", "ViTConfig", SIZES | PIXELS),
    "MAE": ("ViTMAEForPreTraining", "ViTMAEConfig", SIZES | PIXELS | DECODER),
    "SigLIP": ("SiglipModel", "SiglipConfig", WORDS | dict(vision_config=SIZES | PIXELS)),
}
THEIRS = {  # that only transformers reads
    "BEiT": ("BeitForImageClassification", "BeitConfig", NAMED),
    "another activation": ("ViTForImageClassification", "ViTConfig", NAMED | dict(hidden_act="relu")),
}


@pytest.fixture
def written(tmp_path):
    """The function that writes a model as transformers does, and gives its folder."""

    def write(model, config, settings):
        made = getattr(transformers, model)(getattr(transformers, config)(**settings))
        made.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    return write


@pytest.mark.parametrize("named", OURS.values(), ids=OURS)
def test_a_folder_that_vitral_reads_needs_no_transformers(vitral, written, photos, named, monkeypatch):
    folder = written(*named)
    monkeypatch.setitem(sys.modules, "transformers", None)
    answer = vitral("explain", folder, photos / "dark" / "0.png", "--json").done()
    assert "read as hugging_face" in answer.messages and "read by transformers" not in answer.messages
    assert answer.json["explained"][0]["method"] == "attention"


@pytest.mark.parametrize("named", THEIRS.values(), ids=THEIRS)
def test_what_only_transformers_reads_is_read_by_it(vitral, written, photos, named, monkeypatch):
    folder, image = written(*named), photos / "dark" / "0.png"
    words = (image, "--method", "attention", "chefer", "--target", "fox", "--json")
    answer = vitral("explain", folder, *words).done()
    assert "assumed: read by transformers, since Vitral's own reader refuses: " in answer.messages
    assert [found["class"] in NAMES.values() for found in answer.json["explained"]] == [True, True]
    monkeypatch.setitem(sys.modules, "transformers", None)
    answer = vitral("explain", folder, image)
    answer.refused(USAGE, "This model needs transformers, which is not installed", "Vitral's own reader: ")


def test_classes_are_called_as_the_folder_says(vitral, written, photos):
    words = (written(*OURS["ViT"]), photos / "dark" / "0.png", "--method", "attention", "chefer", "--target", "fox")
    answer = vitral("explain", *words, "--json").done()
    assert [found["class"] in NAMES.values() for found in answer.json["explained"]] == [True, True]


def test_a_damaged_folder_of_transformers(vitral, written, photos):
    folder = written(*OURS["ViT"])
    (folder / "model.safetensors").write_bytes(b"no weights")
    answer = vitral("explain", folder, photos / "dark" / "0.png")
    answer.refused(FAILURE, "is not an image classifier that transformers can read", "Vitral's own reader: ")


def test_a_folder_without_a_classifier_answers_nothing(vitral, written, photos):
    """transformers would draw one at random, and its answer would look like any other."""
    folder = written("BeitModel", "BeitConfig", SIZES | PIXELS)
    answer = vitral("explain", folder, photos / "dark" / "0.png")
    answer.refused(FAILURE, "has no weights for classifier.bias, classifier.weight", "saved from a BeitModel")


def test_images_that_cannot_be_prepared_as_the_folder_says(vitral, written, photos):
    saved = written(*OURS["ViT"])
    (saved / "preprocessor_config.json").write_text('{"size": 32, "do_flip_channel_order": true}')
    vitral("explain", saved, photos / "dark" / "0.png").refused(FAILURE, "has do_flip_channel_order=True")


def test_a_model_of_timm(vitral, photos):
    name = "timm:test_vit,pretrained=false"
    answer = vitral("explain", name, photos / "dark" / "0.png", "--method", "rollout", "--json").done()
    assert answer.json["explained"][0]["method"] == "rollout"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tinny_patch16_224", "Did you mean 'vit_tiny_patch16_224'?"),
        ("timm:test_vit,weights=none", "timm:test_vit takes the option pretrained=false, not weights"),
        ("timm:test_vit,pretrained=no", "pretrained='no' cannot be parsed. Example: pretrained=false"),
    ],
)
def test_names_that_timm_does_not_have(vitral, photos, name, message):
    vitral("explain", name, photos / "dark" / "0.png").refused(USAGE, message)
