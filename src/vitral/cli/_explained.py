"""`vitral explain MODEL IMAGES`: pictures, numbers and a page."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitral.base.errors import UnknownName, UsageError
from vitral.base.files import free, write_file
from vitral.base.lookup import find, nearest
from vitral.base.modes import evaluating
from vitral.base.provenance import provenance
from vitral.cli import say
from vitral.cli._images import read_images
from vitral.data.preprocess import normalise
from vitral.explain.maps import Maps, side_by_side
from vitral.explain.methods.attention import Query
from vitral.explain.queries import query_grid
from vitral.explain.subject import logits_of
from vitral.explain.trust import Trust, trust
from vitral.report.page import Page, Picture, Section
from vitral.report.style import png
from vitral.store.classifier import Classifier

if TYPE_CHECKING:
    from vitral.cli.explain import Options


def explained(model: Classifier, options: "Options") -> dict[str, Any]:
    read = read_images(options.images, model.preprocessing, options.on_bad_image)
    methods = options.method or ("attention",)
    by_patches = options.query == "grid"
    query, target = None if by_patches else query_of(options.query), class_of(options.target, model)
    written, sections = [], []
    for path, image in read:
        pixels = np.stack([image])
        images = normalise(torch.from_numpy(pixels), model.preprocessing)
        with evaluating(model), torch.no_grad():
            chances = logits_of(model, images)[0].softmax(dim=0)
        answer = int(chances.argmax())
        said = f"{path.name}: {model.classes[answer]} ({chances[answer]:.1%})"
        pictures, found = [], []
        for method in methods:
            choices: dict[str, Any] = {}
            if method == "attention":
                choices = {"layers": options.layer or None, "heads": options.head or None, "query": query}
            maps = find("explain.methods", method, "method")(model, images, target, **choices)
            tested = trust(model, images, maps)[0]
            maps = replace(maps, tested=(tested.sentence,))
            picture = maps.save(free(options.out / f"{path.stem}.{method}.png"))
            numbers = maps.save(free(picture.with_suffix(".npz")))
            found.append(maps)
            pictures.append(Picture(picture.read_bytes(), f"{method} of {path.name}", ""))
            say(f"{said}. {summary(maps)}\n  {maps.caption}\n  {tested.sentence}\n  {picture}")
            written.append(record(path, model.classes[answer], picture, numbers, maps, tested))
        if by_patches:
            grids = queries_of(model, images, path, options)
            pictures += [Picture(one.read_bytes(), f"what patches of {path.name} read", "") for one, _ in grids]
            written += [{"image": str(path), "picture": str(one), "numbers": str(numbers)} for one, numbers in grids]
        if len(found) > 1:
            beside = free(options.out / f"{path.stem}.methods.png")
            write_file(beside, png(side_by_side(found)))
            say(f"  {beside}")
            pictures.insert(0, Picture(beside.read_bytes(), "the methods side by side", ""))
        text = "Above each map stands what it shows, how it was checked, and how it fared against chance."
        sections.append(Section(said, text, pictures))
    page = free(options.out / f"{read[0][0].stem}.html")
    write_file(page, page_of(options, sections, len(read)).html())
    say(f"page: {page}")
    return {"explained": written, "page": str(page)}


def queries_of(model: Classifier, images: torch.Tensor, path: Path, options: "Options") -> list[tuple[Path, Path]]:
    """What patches all over the image read, in each layer and head asked for: the picture and its numbers."""
    written = []
    for layer, head in product(options.layer or (-1,), options.head or (None,)):
        grid = query_grid(model, images, layer=layer, head=head)
        picture = grid.save(free(options.out / f"{path.stem}.queries.png"))
        written.append((picture, grid.save(free(picture.with_suffix(".npz")))))
        say(f"{path.name}. {grid.caption}\n  {picture}")
    return written


def summary(maps: Maps) -> str:
    """The largest value and where it is, and what no place in the image shows."""
    layer, head, row, column = np.unravel_index(int(np.abs(maps.values[0]).argmax()), maps.values[0].shape)
    where = f"row {row}, column {column}"
    if maps.values.shape[1:3] != (1, 1) or maps.method == "attention":
        where += f"; {maps.layers[layer]}, head {maps.heads[head]}"
    kept = ""
    if mass := float(maps.prefix_mass.mean()):
        own = f"CLS keeps {mass:.0%} of its attention for itself. "
        alone = maps.reader == "CLS" and maps.prefix == "CLS"
        kept = (
            own if alone else f"{mass:.0%} goes to CLS. " if maps.prefix == "CLS" else f"{mass:.0%} is not on patches. "
        )
    unit = "times uniform" if maps.unit == "times uniform" else maps.unit
    return f"{kept}The most a patch gets is {maps.values[0, layer, head, row, column]:.1f} {unit} ({where})."


def record(path: Path, answer: str, picture: Path, numbers: Path, maps: Maps, tested: Trust) -> dict[str, Any]:
    return {
        "image": str(path),
        "class": answer,
        "method": maps.method,
        "picture": str(picture),
        "numbers": str(numbers),
        "prefix_mass": float(maps.prefix_mass.mean()),
        "largest": float(maps.values.max()),
        "residual": maps.residual,
        "deletion": tested.area,
        "deletion_by_chance": list(tested.by_chance),
        "better_than_chance": tested.better_than_chance,
        "on_outliers": tested.on_outliers,
    }


def page_of(options: "Options", sections: list[Section], count: int) -> Page:
    words = f"--method {' '.join(options.method)}" if options.method else ""
    origin = provenance()
    return Page(
        title=f"vitral explain {options.model}",
        headline="Where it looks" if count == 1 else f"Where it looks, in {count} images",
        detail="Each map was checked against the model, and tested against chance.",
        facts={"methods": ", ".join(options.method) or "attention", "images": str(count)},
        sections=sections,
        settings={"model": options.model, "target": options.target or "the model's answer"} | origin["versions"],
        commands=[
            (f"vitral explain {options.model} IMAGE --method attention chefer occlusion", "methods side by side"),
            (f"vitral explain {options.model} --data cued --score", "all methods against their controls"),
        ],
        repeat=f"vitral explain {options.model} {' '.join(map(str, options.images))} {words}".strip(),
    )


def query_of(text: str | None) -> Query:
    """`0` -> token 0, `3,4` -> the patch in row 3, column 4."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    raise UsageError(
        f"--query {text!r} is neither a token's number, as in 0 for CLS, nor a patch's row and column, as 3,4, "
        "nor grid."
    )


def class_of(text: str | None, model: Classifier) -> int | None:
    """A class by name or number. Raises `UnknownName`."""
    if text is None or text in model.classes:
        return None if text is None else model.classes.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(model.classes):
        return int(text)
    raise UnknownName(
        f"There is no class {text!r}.{nearest(text, model.classes)} The model has {len(model.classes)}: "
        f"{', '.join(model.classes[:20])}{', ...' if len(model.classes) > 20 else ''}."
    )
