"""Measure how fast a model runs on this machine in every way that it has, and say which to take.

Ways are PyTorch (eager, packed, compiled), ONNX Runtime and OpenVINO, in several precisions; one that is not available
is listed with the reason. Preparing them comes on top of --seconds. Images are prepared beforehand: the model is timed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.cli._options import Code, Json, Model, arguments

if TYPE_CHECKING:
    from vitral.exporting.speed.result import BenchResult, Measured, Timing

WIDE = 160  # columns that a table may need
COLUMNS = (
    *("batch", "way", "runs in", "precision", "images/s", "95% interval", "p50", "p99", "threads", "memory"),
    *("same answer", "largest difference"),
)


@dataclass(frozen=True)
class Options:
    model: Model
    ways: Annotated[tuple[str, ...], Option("Ways to measure, such as eager packed-bf16; by default all.")] = ()
    batches: Annotated[tuple[int, ...], Option("Numbers of images per pass.", low=1, high=65_536)] = (1, 8)
    images: Annotated[
        Path | None,
        Option(
            "Folder of images: up to 64 are compared, and up to 64 others calibrate int8; by default 16 are generated."
        ),
    ] = None
    threads: Annotated[
        int | None, Option("Number of threads; by default the best for each way and batch.", low=1, high=1024)
    ] = None
    seconds: Annotated[float, Option("Seconds to measure, after everything is prepared.", low=0.1, high=86_400)] = 60.0
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Option("Where the model runs; auto takes a GPU if there is one.")
    ] = "auto"
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.bench import bench

    found = bench(**arguments(options), progress=True)
    print_table(found)
    for one in found.unavailable:
        print_result(f"not measured: {one.way}: {one.reason}")
    print_result(found.advice)
    return found.to_json()


def print_table(found: "BenchResult") -> None:
    """Print one row per batch and way, and what was measured how often."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, WIDE)  # the terminal wraps a long line; rich would cut it
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for index, heading in enumerate(COLUMNS):
        table.add_column(heading, justify="left" if 0 < index < 4 else "right", no_wrap=True)
    for index, batch in enumerate(found.batches):
        for one in found.measured:
            table.add_row(str(batch), *row(one, one.timings[index], found))
    console.print(table, crop=False)
    passes = [len(timing.seconds) for one in found.measured for timing in one.timings]
    rounds = len(found.measured[0].timings[0].rounds)
    against = "" if found.measured[0].agreement is None else ", compared with eager PyTorch in float32"
    print_result(
        f"{rounds} rounds in turns, {min(passes):,} to {max(passes):,} passes per row; p99 of fewer than 100 passes is "
        f"the slowest. {found.images:,} images ({found.images_from}){against}. Device {found.device}."
    )


def row(one: "Measured", timing: "Timing", found: "BenchResult") -> list[str]:
    from vitral.base.memory import in_words
    from vitral.exporting.speed.statistics import percentile

    low, high = timing.interval
    agreement = one.agreement
    return [
        one.way.name,
        one.way.words,
        one.way.precision,
        figure(timing.images_per_second),
        f"{figure(low)} to {figure(high)}",
        *(f"{1000 * percentile(timing.seconds, share):,.4g} ms" for share in (0.5, 0.99)),
        str(timing.threads),
        "unknown" if timing.memory is None else in_words(timing.memory),
        f"{agreement.same:,.4g} of {agreement.images:,}" if agreement else "-",
        f"{agreement.largest:.1e}" if agreement else "-",
    ]


def figure(value: float) -> str:
    """Three digits, or all before the point.

    >>> figure(4.567), figure(45.67), figure(4567.8)
    ('4.57', '45.7', '4,568')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
