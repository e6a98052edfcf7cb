"""What each choice of the demo is worth: one thing changed at a time, same steps, validation accuracy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from vitral.base.numerics import choose
from vitral.data.synthetic.shapes import shapes
from vitral.nn.attention import Attention
from vitral.nn.family.pool import MeanPool
from vitral.nn.position import LearnedPosition
from vitral.studies.parts import accuracy_of, train
from vitral.train.metrics import interval
from vitral.train.recipe import Recipe
from vitral.train.steps import Step

PLAIN = dict(mixer=Attention, position=LearnedPosition)

MODELS = {
    "the demo": {},
    "plain attention, no query-key norm": dict(mixer=Attention),
    "positions start from noise": dict(position=LearnedPosition),
    "both: the lecture's parts": PLAIN,
    "MLP of four widths": dict(mlp_ratio=4.0),
    "mean pool instead of CLS": dict(pool=MeanPool),
}
RECIPES = {f"AdamW alone, lr {lr:g}": dict(optimizer="adamw", lr=lr) for lr in (1e-3, 2e-3, 4e-3)} | {
    "no exchange of colours": dict(augment="none"),
    "weight decay 0.01": dict(weight_decay=0.01),
}
HARDER = {
    "turned by up to 45 degrees": dict(rotation=45.0),
    "contrast of 0.25": dict(contrast=0.25),
    "two distractors": dict(distractors=2),
}


@contextmanager
def silent(name: str, total: int) -> Iterator[Callable[[Step], None]]:
    yield lambda step: None


def run() -> dict[str, object]:
    recipe, results = Recipe(), []
    data = shapes()
    arms = [(name, data, recipe, parts) for name, parts in MODELS.items()]
    arms += [(name, data, replace(recipe, **changed), {}) for name, changed in RECIPES.items()]
    arms += [(name, shapes(**knobs), recipe, {}) for name, knobs in HARDER.items()]
    for name, images, settings, parts in arms:
        numerics = choose(settings.precision, "no", 0, 0)
        model = train(name, images, settings, numerics, silent, shuffle=False, **parts)
        accuracy, n = accuracy_of(model, images.val, numerics), len(images.val)
        results.append({"arm": name, "accuracy": accuracy, "interval": interval(accuracy, n), "n": n})
        print(f"   {name:<36} {accuracy:.1%}", flush=True)
    return {"results": results}
