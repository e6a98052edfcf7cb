"""Forward pass and training step of our ViT against timm's of the same shape and weights, eager, interleaved."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.paired import paired
from benchmarks.peers import timm
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.vit import VisionTransformer

SHAPES = {
    "48 px, patch 8, 64 wide, 4 blocks": dict(
        img_size=48, patch_size=8, num_classes=8, embed_dim=64, depth=4, num_heads=4
    ),
    "the same, query-key norm": dict(img_size=48, patch_size=8, num_classes=8, embed_dim=64, depth=4, num_heads=4),
    "vit_tiny_patch16_224": dict(img_size=224, patch_size=16, num_classes=1000, embed_dim=192, depth=12, num_heads=3),
}
BATCH = {"48 px, patch 8, 64 wide, 4 blocks": 128, "the same, query-key norm": 128, "vit_tiny_patch16_224": 8}
ROUNDS = {"48 px, patch 8, 64 wide, 4 blocks": 60, "the same, query-key norm": 60, "vit_tiny_patch16_224": 30}


def run() -> dict[str, object]:
    results = []
    for name, shape in SHAPES.items():
        normed = "norm" in name
        torch.manual_seed(0)
        peer = timm.models.VisionTransformer(**shape, qk_norm=normed)
        ours = VisionTransformer(**shape, **(dict(mixer=QKNormAttention) if normed else {}))
        ours.load_state_dict(peer.state_dict())
        images = torch.randn(BATCH[name], 3, shape["img_size"], shape["img_size"])
        labels = torch.randint(0, shape["num_classes"], (BATCH[name],))
        with torch.no_grad():
            difference = float((ours.eval()(images) - peer.eval()(images)).abs().max())
        assert difference < 1e-4, f"{name}: the two models differ by {difference}"
        pairs = {
            "forward": (forward(ours, images), forward(peer, images)),
            "training step": (training_step(ours, images, labels), training_step(peer, images, labels)),
        }
        for what, (mine, other) in pairs.items():
            measured = paired(mine, other, ROUNDS[name])
            results.append(
                {"shape": name, "what": what, "batch": BATCH[name], "outputs_differ_by": difference, **measured}
            )
            low, high = measured["interval"]
            print(f"   {name}, {what}: timm / ours = {measured['ratio']:.3f} ({low:.3f} to {high:.3f})", flush=True)
    return {"threads": torch.get_num_threads(), "results": results}


def forward(model: nn.Module, images: torch.Tensor):
    def work() -> None:
        model.eval()
        with torch.inference_mode():
            model(images)

    return work


def training_step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def work() -> None:
        model.train()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return work
