"""Station 1: `patchify`."""

import torch
from torch import nn

from vitral.lab.graft import PatchesBy
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station


def drawn(inspection: Inspection) -> tuple[torch.Tensor, int]:
    """Images that are not square, of more than one patch each way, and their patch size."""
    patch, rows, columns = inspection.integer(2, 4), inspection.integer(2, 3), inspection.integer(4, 5)
    return inspection.normal(2, 3, rows * patch, columns * patch), patch


def observe(inspection: Inspection) -> None:
    images, patch = drawn(inspection)
    inspection.ask("patchify", images, patch)
    inspection.ask("patchify", inspection.normal(1, 1, 4, 4), 2)


def first_patch(inspection: Inspection) -> Pair:
    images, patch = drawn(inspection)
    return inspection.ask("patchify", images, patch)[:, 0], images[:, :, :patch, :patch].flatten(1)


def second_patch(inspection: Inspection) -> Pair:
    images, patch = drawn(inspection)
    return inspection.ask("patchify", images, patch)[:, 1], images[:, :, :patch, patch : 2 * patch].flatten(1)


def nothing_lost(inspection: Inspection) -> Pair:
    images, patch = drawn(inspection)
    patches = inspection.ask("patchify", images, patch)
    return patches.flatten(1).sort().values, images.flatten(1).sort().values


def each_by_itself(inspection: Inspection) -> Pair:
    images, patch = drawn(inspection)
    return inspection.ask("patchify", images, patch)[1:], inspection.ask("patchify", images[1:], patch)


def graft(model: nn.Module, answer: object) -> nn.Module:
    model.patch_embed = PatchesBy(answer.patchify, model.patch_embed)  # type: ignore[attr-defined]
    return model


patchify = Station(
    name="patchify",
    number=1,
    title="An image becomes a sequence",
    minutes=15,
    difficulty=2,
    prediction=Prediction("b", "48 / 4 = 12 patches a side, 144 in all: half the side is four times as many tokens."),
    hints=(
        "Height is rows of patches times rows in a patch. Split both sides of the image that way first: six axes.",
        "The axes are now b, c, gy, p, gx, q. A patch is (c, p, q), and the sequence is (gy, gx): bring them to "
        "(b, gy, gx, c, p, q) before anything is joined.",
        'With einops it is one line, whose left side is "b c (gy p) (gx q)"; by hand reshape, permute, reshape.',
    ),
    observe=observe,
    laws=(
        Law("Each image of a batch is cut as if it were alone.", each_by_itself),
        Law("No number is lost, doubled or changed.", nothing_lost),
        Law("The first patch is the corner at the top left: channel by channel, each row by row.", first_patch),
        Law("The second patch is to the right of the first.", second_patch),
    ),
    graft=graft,
)
