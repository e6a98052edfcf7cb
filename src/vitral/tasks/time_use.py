"""Where the time of a training run went, for the console and the report, and what would make it faster.

Measured at the end, once, and logged: the memory, the operations per image, and the peak of the machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vitral.base.memory import in_words, peak_resident
from vitral.base.numerics import Numerics
from vitral.base.plural import one_or_many
from vitral.data.dataset import Dataset
from vitral.report.page import Section
from vitral.store.classifier import Classifier
from vitral.tasks.choose_numerics import milliseconds
from vitral.tasks.pace import Pace
from vitral.tasks.progress import Progress
from vitral.tasks.time_advice import advise
from vitral.training.cost import training_operations
from vitral.training.peak import measure_peak
from vitral.training.recipe import Recipe
from vitral.training.run import Run
from vitral.training.steps import RECENT

WORTH = 10.0  # seconds of steps after which the machine's peak is measured, which takes half a second
PARTS = {
    "waiting": "waiting for the batch",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
}


@dataclass(frozen=True)
class TimeUse:
    """What the records of a run say of its time.

    `rate` are images per second in its steps, `step` the seconds of one, and `parts` their shares of it. `seconds` are
    those of the run, and `stepping` those that its steps took, None if that is not known. `machine` is what was
    measured at the end.
    """

    rate: float
    step: float
    parts: dict[str, float]
    seconds: float
    stepping: float | None
    machine: Mapping[str, Any]

    @property
    def utilisation(self) -> float | None:
        """Operations per second in the steps, over the peak of as many processes; None if it was not measured."""
        known = self.machine
        if not known.get("peak_flops") or not known.get("operations"):
            return None
        return float(self.rate * known["operations"] / (known["peak_flops"] * known["processes"]))

    @property
    def line(self) -> str:
        """All of it for the console."""
        found = [", ".join(f"{share:.0%} {PARTS[name]}" for name, share in self.parts.items())]
        found.append(f"{self.rate:,.0f} images/s")
        if self.machine.get("memory"):
            found.append(f"{in_words(self.machine['memory'])} of memory ({self.machine['memory_kind']})")
        if self.utilisation is not None:
            found.append(f"{self.utilisation:.0%} of the GEMM peak")
        return f"time of a step: {'; '.join(found)}"


def time_use(records: Sequence[Mapping[str, Any]], batch: int) -> TimeUse | None:
    """Means over the steps of a run, of so many images each; None without steps.

    Without the first steps of a longer run, in which code is compiled and memory is taken. For a run of an older
    version only the waiting is known; if it was resumed since, its later steps count.
    """
    paces = [record for record in records if "images_per_second" in record]
    paces = [record for record in paces if all(part in record for part in PARTS)] or paces
    paces = [record for record in paces if record["step"] > RECENT] or paces
    if not paces:
        return None
    times = [1 / record["images_per_second"] for record in paces]
    known = [part for part in PARTS if all(part in record for record in paces)]
    parts = {part: sum(r[part] * time for r, time in zip(paces, times)) / sum(times) for part in known}
    last, machine = paces[-1], [record for record in records if "memory_kind" in record]
    per_image = sum(times) / len(times)
    return TimeUse(
        1 / per_image, batch * per_image, parts, last["seconds"], last.get("stepping"), machine[-1] if machine else {}
    )


def log_time_use(
    run: Run,
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    processes: int,
    pace: Pace,
    progress: Progress,
) -> None:
    """Measure what is measured after the last step, log it, and note where the time went, with advice if there is any.

    Runs of a few seconds are not compared with the machine's peak.
    """
    busy = pace.busy
    found = time_use(run.records(), min(recipe.batch_size, len(data.train)))
    if found is None:
        return
    machine: dict[str, Any] = {"processes": processes, "device": numerics.device, "precision": numerics.precision}
    if numerics.device == "cuda":
        machine |= {"memory": torch.cuda.max_memory_allocated(), "memory_kind": "allocated on the GPU"}
        torch.cuda.empty_cache()
    else:
        machine |= {"memory": peak_resident(), "memory_kind": "resident"}
    if (found.stepping or 0.0) >= WORTH:
        peak = measure_peak(numerics.device, numerics.precision)
        machine |= {"peak_flops": peak.flops, "peak_size": peak.size, "peak_products": peak.count}
        machine |= {"threads": peak.threads, "operations": training_operations(model)}
    found = replace(found, machine=machine)
    advice = advise(found.parts, found.utilisation, model, data, recipe, numerics, processes, busy)
    run.log(step=pace.recent[-1].number, busy=busy, **machine, advice=advice)
    progress.note(found.line)
    if advice:
        progress.note(f"advice: {advice}")


def time_section(records: Sequence[Mapping[str, Any]], batch: int) -> list[Section]:
    """Where the time went, as a table for the report; nothing for a run without steps."""
    found = time_use(records, batch)
    if found is None:
        return []
    known = found.machine
    sentences = [f"{found.rate:,.0f} images per second; a step of {batch:,} images took {milliseconds(found.step)}."]
    if found.stepping is not None and found.seconds:
        sentences.append(
            f"Steps took {found.stepping / found.seconds:.0%} of the training time; the rest went to evaluations, "
            "checkpoints and the film."
        )
    if known.get("memory"):
        whose = "The process" if known["processes"] == 1 else "The first process"
        sentences.append(
            f"{whose} took at most {in_words(known['memory'])} of memory ({known['memory_kind']}"
            f"{', including decoded images that it maps' if known['memory_kind'] == 'resident' else ''})."
        )
    if found.utilisation is not None:
        sentences.append(peak_sentence(found))
    if known.get("advice"):
        sentences.append(f"Advice: {known['advice']}")
    rows = [(PARTS[part], f"{share:.0%}", milliseconds(share * found.step)) for part, share in found.parts.items()]
    rest = 1 - sum(found.parts.values())
    if len(found.parts) == len(PARTS) and rest >= 0.005:
        rows.append(("other", f"{rest:.0%}", milliseconds(rest * found.step)))
    table = (("part of a step", "share", "time"), *rows)
    return [Section("Where the time went", " ".join(sentences), table=table)]


def peak_sentence(found: TimeUse) -> str:
    """The utilisation, and what it is a share of."""
    known = found.machine
    threads = f", {one_or_many(known['threads'], 'thread')}" if known["device"] == "cpu" else ""
    peak = (
        f"{known['peak_flops'] / 1e9:,.0f} GFLOP/s (the best of {known['peak_products']} products of matrices of "
        f"{known['peak_size']} x {known['peak_size']} in {known['precision']}{threads})"
    )
    several = f" of each of {known['processes']} processes" if known["processes"] > 1 else ""
    return (
        f"The matrix products of a step, {known['operations'] / 1e9:,.2f} GFLOP per image forward and backward, ran at "
        f"{found.utilisation:.0%} of the peak{several} measured after training: {peak}."
    )
