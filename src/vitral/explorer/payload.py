"""What one page of the explorer holds, written down in `docs/how-to/explore.md`.

A payload is a header, which is JSON, and the rows of attention as compressed texts, by name. `VERSION` changes whenever
a page of another version could misread it.

Axes:  p patches
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import Normalize

from vitral.base.provenance import installed_version
from vitral.explorer.choice import Choice
from vitral.explorer.levels import BOUND, LEVELS
from vitral.explorer.pictures import Pictures
from vitral.explorer.relevance import RelevanceMap
from vitral.explorer.rows import Part, encode_layer
from vitral.explorer.shown_layer import ShownLayer
from vitral.report.colours import DIVERGING, SHADE, UNIFORM, colour_scale, describe_scales

VERSION = 1


@dataclass(frozen=True)
class Answers:
    """What the model answers after every block.

    names   the classes, or numbers, that are among the first at any place
    places  "before block 0", "after block 0", ...
    values  one row per place, in `unit`
    """

    names: tuple[str, ...]
    places: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    unit: str

    def to_json(self) -> dict[str, Any]:
        rounded = [[float(f"{value:.4g}") for value in row] for row in self.values]
        return {"names": list(self.names), "places": list(self.places), "values": rounded, "unit": self.unit}


@dataclass(frozen=True)
class ExploredImage:
    """One image of a page.

    name, answer   the file's name, and the model's prediction in words
    reader         the tokens that the prediction is read from, in words
    answers        what the model answers after every block; None where it has no such answers, and `why_no_answers`
    model          the name of the model, where a page has two
    photo          the number of the photograph among those of the page
    relevance      the maps of relevance methods, and of each method that does not answer for the model the reason
    """

    name: str
    answer: str
    pictures: Pictures
    pixels: UInt8[np.ndarray, "y x 3"]
    layers: tuple[ShownLayer, ...]
    left_out: dict[str, str]
    reader: str = ""
    answers: Answers | None = None
    why_no_answers: str = ""
    model: str = ""
    photo: int = 0
    relevance: tuple[RelevanceMap, ...] = ()
    refused_methods: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tells it apart from the other images of its page."""
        return f"{self.name}, {self.model}" if self.model else self.name


@dataclass(frozen=True)
class Payload:
    """The header, the texts of the rows by name, and the largest error, as a share of a row's largest weight."""

    header: dict[str, Any]
    texts: dict[str, str]
    error: float


@dataclass
class Encoder:
    """Encodes image by image, so that only one of them is in memory with its queries and keys."""

    choice: Choice
    texts: dict[str, str] = field(default_factory=dict)
    query_sets: list[tuple[int, ...]] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    relevance: list[tuple[RelevanceMap, ...]] = field(default_factory=list)  # of each image
    error: float = 0.0
    residual: float = 0.0  # of any layer
    largest: float = 0.0  # value of any map, in multiples of uniform attention

    def add(self, image: ExploredImage) -> None:
        """Encode an image's rows."""
        number = len(self.images)
        self.relevance.append(image.relevance)
        shares = [float(one.values.max()) for one in image.relevance if one.unit == UNIFORM]
        self.largest = max([self.largest, *shares])
        layers = []
        for place, layer in enumerate(image.layers):
            self.residual = max(self.residual, layer.layer.residual)
            parts = encode_layer(layer, self.choice, place, len(image.layers))
            layers.append(self.layer_json(layer, parts, f"rows-{number}-{layer.number}"))
        self.images.append(
            {
                "name": image.name,
                "model": image.model,
                "photo": image.photo,
                "answer": image.answer,
                "reader": image.reader,
                "pictures": image.pictures.to_json(),
                "layers": layers,
                "leftOut": image.left_out,
                "answers": image.answers.to_json() if image.answers else None,
                "whyNoAnswers": image.why_no_answers,
                "refusedMethods": image.refused_methods,
            }
        )

    def layer_json(self, layer: ShownLayer, parts: Sequence[Part], name: str) -> dict[str, Any]:
        described = []
        for number, part in enumerate(parts):
            own = f"{name}-{number}"
            self.texts[own] = part.text
            self.error, self.largest = max(self.error, part.error), max(self.largest, part.largest)
            described.append(part.to_json(own, self.query_sets))
        return {
            "number": layer.number,
            "name": layer.name,
            "heads": layer.num_heads,
            "grid": list(layer.grid),
            "prefix": list(layer.prefix),
            "keys": layer.num_keys,
            "ownQueries": layer.own_queries,
            "windows": None if layer.windows is None else self.window_number(layer),
            "residual": layer.layer.residual,
            "note": layer.note,
            "parts": described,
        }

    @property
    def size(self) -> int:
        """Characters of the rows that were encoded."""
        return sum(map(len, self.texts.values()))

    def window_number(self, layer: ShownLayer) -> int:
        """The place of the layer's windows in the page's list of them: many layers share theirs."""
        assert layer.windows is not None
        own = {"places": layer.windows.places.tolist()}
        if own not in self.windows:
            self.windows.append(own)
        return self.windows.index(own)

    @property
    def norm(self) -> Normalize:
        """The colour scale of all maps of the page."""
        return colour_scale(UNIFORM, [np.array([self.largest])])

    @property
    def scales(self) -> dict[str, Normalize]:
        """The colour scale of each unit of relevance maps; shares have that of attention."""
        values: dict[str, list[np.ndarray]] = {}
        for one in (one for several in self.relevance for one in several):
            values.setdefault(one.unit, []).append(one.values)
        return {unit: self.norm if unit == UNIFORM else colour_scale(unit, some) for unit, some in values.items()}

    def payload(self, model: str, kept: str) -> Payload:
        """Everything, for a page of this model; `kept` says in words what was left out, and how large that is."""
        scales = self.scales
        words = {unit: describe_scales({unit: norm}) for unit, norm in scales.items()}
        maps = [[one.to_json(words[one.unit]) for one in several] for several in self.relevance]
        header = {
            "version": VERSION,
            "vitral": installed_version("vitral"),
            "model": model,
            "levels": [float(f"{level:.7g}") for level in LEVELS],
            "error": self.error,
            "bound": BOUND,
            "kept": kept,
            "colours": [hex_colour(colour) for colour in DIVERGING(np.arange(DIVERGING.N))],
            "limit": float(self.norm.vmax or 1.0),
            "shade": SHADE,
            "querySets": [list(queries) for queries in self.query_sets],
            "windows": self.windows,
            "units": {unit: float(norm.vmax or 1.0) for unit, norm in scales.items() if unit != UNIFORM},
            "images": [image | {"methods": methods} for image, methods in zip(self.images, maps)],
        }
        return Payload(header, self.texts, self.error)


def hex_colour(colour: Float[np.ndarray, "4"]) -> str:
    return "".join(f"{round(float(part) * 255):02x}" for part in colour[:3])
