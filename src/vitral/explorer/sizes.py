"""How large a page gets, before it is made: from a few rows of each layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitral.explorer.choice import Choice, choices
from vitral.explorer.document import read, script
from vitral.explorer.payload import ExploredImage
from vitral.explorer.rows import characters_per_weight
from vitral.explorer.shown_layer import ShownLayer

MB = 1_000_000  # bytes
HEADER = 12_000  # bytes, at least
PER_IMAGE = 40_000  # bytes of an image's part of the header and its still picture


@dataclass(frozen=True)
class Sizes:
    """The size of pages with other choices of rows, for images like the one that was measured."""

    layers: Sequence[ShownLayer]
    num_images: int
    per_weight: float
    rest: int

    def of(self, choice: Choice) -> float:
        """Bytes of a page with this choice."""
        return self.rest + self.num_images * self.per_weight * choice.num_values(self.layers)

    def fitting(self, limit: float) -> Iterator[Choice]:
        """The choices that a page of at most so many bytes has room for, from everything to least."""
        return (choice for choice in choices(len(self.layers)) if self.of(choice) <= limit)

    def sentence(self, choice: Choice, limit: float) -> str:
        """What a page leaves out and how much that saves; empty if it has everything."""
        kept, whole = choice.sentence(len(self.layers)), self.of(Choice(1, len(self.layers)))
        if not kept:
            return ""
        return (
            f"With all rows, this page would have about {whole / MB:.0f} MB, more than its limit of {limit / MB:g} MB. "
            f"{kept} This saves about {(whole - self.of(choice)) / MB:.0f} MB."
        )

    def refusal(self, limit: float) -> str:
        """Why no choice fits, and what would help."""
        least = list(choices(len(self.layers)))[-1]
        images = f" of {self.num_images} images" if self.num_images > 1 else ""
        advice = "Use fewer images, or raise" if self.num_images > 1 else "Raise"
        return (
            f"A page{images} needs at least {self.of(least) / MB:.1f} MB, even with the fewest rows; the limit is "
            f"{limit / MB:g} MB. {advice} --limit-mb."
        )


def measure_sizes(image: ExploredImage, num_images: int) -> Sizes:
    """From the first image of a page."""
    pictures = sum(len(picture or "") for picture in map(image.pictures.to_json().get, ("seen", "sharp", "whole")))
    rate = characters_per_weight(image.layers)
    rest = HEADER + len(script()) + len(read("page.css"))
    return Sizes(image.layers, num_images, rate, rest + num_images * (PER_IMAGE + pictures))
