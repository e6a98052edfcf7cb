"""See which patches the CLS token attends to, in every block and head, over your images.

Writes a PNG an image, with one colour scale for all its panels in units of uniform attention, and an .npz with the
numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from vitral.base.config import Option, check
from vitral.base.files import free
from vitral.cli import say
from vitral.cli._images import read_images
from vitral.data.preprocess import normalise
from vitral.explain.methods.attention import attention
from vitral.store.model import load
from vitral.store.predict import probabilities


@dataclass(frozen=True)
class Options:
    model: Annotated[str, Option("A run folder, such as runs/shapes-1.", positional=True)]
    images: Annotated[tuple[Path, ...], Option("Image files, or folders of them.", positional=True)]
    layer: Annotated[tuple[int, ...], Option("Blocks to show, counted from 0; by default all.")] = ()
    head: Annotated[tuple[int, ...], Option("Heads to show, counted from 0; by default all.")] = ()
    query: Annotated[int, Option("The token whose attention is shown: 0 is CLS, 1 the first patch.", low=0)] = 0
    out: Annotated[Path, Option("The folder to write to.")] = Path("explained")
    on_bad_image: Annotated[Literal["fail", "skip"], Option("What to do about a file that cannot be read.")] = "fail"
    code: Annotated[str | None, Option("file.py:Name, if the model is your own and its file has moved or changed.")] = (
        None
    )
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)


def run(options: Options) -> dict[str, Any]:
    model = load(options.model, options.code)
    read = read_images(options.images, model.preprocessing, options.on_bad_image)
    written = []
    for path, image in read:
        pixels = np.stack([image])
        maps = attention(
            model,
            normalise(torch.from_numpy(pixels), model.preprocessing),
            layers=options.layer or None,
            heads=options.head or None,
            query=options.query,
        )
        chances = probabilities(model, pixels)[0]
        answer = int(chances.argmax())
        picture = maps.save(free(options.out / f"{path.stem}.attention.png"))
        numbers = maps.save(picture.with_suffix(".npz"))
        own = float(maps.prefix_mass.mean())
        layer, head, row, column = np.unravel_index(int(maps.values[0].argmax()), maps.values[0].shape)
        peak = float(maps.values.max())
        kept = f"CLS keeps {own:.0%} of its attention for itself" if options.query == 0 else f"{own:.0%} goes to CLS"
        say(
            f"{path}: {model.classes[answer]} ({chances[answer]:.1%}). {kept}; the most a patch gets is "
            f"{peak:.1f} times uniform "
            f"(row {row}, column {column}; {maps.layers[layer]}, head {maps.heads[head]}). "
            f"Residual {maps.residual:.0e}.\n  {picture}"
        )
        written.append(
            {
                "image": str(path),
                "class": model.classes[answer],
                "picture": str(picture),
                "numbers": str(numbers),
                "prefix_mass": own,
                "largest": peak,
                "residual": maps.residual,
            }
        )
    return {"explained": written}
