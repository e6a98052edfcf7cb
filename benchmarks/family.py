"""Swin-T against torchvision's, timm's and Hugging Face's of the same weights, each at its best setting, interleaved.

Linear maps are 71 to 81 % of a forward pass, where nobody can be faster than the library that multiplies matrices; so a
forward pass is measured too with them packed for oneDNN (`nn.packed`): ours against the peer as it comes, and
against the peer packed by the same function, which tells how much of it is that function's.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.paired import paired
from benchmarks.peers import timm, torchvision

import transformers  # isort: skip - torchvision first
from vitral.nn.packed import packed
from vitral.weights.published import load_published

BATCH, SIZE, FORWARDS, STEPS = 4, 224, 20, 12


def run() -> dict[str, object]:
    results = []
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(0, 1000, (BATCH,))
    for name, (peer, answer) in peers().items():
        ours, peer = of_the_same_weights(peer).eval(), peer.eval()
        fast, peer_fast = packed(ours), packed(peer)
        pairs: dict[str, tuple] = {
            "forward": (forward, ours, peer, FORWARDS),
            "forward, ours packed": (forward, fast, peer, FORWARDS),
            "forward, both packed": (forward, fast, peer_fast, FORWARDS),
            "training step": (training_step, ours, peer, STEPS),
        }
        for what, (make, own, other, rounds) in pairs.items():
            with torch.no_grad():
                apart = float((own.eval()(images) - answer(other.eval()(images))).abs().max())
            assert apart < 1e-3, f"{name}, {what}: the two models differ by {apart}"
            mine = make(own, images, labels, lambda out: out)
            measured = paired(mine, make(other, images, labels, answer), rounds)
            results.append({"peer": name, "what": what, "batch": BATCH, "outputs_differ_by": apart, **measured})
            low, high = measured["interval"]
            print(f"   {name}, {what}: theirs / ours = {measured['ratio']:.3f} ({low:.3f} to {high:.3f})", flush=True)
    return {"threads": torch.get_num_threads(), "linear_share": linear_share(), "results": results}


def peers() -> dict[str, tuple[nn.Module, Callable]]:
    """Without stochastic depth, which each library draws otherwise."""
    torch.manual_seed(0)
    found: dict[str, tuple[nn.Module, Callable]] = {}
    stages: dict = dict(depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=[7, 7], stochastic_depth_prob=0.0)
    found["torchvision"] = torchvision.models.SwinTransformer([4, 4], 96, **stages), lambda out: out
    for fused in (False, True):
        timm.layers.set_fused_attn(True, experimental=fused)
        model = timm.create_model("swin_tiny_patch4_window7_224", drop_path_rate=0.0)
        found[f"timm, {'fused' if fused else 'explicit'} attention"] = model, lambda out: out
    config = transformers.SwinConfig(drop_path_rate=0.0, num_labels=1000)
    model = transformers.SwinForImageClassification._from_config(config, attn_implementation="sdpa")
    found["Hugging Face, SDPA"] = model, lambda out: out.logits
    return found


def of_the_same_weights(peer: nn.Module) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        if hasattr(peer, "save_pretrained"):
            peer.save_pretrained(folder)
            return load_published(Path(folder))
        path = Path(folder) / "model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in peer.state_dict().items()}, path)
        return load_published(path)


def forward(model: nn.Module, images: Tensor, labels: Tensor, answer: Callable) -> Callable[[], None]:
    def work() -> None:
        model.eval()
        with torch.inference_mode():
            model(images)

    return work


def training_step(model: nn.Module, images: Tensor, labels: Tensor, answer: Callable) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def work() -> None:
        model.train()
        F.cross_entropy(answer(model(images)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def linear_share() -> float:
    """The part of our forward pass's time that is spent in matrix products of linear maps."""
    model, images = of_the_same_weights(torchvision.models.swin_t()).eval(), torch.randn(BATCH, 3, SIZE, SIZE)
    with torch.inference_mode():
        model(images)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            model(images)
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    products = sum(time for key, time in times.items() if key in ("aten::addmm", "aten::mm"))
    return products / sum(times.values())
