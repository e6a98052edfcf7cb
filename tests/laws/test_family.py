"""Random architectures, drawn from the parts, keep the laws that every ViT keeps."""

import json
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tiny import redraw
from vitral.base.errors import ConfigError
from vitral.nn.attention import Attention
from vitral.nn.block import Block, LayerNorm
from vitral.nn.families import build
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.checkpointing import checkpointed
from vitral.nn.family.head import DistilledHead, WideHead
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing, QKNormAttention, WindowMixing
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, CLSAndMeanPool, FirstTwo, MeanPool, NormedMeanPool
from vitral.nn.family.position import NoPosition, PatchPosition, SinCosPosition, SinCosStart
from vitral.nn.family.relative import RelativeBiasAttention
from vitral.nn.family.rope import QKNormRotary, RotaryAttention
from vitral.nn.family.stem import ConvStem
from vitral.nn.head import CLSPool, MLPHead
from vitral.nn.mlp import MLP
from vitral.nn.parts import describe_part
from vitral.nn.patch import PatchEmbedding
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer

GLOBAL = (Attention, QKNormAttention, RotaryAttention, QKNormRotary, RelativeBiasAttention, NoMixing)
KERNELS = [partial(DepthwiseMixing, kernel_size=size) for size in (5, 7)]
LOCAL = (DepthwiseMixing, *KERNELS, partial(DepthwiseMixing, padding_mode="circular"), WindowMixing)
NORMS = (LayerNorm, partial(LayerNorm, eps=1e-12), nn.LayerNorm, partial(nn.LayerNorm, eps=1e-3), nn.RMSNorm)
POSITIONS = (LearnedPosition, SinCosStart, PatchPosition, SinCosPosition, NoPosition)
HEADS = {FirstTwo: DistilledHead, CLSAndMeanPool: WideHead}  # of pools that give more than one token's width
UNORDERED = (Attention, QKNormAttention, NoMixing)  # mixers that do not know where a token stands


@st.composite
def architectures(draw, **fixed):
    """Arguments of a small `VisionTransformer` whose parts fit each other."""
    tokens = draw(st.sampled_from([{}, {"cls_token": 1}, {"cls_token": 1, "reg_token": 3}, DISTILLED]))
    pools = [MeanPool, NormedMeanPool, AttentionPool, partial(AttentionPool, mlp=TanhMLP)]
    pools += [CLSPool, CLSAndMeanPool] if tokens else []
    pool = FirstTwo if tokens is DISTILLED and draw(st.booleans()) else draw(st.sampled_from(pools))
    chosen = dict(
        img_size=draw(st.sampled_from([(8, 16), (16, 8), (12, 12)])),
        patch_size=draw(st.sampled_from([4, (2, 4)])),
        in_channels=draw(st.sampled_from([1, 3])),
        num_classes=5,
        embed_dim=16,
        depth=2,
        num_heads=draw(st.sampled_from([2, 4])),
        mlp_ratio=draw(st.sampled_from([1.5, 2.0])),
        tokens=tokens,
        pool=pool,
        mixer=draw(st.sampled_from(GLOBAL if tokens else GLOBAL + LOCAL)),
        position=draw(st.sampled_from(POSITIONS)),
        mlp=draw(st.sampled_from([MLP, TanhMLP, SwiGLU])),
        norm=draw(st.sampled_from(NORMS)),
        block=draw(st.sampled_from([Block, ScaledBlock])),
        head=HEADS[pool] if pool in HEADS else draw(st.sampled_from([nn.Linear, MLPHead])),
    )
    stems = [PatchEmbedding, ConvStem] if chosen["patch_size"] == 4 else [PatchEmbedding]
    chosen["patch_embed"] = draw(st.sampled_from(stems))
    return chosen | fixed


DISTILLED = {"cls_token": 1, "dist_token": 1}
many = settings(max_examples=40, deadline=None)


def made(chosen):
    model = redraw(VisionTransformer(**chosen))
    return model, torch.randn(2, chosen["in_channels"], *chosen["img_size"], generator=torch.Generator().manual_seed(0))


@many
@given(architectures())
def test_shapes_and_a_batch_is_its_images_one_by_one(chosen):
    model, images = made(chosen)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (2, 5)
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
        (maps,) = model.features(images, [-1])
    assert maps.shape == (2, 16, *model.grid)


@many
@given(architectures())
def test_a_model_built_from_its_config_is_the_same_model(chosen):
    model, images = made(chosen)
    again = build(json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


@many
@given(architectures(position=NoPosition, patch_embed=PatchEmbedding), st.sampled_from(UNORDERED), st.randoms())
def test_without_positions_the_order_of_patches_is_nothing(chosen, mixer, random):
    """Exchange the patches of an image: the answer is the same, for any pool and any tokens."""
    model, images = made(chosen | dict(mixer=mixer))
    model, images = model.double(), images.double()
    rows, columns = model.grid
    (height, width), count = model.patch_embed.patch_size, model.grid[0] * model.grid[1]
    order = random.sample(range(count), count)
    patches = images.unfold(2, height, height).unfold(3, width, width).flatten(2, 3)[:, :, order]
    again = patches.unflatten(2, (rows, columns)).permute(0, 1, 2, 4, 3, 5).flatten(2, 3).flatten(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(model(again), model(images), rtol=1e-9, atol=1e-9)


@many
@given(architectures(num_classes=5))
def test_gradients_are_the_same_when_blocks_are_run_again_for_them(chosen):
    model, images = made(chosen)
    model = model.double()
    found = []
    for again in (False, True):
        model.zero_grad()
        with checkpointed(model) if again else nullcontext():
            model(images.double()).square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-9, atol=1e-12)


def test_checkpointing_leaves_nothing_behind(vit, images):
    before = [set(vars(part)) for part in vit.modules()]
    with checkpointed(vit):
        vit(images)
    assert [set(vars(part)) for part in vit.modules()] == before


@pytest.mark.parametrize("mixer", LOCAL, ids=describe_part)
def test_mixers_of_maps_refuse_tokens_that_have_no_place(mixer):
    with pytest.raises(ConfigError, match=r"cannot hold other tokens \(num_prefix_tokens=1\)"):
        VisionTransformer(16, 4, embed_dim=16, depth=1, num_heads=2, mixer=mixer)
