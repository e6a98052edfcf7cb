"""The report of a training run: one page with its result, its film, what it attends to and what it gets wrong.

Axes:  n images   m chosen images
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.colors import Normalize

from vitral import explain
from vitral.base.answer import Figures, answer_for
from vitral.base.answers.one_class import ClassFigures
from vitral.base.errors import UsageError, WatchError
from vitral.base.files import write_file
from vitral.base.likely_mislabels import LOOK_AT
from vitral.base.provenance import provenance
from vitral.data.class_names import describe_classes, missing_classes
from vitral.data.dataset import Dataset
from vitral.data.preprocess import normalise
from vitral.data.split_table import SplitName
from vitral.explain.film import Film
from vitral.explain.maps import Maps
from vitral.nn.families import build
from vitral.nn.family.position import NoPosition, PatchPosition
from vitral.nn.vit import VisionTransformer
from vitral.report.colours import UNIFORM, colour_scale, describe_scales
from vitral.report.film import animation, film_frames, still
from vitral.report.maps import mistakes_figure
from vitral.report.page import Page, Picture, Section
from vitral.report.similarity import cosine_similarity, similarity_figure, similarity_of_neighbours
from vitral.report.style import png
from vitral.report.training import curves_figure, tokens_figure
from vitral.store.classifier import Classifier
from vitral.tasks.calibration_section import calibration_sections
from vitral.tasks.how_to_explain import how_to_explain
from vitral.tasks.result_section import WORST, ResultSections, ShowsMasks, result_sections_for
from vitral.tasks.time_use import time_section
from vitral.training.recipe import Recipe
from vitral.training.run import REPORT, Run

SHOWN = 2  # images predicted correctly, and as many mistakes, whose every head is shown
LISTED = 30  # labels to look at
MASS = {
    "CLS": "Below each panel: the share of attention that CLS keeps for itself. ",
    "": "",  # no token before the patches
}
ONE: dict[SplitName, str] = {"test": "test image", "val": "validation image"}
JUDGED: dict[SplitName, str] = {
    "test": "test images, which were not trained on",
    "val": "validation images, by which the best model was chosen, so that the figure is somewhat too good",
}


def write_report(
    run: Run,
    recipe: Recipe,
    defaults: Mapping[str, Any],
    model: Classifier,
    data: Dataset,
    test: Figures,
    film: Film | None,
) -> Path:
    """Write `report.html`, and the film as `film.webp`, into the run's folder; the report's path.

    `defaults` are the settings of this data that the command to repeat the run leaves out.
    """
    records = run.records()
    seconds = next((record["seconds"] for record in reversed(records) if "seconds" in record), 0.0)
    origin = provenance()
    run_name, data_name = shlex.quote(str(run.path)), shlex.quote(recipe.data)
    results, explained = result_sections_for(data.task), how_to_explain(model, data)
    norm, examples = example_sections(model, data, test, results, film)
    page = Page(
        title=f"{recipe.model} on {recipe.data}",
        headline=test.headline(data.classes),
        detail=results.detail(test, data.classes, JUDGED[data.judged]),
        facts={
            "numbers" if data.task == "numbers" else "classes": f"{len(data.classes)}",
            "training images": f"{len(data.train):,}",
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "steps": f"{records[-1]['step']:,}",
            "training time": f"{seconds:.0f} s",
            "processor": str(origin["machine"]["cpu"]),
        },
        sections=[
            *tokens_section(model, data),
            learning_section(records, data, results, recipe),
            *time_section(records, min(recipe.batch_size, len(data.train))),
            *results.sections(test, data.classes),
            *calibration_sections(test, model.record.calibration, data.judged),
            *examples,
            *positions_section(model, recipe.seed),
        ],
        settings=asdict(recipe) | {"run": str(run.path)} | flat(origin),
        commands=[
            (f"vitral explain {run_name} IMAGE{explained.option}", explained.words),
            (f"vitral predict {run_name} IMAGE", "what the model answers"),
            (
                f"vitral eval {run_name}{'' if data.judged == 'test' else ' --split val'}",
                "these figures again, class by class",
            ),
            (f"vitral data show {data_name}", "a contact sheet of the images"),
        ],
        repeat=repeat_command(recipe, defaults),
        film=write_film(film, run, records, norm) if film else [],
        film_images=describe_film_images(film, data) if film else "",
    )
    path = run.path / REPORT
    write_file(path, page.html())
    return path


def example_sections(
    model: Classifier, data: Dataset, test: Figures, results: ResultSections, film: Film | None
) -> tuple[Normalize, list[Section]]:
    """What the model does with some judged images; and the one colour scale of the film and all maps."""
    films = film.frames if film else []
    if isinstance(results, ShowsMasks):
        return colour_scale(UNIFORM, films), results.masks(
            model, data.judged_images, ONE[data.judged], test, data.classes
        )
    right, wrong = results.examples(test)
    shown = np.array([*right[:SHOWN], *wrong], dtype=int)
    maps = find_attention(model, data, shown)
    norm = colour_scale(UNIFORM, [*([maps.values] if isinstance(maps, Maps) else []), *films])
    sections = attention_sections(maps, shown, len(right[:SHOWN]), data, test, norm)
    return norm, [*sections, *mislabels_sections(model, data, test, norm)]


def mislabels_sections(model: Classifier, data: Dataset, test: Figures, norm: Normalize) -> list[Section]:
    """Images whose label is likely wrong, with their maps, as a list to look at; nothing if there are none."""
    if not isinstance(test, ClassFigures) or not test.mislabels:
        return []
    images, names, found = data.judged_images, data.classes, test.mislabels
    shown = np.array([one.index for one in found[:WORST]])
    titles = [
        f"labelled {names[one.label]} {one.own:.0%}\n{names[one.suggested]}? {one.probability:.0%}"
        for one in found[:WORST]
    ]
    maps = find_attention(model, data, shown)
    merged = maps.merged if isinstance(maps, Maps) else None
    label = f"{maps.reader}, {maps.layers[-1]}" if isinstance(maps, Maps) else ""
    figure = mistakes_figure(images.pixels[shown], titles, merged, norm, label)
    wrong = int((test.answers != test.labels).sum())
    text = (
        f"{LOOK_AT} It answers {wrong:,} of these {len(images):,} {ONE[data.judged]}s wrongly, and for {len(found):,} "
        "the probability of another class is at least as high as that class has on average in its own images "
        "(Northcutt et al. 2021)."
    )
    items = tuple(
        f"{images.image_name(one.index)}: labelled {names[one.label]}, perhaps {names[one.suggested]} "
        f"({one.probability:.0%})"
        for one in found[:LISTED]
    )
    more = f" The list has the first {LISTED}; vitral eval --json has all." if len(found) > LISTED else ""
    alt = (
        f"{len(shown)} images whose labels should be looked at: {'; '.join(t.replace(chr(10), ', ') for t in titles)}."
    )
    return [Section("Labels to look at", f"{text}{more}", [Picture(png(figure), alt)], items)]


def repeat_command(recipe: Recipe, defaults: Mapping[str, Any]) -> str:
    """The shortest command that gives the same settings."""
    start = asdict(Recipe(**defaults))
    given: dict[str, Any] = {} if recipe.data == "shapes" else {"data": recipe.data}
    given |= {} if recipe.init is None else {"init": recipe.init}
    given |= {name: value for name, value in asdict(recipe).items() if value != start[name]}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["vitral", "train", *words])


def write_film(film: Film, run: Run, records: list[dict[str, Any]], norm: Normalize) -> list[tuple[bytes, str]]:
    """Write `film.webp`; a still of each frame with its step, for the page."""
    accuracies = [measured_at(records, step) for step in film.steps]
    pictures = film_frames(film.pixels, np.stack(film.frames), film.steps, accuracies, norm)
    write_file(run.path / "film.webp", animation(pictures))
    return [(still(picture), f"step {step:,}") for picture, step in zip(pictures, film.steps)]


def describe_film_images(film: Film, data: Dataset) -> str:
    """How many of the validation images the film shows, and of how many classes if there are any."""
    count, total = len(film.pixels), len(data.val)
    text = f"The same {count} validation images"
    if count < total:
        text = f"The same {count} of {total:,} validation images, chosen at random"
    # The film of a run that an older version began may show others; then their classes are not known.
    if not np.array_equal(film.pixels, data.val.pixels[:count]):
        return f"The same {count} validation images"
    if data.task == "numbers":
        return text
    missing = missing_classes(data.val.labels[:count], data.classes)
    return f"{text}, of {describe_classes(len(data.classes) - len(missing), missing)}"


def measured_at(records: list[dict[str, Any]], step: int) -> float | None:
    """Validation accuracy as last measured at or before a step; None for other tasks."""
    measured = [record["accuracy"] for record in records if "accuracy" in record and record["step"] <= step]
    return measured[-1] if measured else None


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested record as one level, its keys joined by spaces."""
    rows: dict[str, Any] = {}
    for key, value in record.items():
        rows |= flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows


def tokens_section(model: Classifier, data: Dataset) -> list[Section]:
    """How an image becomes tokens, for one of Vitral's own ViTs."""
    if not isinstance(model, VisionTransformer):
        return []
    config = model.config
    figure = tokens_figure(
        data.judged_images.pixels[0], config["patch_size"], model.num_prefix_tokens, config["embed_dim"]
    )
    steps = ["the image is cut into patches", "one linear layer maps every patch to a token"]
    if model.cls_token is not None:
        steps.append("the learned class token is put in front")
    if not isinstance(model.position, NoPosition):
        which = "the token of each patch" if isinstance(model.position, PatchPosition) else "each token"
        steps.append(f"the embedding of its position is added to {which}")
    text = f"A transformer takes a sequence: {', '.join(steps[:-1])}, and {steps[-1]}."
    rows, columns = model.grid
    image = ONE[data.judged].capitalize()
    alt = f"{image} 0, its {rows} rows and {columns} columns of patches, and the first tokens of the sequence."
    picture = Picture(png(figure), alt)
    return [Section("How an image becomes a sequence", text, [picture])]


def learning_section(records: list[dict[str, Any]], data: Dataset, results: ResultSections, recipe: Recipe) -> Section:
    """Loss and the task's figure over the steps."""
    text = "" if any("train_loss" in record for record in records) else "Only the head was fitted, by a linear probe."
    measure = answer_for(data.task).measure
    figure = curves_figure(records, measure, results.guess(data.classes))
    curves = Picture(png(figure), describe_curves(records, measure))
    note = loss_note(recipe) if data.task != "numbers" else ""
    return Section("How it learned", f"{text}{note}".strip(), [curves])


def loss_note(recipe: Recipe) -> str:
    """What is part of the loss that was trained with, and not of the validation loss beside it; empty if nothing is.

    >>> loss_note(Recipe(label_smoothing=0.1, class_weights="balanced"))
    ' The training loss includes label smoothing and class weights; the validation loss does not.'
    """
    parts = {
        "label smoothing": recipe.label_smoothing,
        "class weights": recipe.class_weights == "balanced",
        "the Dice loss": recipe.dice,
    }
    own = [name for name, is_used in parts.items() if is_used]
    return f" The training loss includes {' and '.join(own)}; the validation loss does not." if own else ""


def positions_section(model: Classifier, seed: int) -> list[Section]:
    """How alike the position embeddings are, beside those that the same model started from."""
    if not isinstance(model, VisionTransformer) or model.pos_embed is None:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = build(model.config)
    grids = {
        title: m.state_dict()["pos_embed"].cpu()[0, model.num_prefix_tokens :].unflatten(0, model.grid).numpy()
        for title, m in (("before training", untrained), ("after training", model))
    }
    tables = {title: cosine_similarity(grid) for title, grid in grids.items()}
    figure = similarity_figure(tables)
    text = (
        "Each position in the sequence has a learned embedding. The model gets no information that the sequence was "
        "a grid, unless the initial table is built from rows and columns. Each panel belongs to one patch and shows "
        "the cosine similarity of its embedding to every other, after the mean embedding is subtracted. Structure that "
        "is there before training comes from the initial table, not from learning. Grey is 0, orange is alike, blue is "
        "opposite."
    )
    neighbours = [f"{similarity_of_neighbours(table):.2f} {title}" for title, table in tables.items()]
    alt = (
        f"Cosine similarities of position embeddings. Those of neighbours in a row average {' and '.join(neighbours)}."
    )
    picture = Picture(png(figure), alt)
    return [Section("What the position embeddings have learned", text, [picture])]


def describe_curves(records: list[dict[str, Any]], measure: str) -> str:
    """Where the curves of validation begin and end, in words and numbers."""
    measured = [record for record in records if "best" in record]
    if not measured:
        return f"Loss and {measure} over the steps."
    first, last = measured[0], measured[-1]
    values = ["undefined" if (value := record[measure]) is None else f"{value:.3f}" for record in (first, last)]
    return (
        f"Loss and {measure} over the steps. On validation images the loss goes from {first['loss']:.2f} at step "
        f"{first['step']:,} to {last['loss']:.2f} at step {last['step']:,}, {measure} from {values[0]} to {values[1]}."
    )


def find_attention(model: Classifier, data: Dataset, shown: Int[np.ndarray, " m"]) -> Maps | str:
    """Attention of some judged images in every block and head, or why there is none."""
    try:
        return explain.attention(
            model, normalise(torch.from_numpy(data.judged_images.pixels[shown]), model.preprocessing)
        )
    except (WatchError, UsageError) as error:
        return str(error)


def attention_sections(
    maps: Maps | str, shown: Int[np.ndarray, " m"], num_right: int, data: Dataset, test: Figures, norm: Normalize
) -> list[Section]:
    """Attention in every block and head for a few images, and the mistakes with the highest probability.

    `shown` are the images that the maps are of: `num_right` with the right answer, then the mistakes.
    """
    wrong = shown[num_right:]
    if isinstance(maps, str):
        return [Section("Attention", f"No attention maps: {maps}"), mistakes_section(data, test, wrong)]
    text = (
        f"One row per block, one column per head. {describe_scales({UNIFORM: norm})} The film and all maps of this "
        "page have the same scale. Rows and columns of patches are counted from 0. "
        f"{MASS.get(maps.prefix, 'Below each panel: the share of attention on CLS and the other prefix tokens. ')}"
        f"{maps.caption}"
    )
    return [
        Section(
            f"What {maps.reader} attends to, block by block and head by head",
            text,
            [
                attention_picture(maps, place, int(shown[place]), data, test, norm)
                for place in range(min(len(shown), num_right + SHOWN))
            ],
        ),
        mistakes_section(data, test, wrong, maps.merged[num_right:], norm, f"{maps.reader}, {maps.layers[-1]}"),
    ]


def attention_picture(maps: Maps, place: int, index: int, data: Dataset, test: Figures, norm: Normalize) -> Picture:
    """All blocks and heads of one image: `place` among the maps, `index` among those that were judged."""
    verdict, more = result_sections_for(data.task).verdict(test, data.classes, index)
    name = f"{ONE[data.judged]} {data.judged_images.image_name(index)}"
    figure = maps.figure(place, {maps.unit: norm})
    return Picture(
        png(figure, 110), f"{maps.alt_text(place, name)} The answer is {verdict}.", f"{name}, {verdict}{more}"
    )


def mistakes_section(
    data: Dataset,
    test: Figures,
    wrong: Int[np.ndarray, " m"],
    maps: Float[np.ndarray, "m gy gx"] | None = None,
    norm: Normalize | None = None,
    label: str = "",
) -> Section:
    """The worst predictions, with their pictures and, if there are maps, what `label` says below each."""
    results = result_sections_for(data.task)
    count, text = results.mistakes(test, data.classes)
    if not count:
        return Section(
            "The worst mistakes", f"None: all {len(data.judged_images):,} {ONE[data.judged]}s were predicted correctly."
        )
    titles = [results.mistake(test, data.classes, int(index)) for index in wrong]
    figure = mistakes_figure(data.judged_images.pixels[wrong], titles, maps, norm, label)
    listed = "; ".join(title.replace("\n", ", ") for title in titles)
    files = f"From left to right: {', '.join(data.judged_images.image_name(int(index)) for index in wrong)}."
    picture = Picture(png(figure), f"{len(wrong)} images predicted wrongly: {listed}.", files)
    return Section("The worst mistakes", text, [picture])
