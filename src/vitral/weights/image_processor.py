"""`Preprocessing` from `preprocessor_config.json`, which transformers writes beside a model.

    pixel -> resized -> centre cropped -> times `rescale_factor` -> minus `image_mean`, over `image_std`

What `Preprocessing` can express is honoured; anything else is refused, since a model predicts just as readily from
images that are prepared otherwise, only worse.
"""

import math
from collections.abc import Mapping
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.preprocessing import CropMode, Interpolation, Preprocessing

PROCESSOR = "preprocessor_config.json"
RESAMPLE: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
BOTH_SIDES = ("ViT", "DeiT", "Beit", "Siglip", "DINOv3ViT")  # processors for which one number is both height and width
SHORTER_SIDE = ("CLIP", "Bit", "ConvNext")  # for which it is the shorter side, the aspect ratio kept
OTHER_STEPS = ("do_pad", "do_flip_channel_order", "rescale_offset")
CONVNEXT_CROP, CONVNEXT_SQUASHES = 224 / 256, 384  # its default `crop_pct`, and the side from which it crops nothing


def preprocessing_from_processor(
    config: Mapping[str, Any], side: tuple[int, int] | None, channels: int = 3
) -> Preprocessing:
    """The preprocessing that a config describes; `side` is the model's (height, width), its size by default.

    Mean and std have one value, three, or as many as the model has `channels`. Raises `StoreError` for what
    `Preprocessing` cannot express.
    """
    kind = processor_kind(config)
    if kind not in BOTH_SIDES + SHORTER_SIDE:
        raise unsupported("image_processor_type", kind, f"{', '.join(BOTH_SIDES + SHORTER_SIDE)}")
    for step in OTHER_STEPS:
        if config.get(step):
            raise unsupported(step, True, "false")
    if (number := config.get("resample", 2 if kind == "ViT" else 3)) not in RESAMPLE:
        raise unsupported("resample", number, f"{', '.join(map(str, RESAMPLE))}")
    size, crop, mode = crop_window(config, kind, side)
    normalises = config.get("do_normalize", True)
    mean = channel_values(config, "image_mean", 0.5, channels) if normalises else (0.0,) * channels
    std = channel_values(config, "image_std", 0.5, channels) if normalises else (1.0,) * channels
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    if not is_number(factor) or factor <= 0:
        raise unsupported("rescale_factor", factor, "a number above zero")
    white = 255 * factor
    white = 1.0 if math.isclose(white, 1) else white  # a pixel of 255; ours divides by 255 first
    mean, std = (tuple(value / white for value in values) for values in (mean, std))
    return Preprocessing(size, crop, RESAMPLE[number], mean, std, mode)


def processor_kind(config: Mapping[str, Any]) -> str:
    """`ViT` of `ViTImageProcessor`, `ViTImageProcessorFast` or `ViTFeatureExtractor`; ViT by default."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "ViTImageProcessor")
    return name.partition("ImageProcessor")[0].partition("FeatureExtractor")[0]


def crop_window(
    config: Mapping[str, Any], kind: str, side: tuple[int, int] | None
) -> tuple[tuple[int, int], float, CropMode]:
    """The (height, width) that the model gets, the fraction of the image that is kept, and the crop mode."""
    if not config.get("do_resize", True):
        raise unsupported("do_resize", False, "true")
    mode: CropMode
    size = config.get("size", None if side is None else {"height": side[0], "width": side[1]})
    if isinstance(size, int):
        size = {"height": size, "width": size} if kind in BOTH_SIDES else {"shortest_edge": size}
    words = set(size) if isinstance(size, Mapping) else set()
    if words == {"height", "width"}:
        resized, mode = (size["height"], size["width"]), "squash"
    elif words == {"shortest_edge"}:
        resized, mode = (size["shortest_edge"],) * 2, "center"
    else:
        raise unsupported("size", size, "height and width, or shortest_edge")
    if kind == "ConvNext":
        squashes = mode == "squash" or resized[0] >= CONVNEXT_SQUASHES
        return resized, 1.0 if squashes else config.get("crop_pct") or CONVNEXT_CROP, "squash" if squashes else "center"
    if not config.get("do_center_crop", kind in SHORTER_SIDE):
        if mode == "center":
            raise unsupported("do_center_crop", False, "true, where only the shortest_edge is given")
        return resized, 1.0, mode
    cut = config.get("crop_size", resized)
    cut = (cut["height"], cut["width"]) if isinstance(cut, Mapping) else (cut, cut) if isinstance(cut, int) else cut
    kept = [own / whole for own, whole in zip(cut, resized)]
    if not math.isclose(*kept) or max(kept) > 1:
        raise unsupported("crop_size", config["crop_size"], f"the shape of {resized[0]}x{resized[1]}, and no larger")
    return tuple(cut), kept[0], mode


def channel_values(config: Mapping[str, Any], word: str, default: float, channels: int) -> tuple[float, ...]:
    found = config.get(word, (default,) * channels)
    counts = sorted({1, 3, channels})
    if not isinstance(found, list | tuple) or len(found) not in counts or not all(map(is_number, found)):
        raise unsupported(word, found, f"{' or '.join(map(str, counts))} numbers")
    return tuple(found)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def unsupported(key: str, found: object, supported: str) -> StoreError:
    return StoreError(
        f"preprocessor_config.json has {key}={found}, which Vitral's preprocessing does not support. Supported: "
        f"{supported}."
    )
