"""The page of `vitral explain`: one section per image, with its pictures."""

import shlex
from collections.abc import Mapping, Sequence

from matplotlib.colors import Normalize

from vitral.base.provenance import provenance
from vitral.explain.trust import NO_TEST
from vitral.report.colours import describe_scales
from vitral.report.page import Page, Section
from vitral.tasks.explanations import ImageResult

Scales = Mapping[str, Normalize]  # one colour scale per unit
TESTED = (
    "Each caption says how the map was verified, and whether it is better than chance on this image. P-values are "
    "corrected for the number of methods on an image, not for the number of images."
)


def explanation_page(
    model: str,
    results: Sequence[ImageResult],
    methods: Sequence[str],
    target: str | None,
    repeat: str,
    scales: Scales,
    orders: int | None = None,
) -> Page:
    """One section per image, with its pictures; `repeat` is the command that makes the page again, if there is one."""
    count, name = len(results), shlex.quote(model)
    colours = (
        f"{describe_scales(scales)} All maps of this page have the same scale. The image shows through as brightness. "
        "Rows and columns of patches are counted from 0, from the top left."
    )
    return Page(
        title=f"vitral explain {model}",
        headline="Where it looks" if count == 1 else f"Where it looks, in {count} images",
        detail=NO_TEST if orders == 0 else TESTED,
        facts={"methods": ", ".join(methods), "images": str(count), "random orders": orders_text(results, orders)},
        sections=[
            Section("How to read the colours", colours),
            *[
                Section(f"{one.image.name}: {one.answer}", introduction(one, target), list(one.pictures))
                for one in results
            ],
        ],
        settings={"model": model, "target": target or "the model's prediction"} | provenance()["versions"],
        commands=[
            (f"vitral explain {name} IMAGE --method attention chefer occlusion", "methods side by side"),
            (f"vitral explore {name} IMAGE", "every layer and head, to point at in one page"),
            (f"vitral explain {name} --data cued --score", "all methods against their controls"),
        ],
        repeat=repeat,
    )


def orders_text(results: Sequence[ImageResult], requested: int | None) -> str:
    """How many random orders the maps were compared with, and whether that number was requested."""
    if requested is not None:
        return f"{requested} (requested)"
    used = sorted({len(one.trust.by_chance) for image in results for one in image.maps if not one.trust.untested})
    return ", ".join(map(str, used)) if used else "none: no map could be tested"


def introduction(result: ImageResult, target: str | None) -> str:
    """The paragraph above the pictures of an image."""
    text = [] if result.predicted else ["The model scores no classes, so it has no prediction and no map was tested."]
    if result.region:
        text.append(
            f"Explained is a region: {result.region}. Its answer is the mean of its pixels' logits, and the class that "
            "they give."
        )
    if target is not None:
        text.append(f"Class-specific methods explain {target}, as requested.")
    return " ".join(text + [f"{method} was left out: {reason}" for method, reason in result.refused.items()])
