"""How images are prepared by what transformers writes beside a model: `preprocessor_config.json`.

    pixel -> resized -> cut out of the middle -> times `rescale_factor` -> minus `image_mean`, over `image_std`

What `Preprocessing` can say of this is honoured; anything else is refused, since a model that gets other images than it
was made for answers all the same, and worse.
"""

import math
from collections.abc import Mapping
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.preprocessing import CropMode, Interpolation, Preprocessing

RESAMPLE: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
BOTH_SIDES = ("ViT", "DeiT", "Beit", "Siglip", "DINOv3ViT")  # for whom one number is the height and the width
SHORTER_SIDE = ("CLIP", "Bit", "ConvNext")  # for whom it is the shorter side, the image keeping its shape
OTHER_STEPS = ("do_pad", "do_flip_channel_order", "rescale_offset")
CONVNEXT_CROP, CONVNEXT_SQUASHES = 224 / 256, 384  # its `crop_pct` if none is said; the side from which it cuts nothing


def as_transformers_says(said: Mapping[str, Any], side: tuple[int, int] | None, channels: int = 3) -> Preprocessing:
    """What a card says; `side` is the model's own (height, width), for a card without a size.

    A mean and a deviation are of three channels, of one, or of as many `channels` as the model has.

    Raises `StoreError` for what `Preprocessing` cannot say.
    """
    kind = kind_of(said)
    if kind not in BOTH_SIDES + SHORTER_SIDE:
        raise unknown("image_processor_type", kind, f"of {', '.join(BOTH_SIDES + SHORTER_SIDE)}")
    for step in OTHER_STEPS:
        if said.get(step):
            raise unknown(step, True, "false")
    if (number := said.get("resample", 2 if kind == "ViT" else 3)) not in RESAMPLE:
        raise unknown("resample", number, f"of {', '.join(map(str, RESAMPLE))}")
    size, crop, mode = window(said, kind, side)
    normalises = said.get("do_normalize", True)
    mean = numbers(said, "image_mean", 0.5, channels) if normalises else (0.0,) * channels
    std = numbers(said, "image_std", 0.5, channels) if normalises else (1.0,) * channels
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1.0
    if not is_number(factor) or factor <= 0:
        raise unknown("rescale_factor", factor, "a number above zero")
    white = 255 * factor
    white = 1.0 if math.isclose(white, 1) else white  # what a pixel of 255 becomes, of which mean and std are parts
    return Preprocessing(
        size,
        crop,
        RESAMPLE[number],
        tuple(value / white for value in mean),
        tuple(value / white for value in std),
        mode,
    )


def kind_of(said: Mapping[str, Any]) -> str:
    """`ViT` of `ViTImageProcessor`, `ViTImageProcessorFast` or `ViTFeatureExtractor`; ViT if a card does not say."""
    name = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "ViTImageProcessor")
    return name.partition("ImageProcessor")[0].partition("FeatureExtractor")[0]


def window(said: Mapping[str, Any], kind: str, side: tuple[int, int] | None) -> tuple[tuple[int, int], float, CropMode]:
    """The (height, width) that the model gets, the part of the image that is kept, and whether its shape is."""
    if not said.get("do_resize", True):
        raise unknown("do_resize", False, "true")
    mode: CropMode
    size = said.get("size", None if side is None else {"height": side[0], "width": side[1]})
    if isinstance(size, int):
        size = {"height": size, "width": size} if kind in BOTH_SIDES else {"shortest_edge": size}
    words = set(size) if isinstance(size, Mapping) else set()
    if words == {"height", "width"}:
        resized, mode = (size["height"], size["width"]), "squash"
    elif words == {"shortest_edge"}:
        resized, mode = (size["shortest_edge"],) * 2, "center"
    else:
        raise unknown("size", size, "height and width, or shortest_edge")
    if kind == "ConvNext":
        squashes = mode == "squash" or resized[0] >= CONVNEXT_SQUASHES
        return resized, 1.0 if squashes else said.get("crop_pct") or CONVNEXT_CROP, "squash" if squashes else "center"
    if not said.get("do_center_crop", kind in SHORTER_SIDE):
        if mode == "center":
            raise unknown("do_center_crop", False, "true, where only the shortest_edge is said")
        return resized, 1.0, mode
    cut = said.get("crop_size", resized)
    cut = (cut["height"], cut["width"]) if isinstance(cut, Mapping) else (cut, cut) if isinstance(cut, int) else cut
    kept = [own / whole for own, whole in zip(cut, resized)]
    if not math.isclose(*kept) or max(kept) > 1:
        raise unknown("crop_size", said["crop_size"], f"of the shape of {resized[0]}x{resized[1]}, and no larger")
    return tuple(cut), kept[0], mode


def numbers(said: Mapping[str, Any], word: str, default: float, channels: int) -> tuple[float, ...]:
    found = said.get(word, (default,) * channels)
    counts = sorted({1, 3, channels})
    if not isinstance(found, list | tuple) or len(found) not in counts or not all(map(is_number, found)):
        raise unknown(word, found, f"{' or '.join(map(str, counts))} numbers")
    return tuple(found)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def unknown(word: str, found: object, known: str) -> StoreError:
    return StoreError(
        f"preprocessor_config.json says {word}={found}, which Vitral cannot do to images as transformers does; "
        f"it takes {known}."
    )
