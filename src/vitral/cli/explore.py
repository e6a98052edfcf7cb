"""Explore a model in one page: point at any patch of your images and see what it attends to, in every layer and head.

The page is one file that opens without a network. Its attention is verified: with a model whose attention cannot be
seen or verified there is no page, and the reason is printed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.cli._options import Code, Images, Json, Model, arguments
from vitral.data import OnBadImage


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images
    out: Annotated[
        Path | None, Option("New .html file for the page, or a folder for it; by default explored/IMAGE.html.")
    ] = None
    limit_mb: Annotated[
        float,
        Option(
            "Largest size of the page in megabytes. Where it would be larger, fewer queries or heads are stored, and "
            "the page says which.",
            low=0.1,
            high=500.0,
        ),
    ] = 15.0
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.cli._parse import command_line
    from vitral.tasks.explore import explore

    found = explore(**arguments(options), repeat=command_line("explore", options), progress=True)
    for name, why in found.refused.items():
        say(f"  {name} is not shown: {why}")
    print_result(
        f"{len(found.layers)} layers of attention, verified to {found.residual:.0e}; stored weights differ by at most "
        f"{found.error:.2%} of the largest of their row."
    )
    if found.left_out:
        print_result(found.left_out)
    if found.weights:
        print_result(f"The page holds the model: its {found.weights:,} weights, so that it can run without parts.")
    print_result(f"page: {found.page} ({found.size / 1e6:.1f} MB)")
    return found.to_json()
