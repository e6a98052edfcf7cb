"""What a model costs by formula is what torch counts, and what is published."""

import pytest
import torch
from test_counts import on_meta
from torch.utils.flop_counter import FlopCounterMode

from vitral import create, list_models
from vitral.nn.cost import cost

MACS = {  # billions: torchvision's weights, Touvron et al. 2021 and Liu et al. 2021; all matrix products, 1000 classes
    "vit_tiny_patch16_224": 1.254,
    "vit_small_patch16_224": 4.599,
    "vit_base_patch16_224": 17.564,
    "vit_base_patch32_224": 4.409,
    "vit_base_patch16_384": 55.484,
    "vit_large_patch16_224": 61.555,
    "vit_huge_patch14_224": 167.295,
    "vit_giant_patch14_224": 267.031,
    "vit_gigantic_patch14_224": 483.748,
    "simplevit_small_patch16_224": 4.574,
    "deit_base_distilled_patch16_224": 17.657,
    "swin_tiny_patch4_window7_224": 4.491,
    "swin_small_patch4_window7_224": 8.741,
    "swin_base_patch4_window7_224": 15.431,
    "swin_base_patch4_window12_384": 47.083,
    "swin_large_patch4_window7_224": 34.476,
    "swin_large_patch4_window12_384": 103.919,
}


@pytest.mark.parametrize(("name", "billions"), MACS.items(), ids=MACS)
def test_published_multiply_adds(name, billions):
    assert round(cost(on_meta(name)).macs / 1e9, 3) == billions


COUNTED = [
    name
    for name in list_models()
    if any(part in name for part in ("nano", "tiny", "small_patch14", "base_patch16_siglip", "small_patch16_dinov3"))
]


@pytest.mark.parametrize("name", [name for name in COUNTED if not name.startswith("resnet")])
def test_torch_counts_the_same(name):
    model = on_meta(name, num_classes=10)
    images = torch.empty(1, 3, *model.preprocessing.size, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(images)
    assert counter.get_total_flops() == 2 * cost(model).macs
    assert cost(model).parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "changes", [dict(img_size=(24, 40)), dict(img_size=30, window_size=6), dict(img_size=(26, 50))]
)
def test_windows_that_do_not_divide_are_padded_in_the_count_too(changes):
    model = on_meta("swin_nano_patch2_window6_48", num_classes=10, **changes)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, *model.preprocessing.size, device="meta"))
    assert counter.get_total_flops() == 2 * cost(model).macs


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224"])
def test_what_training_keeps_is_what_torch_saves(name):
    """Storages that the backward pass of one block holds, but its parameters, on the CPU's fused kernel."""
    model = create(name)
    block, kept = model.blocks[0], {}
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randn(1, 197, 192, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = block(tokens)
    assert out.requires_grad
    assert cost(model).blocks[0].kept * 4 == pytest.approx(sum(kept.values()), rel=0.02)


def test_the_lectures_count_at_1024_pixels():
    """64 x 64 patches: 16.8 million entries a head, 64 MiB; with CLS 4,097 tokens."""
    block = cost(on_meta("vit_base_patch16_224", img_size=1024)).blocks[0]
    assert block.tokens == 4097
    assert block.mixing.entries == 4097**2
    assert 4096**2 == 16_777_216 and 4096**2 * 4 == 64 * 2**20
