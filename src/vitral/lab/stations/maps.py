"""Station 10: `cls_map`, `rollout` and `occlusion`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.graft import drawn_model
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station


class Scores(nn.Module):
    """Images (b, c, y, x) -> logits (b, k), in which every pixel counts by its own weight."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bcyx,kcyx->bk", images, self.weight) + self.bias


def drawn_weights(inspection: Inspection, n: int) -> Tensor:
    """Weights of attention of one block among n tokens: two images, three heads."""
    return (2 * inspection.normal(2, 3, n, n)).softmax(dim=-1)


def drawn_grid(inspection: Inspection) -> tuple[int, int]:
    """Rows and columns of a map that is not square."""
    return inspection.integer(2, 3), inspection.integer(4, 5)


def drawn_scores(inspection: Inspection, *shape: int) -> Scores:
    """Scores of four classes, which are neither sure nor even."""
    weight = inspection.normal(4, *shape)
    return Scores(3 * weight / weight[0].numel() ** 0.5, inspection.normal(4))


def drawn_images(inspection: Inspection) -> tuple[nn.Module, Tensor, int]:
    """A model of four classes, images that are not square, and a patch size."""
    (rows, columns), patch = drawn_grid(inspection), inspection.integer(2, 3)
    shape = (2, rows * patch, columns * patch)
    return drawn_scores(inspection, *shape), inspection.normal(3, *shape), patch


def observe(inspection: Inspection) -> None:
    rows, columns = drawn_grid(inspection)
    inspection.ask("cls_map", drawn_weights(inspection, 1 + rows * columns), (rows, columns))
    inspection.ask("rollout", [drawn_weights(inspection, 6)])
    inspection.ask("rollout", [drawn_weights(inspection, 7) for _ in range(3)])
    inspection.ask("occlusion", *drawn_images(inspection), flows=False)


def one_patch_taken(inspection: Inspection) -> Pair:
    rows, columns = drawn_grid(inspection)
    row, column = inspection.integer(0, rows - 1), inspection.integer(0, columns - 1)
    weights = drawn_weights(inspection, 1 + rows * columns)
    weights[:, :, 0] = 0
    weights[:, :, 0, 1 + row * columns + column] = 1
    expected = torch.zeros(len(weights), rows, columns, dtype=weights.dtype)
    expected[:, row, column] = 1
    return inspection.ask("cls_map", weights, (rows, columns)), expected


def whole_row(inspection: Inspection) -> Pair:
    rows, columns = drawn_grid(inspection)
    weights = drawn_weights(inspection, 1 + rows * columns)
    found = inspection.ask("cls_map", weights, (rows, columns))
    return found.flatten(1).sum(dim=1) + weights[:, :, 0, 0].mean(dim=1), torch.ones(len(weights), dtype=weights.dtype)


def whole_mixture(inspection: Inspection) -> Pair:
    found = inspection.ask("rollout", [drawn_weights(inspection, 6) for _ in range(3)])
    return found.sum(dim=-1), torch.ones_like(found[:, :, 0])


def half_stays(inspection: Inspection) -> Pair:
    weights = drawn_weights(inspection, 6)
    found = inspection.ask("rollout", [weights])
    return 2 * found - torch.eye(6, dtype=weights.dtype), weights.mean(dim=1)


def later_reads_earlier(inspection: Inspection) -> Pair:
    early, late = ([drawn_weights(inspection, 6) for _ in range(2)] for _ in range(2))
    whole = inspection.ask("rollout", early + late)
    return whole, inspection.ask("rollout", late) @ inspection.ask("rollout", early)


def nothing_to_cover(inspection: Inspection) -> Pair:
    model, images, patch = drawn_images(inspection)
    row = inspection.integer(0, 1)
    images[:, :, : row * patch] = 0
    images[:, :, (row + 1) * patch :] = 0
    images[:, :, :, patch:] = 0
    found = inspection.ask("occlusion", model, images, patch, flows=False).clone()
    found[:, row, 0] = 0
    return found, torch.zeros_like(found)


def all_covered(inspection: Inspection) -> Pair:
    model, images = drawn_scores(inspection, 2, 4, 4), inspection.normal(3, 2, 4, 4)
    before, after = model(images).softmax(dim=-1), model(torch.zeros_like(images)).softmax(dim=-1)
    answer = before.argmax(dim=-1)
    expected = before[range(3), answer] - after[range(3), answer]
    return inspection.ask("occlusion", model, images, 4, flows=False), expected[:, None, None]


def shares(maps: Any) -> Tensor:
    """What each patch gets of all that there is to get, the mean over the last layer's heads."""
    of_patches = maps.values[:, -1] * (1 - maps.prefix_mass[:, -1])[:, :, None, None]
    return torch.from_numpy(of_patches).mean(dim=1) / (maps.grid[0] * maps.grid[1])


def applied(answer: Any) -> dict[str, Pair]:
    from vitral import explain
    from vitral.recording.intercept import watch

    model, images = drawn_model()
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    layers = [layer.weights() for layer in seen.layers]
    probabilities = nn.Sequential(model, nn.Softmax(dim=-1))
    return {
        "the last block's map, beside vitral.explain.attention": (
            answer.cls_map(layers[-1], model.grid),
            shares(explain.attention(model, images)),
        ),
        "rollout through three blocks, beside vitral.explain.rollout": (
            answer.rollout(layers)[:, 0, 1:].unflatten(1, model.grid),
            shares(explain.rollout(model, images)),
        ),
        "what covering takes away, beside vitral.explain.occlusion": (
            answer.occlusion(model, images, 8),
            torch.from_numpy(explain.occlusion(probabilities, images, grid=model.grid).merged),
        ),
    }


maps = Station(
    name="maps",
    number=10,
    title="Where it looks, and what it needs",
    minutes=40,
    difficulty=4,
    prediction=Prediction(
        "b",
        "The second block's row of the class token is half itself, which went past on the stream, and half patch 7. "
        "The first block mixed nothing, so it stays that way.",
    ),
    hints=(
        "Try it on paper: two heads, one class token, six patches in a grid of (2, 3). Which axis of the weights goes "
        "first, which row do you keep, and which of its seven numbers has no place in the image? And what is the "
        "rollout of a single block?",
        "For rollout begin with the identity. A later block reads what earlier ones mixed, so it is put to the left of "
        "them. For `occlusion` choose the class once, from the whole image, and ask for that class's probability each "
        "time.",
        "unflatten makes an axis into rows and columns; torch.eye(n) is what stays, a half of every block; "
        "gather(1, answer) picks one class for each image; a clone that is made inside both loops begins whole.",
    ),
    observe=observe,
    laws=(
        Law(
            "If the class token takes everything from one patch, that patch is one on the map and all others are zero.",
            one_patch_taken,
        ),
        Law("A map, and what the class token takes from itself, are one in sum.", whole_row),
        Law("Each token is a mixture: every row of the rollout is one in sum.", whole_mixture),
        Law("In one block half of each token stays, and half is what it takes, the mean over heads.", half_stays),
        Law(
            "Later blocks read what earlier ones mixed: the rollout of all is that of the later ones times that of the "
            "earlier ones.",
            later_reads_earlier,
        ),
        Law("Where a patch is zero already, covering it takes nothing away.", nothing_to_cover),
        Law(
            "If one patch is the whole image, what is lost is the answer's probability, less what the same class has "
            "for an image of zeros.",
            all_covered,
        ),
    ),
    applied=applied,
)
