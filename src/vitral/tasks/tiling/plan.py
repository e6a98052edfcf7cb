"""Choose the tiles for a model and an image: their size, context, ramp and grid, with the reason in a sentence."""

from dataclasses import dataclass

from vitral.base.errors import ConfigError
from vitral.base.preprocessing import Preprocessing
from vitral.data.large.image import LargeImage
from vitral.data.large.tiles import TileAxis, cover
from vitral.tasks.tiling.reach import Reach

SMALLEST, LARGEST = 512, 1024  # sides of tiles for a model that takes any size
IDEAL, LEAST = 6, 4  # contexts in a tile's side; with fewer, most of the work would be context
ROUGH = 8  # without an exact context, a tile's context and ramp are each this part of it
SMOOTH = 32  # with it, the ramp only hides rounding


@dataclass(frozen=True)
class TilePlan:
    """The tiles of an image: `rows` along its height and `columns` along its width; `notes` say why these.

    `is_exact` is whether each tile must give what the whole image would give: its context covers the model's reach.
    """

    rows: TileAxis
    columns: TileAxis
    context: int
    alignment: int
    is_exact: bool
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)


def plan_tiles(
    image: LargeImage, reach: Reach, preprocessing: Preprocessing, tile: int | None = None, context: int | None = None
) -> TilePlan:
    """The tiles of this size and context, or of those that the model's reach suggests.

    Raises `ConfigError` for a tile that the model does not take, or that the context leaves nothing of.
    """
    sides, enough = choose_sides(reach, preprocessing, tile), reach.context
    fits = enough is not None and enough * LEAST <= min(sides)
    chosen = context if context is not None else enough if enough is not None and fits else min(sides) // ROUGH
    is_exact = enough is not None and chosen >= enough
    ramp = min(sides) // (SMOOTH if is_exact else ROUGH)
    lengths = (image.height, image.width)
    rows, columns = (
        cover(length, side, chosen, reach.alignment, ramp, shrinks=reach.only_size is None)
        for length, side in zip(lengths, sides)
    )
    count = len(rows) * len(columns)
    how = f"a context of {chosen} pixels" if count > 1 else "no seams"
    notes = [
        f"{image.height:,} x {image.width:,} pixels in {count:,} tile{'s' * (count > 1)} of {rows.tile} x "
        f"{columns.tile}, {how}; the image's own scale, without resizing."
    ]
    if count > 1:
        notes.append(reason(reach, chosen, is_exact))
    if rows.padded > image.height or columns.padded > image.width:
        notes.append(
            f"{image.height:,} x {image.width:,} is not a whole number of the model's steps: the image is mirrored at "
            f"its lower and right border to {rows.padded:,} x {columns.padded:,}, and the result is cut to its size."
        )
    return TilePlan(rows, columns, chosen, reach.alignment, is_exact, tuple(notes))


def choose_sides(reach: Reach, preprocessing: Preprocessing, tile: int | None) -> tuple[int, int]:
    """Height and width of a tile."""
    if reach.only_size is not None:
        if tile is not None and reach.only_size != (tile, tile):
            height, width = reach.only_size
            raise ConfigError(
                f"tile={tile} does not fit: the model takes images of {height} x {width} pixels only. Leave the size "
                "of tiles out."
            )
        return reach.only_size
    if tile is not None:
        return tile, tile
    if reach.is_global:
        return preprocessing.size  # what it was trained on; more costs more per pixel
    wanted = min(max(IDEAL * (reach.context or 0), SMALLEST), LARGEST)
    side = -(-wanted // reach.alignment) * reach.alignment
    return side, side


def reason(reach: Reach, context: int, is_exact: bool) -> str:
    """What the context means for this model."""
    if is_exact:
        return (
            f"The model sees {reach.context} pixels around each pixel (measured) and its grid repeats every "
            f"{reach.alignment}: tiles give the logits of the whole image."
        )
    if reach.context is not None:
        return (
            f"The model sees {reach.context} pixels around each pixel (measured), more than the context of {context}: "
            "tiles differ from the whole image near seams. --context sets another one."
        )
    how_far = "attends to its whole input" if reach.is_global else "sees farther than could be measured"
    return (
        f"The model {how_far}: its answer depends on the tile. How much overlapping tiles disagree is measured, at "
        "seams and inside."
    )
