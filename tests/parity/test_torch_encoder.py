"""Our block is PyTorch's own pre-norm encoder layer, written to be read."""

import torch
from torch import nn

from vitral import MLP, Attention, Block


def test_a_block_equals_a_pre_norm_transformer_encoder_layer_with_the_same_weights():
    torch.manual_seed(0)
    width, heads, hidden = 24, 3, 56
    theirs = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", norm_first=True, batch_first=True, layer_norm_eps=1e-6
    ).double()
    ours = Block(Attention(width, heads), MLP(width, hidden), width).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    names = {
        "norm1": theirs.norm1,
        "norm2": theirs.norm2,
        "attn.proj": theirs.self_attn.out_proj,
        "mlp.fc1": theirs.linear1,
        "mlp.fc2": theirs.linear2,
    }
    state = {f"{name}.{kind}": getattr(module, kind) for name, module in names.items() for kind in ("weight", "bias")}
    state |= {"attn.qkv.weight": theirs.self_attn.in_proj_weight, "attn.qkv.bias": theirs.self_attn.in_proj_bias}
    ours.load_state_dict(state)

    mine = torch.randn(2, 11, width, dtype=torch.float64, requires_grad=True)
    other = mine.detach().clone().requires_grad_()
    out, expected = ours(mine), theirs(other)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-11, atol=1e-11)
