"""What a page has besides rows of attention, where its limit leaves room: the position table, the model's own weights,
and what the tokens carry between the blocks.

They are stored in this order; of the last, the later places in the model first.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import UInt8

from vitral.base.errors import ModelError, UsageError, WatchError
from vitral.data.preprocess import normalise
from vitral.explain.diagnostics.positions import position_table
from vitral.explorer.content import Content
from vitral.explorer.document import json_text
from vitral.explorer.network import Network
from vitral.explorer.payload import Payload
from vitral.explorer.similarities import encode_similarities
from vitral.explorer.tokens import TokensAtPlace, neighbours, tokens_between_blocks
from vitral.nn.family.position import NoPosition, SinCosPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.store.classifier import Classifier

ELEMENT = 60  # characters of the element around a text
NO_ROOM = "The page has no room for it: with it, the page would be larger than its limit."


@dataclass
class Room:
    """Texts that were put into a page, and the characters that are left."""

    left: int | float
    texts: dict[str, str] = field(default_factory=dict)

    def fits(self, about: dict[str, Any], texts: dict[str, str]) -> bool:
        """Take the texts and what the header says of them, if there is room for both."""
        size = len(json_text(about).encode()) + sum(len(name) + len(text) + ELEMENT for name, text in texts.items())
        if size > self.left:
            return False
        self.left -= size
        self.texts |= texts
        return True


@dataclass(frozen=True)
class TokensOfImage:
    """The tokens of one image at each place between the blocks; empty where these are not known, and why."""

    places: list[TokensAtPlace] = field(default_factory=list)
    why: str = ""


class Additions:
    """Collects what one page may have besides rows, image by image."""

    def __init__(self, model: Classifier):
        self.model = model
        self.network: Network | None = None
        self.why_no_network = ""
        try:
            self.network = Network(model)
        except UsageError as error:
            self.why_no_network = str(error)
        self.inputs: list[tuple[Content, list[float]]] = []
        self.tokens: list[TokensOfImage] = []
        self.num_weights = 0  # of the model, that are in the page
        self.facts: list[str] = []

    def add(self, pixels: UInt8[np.ndarray, "y x 3"]) -> None:
        """One image of the page, in the model's size."""
        try:
            if self.network:
                self.inputs.append(self.network.image(pixels))
        except UsageError as error:
            self.network, self.why_no_network = None, str(error)
        images = normalise(torch.from_numpy(pixels)[None], self.model.preprocessing)
        images = images.to(next(self.model.parameters()).device)
        try:
            found = TokensOfImage(tokens_between_blocks(self.model, images))
        except (UsageError, WatchError, ModelError) as error:
            found = TokensOfImage(why=str(error))
        self.tokens.append(found)

    def into(self, payload: Payload, left: int | float) -> Payload:
        """The payload with what there is room for, in `left` bytes; for what there is no room, with the reason."""
        room, header, self.facts, self.num_weights = Room(left), deepcopy(payload.header), [], 0
        self.put_positions(header, room)
        self.put_network(header, room)
        self.put_tokens(header, room)
        return Payload(header, payload.texts | room.texts, payload.error)

    def put_positions(self, header: dict[str, Any], room: Room) -> None:
        grid = cast(tuple[int, int], tuple(header["images"][0]["layers"][-1]["grid"]))
        header["positions"], header["whyNoPositions"] = None, ""
        try:
            if why := why_no_table(self.model):
                raise UsageError(why)
            table = position_table(self.model, grid).float().cpu().numpy()
            similarities = encode_similarities(table - table.mean(axis=0))
        except (UsageError, WatchError) as error:
            header["whyNoPositions"] = str(error)
            return
        about = similarities.to_json("positions") | {"grid": list(grid)}
        if room.fits(about, {"positions": similarities.content.text}):
            header["positions"] = about
        else:
            header["whyNoPositions"] = NO_ROOM

    def put_network(self, header: dict[str, Any], room: Room) -> None:
        header["network"], header["whyNoNetwork"] = None, self.why_no_network
        for image in header["images"]:
            image["input"] = None
        if self.network is None:
            return
        weights = self.network.weights
        about = self.network.to_json(weights.to_json("weights"))
        inputs = [
            content.to_json(f"input-{number}") | {"outputs": outputs}
            for number, (content, outputs) in enumerate(self.inputs)
        ]
        texts = {one["id"]: content.text for one, (content, _) in zip(inputs, self.inputs)}
        if not room.fits({"network": about, "inputs": inputs}, {"weights": weights.text} | texts):
            header["whyNoNetwork"] = NO_ROOM
            return
        header["network"], self.num_weights = about, self.network.num_weights
        for image, one in zip(header["images"], inputs):
            image["input"] = one
        first = f", and the likeliest class for {self.network.changed} of {len(self.inputs)}"
        self.facts.append(
            "The page holds the model's weights, in half precision, and runs the model itself: whoever gets the page "
            "gets the model. On the images of this page, rounding changes its "
            f"outputs by at most {upper_bound(self.network.drift)}{'' if about['task'] == 'numbers' else first}."
        )

    def put_tokens(self, header: dict[str, Any], room: Room) -> None:
        error, missing, count = 0.0, 0, 0
        for number, (image, found) in enumerate(zip(header["images"], self.tokens)):
            kept: dict[int, dict[str, Any]] = {}
            for place in reversed(range(len(found.places))):
                own = found.places[place]
                similarities = own.similarities
                name = f"tokens-{number}-{place}"
                about = similarities.to_json(name) | {"grid": list(own.grid), "prefix": list(own.prefix)}
                count += 1
                if not room.fits(about, {name: similarities.content.text}):
                    missing += 1
                    continue
                kept[place] = about
                error = max(error, similarities.error)
            image["tokens"] = [kept.get(place) for place in range(len(found.places))]
            for layer in image["layers"]:
                layer["tokens"] = [
                    place if place is not None and place in kept and kept[place]["grid"] == layer["grid"] else None
                    for place in neighbours(found.places, layer["number"])
                ]
        why = next((found.why for found in self.tokens if found.why), "")
        header["tokenError"], header["whyNoTokens"] = error, why or (NO_ROOM if missing == count else "")
        if why:
            self.facts.append(f"Similarity of tokens is not shown: {why}")
        elif missing == count:
            self.facts.append(f"Similarity of tokens is not shown. {NO_ROOM}")
        else:
            self.facts.append(
                f"Similarities of tokens, which are between -1 and 1, are off by at most {upper_bound(error)}."
            )
        if 0 < missing < count:
            self.facts.append(f"There was no room for the tokens at {missing} of {count} places between the blocks.")


def why_no_table(model: Classifier) -> str:
    """Why one of our own models has no learned table of positions, in a sentence; empty for others."""
    if any(isinstance(part, RotaryAttention) for part in model.modules()):
        return "Its positions are rotary: each head turns queries and keys by their row and column. There is no table."
    position: Any = getattr(model, "position", None)
    if isinstance(position, SinCosPosition):
        return "Its position table holds fixed sines and cosines of row and column: nothing in it is learned."
    return "It adds no position embedding." if isinstance(position, NoPosition) else ""


def upper_bound(value: float) -> str:
    """A bound with two digits, rounded up.

    >>> upper_bound(0.00941), upper_bound(0.0)
    ('0.0095', '0')
    """
    if not value:
        return "0"
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / digit) * digit:.2g}"
