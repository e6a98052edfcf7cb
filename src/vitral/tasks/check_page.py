"""The page of `vitral data check`: findings, with pictures of what they are about."""

import shlex
from collections.abc import Sequence

import numpy as np

from vitral.base.provenance import provenance
from vitral.data.copies import PREFERRED, Copies
from vitral.data.dataset import Dataset
from vitral.data.inspection.checks import Finding, Inspected
from vitral.report.data_check import class_sizes_figure, copies_figure, image_sizes_figure
from vitral.report.page import Page, Picture, Section
from vitral.report.style import png

LISTED = 30  # files of a finding on the page
PAIRS = 6  # copies that are shown
LEVELS = {"must": "to mend before training", "should": "to look at", "note": "good to know"}


def check_page(data: str, verdict: str, found: Sequence[Finding], inspected: Inspected) -> Page:
    """One section per finding, the most important first."""
    name = shlex.quote(data)
    dataset = inspected.data
    return Page(
        title=f"{data}, checked",
        headline=verdict,
        detail="What vitral train would read in this folder, before anything is trained.",
        facts={
            "images": f"{len(inspected.facts):,}",
            "cannot be read": f"{len(inspected.unreadable):,}",
            "groups of copies": f"{len(inspected.copies):,}",
        }
        | ({"classes": f"{len(dataset.classes)}"} if dataset else {}),
        sections=[*map(section, found), *pictures(inspected)],
        settings=provenance(),
        commands=[
            (f"vitral data show {name}", "a contact sheet of the images"),
            (f"vitral train --data {name}", "train a model on them"),
        ],
        repeat=f"vitral data check {name}",
    )


def section(one: Finding) -> Section:
    more = [f"and {len(one.files) - LISTED} more"] if len(one.files) > LISTED else []
    text = " ".join(filter(None, (one.text, one.advice)))
    return Section(f"{one.title} ({LEVELS[one.level]})", text, items=(*one.files[:LISTED], *more))


def pictures(inspected: Inspected) -> list[Section]:
    """The sizes of classes and of images, and some copies side by side."""
    sections = []
    if inspected.data is not None and inspected.data.task == "one class":
        counts = {
            split: np.bincount(getattr(inspected.data, split).labels, minlength=len(inspected.data.classes))
            for split in ("train", "val", "test")
        }
        alt = "; ".join(
            f"{name}: {', '.join(f'{own[index]} {split}' for split, own in counts.items())}"
            for index, name in enumerate(inspected.data.classes)
        )
        figure = class_sizes_figure(counts, inspected.data.classes)
        sections.append(Section("Images per class", "", [Picture(png(figure), alt)]))
    if len({(one.width, one.height) for one in inspected.facts}) > 1:
        sizes = np.array([(one.width, one.height) for one in inspected.facts])
        window = inspected.data.preprocessing.size if inspected.data else None
        alt = f"Width and height of {len(sizes):,} images."
        sections.append(Section("Sizes of images", "", [Picture(png(image_sizes_figure(sizes, window)), alt)]))
    if inspected.data is not None and inspected.copies:
        sections.append(copies_section(inspected.data, inspected.copies))
    return sections


def copies_section(data: Dataset, copies: Sequence[Copies]) -> Section:
    splits = {name: getattr(data, name) for name in PREFERRED}
    pairs = [(one.members[-1], one.members[0]) for one in copies[:PAIRS]]
    shown = [[splits[member.split].pixels[member.index] for member in pair] for pair in pairs]
    titles = [[f"{member.split}: {member.file}" for member in pair] for pair in pairs]
    alt = "; ".join(" and ".join(names) for names in titles)
    return Section("Copies, side by side", "", [Picture(png(copies_figure(shown, titles)), alt)])
