"""Gather what a run's report shows, and write it."""

import shlex
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from vitral import explain
from vitral.base.errors import UsageError, WatchError
from vitral.base.files import write_file
from vitral.base.provenance import provenance
from vitral.data.dataset import Dataset
from vitral.data.preprocess import normalise
from vitral.explain.film import Film
from vitral.nn.vit import VisionTransformer
from vitral.nn.zoo import build
from vitral.report.attention import attention_figure
from vitral.report.confusion import confusion_figure
from vitral.report.curves import curves_figure
from vitral.report.film import animation, film_frames, still
from vitral.report.mistakes import mistakes_figure
from vitral.report.page import Page, Picture, Section
from vitral.report.positions import positions_figure
from vitral.report.style import png
from vitral.report.tokens import tokens_figure
from vitral.store.classifier import Classifier
from vitral.training.metrics import Predictions, interval
from vitral.training.recipe import Recipe, preset
from vitral.training.run import Run
from vitral.weights.load import is_published, told

WORST = 7


def write_report(
    run: Run, recipe: Recipe, model: Classifier, data: Dataset, test: Predictions, film: Film | None
) -> Path:
    """Write `report.html`, and the film as `film.webp`, into the run's folder; the report's path."""
    records = run.records()
    low, high = interval(test.accuracy, len(test.labels))
    seconds = next((record["seconds"] for record in reversed(records) if "seconds" in record), 0.0)
    frames = []
    if film:
        accuracies = [accuracy_at(records, step) for step in film.steps]
        pictures = film_frames(film.pixels, np.stack(film.frames), film.steps, accuracies)
        write_file(run.folder / "film.webp", animation(pictures))
        frames = [(still(picture), f"step {step:,}") for picture, step in zip(pictures, film.steps)]
    origin = provenance()
    run_name, data_name = shlex.quote(str(run.folder)), shlex.quote(recipe.data)
    page = Page(
        title=f"{recipe.model} on {recipe.data}",
        headline=f"{test.accuracy:.1%} right",
        detail=(
            f"on {len(test.labels):,} test images that it never saw "
            f"(95 % interval {low:.1%} to {high:.1%}; chance {1 / len(data.classes):.1%})."
        ),
        facts={
            "classes": f"{len(data.classes)}",
            "training images": f"{len(data.train):,}",
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "steps": f"{records[-1]['step']:,}",
            "training time": f"{seconds:.0f} s",
            "processor": str(origin["machine"]["cpu"]),
        },
        sections=[
            *tokens_section(model, data),
            learning(records, data),
            Section(
                "Which shapes are taken for which"
                if recipe.data.partition(":")[0] == "shapes"
                else "Which classes are taken for which",
                "A row a true class, a column the model's answer; colours by the share of the row.",
                [
                    Picture(
                        png(confusion_figure(test.confusion, data.classes)), "confusion matrix of the test images", ""
                    )
                ],
            ),
            *attention_sections(model, data, test),
            *positions_section(model, recipe.seed),
        ],
        settings=asdict(recipe) | {"run": str(run.folder)} | flat(origin),
        commands=[
            (f"vitral explain {run_name} IMAGE", "which patches CLS looks at in a picture of yours"),
            (f"vitral predict {run_name} IMAGE", "class names and probabilities"),
            (f"vitral eval {run_name}", "the test split again, class by class"),
            (f"vitral data {data_name}", "a contact sheet of the images"),
        ],
        repeat=command(recipe),
        film=frames,
    )
    path = run.folder / "report.html"
    write_file(path, page.html())
    return path


def command(recipe: Recipe) -> str:
    """The shortest command that gives the same settings."""
    init = recipe.init
    start = asdict(Recipe(**preset(recipe.data, init, init is not None and is_published(told(init)[0]))))
    given = {name: value for name, value in asdict(recipe).items() if value != start[name]}
    first = [] if recipe.data == "shapes" else ["--data", recipe.data]
    first += [] if init is None else ["--init", init]
    words = [*first, *(word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value)))]
    return shlex.join(["vitral", "train", *words])


def accuracy_at(records: list[dict[str, float]], step: int) -> float | None:
    """Validation accuracy as last measured at or before a step."""
    known = [record["accuracy"] for record in records if "best" in record and record["step"] <= step]
    return known[-1] if known else None


def flat(record: dict[str, object], prefix: str = "") -> dict[str, object]:
    """A record of records as one, its keys joined by spaces."""
    rows: dict[str, object] = {}
    for key, value in record.items():
        rows |= flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows


def tokens_section(model: Classifier, data: Dataset) -> list[Section]:
    if not isinstance(model, VisionTransformer):
        return []
    config = model.config
    drawn = tokens_figure(data.test.pixels[0], config["patch_size"], model.num_prefix_tokens, config["embed_dim"])
    text = (
        "A transformer reads a sequence. The image is cut into patches, each patch is mapped to a token by the same "
        "linear map, the learned CLS token is put in front, and every token gets the learned embedding of its position."
    )
    return [
        Section(
            "How an image becomes a sequence",
            text,
            [Picture(png(drawn), "an image, its patches, and the sequence of tokens", "")],
        )
    ]


def learning(records: list[dict[str, float]], data: Dataset) -> Section:
    rates = [record["images_per_second"] for record in records if "images_per_second" in record]
    waits = [record["waiting"] for record in records if "waiting" in record]
    text = (
        f"{np.median(rates):,.0f} images a second (median), {np.median(waits):.0%} of the time spent waiting for data."
        if rates
        else "Only the head was fitted, by a linear probe."
    )
    return Section(
        "How it learned",
        text,
        [Picture(png(curves_figure(records, len(data.classes))), "loss and accuracy over the steps", "")],
    )


def attention_sections(model: Classifier, data: Dataset, test: Predictions) -> list[Section]:
    right, wrong = examples(test)
    chosen = [*right[:2], *wrong[:2]]
    pixels = data.test.pixels
    try:
        maps = explain.attention(model, normalise(torch.from_numpy(pixels[chosen]), model.preprocessing))
        worst = (
            explain.attention(model, normalise(torch.from_numpy(pixels[wrong]), model.preprocessing))
            if len(wrong)
            else None
        )
    except (WatchError, UsageError) as error:
        return [Section("Attention", f"No attention maps: {error}"), *mistakes(data, test, wrong, None)]
    pictures = []
    for place, index in enumerate(chosen):
        truth, answer = data.classes[test.labels[index]], data.classes[test.answers[index]]
        verdict = f"right: {truth}" if truth == answer else f"wrong: a {truth}, taken for a {answer}"
        drawn = attention_figure(
            maps.pixels[place],
            maps.values[place],
            maps.prefix_mass[place],
            maps.layers,
            maps.heads,
            f"{verdict}, with probability {test.probabilities[index].max():.0%}",
            maps.prefix,
        )
        alt = f"attention of {maps.reader} in every block and head, {verdict}"
        pictures.append(Picture(png(drawn, 110), alt, ""))
    kept = {"CLS": "Under each panel, the share that CLS keeps for itself. ", "": ""}
    under = kept.get(
        maps.prefix, "Under each panel, the share that goes to CLS and the other tokens before the patches. "
    )
    text = (
        "A row a block, a column a head, one scale for all panels of an image: 1× is uniform attention. "
        f"{under}{maps.caption}"
    )
    return [
        Section(f"What {maps.reader} attends to, block by block and head by head", text, pictures),
        *mistakes(data, test, wrong, worst.values if worst else None),
    ]


def mistakes(data: Dataset, test: Predictions, wrong: np.ndarray, maps: np.ndarray | None) -> list[Section]:
    count = int((test.answers != test.labels).sum())
    if not count:
        return [Section("The worst mistakes", f"None: all {len(test.labels):,} test images were answered right.")]
    titles = [
        f"{data.classes[test.labels[i]]} → {data.classes[test.answers[i]]}\n{test.probabilities[i].max():.0%} sure"
        for i in wrong
    ]
    last = maps[:, -1].mean(axis=1) if maps is not None else None
    drawn = mistakes_figure(data.test.pixels[wrong], titles, last)
    text = (
        f"{count:,} of {len(test.labels):,} were answered wrong. "
        "These are the ones the model was surest of: truth → answer."
    )
    return [Section("The worst mistakes", text, [Picture(png(drawn), f"{len(wrong)} wrongly answered images", "")])]


def examples(test: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Of the test images answered right, the surest of each class; and those answered wrong, surest first."""
    sure = np.argsort(-test.probabilities.max(axis=1), kind="stable")
    correct = test.answers == test.labels
    right = sure[correct[sure]]
    different = [int(right[test.labels[right] == label][0]) for label in dict.fromkeys(test.labels[right].tolist())]
    return np.array(different, dtype=int), sure[~correct[sure]][:WORST]


def positions_section(model: Classifier, seed: int) -> list[Section]:
    if not isinstance(model, VisionTransformer) or model.pos_embed is None:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = build(model.config)
    grids = [
        m.state_dict()["pos_embed"].cpu()[0, model.num_prefix_tokens :].unflatten(0, model.grid).numpy()
        for m in (model, untrained)
    ]
    text = (
        "Positions are learned, a row for each place in the sequence; nothing says that the sequence was a grid. A "
        "panel is a patch: how alike its position is to every other's, the mean position taken out. Structure that is "
        "there before training comes from how the table starts, not from learning."
    )
    drawn = positions_figure(*grids)
    return [
        Section(
            "What the position embeddings know",
            text,
            [Picture(png(drawn), "cosine similarity of position embeddings, before and after training", "")],
        )
    ]
