"""Other people's models on the command line: `timm:NAME`, and folders that transformers wrote."""

import pytest
import transformers

import peers  # noqa: F401 - makes torchvision, and so timm, importable

FAILURE, USAGE = 1, 2


@pytest.fixture
def saved(tmp_path):
    names = {0: "cat", 1: "dog", 2: "fox"}
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48)
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, id2label=names)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_a_folder_that_transformers_wrote(vitral, saved, photos):
    words = (photos / "dark" / "0.png", "--method", "attention", "chefer", "--target", "fox", "--json")
    answer = vitral("explain", saved, *words).done()
    assert [found["class"] in ("cat", "dog", "fox") for found in answer.json["explained"]] == [True, True]


def test_a_damaged_folder_of_transformers(vitral, saved, photos):
    (saved / "model.safetensors").write_bytes(b"no weights")
    vitral("explain", saved, photos / "dark" / "0.png").refused(
        FAILURE, "no image classifier that transformers can read"
    )


def test_a_folder_without_a_classifier_answers_nothing(vitral, photos, tmp_path):
    """transformers would draw one at random, and its answer would look like any other."""
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48)
    transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(
        tmp_path / "bare"
    )
    vitral("explain", tmp_path / "bare", photos / "dark" / "0.png").refused(
        FAILURE, "has no weights for classifier.bias, classifier.weight", "saved from a ViTModel"
    )


def test_images_that_cannot_be_prepared_as_the_folder_says(vitral, saved, photos):
    (saved / "preprocessor_config.json").write_text('{"size": 32, "do_flip_channel_order": true}')
    vitral("explain", saved, photos / "dark" / "0.png").refused(FAILURE, "says do_flip_channel_order=True")


def test_a_model_of_timm(vitral, photos):
    name = "timm:test_vit,pretrained=false"
    answer = vitral("explain", name, photos / "dark" / "0.png", "--method", "rollout", "--json").done()
    assert answer.json["explained"][0]["method"] == "rollout"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tinny_patch16_224", "Did you mean 'vit_tiny_patch16_224'?"),
        ("timm:test_vit,weights=none", "after the name it takes ,pretrained=false"),
    ],
)
def test_names_that_timm_does_not_have(vitral, photos, name, message):
    vitral("explain", name, photos / "dark" / "0.png").refused(USAGE, message)
