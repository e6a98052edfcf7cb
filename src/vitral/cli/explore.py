"""Explore a model in one page: point at any patch of your images and see what it attends to, in every layer and head.

The page is one file that opens without a network. Its attention is verified: with a model whose attention cannot be
seen or verified there is no page, and the reason is printed. With --live, the page is not a file: it opens in the
browser of this machine, and the model computes what you point at, so that nothing is left out.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError
from vitral.base.lookup import names
from vitral.cli._options import Code, Images, Json, Model, arguments
from vitral.data import OnBadImage

LIMIT = 15.0  # megabytes of a page
HOST, PORT = "127.0.0.1", 8765


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images
    beside: Annotated[
        str | None,
        Option(
            "Second model to show beside the first for the same images, on one colour scale: specified as MODEL is, or "
            "`untrained` for the same architecture with new weights (seed 0)."
        ),
    ] = None
    method: Annotated[
        tuple[str, ...],
        Option(
            f"Relevance methods to show beside attention: {', '.join(names('explain.methods'))}, or none; by default "
            "those that take a pass or two of the model."
        ),
    ] = ()
    orders: Annotated[
        int | None,
        Option(
            "Random orders of patches with which the map of each method is compared; 0 for no test. By default the "
            "number of `vitral explain` on at most 64 patches, and 0 on more.",
            low=0,
            high=100_000,
        ),
    ] = None
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
    ] = LIMIT
    live: Annotated[
        bool,
        Option(
            "Open the page at an address of this machine instead of writing a file; the model computes the rows that "
            "you point at, for any number of tokens. Ctrl-C ends it."
        ),
    ] = False
    host: Annotated[str, Option("Address of the page with --live: this machine only, unless --allow-remote.")] = HOST
    port: Annotated[int, Option("Port of the page with --live; 0 finds a free one.", low=0, high=65535)] = PORT
    allow_remote: Annotated[
        bool,
        Option(
            "Allow a --host that other machines can reach. Everyone there can see the images; there is no password."
        ),
    ] = False
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False

    def __post_init__(self) -> None:
        if self.live and (self.out is not None or self.limit_mb != LIMIT):
            given = "--limit-mb" if self.out is None else "--out"
            raise ConfigError(f"{given} is for a page in a file, and --live writes none. Leave out one of the two.")
        if self.live and self.beside is not None:
            raise ConfigError("--beside is for a page in a file: --live runs one model. Leave out one of the two.")
        if not self.live and (self.host, self.port, self.allow_remote) != (HOST, PORT, False):
            given = "--host" if self.host != HOST else "--port" if self.port != PORT else "--allow-remote"
            raise ConfigError(f"{given} is for a page with --live. Add --live, or leave it out.")


def run(options: Options) -> dict[str, Any]:
    return run_live(options) if options.live else write_page(options)


def run_live(options: Options) -> dict[str, Any]:
    from vitral.cli._parse import command_line
    from vitral.tasks.explore_live import explore_locally

    given = arguments(options, "live", "out", "limit_mb", "beside")
    with explore_locally(**given, repeat=command_line("explore", options), progress=True) as page:
        if page.is_remote:
            say(f"Every machine that reaches {page.host} can open this page and see its images. It has no password.")
        with suppress(KeyboardInterrupt):
            print_result(f"explorer: {page.address} (Ctrl-C ends it)")
            page.serve_forever()
        say("The explorer has ended.")
        return {"address": page.address}


def write_page(options: Options) -> dict[str, Any]:
    from vitral.cli._parse import command_line
    from vitral.tasks.explore import explore

    given = arguments(options, "live", "host", "port", "allow_remote")
    found = explore(**given, repeat=command_line("explore", options), progress=True)
    for name, why in found.refused.items():
        say(f"  {name} is not shown: {why}")
    if found.beside:
        for name, why in found.beside.refused.items():
            say(f"  {found.beside.name}: {name} is not shown: {why}")
    beside = f" beside {len(found.beside.layers)} of {found.beside.name}" if found.beside else ""
    print_result(
        f"{len(found.layers)} layers of attention{beside}, verified to {found.residual:.0e}; stored weights differ by "
        f"at most {found.error:.2%} of the largest of their row."
    )
    if found.left_out:
        print_result(found.left_out)
    if found.weights:
        print_result(f"The page holds the model: its {found.weights:,} weights, so that it can run without parts.")
    print_result(f"page: {found.page} ({found.size / 1e6:.1f} MB)")
    return found.to_json()
