"""What a page has besides rows of attention, where its limit leaves room: the position table, the model's own weights,
and what the tokens carry between the blocks.

They are stored in this order; of the last, the later places in the model first.
"""

import math
from collections.abc import Mapping
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
    """Collects what one page may have besides rows, model by model and image by image.

    `models` have the names that the page calls them by: the images of a page with one model have no name of it.
    """

    def __init__(self, models: Mapping[str, Classifier]):
        self.models = [AdditionsOfModel(name, model) for name, model in models.items()]
        self.num_weights = 0  # of all models, that are in the page
        self.facts: list[str] = []

    def add(self, name: str, pixels: UInt8[np.ndarray, "y x 3"]) -> None:
        """One image of the page as this model takes it, in the order of the page's images."""
        next(one for one in self.models if one.name == name).add(pixels)

    def into(self, payload: Payload, left: int | float) -> Payload:
        """The payload with what there is room for, in `left` bytes; for what there is no room, with the reason."""
        room, header, self.facts, self.num_weights = Room(left), deepcopy(payload.header), [], 0
        header["models"] = [{"name": one.name} for one in self.models]
        images = [[image for image in header["images"] if image["model"] == one.name] for one in self.models]
        for number, (one, about, own) in enumerate(zip(self.models, header["models"], images)):
            one.put_positions(about, f"positions-{number}", own[0]["layers"][-1]["grid"], room)
        for number, (one, about, own) in enumerate(zip(self.models, header["models"], images)):
            found = one.put_network(about, number, own, room)
            self.num_weights += found
            self.facts += [one.fact] if found else []
        errors = [one.put_tokens(number, own, room) for number, (one, own) in enumerate(zip(self.models, images))]
        header["tokenError"] = max(errors)
        self.facts += self.facts_on_tokens(header)
        return Payload(header, payload.texts | room.texts, payload.error)

    def facts_on_tokens(self, header: dict[str, Any]) -> list[str]:
        """What the page has of the tokens between blocks, in sentences."""
        reasons = {found.why: one.name for one in self.models for found in one.tokens if found.why}
        facts = [
            f"Similarity of tokens is not shown{f' for {name}' if name else ''}: {why}" for why, name in reasons.items()
        ]
        places = [place for image in header["images"] for place in image["tokens"]]
        missing = places.count(None)
        if places and missing == len(places):
            return [*facts, f"Similarity of tokens is not shown. {NO_ROOM}"]
        if places:
            facts.append(
                f"Similarities of tokens, which are between -1 and 1, are off by at most "
                f"{upper_bound(header['tokenError'])}."
            )
        if missing:
            facts.append(f"There was no room for the tokens at {missing} of {len(places)} places between the blocks.")
        return facts


class AdditionsOfModel:
    """What a page may have besides rows of one model and its images."""

    def __init__(self, name: str, model: Classifier):
        self.name, self.model = name, model
        self.network: Network | None = None
        self.why_no_network = ""
        try:
            self.network = Network(model)
        except UsageError as error:
            self.why_no_network = str(error)
        self.inputs: list[tuple[Content, list[float]]] = []
        self.tokens: list[TokensOfImage] = []

    def add(self, pixels: UInt8[np.ndarray, "y x 3"]) -> None:
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

    def put_positions(self, header: dict[str, Any], name: str, grid: list[int], room: Room) -> None:
        header["positions"], header["whyNoPositions"] = None, ""
        try:
            if why := why_no_table(self.model):
                raise UsageError(why)
            table = position_table(self.model, cast(tuple[int, int], tuple(grid))).float().cpu().numpy()
            similarities = encode_similarities(table - table.mean(axis=0))
        except (UsageError, WatchError) as error:
            header["whyNoPositions"] = str(error)
            return
        about = similarities.to_json(name) | {"grid": grid}
        if room.fits(about, {name: similarities.content.text}):
            header["positions"] = about
        else:
            header["whyNoPositions"] = NO_ROOM

    def put_network(self, header: dict[str, Any], number: int, images: list[dict[str, Any]], room: Room) -> int:
        """The number of weights that the page then has of this model."""
        header["network"], header["whyNoNetwork"] = None, self.why_no_network
        for image in images:
            image["input"] = None
        if self.network is None:
            return 0
        weights = self.network.weights
        name = f"weights-{number}"
        about = self.network.to_json(weights.to_json(name))
        inputs = [
            content.to_json(f"input-{number}-{place}") | {"outputs": outputs}
            for place, (content, outputs) in enumerate(self.inputs)
        ]
        texts = {one["id"]: content.text for one, (content, _) in zip(inputs, self.inputs)}
        if not room.fits({"network": about, "inputs": inputs}, {name: weights.text} | texts):
            header["whyNoNetwork"] = NO_ROOM
            return 0
        header["network"] = about
        for image, one in zip(images, inputs):
            image["input"] = one
        return self.network.num_weights

    @property
    def fact(self) -> str:
        """What a page that holds the model's weights says of it."""
        assert self.network is not None
        network = self.network
        which = f"the weights of {self.name}" if self.name else "the model's weights"
        first = f", and the likeliest class for {network.changed} of {len(self.inputs)}"
        return (
            f"The page holds {which}, in half precision, and runs the model itself: whoever gets the page gets the "
            f"model. On the images of this page, rounding changes its outputs by at most {upper_bound(network.drift)}"
            f"{'' if network.task == 'numbers' else first}."
        )

    def put_tokens(self, number: int, images: list[dict[str, Any]], room: Room) -> float:
        """The largest error of a similarity that the page then has."""
        error = 0.0
        for order, (image, found) in enumerate(zip(images, self.tokens)):
            kept: dict[int, dict[str, Any]] = {}
            for place in reversed(range(len(found.places))):
                own = found.places[place]
                name = f"tokens-{number}-{order}-{place}"
                about = own.similarities.to_json(name) | {"grid": list(own.grid), "prefix": list(own.prefix)}
                if room.fits(about, {name: own.similarities.content.text}):
                    kept[place] = about
                    error = max(error, own.similarities.error)
            image["tokens"] = [kept.get(place) for place in range(len(found.places))]
            for layer in image["layers"]:
                layer["tokens"] = [
                    place if place is not None and place in kept and kept[place]["grid"] == layer["grid"] else None
                    for place in neighbours(found.places, layer["number"])
                ]
        return error


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
