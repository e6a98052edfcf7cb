"""`--precision auto` and `--compile auto`: time a few steps each way, and decide once, before the first step.

Runs that are too short for that are left to the rules of `vitral.base.numerics`.
"""

import math
from dataclasses import replace
from statistics import median
from typing import Literal

from vitral.base.numerics import Numerics, compiles, computes_in_bfloat16
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.tasks.orders import Measure, tell
from vitral.tasks.progress import Progress
from vitral.training.compiling import compile_model
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe
from vitral.training.speed import time_steps

WORTH = 120.0  # seconds of a run from which both precisions are tried, which takes up to ten
ROUNDS = 2  # of measurements
WORTH_COMPILING = 600.0  # the same for compiling, which takes up to a minute
GAIN = 0.95  # time of a step in bfloat16, over that in float32, below which it is worth its roundings


def settled(recipe: Recipe, numerics: Numerics) -> Recipe:
    """The recipe with what was chosen in place of "auto", so that a resumed run computes as it began."""
    compile: Literal["always", "never"] = "always" if numerics.compile else "never"
    precision: Literal["float32", "bfloat16"] = "bfloat16" if numerics.precision == "bfloat16" else "float32"
    return replace(recipe, precision=precision, compile=compile)


def choose_precision(
    recipe: Recipe,
    model: Classifier,
    data: Dataset,
    numerics: Numerics,
    step: float,
    progress: Progress,
    processes: Processes = ALONE,
) -> tuple[Numerics, float]:
    """The faster of float32 and bfloat16, if the device has both, and the seconds of its step.

    `step` are those in the precision of `numerics`. Both are measured twice more, in turns: a machine is not equally
    fast all the time. bfloat16 has to be faster by 5 %.
    """
    if recipe.precision != "auto" or not computes_in_bfloat16(numerics.device):
        return numerics, step

    def timed(precision: str) -> float:
        other = replace(numerics, precision=precision)
        tell(processes, Measure(recipe, other))
        return median(time_steps(model, data, recipe, other, processes))

    against = "float32" if numerics.precision == "bfloat16" else "bfloat16"
    seconds = {against: math.inf, numerics.precision: step}
    for precision in ROUNDS * (against, numerics.precision):  # in turns, and the fastest: load only makes steps slower
        seconds[precision] = min(seconds[precision], timed(precision))
    chosen = "bfloat16" if seconds["bfloat16"] < GAIN * seconds["float32"] else "float32"
    other = "bfloat16" if chosen == "float32" else "float32"
    progress.note(
        f"--precision auto: {chosen}, {milliseconds(seconds[chosen])} per step; {other} takes "
        f"{milliseconds(seconds[other])}"
    )
    _, compiling = numerics.reason.split(";", 1)
    return replace(numerics, precision=chosen, reason=f"{chosen}, as measured;{compiling}"), seconds[chosen]


def choose_compiling(
    recipe: Recipe,
    model: Classifier,
    data: Dataset,
    numerics: Numerics,
    step: float,
    seconds: float,
    progress: Progress,
    processes: Processes = ALONE,
) -> tuple[Numerics, float]:
    """Whether to compile for steps that take `seconds` in all, and the seconds of a step.

    `step` are those without. Compiling has to gain more time than it takes; if it fails, the run goes on without.
    """
    if recipe.compile != "auto":
        return numerics, step
    precision, _ = numerics.reason.split(";", 1)
    plain = replace(numerics, compile=False)
    if not compiles(numerics.device):
        return replace(plain, reason=f"{precision}; not compiled, because no C++ compiler was found"), step
    if seconds < WORTH_COMPILING:
        why = f"because the run takes less than {WORTH_COMPILING / 60:g} minutes"
        return replace(plain, reason=f"{precision}; not compiled, {why}"), step
    progress.note("--compile auto: compiling, to see what it gains; this takes up to a minute ...")
    tell(processes, Measure(recipe, plain, compiled=True))
    found = compile_model(model, data, recipe, plain, processes)
    if found.model is None:
        why = found.failure or "another process could not"
        progress.note(f"--compile auto: not compiled, because PyTorch could not compile this model: {why}")
        return replace(plain, reason=f"{precision}; not compiled, because that failed"), step
    after = median(time_steps(model, data, recipe, plain, processes, found.model))
    gains = (step - after) * seconds / step > found.seconds
    measured = (
        f"{milliseconds(after)} per step compiled, {milliseconds(step)} without; compiling took {found.seconds:.0f} s"
    )
    progress.note(f"--compile auto: {'compiled' if gains else 'not compiled'}, {measured}")
    reason = f"{precision}; {'compiled' if gains else 'not compiled'}, as measured"
    return replace(plain, compile=gains, reason=reason), after if gains else step


def milliseconds(seconds: float) -> str:
    """A short time for people.

    >>> milliseconds(0.118), milliseconds(0.00234)
    ('118 ms', '2.3 ms')
    """
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"
