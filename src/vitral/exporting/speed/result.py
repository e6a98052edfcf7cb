"""What was measured of each way of running a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitral.exporting.speed.agreement import AnswersAgree
from vitral.exporting.speed.statistics import Ratio, compare, median_interval, percentile, sentence
from vitral.exporting.speed.way import Way


@dataclass(frozen=True)
class Timing:
    """A way at one batch, with its best number of `threads`.

    `rounds` are the median seconds of a pass in each round, `seconds` those of all passes; `memory` are the most bytes
    above what its process held before the model was loaded, None where that is not known.
    """

    batch: int
    threads: int
    rounds: tuple[float, ...]
    seconds: tuple[float, ...]
    memory: int | None

    @property
    def images_per_second(self) -> float:
        return self.batch / float(np.median(self.rounds))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `images_per_second`."""
        low, high = median_interval(self.rounds)
        return self.batch / high, self.batch / low

    def to_json(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "threads": self.threads,
            "images_per_second": self.images_per_second,
            "interval": list(self.interval),
            "p50_seconds": percentile(self.seconds, 0.5),
            "p99_seconds": percentile(self.seconds, 0.99),
            "rounds": len(self.rounds),
            "passes": len(self.seconds),
            "memory_bytes": self.memory,
        }


@dataclass(frozen=True)
class Measured:
    """A way that ran; `agreement` is with eager PyTorch in float32, None for an exported model, which has none."""

    way: Way
    timings: tuple[Timing, ...]
    agreement: AnswersAgree | None

    @property
    def is_recommended(self) -> bool:
        return self.agreement is None or self.agreement.is_enough

    def to_json(self) -> dict[str, Any]:
        return {
            "way": self.way.name,
            "runs_in": self.way.words,
            "precision": self.way.precision,
            "timings": [timing.to_json() for timing in self.timings],
            "agreement": self.agreement.to_json() if self.agreement else None,
        }


@dataclass(frozen=True)
class Unavailable:
    """A way that did not run, and why, with what to do."""

    way: str
    reason: str


@dataclass(frozen=True)
class BenchResult:
    """Every way, measured or with the reason why not; see `vitral.tasks.bench`.

    `images` is how many images were compared, `images_from` where they are from, `load` the mean number of busy
    processors in the minute before, None where the system does not say.
    """

    measured: tuple[Measured, ...]
    unavailable: tuple[Unavailable, ...]
    device: str
    cores: int
    images: int
    images_from: str
    load: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(timing.batch for timing in self.measured[0].timings)

    def ratios(self, batch: int) -> list[Ratio]:
        """The ways whose answers agree, against the fastest of them, at one batch."""
        index = self.batches.index(batch)
        candidates = [one for one in self.measured if one.is_recommended]
        return compare({one.way.name: np.array(one.timings[index].rounds) for one in candidates})

    @property
    def advice(self) -> str:
        """Which way to take for each batch, in one sentence."""
        wrong = [one.way.name for one in self.measured if not one.is_recommended]
        if len(wrong) == len(self.measured):
            return "No way gives the answers of eager PyTorch in float32, so none is recommended."
        parts = "; ".join(sentence(batch, self.ratios(batch)) for batch in self.batches)
        left_out = f" Left out, since its answers differ: {', '.join(wrong)}." if wrong else ""
        return f"{parts[0].upper()}{parts[1:]}.{left_out}"

    def to_json(self) -> dict[str, Any]:
        return {
            "ways": [one.to_json() for one in self.measured],
            "unavailable": [asdict(one) for one in self.unavailable],
            "advice": self.advice,
            "fastest": {str(batch): fastest_json(self.ratios(batch)) for batch in self.batches},
            "device": self.device,
            "cores": self.cores,
            "load_before": self.load,
            "images": self.images,
            "images_from": self.images_from,
            "notes": list(self.notes),
        }


def fastest_json(ratios: Sequence[Ratio]) -> dict[str, Any]:
    """The fastest ways of a batch, more than one where they cannot be told apart, and the ratios of all to the first.

    Empty if no way is recommended.
    """
    names = [one.name for index, one in enumerate(ratios) if not index or one.is_noise]
    return {"ways": names, "ratios": [asdict(one) for one in ratios]}
