"""Short trials of the ways to adapt a trained model, and which way they speak for."""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import Literal, get_args

import numpy as np

from vitral.base.answer import Figures
from vitral.base.intervals import resamples
from vitral.base.numerics import Numerics
from vitral.data.dataset import Dataset
from vitral.recording.undisturbed import undisturbed
from vitral.store.classifier import Classifier
from vitral.training import optim
from vitral.training.adapt import adapt
from vitral.training.loop import training_steps
from vitral.training.lora import merged
from vitral.training.metrics import evaluate_split
from vitral.training.out_of_memory import memory_named
from vitral.training.recipe import Recipe

Way = Literal["probe", "lora", "full"]
WAYS: tuple[Way, ...] = get_args(Way)  # the cheapest first


def take_trial(model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, total: int) -> Figures:
    """The figures on the validation images of a copy of the model that was trained by `recipe` for `total` steps.

    The steps have the whole schedule of the learning rate, so that they end as a run does. The model and the random
    state stay as they were. Raises what `adapt` and `training_steps` raise.
    """
    tried = deepcopy(model)
    with undisturbed(tried):
        adapt(tried, recipe)
        lr_at = partial(optim.schedule, total=total, warmup=recipe.warmup)
        loop = training_steps(tried, data, recipe, numerics, optim.optimizers(tried, recipe), lr_at)
        with memory_named(tried, data, recipe, numerics):
            for _ in islice(loop, total):
                pass
        return evaluate_split(merged(tried), data.val)


def choose_way(found: Mapping[Way, Figures], n: int) -> tuple[Way, str]:
    """The cheapest way whose figure on the `n` validation images is within the noise of the best; and why, in words.

    The noise is one standard error of the difference between the two, over resampled images (the "one standard error
    rule" of Breiman et al. 1984, "Classification and Regression Trees", §3.4.3).
    """
    best = max(found, key=lambda way: found[way].score)
    against = {way: difference(found[best], found[way], n) for way in WAYS if way in found and way != best}
    alike = [way for way, (gap, noise) in against.items() if not gap > noise]
    chosen = min([best, *alike], key=WAYS.index)
    if chosen != best:
        gap, noise = against[chosen]
        return chosen, (
            f"{chosen}: {best} is better by only {gap:.3f}, within the noise of ±{noise:.3f} (one standard error of "
            f"the difference), and {chosen} is cheaper"
        )
    better = [f"than {way} by {gap:.3f} ± {noise:.3f}" for way, (gap, noise) in against.items() if way not in alike]
    same = [f"than {way} by {gap:.3f} ± {noise:.3f}" for way, (gap, noise) in against.items() if way in alike]
    reasons = [f"better {', and '.join(better)}"] * bool(better)
    reasons += [f"better {', and '.join(same)}, which is within the noise, and cheaper"] * bool(same)
    found_alone = "the only one that could be tried"
    return chosen, f"{chosen}: {'; '.join(reasons)} (one standard error)" if reasons else f"{chosen}: {found_alone}"


def difference(one: Figures, other: Figures, n: int) -> tuple[float, float]:
    """By how much the first figure is higher, and the standard error of that over resampled images.

    Both are of the same images in the same order. The error is infinite for a single image.
    """
    pairs = [one.value_on(chosen) - other.value_on(chosen) for chosen in resamples(n)]
    finite = np.array(pairs)[np.isfinite(pairs)]
    noise = float(finite.std(ddof=1)) if n > 1 and len(finite) > 1 else float("inf")
    return one.value - other.value, noise
