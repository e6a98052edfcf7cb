"""The page of explained images."""

import shlex
from collections.abc import Sequence

from vitral.base.provenance import provenance
from vitral.report.page import Page, Section
from vitral.tasks.explanation import ImageResult


def explanation_page(
    model: str, results: Sequence[ImageResult], methods: Sequence[str], target: str | None, repeat: str
) -> Page:
    """One section per image, with its pictures; `repeat` is the command that makes the page again, if there is one."""
    count, name = len(results), shlex.quote(model)
    return Page(
        title=f"vitral explain {model}",
        headline="Where it looks" if count == 1 else f"Where it looks, in {count} images",
        detail="Each caption says how the map was verified, and whether it is better than chance on this image.",
        facts={"methods": ", ".join(methods), "images": str(count)},
        sections=[
            Section(f"{one.image.name}: {one.answer}", introduction(one, target), list(one.pictures)) for one in results
        ],
        settings={"model": model, "target": target or "the model's prediction"} | provenance()["versions"],
        commands=[
            (f"vitral explain {name} IMAGE --method attention chefer occlusion", "methods side by side"),
            (f"vitral explain {name} --data cued --score", "all methods against their controls"),
        ],
        repeat=repeat,
    )


def introduction(result: ImageResult, target: str | None) -> str:
    """The paragraph above the pictures of an image."""
    text = ["Each caption says what the map shows, how it was verified, and how it compares with random orders."]
    if result.prediction is None:
        text.append("The model scores no classes, so it has no prediction and no map was tested.")
    if target is not None:
        text.append(f"Class-specific methods explain {target}, as requested.")
    return " ".join(text + [f"{method} was left out: {reason}" for method, reason in result.refused.items()])
