"""The tests of station 10: `cls_map`, `rollout` and `occlusion`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import build_random_model
from vitral.lab.station import Pair, RightPrediction, Station, law


class LinearModel(nn.Module):
    """A linear model: images (b, c, y, x) -> logits (b, k), with one weight per pixel and class."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bcyx,kcyx->bk", images, self.weight) + self.bias


def draw_weights(recorder: Recorder, n: int) -> Tensor:
    """Return attention weights of one block with n tokens, for two images and three heads."""
    return (2 * recorder.normal(2, 3, n, n)).softmax(dim=-1)


def draw_grid(recorder: Recorder) -> tuple[int, int]:
    """Return rows and columns of a map that is not square."""
    return recorder.integer(2, 3), recorder.integer(4, 5)


def draw_model(recorder: Recorder, *shape: int) -> LinearModel:
    """Return a model of four classes whose probabilities are neither near 0 or 1 nor equal."""
    weight = recorder.normal(4, *shape)
    return LinearModel(3 * weight / weight[0].numel() ** 0.5, recorder.normal(4))


def draw_images(recorder: Recorder) -> tuple[nn.Module, Tensor, int]:
    """Return a model of four classes, images that are not square, and a patch size."""
    (rows, columns), patch = draw_grid(recorder), recorder.integer(2, 3)
    shape = (2, rows * patch, columns * patch)
    return draw_model(recorder, *shape), recorder.normal(3, *shape), patch


def observe(recorder: Recorder) -> None:
    rows, columns = draw_grid(recorder)
    recorder.call("cls_map", draw_weights(recorder, 1 + rows * columns), (rows, columns))
    recorder.call("rollout", [draw_weights(recorder, 6)])
    recorder.call("rollout", [draw_weights(recorder, 7) for _ in range(3)])
    recorder.call("occlusion", *draw_images(recorder), gradients=False)


@law()
def one_patch_attended(recorder: Recorder) -> Pair:
    """If the class token attends to one patch only, that patch is 1 on the map and all others are 0."""
    rows, columns = draw_grid(recorder)
    row, column = recorder.integer(0, rows - 1), recorder.integer(0, columns - 1)
    weights = draw_weights(recorder, 1 + rows * columns)
    weights[:, :, 0] = 0
    weights[:, :, 0, 1 + row * columns + column] = 1
    expected = torch.zeros(len(weights), rows, columns, dtype=weights.dtype)
    expected[:, row, column] = 1
    return recorder.call("cls_map", weights, (rows, columns)), expected


@law()
def whole_row(recorder: Recorder) -> Pair:
    """The map and the class token's attention to itself add up to 1."""
    rows, columns = draw_grid(recorder)
    weights = draw_weights(recorder, 1 + rows * columns)
    result = recorder.call("cls_map", weights, (rows, columns))
    return result.flatten(1).sum(dim=1) + weights[:, :, 0, 0].mean(dim=1), torch.ones(len(weights), dtype=weights.dtype)


@law()
def whole_mixture(recorder: Recorder) -> Pair:
    """Every token is a mixture: each row of the rollout adds up to 1."""
    result = recorder.call("rollout", [draw_weights(recorder, 6) for _ in range(3)])
    return result.sum(dim=-1), torch.ones_like(result[:, :, 0])


@law()
def half_stays(recorder: Recorder) -> Pair:
    """After one block, half of each token is itself, and half is what it attends to, by the mean over heads."""
    weights = draw_weights(recorder, 6)
    result = recorder.call("rollout", [weights])
    return 2 * result - torch.eye(6, dtype=weights.dtype), weights.mean(dim=1)


@law()
def later_mixes_earlier(recorder: Recorder) -> Pair:
    """Later blocks mix what earlier ones mixed: the rollout of all blocks is that of the later ones times that of the
    earlier ones.
    """
    early, late = ([draw_weights(recorder, 6) for _ in range(2)] for _ in range(2))
    whole = recorder.call("rollout", early + late)
    return whole, recorder.call("rollout", late) @ recorder.call("rollout", early)


@law()
def nothing_to_cover(recorder: Recorder) -> Pair:
    """If a patch is zero already, covering it changes nothing."""
    model, images, patch = draw_images(recorder)
    row = recorder.integer(0, 1)
    images[:, :, : row * patch] = 0
    images[:, :, (row + 1) * patch :] = 0
    images[:, :, :, patch:] = 0
    result = recorder.call("occlusion", model, images, patch).clone()
    result[:, row, 0] = 0
    return result, torch.zeros_like(result)


@law()
def all_covered(recorder: Recorder) -> Pair:
    """If one patch is the whole image, the result is the probability of the predicted class, minus that of the same
    class for an image of zeros.
    """
    model, images = draw_model(recorder, 2, 4, 4), recorder.normal(3, 2, 4, 4)
    before, after = model(images).softmax(dim=-1), model(torch.zeros_like(images)).softmax(dim=-1)
    answer = before.argmax(dim=-1)
    expected = before[range(3), answer] - after[range(3), answer]
    return recorder.call("occlusion", model, images, 4), expected[:, None, None]


def compute_weights(maps: Any) -> Tensor:
    """Return the attention weights of the patches from Vitral's maps, the mean over the last layer's heads.

    Vitral scales a map to mean 1 and keeps the weight of the prefix tokens separately; here both are undone.
    """
    of_patches = maps.values[:, -1] * (1 - maps.prefix_mass[:, -1])[:, :, None, None]
    return torch.from_numpy(of_patches).mean(dim=1) / (maps.grid[0] * maps.grid[1])


def compare_in_use(answer: Any) -> dict[str, Pair]:
    from vitral import explain
    from vitral.recording.intercept import watch

    model, images = build_random_model()
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    layers = [layer.weights() for layer in seen.layers]
    probabilities = nn.Sequential(model, nn.Softmax(dim=-1))
    return {
        "the attention map of the last block, compared with vitral.explain.attention": (
            answer.cls_map(layers[-1], model.grid),
            compute_weights(explain.attention(model, images)),
        ),
        "rollout through three blocks, compared with vitral.explain.rollout": (
            answer.rollout(layers)[:, 0, 1:].unflatten(1, model.grid),
            compute_weights(explain.rollout(model, images)),
        ),
        "occlusion of each patch, compared with vitral.explain.occlusion": (
            answer.occlusion(model, images, 8),
            torch.from_numpy(explain.occlusion(probabilities, images, grid=model.grid).merged),
        ),
    }


maps = Station(
    number=10,
    title="Attention maps, rollout and occlusion",
    minutes=40,
    difficulty=4,
    prediction=RightPrediction(
        "b",
        "In the second block, half of the class token is itself, by the residual stream, and half is patch 7. The "
        "first block mixed nothing, so this is the result.",
    ),
    hints=(
        "Try it on paper: two heads, one class token, six patches in a grid of (2, 3). Over which axis of the weights "
        "is the mean, which row do you keep, and which of its seven numbers has no place in the image? And what is the "
        "rollout of a single block?",
        "For rollout begin with the identity. A later block mixes what earlier ones mixed, so it is multiplied from "
        "the left. For `occlusion` choose the class once, from the whole image, and compute that class's probability "
        "each time.",
        "unflatten splits an axis into rows and columns; torch.eye(n) is the residual stream, one half of every block; "
        "gather(1, answer) picks one class for each image; make the clone inside both loops, so that each patch "
        "is covered alone.",
    ),
    observe=observe,
    compare_in_use=compare_in_use,
)
