"""Augmentation of a batch on one CPU thread: Vitral's operations, plain PyTorch, Pillow, and other libraries.

Each operation changes 128 images of 64 and of 224 pixels, every image by its own random numbers. The libraries are
timed in turn; medians. Kornia gets floats that are there already, and torchvision bytes. What is not installed is left
out, which the record says.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

from vitral.data.augment import find_augment
from vitral.data.mix import as_shares, find_mix
from vitral.data.operations.crop import draw_windows

COUNT, SIDES, ROUNDS, CLASSES = 128, (64, 224), 9, 10
Work = Callable[[], object]
RNG = torch.Generator().manual_seed(0)


def pictures(side: int) -> Tensor:
    """Smooth random images as bytes, (b, c, y, x), in the order of memory b y x c."""
    coarse = torch.rand(COUNT, 3, side // 8, side // 8, generator=RNG)
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return (255 * smooth).byte().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def ours(side: int, images: Tensor) -> dict[str, Work]:
    """Every operation as `--augment` and `--mix` have it."""
    labels = as_shares(torch.arange(COUNT) % CLASSES, CLASSES)
    names = ("crop", "horizontal_flip", "affine", "colour_jitter", "trivial_augment", "rand_augment", "erasing", "blur")
    names += ("photo", "photo_strong")
    found: dict[str, Work] = {name: lambda name=name: find_augment(name)(images, None, RNG) for name in names}
    for name in ("mixup", "cutmix"):
        found[name] = lambda name=name: find_mix(name)(images, labels, RNG)
    return found


def plain_torch(side: int, images: Tensor) -> dict[str, Work]:
    """The whole batch at once, in floats."""

    def crop() -> Tensor:
        top, left, high, wide = draw_windows(COUNT, (side, side), (0.08, 1.0), (3 / 4, 4 / 3), RNG).T / side
        theta = torch.zeros(COUNT, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = wide, high
        theta[:, 0, 2], theta[:, 1, 2] = 2 * left + wide - 1, 2 * top + high - 1
        return warped(theta)

    def warped(theta: Tensor) -> Tensor:
        grid = F.affine_grid(theta, [COUNT, 3, side, side], align_corners=False)
        moved = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return moved.round_().byte()

    def mixup() -> Tensor:
        floats = images.float()
        share = torch.rand(COUNT, 1, 1, 1, generator=RNG)
        return torch.lerp(floats[torch.randperm(COUNT, generator=RNG)], floats, share).round_().byte()

    def flip() -> Tensor:
        chosen = torch.rand(COUNT, 1, 1, 1, generator=RNG) < 0.5
        return torch.where(chosen, images.flip(3), images)

    def jitter() -> Tensor:
        floats, factor = images.float(), torch.rand(COUNT, 1, 1, 1, generator=RNG) + 0.5
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        floats = (floats * factor).clamp_(0, 255)
        mean = (floats * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        floats = torch.lerp(mean.expand_as(floats), floats, factor).clamp_(0, 255)
        grey = (floats * weights).sum(1, keepdim=True)
        return torch.lerp(grey.expand_as(floats), floats, factor).clamp_(0, 255).round_().byte()

    return {
        "crop": crop,
        "horizontal_flip": flip,
        "affine": lambda: warped(torch.eye(2, 3) + 0.1 * torch.randn(COUNT, 2, 3, generator=RNG)),
        "colour_jitter": jitter,
        "mixup": mixup,
    }


def pillow(side: int, images: Tensor) -> dict[str, Work]:
    rows = images.permute(0, 2, 3, 1).numpy()

    def each(change: Callable[[int, Image.Image], Image.Image]) -> Work:
        return lambda: np.stack([np.asarray(change(index, Image.fromarray(row))) for index, row in enumerate(rows)])

    windows = draw_windows(COUNT, (side, side), (0.08, 1.0), (3 / 4, 4 / 3), RNG).tolist()

    def crop(index: int, image: Image.Image) -> Image.Image:
        top, left, high, wide = windows[index]
        return image.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + wide, top + high))

    def flip(index: int, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if index % 2 else image

    def affine(index: int, image: Image.Image) -> Image.Image:
        matrix = (0.97, 0.2, -3.0, -0.2, 0.97, 2.0)
        return image.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    def jitter(index: int, image: Image.Image) -> Image.Image:
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = kind(image).enhance(0.6 + 0.8 * index / COUNT)
        return image

    def blur(index: int, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(side / 16 * index / COUNT))

    return {
        "crop": each(crop),
        "horizontal_flip": each(flip),
        "affine": each(affine),
        "colour_jitter": each(jitter),
        "blur": each(blur),
    }


def torchvision(side: int, images: Tensor) -> dict[str, Work]:
    import_module("benchmarks.peers")  # makes torchvision importable without CUDA
    v2: Any = import_module("torchvision.transforms.v2")
    labels, size, smooth = torch.arange(COUNT) % CLASSES, (side, side), v2.InterpolationMode.BILINEAR
    rows, floats = images.permute(0, 2, 3, 1).numpy(), images.float().div(255)

    def each(change: Callable[[Tensor], Tensor]) -> Work:
        return lambda: torch.stack([change(image) for image in images])

    def through_pillow(change: Callable[[Image.Image], Image.Image]) -> Work:
        return lambda: np.stack([np.asarray(change(Image.fromarray(row))) for row in rows])

    return {
        "crop": each(v2.RandomResizedCrop(size, antialias=True)),
        "horizontal_flip": each(v2.RandomHorizontalFlip()),
        "affine": each(v2.RandomAffine(15, (0.125, 0.125), (0.85, 1.15), interpolation=smooth)),
        "colour_jitter": each(v2.ColorJitter(0.4, 0.4, 0.4)),
        "trivial_augment": through_pillow(v2.TrivialAugmentWide()),
        "rand_augment": through_pillow(v2.RandAugment()),
        "erasing": each(v2.RandomErasing(p=0.25)),
        "blur": each(v2.GaussianBlur(2 * (side // 8) + 1, (0.1, side / 16))),
        "mixup": lambda: v2.MixUp(num_classes=CLASSES)(floats, labels),
        "cutmix": lambda: v2.CutMix(num_classes=CLASSES)(floats, labels),
    }


def kornia(side: int, images: Tensor) -> dict[str, Work]:
    import kornia.augmentation as K

    floats, labels = images.float().div(255).contiguous(), torch.arange(COUNT) % CLASSES
    affine = K.RandomAffine(15, (0.125, 0.125), (0.85, 1.15), padding_mode="border", p=1.0)
    kinds = {
        "crop": K.RandomResizedCrop((side, side)),
        "horizontal_flip": K.RandomHorizontalFlip(),
        "affine": affine,
        "colour_jitter": K.ColorJitter(0.4, 0.4, 0.4, 0.0, p=1.0),
        "trivial_augment": K.auto.TrivialAugment(),
        "rand_augment": K.auto.RandAugment(2, 9),
        "erasing": K.RandomErasing(p=0.25),
        "blur": K.RandomGaussianBlur((2 * (side // 8) + 1,) * 2, (0.1, side / 16), p=1.0),
    }
    found: dict[str, Work] = {name: lambda change=change: change(floats) for name, change in kinds.items()}
    for name, mix in (("mixup", K.RandomMixUpV2(p=1.0)), ("cutmix", K.RandomCutMixV2(p=1.0))):
        found[name] = lambda mix=mix: mix(floats, labels)
    return found


def albumentations(side: int, images: Tensor) -> dict[str, Work]:
    import albumentations as A

    rows = images.permute(0, 2, 3, 1).numpy()
    kinds = {
        "crop": A.RandomResizedCrop(size=(side, side)),
        "horizontal_flip": A.HorizontalFlip(p=0.5),
        "affine": A.Affine((0.85, 1.15), (-0.125, 0.125), rotate=(-15, 15), border_mode=1, p=1.0),
        "colour_jitter": A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0.0, 0.0), p=1.0),
        "erasing": A.Erasing(p=0.25),
        "blur": A.GaussianBlur(0, (0.1, side / 16), p=1.0),
    }
    return {
        name: lambda change=change: np.stack([change(image=row)["image"] for row in rows])
        for name, change in kinds.items()
    }


LIBRARIES = {
    "vitral": ours,
    "torch": plain_torch,
    "pillow": pillow,
    "torchvision": torchvision,
    "kornia": kornia,
    "albumentations": albumentations,
}


def run() -> dict[str, object]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
    missing = [name for name in LIBRARIES if name not in ("vitral", "torch", "pillow") and not find_spec(name)]
    result: dict[str, object] = {"images": COUNT, "rounds": ROUNDS, "threads": 1, "not installed": missing}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for side in SIDES:
                images = pictures(side)
                works = {name: make(side, images) for name, make in LIBRARIES.items() if name not in missing}
                result[f"{side} px, ms"] = found = {}
                for operation in works["vitral"]:
                    own = {name: work[operation] for name, work in works.items() if operation in work}
                    found[operation] = medians(own)
                    shown = ", ".join(f"{name} {ms:g}" for name, ms in found[operation].items())
                    print(f"   {side} px {operation:<16} ms: {shown}", flush=True)
    finally:
        torch.set_num_threads(threads)
    return result


def medians(works: dict[str, Work]) -> dict[str, float]:
    """Median milliseconds of each, timed in turn, in another order each round."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for turn in range(ROUNDS + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = perf_counter()
            works[name]()
            if turn:  # the first warms up
                seconds[name].append(perf_counter() - start)
    return {name: round(1e3 * float(np.median(own)), 2) for name, own in seconds.items()}
