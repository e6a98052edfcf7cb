"""What `explain_images` returns: per image the maps of each method, their tests, and the files that hold them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitral.base.prediction import Prediction
from vitral.explain.maps import MOST_NAMES, Maps
from vitral.explain.query_maps import QueryGrid
from vitral.explain.trust import Trust
from vitral.report.page import Picture


@dataclass(frozen=True)
class MapResult:
    """One method's maps of an image, the test of how far to trust them, and the files that hold them."""

    maps: Maps
    trust: Trust
    picture: Path
    numbers: Path


@dataclass(frozen=True)
class QueryResult:
    """What patches all over an image attend to in one layer, and the files that hold it."""

    grid: QueryGrid
    picture: Path
    numbers: Path


@dataclass(frozen=True)
class ImageResult:
    """The explanations of one image.

    `predicted` is what the model answers, None if it scores no classes. `refused` says of each method that cannot
    explain the model why. `side_by_side` is a picture of all methods, if there are several.
    """

    image: Path
    predicted: Prediction | None
    maps: tuple[MapResult, ...]
    grids: tuple[QueryResult, ...]
    refused: dict[str, str]
    side_by_side: Path | None = None
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    region: str = ""  # of a segmentation model: which pixels were explained

    @property
    def answer(self) -> str:
        """The prediction in words."""
        if self.predicted is None:
            return "the model scores no classes"
        if self.predicted.task != "one class":
            return self.predicted.text(MOST_NAMES)
        return self.predicted.warned(f"{self.prediction} ({self.probability:.1%})")

    @property
    def prediction(self) -> str | None:
        """The likeliest class; None for numbers, and for a model without classes."""
        return self.predicted.best(1)[0][0] if self.has_classes and self.predicted else None

    @property
    def probability(self) -> float | None:
        """The probability of the likeliest class."""
        return self.predicted.best(1)[0][1] if self.has_classes and self.predicted else None

    @property
    def has_classes(self) -> bool:
        return self.predicted is not None and self.predicted.task != "numbers"


@dataclass(frozen=True)
class ExplanationResult:
    """The explanations of all images, and the page that shows them."""

    images: tuple[ImageResult, ...]
    page: Path
    notes: tuple[str, ...] = ()
    training_images: dict[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> dict[str, str]:
        """The methods that cannot explain the model, each with its reason."""
        return {method: reason for image in self.images for method, reason in image.refused.items()}
