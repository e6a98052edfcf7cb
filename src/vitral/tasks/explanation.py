"""What explaining images gives: maps with their tests, and the files that hold them."""

from dataclasses import dataclass, field
from pathlib import Path

from vitral.explain.maps import Maps
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

    `prediction` is the class that the model predicts and `probability` its probability; both are None for a model
    without classes. `refused` says of each method that cannot explain the model why. `side_by_side` is a picture of all
    methods, if there are several.
    """

    image: Path
    prediction: str | None
    probability: float | None
    maps: tuple[MapResult, ...]
    grids: tuple[QueryResult, ...]
    refused: dict[str, str]
    side_by_side: Path | None = None
    pictures: tuple[Picture, ...] = field(default=(), repr=False)

    @property
    def answer(self) -> str:
        """The prediction in words."""
        if self.prediction is None:
            return "the model scores no classes"
        return f"{self.prediction} ({self.probability:.1%})"


@dataclass(frozen=True)
class ExplanationResult:
    """The explanations of all images, and the page that shows them."""

    images: tuple[ImageResult, ...]
    page: Path
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> dict[str, str]:
        """The methods that cannot explain the model, each with its reason."""
        return {method: reason for image in self.images for method, reason in image.refused.items()}
