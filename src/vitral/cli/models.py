"""List the models with their sizes, or show the cost of one, block by block, without running it.

With a pattern such as 'swin_*' it lists the models that match; with one name, optionally with --img-size, it shows that
model.
"""

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

from vitral.base.config import Option
from vitral.base.errors import UsageError
from vitral.cli._options import Json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 160  # columns that a table may need
SINGLE = 4  # bytes of a number in float32


@dataclass(frozen=True)
class Options:
    pattern: Annotated[str, Option("Name, or shell pattern as in 'vit_*_patch16_224'.", positional=True)] = "*"
    img_size: Annotated[
        tuple[int, ...],
        Option("Image size for one model: a side, or height and width; by default its own size.", low=1),
    ] = ()
    num_classes: Annotated[
        int, Option("Number of classes; the sizes include the head. 0: no head.", low=0, high=1_000_000)
    ] = 1000
    json: Json = False

    def __post_init__(self) -> None:
        if len(self.img_size) > 2:
            raise UsageError("--img-size takes one number, the side, or two: height and width.")


def run(options: Options) -> dict[str, Any]:
    from rich.console import Console

    from vitral.nn.zoo import MODELS

    console = Console()
    console.width = max(console.width, WIDE)  # the terminal wraps a long line; rich would cut it
    if options.pattern in MODELS:
        return show_cost(options, console)
    if options.img_size:
        raise UsageError("--img-size applies to one model: name it, as in vitral models vit_base_patch16_224.")
    return show_sizes(options, console)


def show_sizes(options: Options, console: "Console") -> dict[str, Any]:
    """Print one row per model that matches."""
    from vitral.tasks.describe_models import list_sizes

    found = list_sizes(options.pattern, options.num_classes)
    table = new_table("model", "parameters", "image", "patch", "tokens", "width", "blocks", "heads")
    for one in found:
        sizes = (one.parameters, one.img_size, one.patch_size, one.tokens, one.embed_dim, one.depth, one.num_heads)
        between = ("", "×", "×", "", "", "-", "-")
        table.add_row(one.name, *(cell(size, mark) for size, mark in zip(sizes, between)))
    console.print(table, crop=False)
    return {"models": [asdict(one) for one in found]}


def cell(value: int | tuple[int, ...], between: str) -> str:
    if isinstance(value, tuple):
        return between.join(map(str, value)) or "none"
    return f"{value:,}" if value > 9_999 else str(value)


def show_cost(options: Options, console: "Console") -> dict[str, Any]:
    """Print what one model costs for one image, one row per run of equal blocks."""
    from vitral.tasks.describe_models import model_cost

    size = (options.img_size[0], options.img_size[-1]) if options.img_size else None
    found = model_cost(options.pattern, size, options.num_classes)
    costs = ("MACs, linear", "MACs, attention", "entries per head")
    table = new_table("block", "tokens", "width", *costs, "attention matrices, float32", "activations to train")
    for _, group in groupby(found.blocks, lambda block: (block.tokens, block.macs)):
        block, *others = group
        table.add_row(
            f"{block.name} and {len(others)} like it" if others else block.name,
            f"{block.tokens:,}",
            str(block.width),
            giga(block.mixing.linear + block.mlp),
            giga(block.mixing.attention),
            f"{block.mixing.entries:,}",
            mebi(block.weights * SINGLE),
            mebi(block.kept * SINGLE),
        )
    height, width = found.img_size
    console.print(
        f"{found.name}, one image of {height}×{width}: {found.parameters:,} parameters, {giga(found.macs)} MACs"
    )
    console.print(table, crop=False)
    whole = mebi(found.kept_bytes + found.weights_bytes)
    console.print(
        f"training stores {mebi(found.kept_bytes)} per image for the backward pass, {whole} without a fused kernel"
    )
    if found.attended:
        window = " per window" if found.in_windows else ""
        console.print(
            f"attention costs as much as the linear layers at {found.attention_overtakes_at:,} tokens{window} "
            f"(2 × width + hidden width of the MLP); this model has {found.attended:,}"
        )
    return asdict(found) | {
        "blocks": [
            {
                "name": block.name,
                "tokens": block.tokens,
                "width": block.width,
                "linear_macs": block.mixing.linear + block.mlp,
                "attention_macs": block.mixing.attention,
                "matrices": block.mixing.matrices,
                "entries": block.mixing.entries,
                "kept_bytes": block.kept * SINGLE,
            }
            for block in found.blocks
        ],
    }


def giga(count: int) -> str:
    return f"{count / 1e9:.3f} G"


def mebi(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def new_table(*headings: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table
