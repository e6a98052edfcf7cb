"""The pictures in the docs: `python -m benchmarks.pictures` draws them again, of models that it trains if need be.

`methods.png`: eight methods on an image of `cued`, of the model that `benchmarks scores` trained with seed 0.
`samples.png`: a ViT with registers and a Swin, timm's, and a ResNet, trained on `shapes` (up to ten minutes each), on
test images; and a large one with registers on a photograph that is not square, whose weights are random, since none are
shipped.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from benchmarks.command import vitral
from benchmarks.peers import timm
from vitral import explain, load
from vitral.base.lookup import names
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.dataset import Dataset
from vitral.data.preprocess import crop_and_resize, normalise
from vitral.data.synthetic.cued import cued
from vitral.data.synthetic.shapes import shapes
from vitral.explain.maps import Maps
from vitral.explain.observation import observe
from vitral.explain.trials import Trials
from vitral.report.maps import MapPanel, maps_figure
from vitral.report.style import png

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
RUNS = Path("runs")
OTHERS = {
    "registers": "timm's ViT, 12 blocks, CLS and 4 registers, 6 x 6 patches",
    "swin": "timm's Swin, windows of 6 x 6 mapped back to the image, 12 x 12 patches",
    "resnet": "Vitral's small ResNet, which has no attention: its last feature map, 6 x 6 places",
}
METHODS = ("attention", "attention_gradient", "grad_cam", "integrated_gradients", "occlusion")


def trained(name: str, *words: str) -> nn.Module:
    """The run of this name, trained first if it is not there."""
    home = RUNS / name
    if not (home / "report.html").is_file():
        vitral("train", *words, "--out", str(home))
    return load(home)


def prepared(data: Dataset, which: int) -> tuple[np.ndarray, Tensor]:
    pixels = data.test.pixels[which : which + 1]
    return pixels, normalise(torch.from_numpy(pixels.copy()), data.preprocessing)


def row(
    model: nn.Module,
    pixels: np.ndarray,
    images: Tensor,
    methods: Sequence[str],
    caption: str,
    tested: bool = True,
    columns: int = 6,
) -> bytes:
    """One image by several methods, with the verdict below a map that is not better than chance."""
    drawn, trials = [], Trials(observe(model, images, ["feature maps"]))
    for method in methods:
        maps: Maps = getattr(explain, method)(model, images, **({"layers": [-1]} if method == "attention" else {}))
        below = maps.mass_label(0)
        if tested and not (trust := trials.trust(maps)[0]).better_than_chance:
            below = trust.verdict
        drawn.append(MapPanel(method, maps.merged[0], maps.unit, below))
    return png(maps_figure(pixels[0], drawn, caption, columns))


def methods_picture() -> Image.Image:
    data, model = cued(n=8), trained("cued-seed-0", "--data", "cued", "--seed", "0")
    which = first_right(model, data)
    shown = data.classes[data.test.labels[which]]
    caption = f"Three shapes; the one with the white dot, here the {shown}, is the correct class."
    return opened(row(model, *prepared(data, which), names("explain.methods"), caption, columns=5))


def samples_picture() -> Image.Image:
    data, rows = shapes(n=8), []
    for name, told in OTHERS.items():
        own = "resnet_nano_48" if name == "resnet" else f"{ROOT}/benchmarks/others.py:{name}"
        model = trained(f"shapes-{name}", "--data", "shapes", "--model", own, "--precision", "float32")
        accuracy = vitral("eval", str(RUNS / f"shapes-{name}"), "--data", "shapes:n=8")["accuracy"]
        methods = METHODS[2:] if name == "resnet" else METHODS
        caption = f"{told}. Trained on shapes: {accuracy:.1%} accuracy on 2,000 test images."
        rows.append(row(model, *prepared(data, first_right(model, data)), methods, caption))
    rows.append(on_a_photograph())
    return stacked([opened(picture) for picture in rows])


def on_a_photograph() -> bytes:
    torch.manual_seed(0)
    size = (224, 336)
    model = timm.create_model("vit_small_patch16_dinov3", img_size=size, patch_size=16, num_classes=10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    preprocessing = Preprocessing(size=size)
    dressed = attach_record(model.eval(), ModelRecord(tuple(str(index) for index in range(10)), preprocessing))
    pixels = crop_and_resize(load_sample_image("china.jpg"), preprocessing)[None]
    images = normalise(torch.from_numpy(pixels.copy()), preprocessing)
    told = "timm's DINOv3, 12 blocks, CLS and 4 registers, rotary positions, 14 x 21 patches, random weights."
    return row(dressed, pixels, images, METHODS, told, tested=False)


@torch.no_grad()
def first_right(model: nn.Module, data: Dataset) -> int:
    """The first test image that the model answers right."""
    images = normalise(torch.from_numpy(data.test.pixels[:50].copy()), data.preprocessing)
    return int(np.flatnonzero(model(images).argmax(1).numpy() == data.test.labels[:50])[0])


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("RGB")


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(each.width for each in rows), sum(each.height for each in rows)), "white")
    top = 0
    for each in rows:
        whole.paste(each, (0, top))
        top += each.height
    return whole


if __name__ == "__main__":
    for name, draw in {"methods": methods_picture, "samples": samples_picture}.items():
        target = IMAGES / f"{name}.png"
        draw().quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1024:.0f} KiB")
