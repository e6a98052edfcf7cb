"""`vitral explain MODEL IMAGES`: pictures, numbers and a page."""

import shlex
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitral.base.config import options as settings
from vitral.base.errors import UnknownName, UsageError, WatchError
from vitral.base.files import free, write_file
from vitral.base.lookup import find, nearest
from vitral.base.provenance import provenance
from vitral.cli import say
from vitral.cli._images import read_images
from vitral.data.preprocess import normalise
from vitral.explain.entry import explain_observed
from vitral.explain.maps import Maps, class_name, side_by_side
from vitral.explain.observation import Need, Observation, observe
from vitral.explain.query_maps import QueryGrid, query_maps
from vitral.explain.trust import Trials, Trust, with_trust
from vitral.recording.queries import Query
from vitral.report.page import Page, Picture, Section
from vitral.report.style import png
from vitral.store.classifier import Classifier

if TYPE_CHECKING:
    from vitral.cli.explain import Options


def explained(model: Classifier, options: "Options") -> dict[str, Any]:
    read = read_images(options.images, model.preprocessing, options.on_bad_image)
    target = class_of(options.target, model)
    written: list[dict[str, Any]] = []
    sections: list[Section] = []
    refused: dict[str, str] = {}
    for path, image in read:
        images = normalise(torch.from_numpy(np.stack([image])), model.preprocessing)
        observation = observe(model, images, needs_of(options))
        found, reasons = maps_of(observation, target, options)
        grids = grids_of(observation, options)
        refused |= reasons
        trials = Trials(observation)
        answer, said = answered(model, trials)
        said = f"{path.name}: {said}"
        say(f"{path.name}: testing {len(found)} map{'s' * (len(found) > 1)} against random orders of its patches")
        pictures, shown = [], []
        for plain in found:
            (trust,) = trials.trust(plain)
            maps = with_trust(plain, [trust])
            picture = maps.save(free(options.out / f"{path.stem}.{maps.method}.png"))
            numbers = maps.save(free(picture.with_suffix(".npz")))
            shown.append(maps)
            pictures.append(Picture(picture.read_bytes(), f"{maps.method} of {path.name}", ""))
            say(f"{said}. {summary(maps)}\n  {maps.caption}\n  {trust.sentence}\n  {picture}")
            written.append(record(path, answer, picture, numbers, maps, trust))
        for grid in grids:
            picture = grid.save(free(options.out / f"{path.stem}.queries.{named(grid)}.png"))
            numbers = grid.save(free(picture.with_suffix(".npz")))
            pictures.append(Picture(picture.read_bytes(), f"what patches of {path.name} read, {named(grid)}", ""))
            say(f"{path.name}. {grid.caption_of(0)}\n  {picture}")
            written.append(
                {"image": str(path), "picture": str(picture), "numbers": str(numbers)}
                | {"layer": grid.layer, "head": grid.head}
            )
        if len(shown) > 1:
            beside = free(options.out / f"{path.stem}.methods.png")
            write_file(beside, png(side_by_side(shown)))
            say(f"  {beside}")
            pictures.insert(0, Picture(beside.read_bytes(), "the methods side by side", ""))
        for method, reason in reasons.items():
            say(f"  {method} was left out: {reason}")
        sections.append(Section(said, told(model, target, answer, reasons), pictures))
    page = free(options.out / f"{read[0][0].stem}.html")
    write_file(page, page_of(options, sections, len(read)).html())
    say(f"page: {page}")
    return {"explained": written, "refused": refused, "page": str(page)}


def needs_of(options: "Options") -> set[Need]:
    """What the methods, the grids of queries and the test against chance need an observation to record."""
    needs: set[Need] = {"feature maps"}  # the test looks for outlier tokens in them
    for method in options.method or ("attention",):
        needs |= find("explain.methods", method, "method").needs
    return needs | {"attention"} if options.query == "grid" else needs


def maps_of(observation: Observation, target: int | None, options: "Options") -> tuple[list[Maps], dict[str, str]]:
    """What each method gives, and of those that cannot explain the model the reason.

    Raises it if there is no other, or if it may be about the layer, head or token that was asked for.
    """
    found: list[Maps] = []
    errors: dict[str, WatchError | UsageError] = {}
    for method in options.method or ("attention",):
        choices: dict[str, Any] = {}
        if method == "attention":
            query = None if options.query == "grid" else query_of(options.query)
            choices = {"layers": options.layer or None, "heads": options.head or None, "query": query}
        try:
            found.append(explain_observed(find("explain.methods", method, "method"), observation, target, **choices))
        except (WatchError, UsageError) as error:
            if any(choice is not None for choice in choices.values()):
                raise
            errors[method] = error
    if not found:
        raise next(iter(errors.values()))
    return found, {method: str(error) for method, error in errors.items()}


def grids_of(observation: Observation, options: "Options") -> list[QueryGrid]:
    """What patches all over the image read, in each layer and head asked for."""
    if options.query != "grid":
        return []
    asked = product(options.layer or (-1,), options.head or (None,))
    return [query_maps(observation, layer=layer, head=head) for layer, head in asked]


def named(grid: QueryGrid) -> str:
    """Its layer and head, for the name of a file."""
    return grid.layer if grid.head is None else f"{grid.layer}.head-{grid.head}"


def answered(model: Classifier, trials: Trials) -> tuple[str | None, str]:
    """The model's answer for the one image, and with its probability in words; none of a model without classes."""
    if trials.probabilities is None:
        return None, "the model scores no classes"
    index = int(trials.probabilities[0].argmax())
    name = class_name(model, index)
    return name, f"{name} ({trials.probabilities[0, index]:.1%})"


def told(model: Classifier, target: int | None, answer: str | None, refused: dict[str, str]) -> str:
    """The paragraph above the pictures of an image."""
    text = ["Above each map stands what it shows, how it was checked, and how it fared against chance."]
    if answer is None:
        text.append("There is no answer to name, since the model scores no classes; so no map was tested.")
    if target is not None:
        text.append(f"Methods that know classes explain {class_name(model, target)}, as was asked.")
    return " ".join(text + [f"{method} was left out: {reason}" for method, reason in refused.items()])


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


def record(path: Path, answer: str | None, picture: Path, numbers: Path, maps: Maps, tested: Trust) -> dict[str, Any]:
    return {
        "image": str(path),
        "class": answer,
        "method": maps.method,
        "target": maps.class_names[0] if maps.class_names else None,
        "picture": str(picture),
        "numbers": str(numbers),
        "prefix_mass": float(maps.prefix_mass.mean()),
        "largest": float(maps.values.max()),
        "residual": maps.residual,
        "verdict": tested.verdict,
        "why_untested": tested.untested or None,
        "p": None if tested.untested else tested.p,
        "deletion": None if tested.untested else tested.area,
        "deletion_by_chance": list(tested.by_chance),
        "better_than_chance": tested.better_than_chance,
        "on_outliers": tested.on_outliers,
    }


def page_of(options: "Options", sections: list[Section], count: int) -> Page:
    origin, model = provenance(), shlex.quote(options.model)
    return Page(
        title=f"vitral explain {options.model}",
        headline="Where it looks" if count == 1 else f"Where it looks, in {count} images",
        detail="Each map says how it was checked, and whether this one image tells it from chance.",
        facts={"methods": ", ".join(options.method) or "attention", "images": str(count)},
        sections=sections,
        settings={"model": options.model, "target": options.target or "the model's answer"} | origin["versions"],
        commands=[
            (f"vitral explain {model} IMAGE --method attention chefer occlusion", "methods side by side"),
            (f"vitral explain {model} --data cued --score", "all methods against their controls"),
        ],
        repeat=command(options),
    )


def command(options: "Options") -> str:
    """The command that makes the same page again: every option that is not as by default, but how to print."""
    words, more = [], []
    defaults = {field.name: field.default for field in fields(options)}
    for name, (_, option) in settings(type(options)).items():
        value = getattr(options, name)
        values = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
        if option.positional:
            words += values
        elif value != defaults[name] and name != "json":
            more += [f"--{name.replace('_', '-')}", *values]
    return shlex.join(["vitral", "explain", *words, *more])


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
    if not model.classes:
        raise UsageError(f"--target {text}: the model has no classes. Leave --target out.")
    raise UnknownName(
        f"There is no class {text!r}.{nearest(text, model.classes)} The model has {len(model.classes)}: "
        f"{', '.join(model.classes[:20])}{', ...' if len(model.classes) > 20 else ''}."
    )
