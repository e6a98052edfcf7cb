"""The tables of high resolution and segmentation in `docs/numbers.md`; see `benchmarks.tables`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Table = Callable[[dict], list[str]]
PASS_TARGETS = {  # of ViT-S/16 at 1,024 px: ratios in one run
    "memory, explicit / fused": 3.5,
    "seconds, explicit / fused": 1.5,
    "seconds, fused / windows": 1.7,
}


def ratio(pair: dict) -> str:
    low, high = pair["interval"]
    return f"{pair['ratio']:.2f} ({low:.2f} to {high:.2f})"


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]


def passes(record: dict) -> list[str]:
    """Seconds and memory at two sizes, with the exponent between them; then the ratios."""
    measured = record["forward_backward"]
    sides = list(measured["kinds"][0]["sides"])

    def rows() -> Iterator[tuple[str, ...]]:
        for one in measured["kinds"]:
            times = (f"{one['sides'][side]['seconds']:.2f} s" for side in sides)
            memory = f"{one['sides'][sides[-1]]['bytes'] / 2**20:,.0f} MiB"
            yield one["kind"], *times, memory, f"{one['exponent_in_pixels']:.2f}"

    head = "forward and backward, one image", *(f"{side} px" for side in sides), f"memory at {sides[-1]} px"
    found = table((*head, "power of the pixels"), rows())
    compared = ((name, f"{value:.2f}", f"{PASS_TARGETS[name]:g}") for name, value in measured["ratios"].items())
    return [*found, "", *table((f"at {sides[-1]} px", "ratio", "target, at least"), compared)]


def swin(record: dict) -> list[str]:
    rows = ((name, ratio(pair), str(pair["rounds"])) for name, pair in record["swin"].items())
    return table(("Swin-T at 1,024 px, forward, their time / ours", "ratio", "rounds"), rows)


def fewer_tokens(record: dict) -> list[str]:
    """Images of several sizes as one sequence, and merged tokens."""
    mixed = record["mixed_sizes"]
    packed = (
        (what, ratio(mixed[what]), f"{mixed[what]['per_token_ratio']:.2f}")
        for what in ("forward", "forward and backward")
    )
    tokens = f"padded has {mixed['padded_per_real_token']:.2f} tokens for each real one"
    head = f"{mixed['images']} images of 64 to 256 px, padded / one sequence; {tokens}", "ratio of times"
    merged = ((f"ViT-B/16 at 224 px, {name}", ratio(pair)) for name, pair in record["merging"].items())
    return [
        *table((*head, "over that of the tokens (target 0.95)"), packed),
        "",
        *table(("merged tokens, without / with", "ratio of times (target for r=16: 1.85)"), merged),
    ]


def high_resolution(record: dict) -> list[str]:
    return [*passes(record), "", *swin(record), "", *fewer_tokens(record)]


def merged_accuracy(record: dict) -> list[str]:
    rows = ((name, f"{one['accuracy']:.1%}", f"{one['n']:,}", ratio(one)) for name, one in record["merged"].items())
    return table((f"`{record['model']}` on `{record['data']}`", "accuracy", "n", "time without / with"), rows)


def tiles(record: dict) -> list[str]:
    rows = (
        (
            f"{one['side']:,} x {one['side']:,}",
            f"{one['tiles']:,} of {one['tile'][0]}",
            f"{one['cpu_seconds']:.1f} s",
            f"{one['seconds']:.0f} s",
            f"{one['anonymous_above_loaded_mb']:.0f} MB",
            f"{one['anonymous_most_mb']:.0f} MB",
        )
        for one in record["results"]
    )
    head = "scan", "tiles", "processor", "wall", "memory above the loaded model", "memory in all"
    same = "identical" if record["identical"] else "other"
    return [*table(head, rows), "", f"Killed {record['kills']} times and resumed: {same} bytes."]


def masks(record: dict) -> list[str]:
    """Mean IoU of each model, with its seeds where there are several."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, one in record["models"].items():
            runs: list[dict[str, Any]] = one.get("runs") or ([one] if "seconds" in one else [])
            each = ", ".join(f"{run['mIoU']:.1%}" for run in runs) if len(runs) > 1 else ""
            time = f"{sum(run['seconds'] for run in runs) / len(runs):.0f} s" if runs else ""
            yield name, f"{one['mIoU']:.1%}", each, time

    return table(("model", "mean IoU without background", "each seed", "training"), rows())


Chapter = tuple[str, str, tuple[str, ...], Table]
EVERY: tuple[Chapter, ...] = (
    (
        "High resolution",
        "Each pass in fresh processes, interleaved. *Explicit* forms every attention weight.",
        ("high_resolution",),
        high_resolution,
    ),
    (
        "Accuracy with merged tokens",
        "A model that was trained without merging. r is the number of tokens that each block merges away.",
        ("merged_accuracy",),
        merged_accuracy,
    ),
    (
        "Images larger than memory",
        "`vitral predict --tile` of a small ResNet with a pyramid, on one thread.",
        ("tiles",),
        tiles,
    ),
    (
        "Segmentation of `scenes`",
        "128 px, from scratch, with two threads; the ViT with the decoder detail trained beside other work. The colour "
        "of a pixel and patches alone are floors.",
        ("scenes",),
        masks,
    ),
    (
        "Segmentation of clip art on photographs",
        "Cut-outs of 8 categories, pasted on photographs and on each other, 128 px.",
        ("cutouts",),
        masks,
    ),
)
RESULTS = Path(__file__).parent / "results"
CHAPTERS = tuple(one for one in EVERY if all((RESULTS / f"{name}.json").is_file() for name in one[2]))
