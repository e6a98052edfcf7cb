"""What `watch` sees of our own ViT is what its attention computes."""

import pytest
import torch

from tiny import see_attention, tiny_vit
from vitral import watch
from vitral.nn.family.mixer import QKNormAttention
from vitral.recording.intercept import TOLERANCE

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}
dtypes = pytest.mark.parametrize("dtype", CLOSE, ids=str)


def by_hooks(model, images):
    """Each block's weights and values, formed from what its `qkv` gave, and what entered its `proj`."""
    projected, joined = [], []
    hooks = [block.attn.qkv.register_forward_hook(lambda _, __, out: projected.append(out)) for block in model.blocks]
    hooks += [
        block.attn.proj.register_forward_hook(lambda _, given, __: joined.append(given[0])) for block in model.blocks
    ]
    out = model(images)
    for hook in hooks:
        hook.remove()
    found = []
    for block, qkv, z in zip(model.blocks, projected, joined, strict=True):
        batch, tokens, width = qkv.shape
        heads = block.attn.num_heads
        q, k, v = qkv.reshape(batch, tokens, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
        if isinstance(block.attn, QKNormAttention):
            q, k = block.attn.q_norm(q), block.attn.k_norm(k)
        exact = torch.promote_types(qkv.dtype, torch.float32)
        weights = ((q.to(exact) / q.shape[-1] ** 0.5) @ k.to(exact).transpose(-1, -2)).softmax(-1)
        found.append((weights, v.to(exact), z.reshape(batch, tokens, heads, -1).transpose(1, 2).to(exact)))
    return out, found


@dtypes
@pytest.mark.parametrize("parts", [{}, {"mixer": QKNormAttention}], ids=["lecture", "qk-norm"])
@torch.no_grad()
def test_watched_rows_are_the_weights_and_times_the_values_give_the_output(dtype, parts, images):
    model, images = tiny_vit(**parts).to(dtype), images.to(dtype)
    plain, expected = by_hooks(model, images)
    with watch(model, rows="all") as seen:
        watched = model(images)
    assert torch.equal(watched, plain)
    assert len(seen.layers) == 3
    for layer, (weights, values, z) in zip(seen.layers, expected, strict=True):
        assert weights.shape == (2, 4, 7, 7)
        assert weights.std() > 0.05  # far from uniform: a wrong row would show
        torch.testing.assert_close(layer.weights(), weights, rtol=0, atol=CLOSE[dtype])
        torch.testing.assert_close(layer.weights() @ values, z, rtol=0, atol=CLOSE[dtype] * z.abs().max().item())
        torch.testing.assert_close(layer.weights().sum(-1), torch.ones(2, 4, 7, dtype=weights.dtype))
        assert 0 <= layer.residual <= TOLERANCE[dtype]


@dtypes
@torch.no_grad()
def test_prefix_rows_chosen_rows_and_all_rows_agree(dtype, images):
    model, images = tiny_vit(tokens={"cls_token": 1, "reg_token": 2}).to(dtype), images.to(dtype)
    seen = {}
    for rows in ("prefix", (0, 1, 2), [5, 0, 2, 1], range(9), "all"):
        with watch(model, rows=rows) as seen[str(rows)]:
            model(images)
    for layers in zip(*(watched.layers for watched in seen.values()), strict=True):
        for layer in layers[1:]:
            torch.testing.assert_close(layer.rows([0, 1, 2]), layers[0].rows([0, 1, 2]), rtol=0, atol=1e-6)
        assert layers[0].rows([0, 1, 2]).shape == (2, 4, 3, 9)


@torch.no_grad()
def test_rows_come_in_the_order_asked(vit, images):
    some = see_attention(vit, images, rows=[4, 1])
    every = see_attention(vit, images)
    for few, full in zip(some.layers, every.layers, strict=True):
        torch.testing.assert_close(few.rows([1, 4, 1]), full.weights()[:, :, [1, 4, 1]])
        torch.testing.assert_close(few.rows([4]), full.rows([4]))
        assert not torch.allclose(few.rows([4]), few.rows([1]), atol=1e-3)


@torch.no_grad()
def test_layers_are_named_as_the_model_names_them_in_the_order_they_ran(vit, images):
    seen = see_attention(vit, images, rows="prefix")
    assert [layer.name for layer in seen.layers] == ["blocks.0.attn", "blocks.1.attn", "blocks.2.attn"]
    assert all(isinstance(vit.get_submodule(layer.name), type(vit.blocks[0].attn)) for layer in seen.layers)


@torch.no_grad()
def test_each_token_has_a_role(images):
    model = tiny_vit(tokens={"cls_token": 1, "reg_token": 2})
    seen = see_attention(model, images, rows="prefix")
    patches = tuple(f"patch {row} {column}" for row in range(2) for column in range(3))
    assert seen.layers[0].roles == ("cls", "register 0", "register 1", *patches)
    assert seen.layers[0].num_tokens == 9


@torch.no_grad()
def test_the_models_residual_is_that_of_its_worst_layer(vit, images):
    seen = see_attention(vit, images, rows="prefix")
    assert seen.residual == max(layer.residual for layer in seen.layers)


@torch.no_grad()
def test_two_passes_in_one_block_are_seen_one_after_the_other(vit, images):
    with watch(vit) as seen:
        vit(images)
        vit(images.flip(-1))
    assert len(seen.layers) == 6
    torch.testing.assert_close(seen.layers[0].rows([0]).sum(-1), torch.ones(2, 4, 1))
    assert not torch.allclose(seen.layers[0].rows([0]), seen.layers[3].rows([0]), atol=1e-3)


def test_a_model_is_watched_while_it_computes_gradients(vit, images):
    plain = vit(images).sum()
    expected = torch.autograd.grad(plain, list(vit.parameters()))
    with watch(vit):
        watched = vit(images).sum()
    for got, wanted in zip(torch.autograd.grad(watched, list(vit.parameters())), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("rows", [range(7), "all"], ids=["as they pass", "afterwards"])
@torch.no_grad()
def test_under_autocast_rows_are_still_computed_in_single_precision(vit, images, rows):
    projected = []
    hooks = [block.attn.qkv.register_forward_hook(lambda _, __, out: projected.append(out)) for block in vit.blocks]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = vit(images)
        for hook in hooks:
            hook.remove()
        with watch(vit, rows=rows) as seen:
            watched = vit(images)
    assert plain.dtype == torch.bfloat16
    assert torch.equal(watched, plain)
    for layer, qkv in zip(seen.layers, projected, strict=True):
        assert qkv.dtype == torch.bfloat16
        q, k, _ = qkv.float().reshape(2, 7, 3, 4, 4).permute(2, 0, 3, 1, 4)
        assert layer.rows([0]).dtype == torch.float32
        torch.testing.assert_close(layer.weights(), (q @ k.transpose(-1, -2) / 2).softmax(-1), rtol=0, atol=1e-5)
