"""Maps of every explanation method, logits of every zoo model: saved by one version of the code, held against another.

    python -m benchmarks.reference_values save FOLDER      under either version: PYTHONPATH chooses it
    python -m benchmarks.reference_values compare BEFORE AFTER      writes results/reference_values.json

Only names of the public contract are used, but for the controls, so that the same file runs under both versions.
`compare` exits with 1 if a map differs by more than `TOLERANCE` of the larger of 1 and its largest value, or a logit by
one bit.

Axes:  b images   l layers   h heads   gy gx rows, columns of patches
"""

import argparse
import hashlib
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitral
from benchmarks.peers import timm, torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

METHODS = (
    "attention",
    "attention_gradient",
    "chefer",
    "grad_cam",
    "input_gradient",
    "integrated_gradients",
    "occlusion",
    "rollout",
)
CONTROLS = ("centre", "edges", "random", "untrained")
TOLERANCE = 1e-6
RESULT = Path(__file__).parent / "results" / "reference_values.json"
IMAGES = 3
REGISTERS = {"cls_token": 1, "reg_token": 4}


class HandWritten(nn.Module):
    """A ViT that Vitral knows nothing about: softmax attention written out, names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 24, 8, 8)
        self.start = nn.Parameter(torch.zeros(1, 1, 24))
        self.layers = nn.ModuleList(nn.ModuleDict({name: nn.Linear(24, 24) for name in "qkvo"}) for _ in range(2))
        self.answer = nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.project(images).flatten(2).mT
        x = torch.cat([self.start.expand(len(x), -1, -1), x], 1)
        for layer in self.layers:
            q, k, v = (layer[name](x).unflatten(-1, (3, 8)).transpose(1, 2) for name in "qkv")
            weights = F.softmax(q @ k.transpose(-2, -1) / 8**0.5, dim=-1)
            x = x + layer["o"]((weights @ v).transpose(1, 2).flatten(2))
        return self.answer(x[:, 0])


def named(name: str, **overrides: Any) -> Callable[[], nn.Module]:
    return lambda: vitral.create(name, num_classes=5, **overrides)


OURS = dict(img_size=(32, 48), patch_size=8, embed_dim=24, depth=3, num_heads=3)
PEER = dict(img_size=(32, 48), patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
SWIN = dict(patch_size=4, window_size=4, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
MODELS: dict[str, tuple[tuple[int, int], Callable[[], nn.Module]]] = {
    "CLS": ((32, 48), lambda: vitral.VisionTransformer(num_classes=5, **OURS)),
    "registers": ((32, 48), lambda: vitral.VisionTransformer(num_classes=5, tokens=REGISTERS, **OURS)),
    "distilled": ((32, 48), named("deit_tiny_distilled_patch16_224", **OURS)),
    "rotary, registers": ((32, 48), named("vit_small_patch16_dinov3", **(OURS | dict(num_heads=2)))),
    "mean pool": ((32, 48), named("simplevit_tiny_patch16_224", **OURS)),
    "attention pool": ((32, 48), named("vit_base_patch16_siglip_224", **OURS)),
    "convolutions, mean pool": ((32, 48), named("iso_dwconv3_nano_patch8_48", **OURS)),
    "Swin": ((64, 96), named("swin_tiny_patch4_window7_224", img_size=(64, 96), **SWIN)),
    "CNN": ((32, 48), named("resnet_nano_48", img_size=(32, 48), embed_dim=8, depths=(1, 1))),
    "timm ViT": ((32, 48), lambda: timm.create_model("vit_tiny_patch16_224", **PEER)),
    "timm Swin": (
        (64, 96),
        lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=(64, 96), num_classes=5, **SWIN),
    ),
    "Hugging Face ViT": (
        (32, 32),
        lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=24,
                num_hidden_layers=2,
                num_attention_heads=3,
                intermediate_size=48,
                image_size=32,
                patch_size=8,
                num_labels=5,
            )
        ),
    ),
    "torchvision ViT": (
        (32, 32),
        lambda: torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=48, num_classes=5
        ),
    ),
    "written by hand": ((32, 48), HandWritten),
}


def redraw(model: nn.Module) -> nn.Module:
    """Draw every parameter from a seed that is its name, so that their order does not matter; in eval mode.

    A new model's head and projections are zero, so that any two would agree.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            scale = parameter.ndim == 1 and name.endswith("weight")  # of a norm
            parameter.copy_(drawn * 0.2 + scale)
    return model.eval()


def draw_images(size: tuple[int, int]) -> Tensor:
    return torch.randn(IMAGES, 3, *size, generator=torch.Generator().manual_seed(1))


def explanation(name: str) -> Callable[[nn.Module, Tensor], Any]:
    """`vitral.explain.NAME`, or the control of that name, as a function of a model and images."""
    if name in METHODS:
        return getattr(vitral.explain, name)
    function = getattr(import_module(f"vitral.explain.controls.{name}"), name)
    if next(iter(inspect.signature(function).parameters)) == "model":
        return function
    return import_module("vitral.explain.entry").explainer(function)


def maps() -> Iterator[tuple[str, np.ndarray | str]]:
    """The values of each method for each model, and `merged`; the error's class of one that refuses the model."""
    for model_name, (size, make) in MODELS.items():
        torch.manual_seed(0)
        model, images = redraw(make()), draw_images(size)
        for method in METHODS + CONTROLS:
            torch.manual_seed(0)
            key = f"{method} | {model_name}"
            try:
                found = explanation(method)(model, images)
            except Exception as error:  # either version may refuse a model; what is no refusal is raised again
                if not any(kind.__name__ == "VitralError" for kind in type(error).__mro__):
                    raise
                yield key, type(error).__name__
                continue
            yield f"{key} | values", np.asarray(found.values)
            if hasattr(found, "merged"):
                yield f"{key} | merged", np.asarray(found.merged)


def small(name: str) -> dict[str, Any]:
    """Overrides that keep the parts of a zoo model, and make it small."""
    if name.startswith("swin"):
        window = next((int(word[6:]) for word in name.split("_") if word.startswith("window")), 7)
        return dict(img_size=4 * 2 * window, patch_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4))
    if name.startswith("resnet"):
        return dict(img_size=32, embed_dim=8)
    return dict(img_size=(24, 32), patch_size=8, embed_dim=48, depth=2, num_heads=4)


def logits() -> Iterator[tuple[str, np.ndarray | str]]:
    """The logits of every zoo model at a small size, their gradient with respect to the images, and its new weights."""
    for name in vitral.list_models():
        overrides = small(name)
        torch.manual_seed(0)
        model = vitral.create(name, num_classes=7, **overrides)
        weights = hashlib.sha256()
        for key, parameter in sorted(model.named_parameters()):
            weights.update(key.encode() + parameter.detach().numpy().tobytes())
        size = overrides["img_size"]
        images = draw_images(size if isinstance(size, tuple) else (size, size)).requires_grad_()
        found = redraw(model)(images)
        (gradient,) = torch.autograd.grad(found.square().sum(), images)
        yield f"{name} | logits", found.detach().numpy()
        yield f"{name} | gradient", gradient.numpy()
        yield f"{name} | new weights", weights.hexdigest()


def save(folder: Path) -> None:
    """Compute everything, and write `maps.npz`, `logits.npz` and `words.json` to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    words: dict[str, str] = {}
    for file, values in (("maps", maps()), ("logits", logits())):
        arrays: dict[str, np.ndarray] = {}
        for key, value in values:
            if isinstance(value, str):
                words[key] = value
            else:
                arrays[key] = value
        np.savez_compressed(folder / f"{file}.npz", **arrays)
        print(f"{len(arrays)} arrays -> {folder / file}.npz")
    (folder / "words.json").write_text(json.dumps(words, indent=2) + "\n", encoding="utf-8")


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference, as a share of the larger of 1 and the largest value before; inf for another shape."""
    if before.shape != after.shape or not np.array_equal(np.isfinite(before), np.isfinite(after)):
        return float("inf")
    gap = np.abs(before.astype(np.float64) - after.astype(np.float64))
    return float(np.nanmax(gap) / max(1.0, float(np.nanmax(np.abs(before)))))


def compare(before: Path, after: Path) -> bool:
    """Print the largest difference of each method and model, and of the logits; whether all are as they must be."""
    largest: dict[str, float] = dict.fromkeys(METHODS + CONTROLS, 0.0)
    equal: dict[str, int] = dict.fromkeys(("logits", "gradient"), 0)
    old, new = (json.loads((folder / "words.json").read_text(encoding="utf-8")) for folder in (before, after))
    problems: list[str] = []
    new_models: set[str] = set()  # that only the later version has
    for file in ("maps", "logits"):
        with np.load(before / f"{file}.npz") as earlier, np.load(after / f"{file}.npz") as later:
            for key in sorted({*earlier.files, *later.files}):
                if file == "logits" and key not in earlier.files:
                    new_models.add(key.rsplit(" | ", 1)[0])
                    continue
                if key not in earlier.files or key not in later.files:
                    there = before if key in earlier.files else after
                    other = old if there == after else new
                    reason = other.get(key.rsplit(" | ", 1)[0], "nothing")
                    problems.append(f"{key}: only in {there}; the other has {reason}")
                    continue
                gap, exact = difference(earlier[key], later[key]), np.array_equal(earlier[key], later[key])
                if file == "maps" or not exact:
                    print(f"{'equal' if exact else f'{gap:.1e}':>9}  {key}")
                if file == "maps":
                    method = key.split(" | ")[0]
                    largest[method] = max(largest[method], gap)
                else:
                    equal[key.rsplit(" | ", 1)[1]] += exact
                if not (exact if key.endswith("logits") else gap <= TOLERANCE):
                    problems.append(f"{key}: {gap:.1e}")
            if file == "logits":
                count = sum(key.endswith("logits") for key in earlier.files)
                print(f"logits of {count} models compared bit by bit; only those that differ are listed")
    for key in sorted({*old, *new}):
        if (key in old) and (key in new) and old[key] != new[key]:
            problems.append(f"{key}: {old[key]} -> {new[key]}")
    print(f"\n{len(problems)} problems" + "".join(f"\n  {problem}" for problem in problems))
    record = {
        "benchmark": "reference_values",
        "models": list(MODELS),
        "largest difference of a map": {method: float(f"{gap:.1e}") for method, gap in largest.items()},
        "zoo models": count,
        "bit-equal": equal,
        "new weights as before": sum(old.get(key) == word for key, word in new.items() if key.endswith("new weights")),
        "models only after": sorted(new_models),
        "problems": problems,
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return not problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("save").add_argument("folder", type=Path)
    comparison = actions.add_parser("compare")
    comparison.add_argument("before", type=Path)
    comparison.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.action == "save":
        save(options.folder)
    else:
        sys.exit(0 if compare(options.before, options.after) else 1)
