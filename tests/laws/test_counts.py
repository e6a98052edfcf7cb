"""The published models have the published numbers of parameters, under timm's names for them."""

import re

import pytest
import torch

from vitral import create, list_models

COUNTS = {
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    "vit_base_patch32_224": 88_224_232,
    "vit_base_patch16_224": 86_567_656,
    "vit_large_patch16_224": 304_326_632,
    "vit_huge_patch14_224": 632_045_800,
    "vit_huge_patch14_518": 633_470_440,
    "vit_giant_patch14_224": 1_012_611_432,
    "vit_gigantic_patch14_224": 1_844_440_680,
    "vit_medium_patch16_224": 38_837_736,
    "vit_base_patch8_224": 86_576_872,
    "vit_large_patch14_224": 304_203_752,
    "vit_large_patch16_512": 305_174_504,
    "simplevit_small_patch16_224": 21_974_632,
    "simplevit_base_patch16_224": 86_415_592,
    "deit_tiny_distilled_patch16_224": 5_910_800,
    "deit_small_distilled_patch16_224": 22_436_432,
    "deit_base_distilled_patch16_224": 87_338_192,
    "deit_base_distilled_patch16_384": 87_630_032,
    "deit3_small_patch16_224": 22_059_496,
    "deit3_medium_patch16_224": 38_849_512,
    "deit3_base_patch16_224": 86_585_320,
    "deit3_large_patch16_224": 304_374_760,
    "deit3_huge_patch14_224": 632_126_440,
    "swin_tiny_patch4_window7_224": 28_288_354,
    "swin_small_patch4_window7_224": 49_606_258,
    "swin_base_patch4_window7_224": 87_768_224,
    "swin_base_patch4_window12_384": 87_903_584,
    "swin_large_patch4_window7_224": 196_532_476,
    "swin_large_patch4_window12_384": 196_735_516,
}

# Without a head, and without the mask token of pre-training (one vector) that the published counts include; and with
# registers without the position of CLS, which is kept in the class token.
HEADLESS = {
    "vit_small_patch14_dinov2": 22_056_576 - 384,
    "vit_base_patch14_dinov2": 86_580_480 - 768,
    "vit_large_patch14_dinov2": 304_368_640 - 1024,
    "vit_giant_patch14_dinov2": 1_136_480_768 - 1536,
    "vit_small_patch14_reg4_dinov2": 22_058_112 - 2 * 384,
    "vit_base_patch14_reg4_dinov2": 86_583_552 - 2 * 768,
    "vit_large_patch14_reg4_dinov2": 304_372_736 - 2 * 1024,
    "vit_giant_patch14_reg4_dinov2": 1_136_486_912 - 2 * 1536,
}


def on_meta(name, **overrides):
    with torch.device("meta"):
        return create(name, **overrides).eval()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# Width, depth, heads: Dosovitskiy et al. 2021, table 1; Touvron et al. 2021, table 1.
SHAPES = dict(tiny=(192, 12, 3), small=(384, 12, 6), base=(768, 12, 12), large=(1024, 24, 16), huge=(1280, 32, 16))


@pytest.mark.parametrize(("size", "shape"), SHAPES.items(), ids=SHAPES)
def test_published_shapes(size, shape):
    for name in list_models(f"vit_{size}_*[0-9]_[0-9]*"):
        model = on_meta(name)
        assert (model.config["embed_dim"], len(model.blocks), model.blocks[0].attn.num_heads) == shape
        assert model.blocks[0].mlp.fc1.out_features == 4 * shape[0]


@pytest.mark.parametrize(("name", "parameters"), COUNTS.items(), ids=COUNTS)
def test_published_counts(name, parameters):
    assert count(on_meta(name)) == parameters


@pytest.mark.parametrize(("name", "parameters"), HEADLESS.items(), ids=HEADLESS)
def test_published_counts_without_a_head(name, parameters):
    assert count(on_meta(name, num_classes=0)) == parameters


PLAIN = [name for name in list_models("vit_*") if re.fullmatch(r"vit_[a-z]+_patch\d+_\d+", name)]


@pytest.mark.parametrize("name", PLAIN)
def test_each_count_follows_from_the_sizes(name):
    model = on_meta(name, num_classes=10)
    c = model.config
    d, patch = c["embed_dim"], c["patch_size"][0] * c["patch_size"][1] * 3
    tokens = 1 + model.grid[0] * model.grid[1]
    hidden = int(d * c["mlp_ratio"])
    norms_of_queries_and_keys = 4 * d // c["num_heads"] if "mixer" in c["parts"] else 0
    attention = 3 * d * d + 3 * d + d * d + d + norms_of_queries_and_keys
    block = attention + d * hidden + hidden + hidden * d + d + 4 * d
    assert count(model) == patch * d + d + d + tokens * d + c["depth"] * block + 2 * d + 10 * d + 10


def test_keys_are_timms():
    keys = on_meta("vit_tiny_patch16_224").state_dict()
    parts = [f"blocks.11.{part}" for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")]
    block, outside = (
        [f"{part}.{kind}" for part in owners for kind in ("weight", "bias")]
        for owners in (parts, ("patch_embed.proj", "norm", "head"))
    )
    assert {*block, *outside, "cls_token", "pos_embed"} <= set(keys)
    assert len(keys) == 12 * len(block) + len(outside) + 2
    assert keys["pos_embed"].shape == (1, 197, 192)
    assert keys["cls_token"].shape == (1, 1, 192)
    assert keys["blocks.0.attn.qkv.weight"].shape == (576, 192)


def test_names_are_listed_by_pattern_smallest_first():
    assert list_models("vit_*_patch16_224") == [
        f"vit_{size}_patch16_224" for size in ("mu", "tiny", "small", "medium", "base", "large")
    ]
    assert list_models("swine*") == []
    assert set(COUNTS) <= set(list_models())
    counts = [count(on_meta(name)) for name in list_models("vit_*_patch16_224")]
    assert counts == sorted(counts)
