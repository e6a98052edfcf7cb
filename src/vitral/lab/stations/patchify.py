"""The tests of station 1: `patchify`."""

import torch
from torch import nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import PatchEmbeddingWith
from vitral.lab.station import Pair, RightPrediction, Station, law


def draw_inputs(recorder: Recorder) -> tuple[torch.Tensor, int]:
    """Return images that are not square, with more than one patch per side, and their patch size."""
    patch, rows, columns = recorder.integer(2, 4), recorder.integer(2, 3), recorder.integer(4, 5)
    return recorder.normal(2, 3, rows * patch, columns * patch), patch


def observe(recorder: Recorder) -> None:
    images, patch = draw_inputs(recorder)
    recorder.call("patchify", images, patch)
    recorder.call("patchify", recorder.normal(1, 1, 4, 4), 2)


@law()
def each_by_itself(recorder: Recorder) -> Pair:
    """Each image of a batch is cut as if it were alone."""
    images, patch = draw_inputs(recorder)
    return recorder.call("patchify", images, patch)[1:], recorder.call("patchify", images[1:], patch)


@law()
def nothing_lost(recorder: Recorder) -> Pair:
    """No number is lost, repeated or changed."""
    images, patch = draw_inputs(recorder)
    patches = recorder.call("patchify", images, patch)
    return patches.flatten(1).sort().values, images.flatten(1).sort().values


@law()
def first_patch(recorder: Recorder) -> Pair:
    """The first patch is the top left corner: channel by channel, each row by row."""
    images, patch = draw_inputs(recorder)
    return recorder.call("patchify", images, patch)[:, 0], images[:, :, :patch, :patch].flatten(1)


@law()
def second_patch(recorder: Recorder) -> Pair:
    """The second patch is to the right of the first."""
    images, patch = draw_inputs(recorder)
    return recorder.call("patchify", images, patch)[:, 1], images[:, :, :patch, patch : 2 * patch].flatten(1)


def insert(model: nn.Module, answer: object) -> nn.Module:
    model.patch_embed = PatchEmbeddingWith(answer.patchify, model.patch_embed)  # type: ignore[attr-defined]
    return model


patchify = Station(
    number=1,
    title="An image becomes a sequence",
    minutes=15,
    difficulty=2,
    prediction=RightPrediction(
        "b", "48 / 4 = 12 patches per side, 144 in all: half the side means four times as many."
    ),
    hints=(
        "The height is (rows of patches) x (rows in a patch). Split both sides of the image that way first: then "
        "there are six axes.",
        "The axes are now b, c, gy, p, gx, q. A patch is (c, p, q), and the sequence is (gy, gx): move the axes to "
        "(b, gy, gx, c, p, q) before you join any.",
        'With einops it is one line, whose left side is "b c (gy p) (gx q)". By hand it is reshape, permute, reshape.',
    ),
    observe=observe,
    insert=insert,
)
