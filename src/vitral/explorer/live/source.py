"""What a live host shows and answers: the header of its payload, and the weights that the page asks for."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import numpy as np

from vitral.base.errors import UsageError, WatchError
from vitral.explorer.live.weights import ERROR, FormedLayers, row
from vitral.explorer.payload import Encoder, ExploredImage, Payload
from vitral.explorer.rows import sample_part
from vitral.explorer.still import Still, still_map

KEPT = 4  # images whose q and k stay in memory; the others are watched again when they are looked at
Watch = Callable[[int], ExploredImage]


class LiveSource:
    """Images that a model has seen, watched by `watch(number)`, and the weights of any query or key of theirs.

    payload   the header, without rows
    stills    one picture per image, for where no model answers
    first     the first image
    facts     sentences on what the payload has besides attention
    """

    def __init__(self, model: str, watch: Watch, count: int) -> None:
        self.watch = watch
        self.facts: list[str] = []
        self.kept: OrderedDict[int, ExploredImage] = OrderedDict()
        self.formed: tuple[int, FormedLayers] = (-1, FormedLayers())
        self.lock = Lock()
        self.encoder, maps, self.first_rows = Encoder(None), [], []
        for number in range(count):
            image = self.watched(number)
            self.first: ExploredImage = image if number == 0 else self.first
            self.encoder.add(image)
            # Without all rows the largest value is not known; what lies beyond the scale has the colour of its end.
            self.encoder.largest = max(self.encoder.largest, *(sample_part(layer).largest for layer in image.layers))
            maps.append(still_map(image))
            self.first_rows.append(first_row(image))
        self.encoder.error = ERROR
        self.payload: Payload = self.encoder.payload(model, "")
        self.stills: list[Still] = [one.drawn(self.encoder.norm) for one in maps]

    def watched(self, number: int) -> ExploredImage:
        """An image with its q and k, which may have to be watched again."""
        if number not in self.kept:
            self.kept[number] = self.watch(number)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(number)
        return self.kept[number]

    def image(self, number: int) -> ExploredImage:
        """An image as it was watched first. Raises `WatchError` if the model does something else with it by now."""
        known = number in self.kept
        image = self.watched(number)
        if not known and not np.allclose(first_row(image), self.first_rows[number], rtol=1e-3, atol=1e-6):
            del self.kept[number]
            raise WatchError("The model has changed since this explorer was opened. Open it again.")
        return image

    def answer(self, question: Mapping[str, Any]) -> bytes:
        """The weights that a page asks for, as float32 (little-endian); see `docs/how-to/explore.md`.

        Raises `UsageError` for what does not exist. One question is answered at a time.
        """
        number, place, token = (whole_number(question, name) for name in ("image", "layer", "token"))
        direction = question.get("direction")
        images = self.payload.header["images"]
        if number >= len(images):
            raise UsageError(f"There is no image {number}: there are {len(images)}, from 0.")
        if place >= len(images[number]["layers"]):
            raise UsageError(f"There is no layer {place}: there are {len(images[number]['layers'])}, from 0.")
        if direction not in ("to", "from"):
            raise UsageError(f"direction is 'to' or 'from', not {direction!r}.")
        with self.lock:
            layer = self.image(number).layers[place]
            weights = row(layer, token) if direction == "to" else self.formed_layers(number).column(layer, token)
        return np.ascontiguousarray(weights, "<f4").tobytes()

    def formed_layers(self, number: int) -> FormedLayers:
        """The rows that were formed of an image; those of the image before are let go."""
        if self.formed[0] != number:
            self.formed = number, FormedLayers()
        return self.formed[1]


def whole_number(question: Mapping[str, Any], name: str) -> int:
    """A number of a question. Raises `UsageError` for what is none."""
    value = str(question.get(name))
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise UsageError(f"{name} is a whole number from 0, not {value[:40]!r}.")
    return int(value)


def first_row(image: ExploredImage) -> np.ndarray:
    """The first row of the last layer, by which a change of the model is noticed."""
    return row(image.layers[-1], 0)
