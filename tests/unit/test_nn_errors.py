"""Sizes that do not fit together are refused, with what would fit."""

import pytest
import torch

from tiny import tiny_vit
from vitral import Attention, PatchEmbedding, VisionTransformer, create
from vitral.base.errors import ConfigError, ShapeError, UnknownName
from vitral.nn.families import build
from vitral.nn.family.cnn import ResNet
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.position import SinCosStart
from vitral.nn.family.swin import SwinTransformer


@pytest.mark.parametrize("kind", [Attention, QKNormAttention])
@pytest.mark.parametrize(
    ("width", "heads", "works"), [(100, 8, "1, 2, 4, 5, 10, 20, 25, 50, 100"), (6, 4, "1, 2, 3, 6"), (3, 0, "1, 3")]
)
def test_a_width_that_does_not_split_over_the_heads_names_the_heads_that_work(kind, width, heads, works):
    with pytest.raises(ConfigError) as caught:
        kind(width, heads)
    assert str(caught.value) == (f"embed_dim={width} cannot be split over num_heads={heads}; heads that work: {works}.")


@pytest.mark.parametrize(
    ("image", "patch", "nearest"),
    [
        (225, 16, "224x224"),
        ((24, 33), (8, 16), "24x32"),
        (7, 16, "16x16"),
        ((0, 16), 16, "16x16"),
        ((31, 48), 16, "32x48"),
    ],
)
def test_patches_that_do_not_tile_the_image_name_the_nearest_size_that_works(image, patch, nearest):
    with pytest.raises(ConfigError, match="each side must be a multiple") as caught:
        PatchEmbedding(image, patch)
    assert str(caught.value).endswith(f"The nearest size that works: {nearest}.")
    height, width = map(int, nearest.split("x"))
    PatchEmbedding((height, width), patch)


@pytest.mark.parametrize(("image", "patch"), [(32, 0), (32, -8), (-32, 8), ((32, -32), 8), (32, (8, 0))])
def test_sizes_below_one_are_refused(image, patch):
    with pytest.raises(ConfigError):
        PatchEmbedding(image, patch)


def test_an_image_of_another_size_names_both_sizes_and_what_to_do(vit):
    for shape in ((2, 3, 18, 8), (2, 1, 8, 18), (2, 3, 16, 36)):
        with pytest.raises(ShapeError) as caught:
            vit(torch.zeros(shape))
        message = str(caught.value)
        assert f"= (3, 8, 18), but was given {shape[1:]}" in message
        assert "img_size=" in message
        assert "in_channels=" in message


@pytest.mark.parametrize("size", ["in_channels", "embed_dim", "depth", "num_heads"])
def test_each_size_below_one_is_named(size):
    with pytest.raises(ConfigError, match=rf"{size}=0.*at least 1"):
        VisionTransformer(**{size: 0})


@pytest.mark.parametrize("setting", [dict(num_classes=-1), dict(mlp_ratio=0.0), dict(mlp_ratio=-1.0)], ids=str)
def test_other_numbers_that_build_no_model_are_refused(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        tiny_vit(**setting)


def test_the_cls_pool_without_a_class_token_is_refused():
    """It would read the first patch without a word."""
    with pytest.raises(ConfigError, match="MeanPool"):
        tiny_vit(tokens={})


@pytest.mark.parametrize("layers", [[3], [-4], [0, 7]])
def test_a_layer_that_does_not_exist_is_refused_with_those_that_do(vit, images, layers):
    with pytest.raises(ConfigError, match=r"do not exist: there are 3 blocks, 0 to 2 \(or -3 to -1\)"):
        vit.features(images, layers)


def test_sines_and_cosines_need_a_multiple_of_four():
    with pytest.raises(ConfigError, match=r"embed_dim=18 .*multiple of 4"):
        SinCosStart().table(1, (2, 2), 18)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("vit_tiny_patch16_244", "vit_tiny_patch16_224"), ("VIT_NANO_PATCH8_48", "vit_nano_patch8_48")],
)
def test_an_unknown_model_names_the_nearest_one(name, nearest):
    with pytest.raises(UnknownName, match=f"no model '{name}'. Did you mean '{nearest}'"):
        create(name)


def test_an_unknown_setting_names_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no setting 'img_sise'\. Did you mean 'img_size'"):
        create("vit_nano_patch8_48", img_sise=32)
    with pytest.raises(ConfigError, match="Settings: img_size, patch_size"):
        create("vit_nano_patch8_48", zzz=1)


@pytest.mark.parametrize(
    "config",
    [dict(wings=2), dict(parts={"wing": "nn.family.pool:MeanPool"}), dict(parts={"position": "nn.mlp:MLP"})],
    ids=str,
)
def test_a_config_that_is_none_is_refused(vit, config):
    with pytest.raises(ConfigError, match="not the config of a VisionTransformer"):
        build(vit.config | config)


FAMILIES = {
    SwinTransformer: ("img_size", "patch_size", "in_channels", "embed_dim", "window_size"),
    ResNet: ("img_size", "in_channels", "embed_dim"),
}


@pytest.mark.parametrize(("made", "size"), [(made, size) for made, sizes in FAMILIES.items() for size in sizes])
def test_each_size_of_a_family_below_one_is_named(made, size):
    with pytest.raises(ConfigError, match=rf"^{size}=0: must be at least 1\.$"):
        made(**{size: 0})


@pytest.mark.parametrize("made", [VisionTransformer, *FAMILIES])
def test_no_model_has_fewer_classes_than_none(made):
    with pytest.raises(ConfigError, match=r"^num_classes=-1: must be at least 0\.$"):
        made(num_classes=-1)
    with pytest.raises(ConfigError, match="depth"):
        made(depth=0) if made is VisionTransformer else made(depths=())
