"""Predicted masks as files: class indices with a palette, and the same over the image."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.base.files import unused_path, write_file
from vitral.base.mask_values import background_of
from vitral.base.prediction import Prediction
from vitral.data.image import load_image
from vitral.data.mask_file import as_image
from vitral.report.masks import class_colours, overlaid


def write_masks(predictions: Sequence[Prediction], out: Path) -> list[tuple[Path, Path]]:
    """Write `NAME.mask.png` and `NAME.overlay.png` for each image, under names that no file has; their paths.

    A mask has the class index of each pixel, and a palette, so that viewers show its classes in colours.
    """
    found = []
    for one in predictions:
        drawn = one.mask
        assert drawn is not None
        background = background_of(one.names)
        colours = class_colours(one.names, background)
        shown = colours.copy()
        if background is not None:
            shown[background] = 0
        stem = Path(one.image).stem
        mask, overlay = (unused_path(out / f"{stem}.{kind}.png") for kind in ("mask", "overlay"))
        write_file(mask, png_of(as_image(drawn, (shown * 255).astype(np.uint8))))
        write_file(overlay, png_of(Image.fromarray(overlaid(load_image(one.image), drawn, colours, background))))
        found.append((mask, overlay))
    return found


def png_of(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
