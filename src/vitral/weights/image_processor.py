"""`Preprocessing` from the config of an image processor, which transformers writes beside a model.

    pixel -> resized -> centre cropped -> times `rescale_factor` -> minus `image_mean`, over `image_std`

What `Preprocessing` can express is honoured; anything else is refused, since a model predicts just as readily from
images that are prepared otherwise, only worse.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.preprocessing import CropMode, Interpolation, Preprocessing

PROCESSOR = "preprocessor_config.json"
RESAMPLE: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
OTHER_STEPS = ("do_pad", "do_flip_channel_order", "rescale_offset")
CROPPED = 224  # pixels that the others cut out by default
CONVNEXT_CROP, CONVNEXT_SQUASHES = 224 / 256, 384  # its default `crop_pct`, and the side from which it crops nothing
HALF = (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Processor:
    """What a processor of transformers does where its config does not state it.

    `squashes` says whether a single number as `size` means both sides, or the shorter one, with the aspect ratio kept;
    `crops`, whether it cuts out the centre.
    """

    squashes: bool
    crops: bool
    resample: int = 3
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF


KINDS = {
    "ViT": Processor(True, False, 2),
    "DeiT": Processor(True, True),
    "Beit": Processor(True, False),
    "Siglip": Processor(True, False),
    "DINOv3ViT": Processor(True, False, 2, *IMAGENET),
    "CLIP": Processor(False, True, 3, *CLIP),
    "Bit": Processor(False, True, 3, *CLIP),
    "ConvNext": Processor(False, False),
}
# The processor that goes with a `model_type`, where a config names none, as the oldest do.
KIND_OF_MODEL = {"deit": "DeiT", "beit": "Beit", "siglip": "Siglip", "siglip_vision_model": "Siglip"}
KIND_OF_MODEL |= {"dinov3_vit": "DINOv3ViT", "clip": "CLIP", "convnext": "ConvNext"}
KIND_OF_MODEL |= dict.fromkeys(("dinov2", "dinov2_with_registers"), "Bit")


def preprocessing_from_processor(
    config: Mapping[str, Any], side: tuple[int, int] | None, channels: int = 3, model_type: str = "vit"
) -> Preprocessing:
    """The preprocessing that a config describes; `side` is the model's (height, width), its size by default.

    What the config does not state is as transformers' class has it; a config that names no class is of the one that
    goes with `model_type`. Mean and std have one value, three, or as many as the model has `channels`. Raises
    `StoreError` for what `Preprocessing` cannot express.
    """
    kind = processor_kind(config, model_type)
    if kind not in KINDS:
        raise unsupported("image_processor_type", kind, ", ".join(KINDS))
    default = KINDS[kind]
    for step in OTHER_STEPS:
        if config.get(step):
            raise unsupported(step, True, "false")
    if (number := config.get("resample", default.resample)) not in RESAMPLE:
        raise unsupported("resample", number, f"{', '.join(map(str, RESAMPLE))}")
    size, crop, mode = crop_window(config, kind, side)
    normalises = config.get("do_normalize", True)
    mean = channel_values(config, "image_mean", default.mean, channels) if normalises else (0.0,) * channels
    std = channel_values(config, "image_std", default.std, channels) if normalises else (1.0,) * channels
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    if not is_number(factor) or factor <= 0:
        raise unsupported("rescale_factor", factor, "a number above zero")
    white = 255 * factor
    white = 1.0 if math.isclose(white, 1) else white  # a pixel of 255; ours divides by 255 first
    mean, std = (tuple(value / white for value in values) for values in (mean, std))
    return Preprocessing(size, crop, RESAMPLE[number], mean, std, mode)


def processor_kind(config: Mapping[str, Any], model_type: str = "vit") -> str:
    """`ViT` of `ViTImageProcessor`, `ViTImageProcessorFast` or `ViTFeatureExtractor`; else that of the model's type."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    kind = str(name or KIND_OF_MODEL.get(model_type, "ViT"))
    return kind.partition("ImageProcessor")[0].partition("FeatureExtractor")[0]


def unstated_values(config: Mapping[str, Any], model_type: str) -> tuple[str, ...]:
    """In words, what a config leaves to the defaults of its class."""
    kind = processor_kind(config, model_type)
    named = "image_processor_type" in config or "feature_extractor_type" in config
    used = {"image_mean": "do_normalize", "image_std": "do_normalize", "size": "do_resize", "resample": "do_resize"}
    if config.get("do_center_crop", kind in KINDS and KINDS[kind].crops):
        used["crop_size"] = "do_center_crop"
    missing = [key for key, step in used.items() if key not in config and config.get(step, True)]
    words = () if named else (f"images are prepared by a {kind}ImageProcessor, which the file does not name",)
    return (*words, *([f"{', '.join(missing)} as {kind}ImageProcessor has them by default"] if missing else []))


def crop_window(
    config: Mapping[str, Any], kind: str, side: tuple[int, int] | None
) -> tuple[tuple[int, int], float, CropMode]:
    """The (height, width) that the model gets, the fraction of the image that is kept, and the crop mode."""
    if not config.get("do_resize", True):
        raise unsupported("do_resize", False, "true")
    squashes = KINDS[kind].squashes
    mode: CropMode
    size = config.get("size", None if side is None else {"height": side[0], "width": side[1]})
    if isinstance(size, list) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if isinstance(size, int):
        size = {"height": size, "width": size} if squashes else {"shortest_edge": size}
    words = set(size) if isinstance(size, Mapping) else set()
    if words == {"height", "width"}:
        resized, mode = (size["height"], size["width"]), "squash"
    elif words == {"shortest_edge"}:
        resized, mode = (size["shortest_edge"],) * 2, "center"
    else:
        raise unsupported("size", size, "height and width, or shortest_edge")
    if not all(map(is_side, resized)):
        raise unsupported("size", size, "whole numbers above zero")
    if kind == "ConvNext":
        is_whole = mode == "squash" or resized[0] >= CONVNEXT_SQUASHES
        return resized, 1.0 if is_whole else config.get("crop_pct") or CONVNEXT_CROP, "squash" if is_whole else "center"
    if not config.get("do_center_crop", KINDS[kind].crops):
        if mode == "center":
            raise unsupported("do_center_crop", False, "true, where only the shortest_edge is given")
        return resized, 1.0, mode
    cut = config.get("crop_size", CROPPED if "size" in config else resized)
    cut = [cut.get("height"), cut.get("width")] if isinstance(cut, Mapping) else [cut, cut] if is_side(cut) else cut
    if not isinstance(cut, list | tuple) or len(cut) != 2 or not all(map(is_side, cut)):
        raise unsupported("crop_size", cut, "one whole number, or height and width")
    kept = [own / whole for own, whole in zip(cut, resized)]
    if not math.isclose(*kept) or max(kept) > 1:
        raise unsupported(
            "crop_size", config.get("crop_size", CROPPED), f"the shape of {resized[0]}x{resized[1]}, and no larger"
        )
    return tuple(cut), kept[0], mode


def channel_values(
    config: Mapping[str, Any], word: str, default: tuple[float, ...], channels: int
) -> tuple[float, ...]:
    found = config.get(word, default)
    found = [found] if is_number(found) else found
    counts = sorted({1, 3, channels})
    if not isinstance(found, list | tuple) or len(found) not in counts or not all(map(is_number, found)):
        raise unsupported(word, found, f"{' or '.join(map(str, counts))} numbers")
    return tuple(found)


def is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def unsupported(key: str, found: object, supported: str) -> StoreError:
    return StoreError(
        f"The image processor's config has {key}={found}, which Vitral's preprocessing does not support. Supported: "
        f"{supported}. Change the file; or move it away, and specify img_size, mean, std, crop, crop_mode and "
        "interpolation."
    )
