"""List the models there are, with their sizes; or say what one costs, block by block, before it is run.

`vitral models 'swin_*'` lists those that match; `vitral models NAME`, with `--img-size` perhaps, shows one.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Annotated, Any

import torch

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError, UnknownName, UsageError
from vitral.base.lookup import nearest
from vitral.nn.cost import BlockCost, cost
from vitral.nn.family.cnn import ResNet
from vitral.nn.zoo import MODELS, Model, create, list_models

WIDE = 140  # columns that a table may need
SINGLE = 4  # bytes of a number in single precision


@dataclass(frozen=True)
class Options:
    pattern: Annotated[str, Option("A name, or which as in a shell: 'vit_*_patch16_224'.", positional=True)] = "*"
    img_size: Annotated[
        tuple[int, ...], Option("Of one model: the image's side, or height and width, if not its own.", low=1)
    ] = ()
    num_classes: Annotated[int, Option("Classes of the head that is counted; 0 for none.", low=0, high=1_000_000)] = (
        1000
    )
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)
        if len(self.img_size) > 2:
            raise UsageError("--img-size takes a side, or height and width.")
        if self.img_size and self.pattern not in MODELS:
            raise UsageError("--img-size is of one model: name it, as in vitral models vit_base_patch16_224.")


def run(options: Options) -> dict[str, Any]:
    from rich.console import Console

    console = Console(stderr=options.json)
    console.width = max(console.width, WIDE)  # a line that is cut short says less than one that a terminal wraps
    if options.pattern in MODELS:
        return one(options, console)
    found = list_models(options.pattern)
    if not found:
        raise UnknownName(
            f"There is no model {options.pattern!r}.{nearest(options.pattern, list_models())} "
            "`vitral models` lists all."
        )
    rows = [listed(name, on_meta(name, num_classes=options.num_classes)) for name in found]
    table = tabled("model", "parameters", "image", "patch", "tokens", "width", "blocks", "heads")
    for row in rows:
        sizes = ("parameters", "img_size", "patch_size", "tokens", "embed_dim", "depth", "num_heads")
        table.add_row(row["name"], *(shown(row[size], "×" if size.endswith("size") else "-") for size in sizes))
    console.print(table, crop=False)
    return {"models": rows}


def on_meta(name: str, **overrides: Any) -> Model:
    with torch.device("meta"):
        return create(name, **overrides)


def listed(name: str, model: Model) -> dict[str, Any]:
    """A model's sizes; of one with stages, the last stage's tokens and the depths of all."""
    config, (height, width) = model.config, model.grid
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "img_size": list(config["img_size"]),
        "patch_size": list(config.get("patch_size", ())),
        "tokens": height * width + model.num_prefix_tokens,
        "embed_dim": config["embed_dim"],
        "depth": config.get("depth", list(config.get("depths", ()))),
        "num_heads": listed_or_one(config.get("num_heads", ())),
    }


def listed_or_one(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def shown(value: Any, between: str) -> str:
    if isinstance(value, list):
        return between.join(map(str, value)) or "none"
    return f"{value:,}" if value > 9_999 else str(value)


def one(options: Options, console: Any) -> dict[str, Any]:
    """What a model costs for one image."""
    size: dict[str, Any] = {}
    if options.img_size:
        size = {"img_size": (options.img_size[0], options.img_size[-1])}
    model = on_meta(options.pattern, num_classes=options.num_classes, **size)
    if isinstance(model, ResNet):
        raise ConfigError(
            f"{options.pattern} has no attention whose cost could be shown. `vitral models` lists its size."
        )
    found = cost(model)
    costs = ("MACs, linear", "MACs, attention", "entries a head", "all weights, float32", "kept to train")
    table = tabled("block", "tokens", "width", *costs)
    for same in alike(found.blocks):
        block, count = same[0], len(same)
        name = block.name if count == 1 else f"{block.name} and {count - 1} like it"
        table.add_row(
            name,
            f"{block.tokens:,}",
            str(block.width),
            giga(block.mixing.linear + block.mlp),
            giga(block.mixing.attention),
            f"{block.mixing.entries:,}",
            memory(block.weights * SINGLE),
            memory(block.kept * SINGLE),
        )
    height, width = model.preprocessing.size
    kept = sum(block.kept for block in found.blocks) * SINGLE
    weights = sum(block.weights for block in found.blocks) * SINGLE
    sums = f"{found.parameters:,} parameters, {giga(found.macs)} MACs"
    console.print(f"{options.pattern}, one image of {height}×{width}: {sums}")
    console.print(table, crop=False)
    console.print(f"training keeps {memory(kept)} an image, {memory(kept + weights)} where no fused kernel is used")
    first = found.blocks[0]
    even = even_at(first)
    if first.mixing.entries:
        among = isqrt(first.mixing.entries)
        each = " a window" if among < first.tokens else ""
        equal = f"attention costs as much as the linear maps at {even:,} tokens{each} (2 D + M)"
        console.print(f"{equal}; here there are {among:,}")
    return {
        "name": options.pattern,
        "img_size": [height, width],
        "parameters": found.parameters,
        "macs": found.macs,
        "kept_bytes": kept,
        "weights_bytes": weights,
        "attention_overtakes_at": even if first.mixing.entries else None,
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


def even_at(block: BlockCost) -> int:
    """The tokens n, of all or of a window, at which 2 N n D is what the linear maps cost, N (4 D² + 2 D M)."""
    return (block.mixing.linear + block.mlp) // (2 * block.tokens * block.width)


def alike(blocks: tuple[BlockCost, ...]) -> list[list[BlockCost]]:
    """Blocks one after the other that cost the same."""
    groups: list[list[BlockCost]] = []
    for block in blocks:
        same = groups and (groups[-1][0].tokens, groups[-1][0].macs) == (block.tokens, block.macs)
        groups[-1].append(block) if same else groups.append([block])
    return groups


def giga(count: int) -> str:
    return f"{count / 1e9:.3f} G"


def memory(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def tabled(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table
