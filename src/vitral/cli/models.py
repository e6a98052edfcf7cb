"""List the models there are, with their sizes; or show one of them."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch

from vitral.base.config import Option, check
from vitral.base.errors import UnknownName
from vitral.base.lookup import nearest
from vitral.nn.zoo import create, list_models

WIDE = 200  # columns, where there is no terminal that has some


@dataclass(frozen=True)
class Options:
    pattern: Annotated[str, Option("Which, as in a shell: 'vit_*_patch16_224'.", positional=True)] = "*"
    num_classes: Annotated[int, Option("Classes of the head that is counted; 0 for none.", low=0, high=1_000_000)] = (
        1000
    )
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)


def run(options: Options) -> dict[str, Any]:
    from rich.console import Console
    from rich.table import Table

    found = list_models(options.pattern)
    if not found:
        raise UnknownName(
            f"There is no model {options.pattern!r}.{nearest(options.pattern, list_models())} "
            "`vitral models` lists all."
        )
    rows = []
    for name in found:
        with torch.device("meta"):
            model = create(name, num_classes=options.num_classes)
        config, (height, width) = model.config, model.grid
        rows.append(
            {
                "name": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                "img_size": list(config["img_size"]),
                "patch_size": list(config["patch_size"]),
                "tokens": height * width + model.num_prefix_tokens,
                "embed_dim": config["embed_dim"],
                "depth": config["depth"],
                "num_heads": config["num_heads"],
            }
        )
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("model", "parameters", "image", "patch", "tokens", "width", "blocks", "heads"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters']:,}",
            "×".join(map(str, row["img_size"])),
            "×".join(map(str, row["patch_size"])),
            str(row["tokens"]),
            str(row["embed_dim"]),
            str(row["depth"]),
            str(row["num_heads"]),
        )
    console = Console(stderr=options.json)
    console.print(table, width=None if console.is_terminal else WIDE, crop=False)
    return {"models": rows}
