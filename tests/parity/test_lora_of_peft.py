"""LoRA with the same A and B on the same linear layers is peft's: outputs, gradients, merged weights."""

import torch

import peers  # noqa: F401 - it makes torchvision importable, and with it transformers, and peft
from tiny import tiny_vit
from vitral.training.lora import ALPHA, add_low_rank_updates, merged


def test_outputs_gradients_and_merged_weights_are_those_of_peft():
    from peft import LoraConfig, get_peft_model

    own = tiny_vit()
    names = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    other = get_peft_model(tiny_vit(), LoraConfig(r=4, lora_alpha=int(ALPHA), target_modules=names))
    layers = add_low_rank_updates(own, 4, seed=0)
    images = torch.randn(5, 3, 8, 18)
    pairs = [(own.get_submodule(name), other.base_model.model.get_submodule(name)) for name in layers]
    assert len(pairs) == 4 * 3
    assert sum("lora_A" in name for name, _ in other.named_parameters()) == len(pairs)  # peft has no others
    with torch.no_grad():
        for mine, theirs in pairs:
            assert mine.lora_a.abs().max() <= mine.in_features**-0.5 and not mine.lora_b.any()
            assert theirs.lora_A["default"].weight.abs().max() <= mine.in_features**-0.5  # the same start
            mine.lora_b.normal_(std=0.1)
            theirs.lora_A["default"].weight.copy_(mine.lora_a)
            theirs.lora_B["default"].weight.copy_(mine.lora_b)
    torch.testing.assert_close(own(images), other(images), atol=1e-6, rtol=1e-6)
    own(images).square().mean().backward()
    other(images).square().mean().backward()
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.lora_a.grad, theirs.lora_A["default"].weight.grad, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(mine.lora_b.grad, theirs.lora_B["default"].weight.grad, atol=1e-6, rtol=1e-5)
    plain, theirs = merged(own).state_dict(), other.merge_and_unload().state_dict()
    assert plain.keys() == theirs.keys()
    for name, values in plain.items():
        torch.testing.assert_close(values, theirs[name], atol=1e-6, rtol=1e-6)
