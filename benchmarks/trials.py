"""What each choice in the demo's model, recipe and data is worth: one changed at a time, same steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from vitral.base.intervals import interval
from vitral.base.numerics import choose
from vitral.data.synthetic.shapes import shapes
from vitral.nn.attention import Attention
from vitral.nn.family.pool import MeanPool
from vitral.nn.position import LearnedPosition
from vitral.studies.shortcuts import accuracy_of, train
from vitral.training.recipe import Recipe
from vitral.training.steps import Step

PLAIN = dict(mixer=Attention, position=LearnedPosition)

MODELS = {
    "the demo": {},
    "plain attention, no query-key norm": dict(mixer=Attention),
    "positions start from noise": dict(position=LearnedPosition),
    "both put back": PLAIN,
    "MLP of four widths": dict(mlp_ratio=4.0),
    "mean pool instead of CLS": dict(pool=MeanPool),
}
RECIPES = {
    "AdamW instead of Muon": dict(optimizer="adamw"),
    "no exchange of colours": dict(augment="none"),
}
DATA = {
    "turned by any angle": dict(rotation=180.0),
    "up to two blobs beside the shape": dict(distractors=2),
    "colours as near as 0.3": dict(contrast=0.3),
}


@contextmanager
def silent(name: str, total: int) -> Iterator[Callable[[Step], None]]:
    yield lambda step: None


def run() -> dict[str, object]:
    recipe, easy = Recipe(), shapes()
    arms = [(name, recipe, easy, parts) for name, parts in MODELS.items()]
    arms += [(name, replace(recipe, **changed), easy, {}) for name, changed in RECIPES.items()]
    arms += [(name, recipe, shapes(**knobs), {}) for name, knobs in DATA.items()]
    results = []
    for name, settings, data, parts in arms:
        numerics = choose(settings.precision, "never", 0, 0)
        model = train(name, data, settings, numerics, silent, shuffle=False, **parts)
        accuracy, n = accuracy_of(model, data.val, numerics), len(data.val)
        results.append({"arm": name, "accuracy": accuracy, "interval": interval(accuracy, n), "n": n})
        print(f"   {name:<36} {accuracy:.1%}", flush=True)
    return {"results": results}
