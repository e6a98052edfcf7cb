"""The rest of the lecture's diagram: the pre-norm block, the feed-forward network, pools and heads."""

import torch

from tiny import layer_norm, redraw, tiny_vit
from vitral import MLP, Attention, Block
from vitral.nn.family.pool import MeanPool
from vitral.nn.head import CLSPool, MLPHead


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def test_a_block_is_the_two_lines_of_the_lecture():
    block = redraw(Block(Attention(8, 2), MLP(8, 12), 8).double())
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    middle = x + block.attn(layer_norm(x, block.norm1))
    expected = middle + block.mlp(layer_norm(middle, block.norm2))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_an_mlp_is_gelu_between_two_linear_maps_for_each_token_alone():
    mlp = redraw(MLP(4, 6).double())
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    hidden = gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    torch.testing.assert_close(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias, rtol=0, atol=1e-12)


def test_the_model_is_its_diagram():
    """Patches, CLS before them, positions, blocks, a final LayerNorm, and the head on CLS."""
    model = tiny_vit().double()
    images = torch.randn(2, 3, 8, 18, dtype=torch.float64)
    x = torch.cat([model.cls_token.repeat(2, 1, 1), model.patch_embed(images)], dim=1) + model.pos_embed
    for block in model.blocks:
        x = block(x)
    expected = layer_norm(x[:, 0], model.norm) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-12)


def test_with_a_mean_pool_the_head_reads_the_patches_and_no_token_before_them(images):
    model = tiny_vit(tokens={"cls_token": 1, "reg_token": 3}, pool=MeanPool)
    (last,) = model.features(images, [-1])
    expected = model.norm(last.flatten(2).transpose(1, 2)).mean(1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), expected)


def test_an_image_is_answered_alike_whatever_else_is_in_the_batch(vit, images):
    vit, images = vit.double(), images.double()
    torch.testing.assert_close(vit(images), torch.cat([vit(image[None]) for image in images]), rtol=0, atol=1e-12)


def test_without_classes_the_model_returns_what_its_head_would_read(images):
    model, headless = tiny_vit(), tiny_vit(num_classes=0)
    headless.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("head")})
    assert headless(images).shape == (2, 16)
    torch.testing.assert_close(model.head(headless(images)), model(images))


def test_the_cls_pool_reads_the_first_token_and_the_mean_pool_the_patches():
    x = torch.randn(2, 7, 3)
    assert torch.equal(CLSPool()(x, 2), x[:, 0])
    torch.testing.assert_close(MeanPool()(x, 2), sum(x[:, place] for place in range(2, 7)) / 5)


def test_the_mlp_head_has_one_hidden_layer_of_tanh():
    head = redraw(MLPHead(4, 3).double())
    x = torch.randn(2, 4, dtype=torch.float64)
    expected = torch.tanh(x @ head[0].weight.T + head[0].bias) @ head[2].weight.T + head[2].bias
    torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-12)


def test_further_learned_tokens_come_before_the_patches_in_their_order(images):
    model = tiny_vit(tokens={"cls_token": 1, "reg_token": 3})
    x = model.embed(images) - model.pos_embed
    assert model.num_prefix_tokens == 4
    assert model.pos_embed.shape[1] == 4 + 6
    torch.testing.assert_close(x[0, :1], model.cls_token[0])
    torch.testing.assert_close(x[1, 1:4], model.reg_token[0])
    torch.testing.assert_close(x[:, 4:], model.patch_embed(images))
