"""How large a page gets, before it is made: from a few rows of each layer of each of its models."""

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
    """The size of pages with other choices of rows, for images like those that were measured.

    models      the layers of each model, and how many bytes a weight of them takes
    num_images  photographs, each shown to every model
    rest        bytes of the page without rows
    """

    models: Sequence[tuple[Sequence[ShownLayer], float]]
    num_images: int
    rest: int

    @property
    def depth(self) -> int:
        """Layers of the deepest model."""
        return max(len(layers) for layers, _ in self.models)

    def of(self, choice: Choice) -> float:
        """Bytes of a page with this choice."""
        rows = sum(per_weight * choice.num_values(layers) for layers, per_weight in self.models)
        return self.rest + self.num_images * rows

    def fitting(self, limit: float) -> Iterator[Choice]:
        """The choices that a page of at most so many bytes has room for, from everything to least."""
        return (choice for choice in choices(self.depth) if self.of(choice) <= limit)

    def sentence(self, choice: Choice, limit: float) -> str:
        """What a page leaves out and how much that saves; empty if it has everything."""
        kept, whole = choice.sentence(self.depth), self.of(Choice(1, self.depth))
        if not kept:
            return ""
        return (
            f"With all rows, this page would have about {whole / MB:.0f} MB, more than its limit of {limit / MB:g} MB. "
            f"{kept} This saves about {(whole - self.of(choice)) / MB:.0f} MB."
        )

    def refusal(self, limit: float) -> str:
        """Why no choice fits, and what would help."""
        least = list(choices(self.depth))[-1]
        images = f" of {self.num_images} images" if self.num_images > 1 else ""
        images += " in two models" if len(self.models) > 1 else ""
        advice = "Use fewer images, or raise" if self.num_images > 1 else "Raise"
        if len(self.models) > 1:
            advice = f"Leave --beside out, {advice[0].lower()}{advice[1:]}"
        return (
            f"A page{images} needs at least {self.of(least) / MB:.1f} MB, even with the fewest rows; the limit is "
            f"{limit / MB:g} MB. {advice} --limit-mb."
        )


def measure_sizes(firsts: Sequence[ExploredImage], num_images: int) -> Sizes:
    """From the first image of a page as each of its models saw it."""
    rest = HEADER + len(script()) + len(read("page.css"))
    for first in firsts:
        pictures = map(first.pictures.to_json().get, ("seen", "sharp", "whole"))
        rest += num_images * (PER_IMAGE + sum(len(picture or "") for picture in pictures))
    return Sizes([(first.layers, characters_per_weight(first.layers)) for first in firsts], num_images, rest)
