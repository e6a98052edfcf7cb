"""Station 9: `learning_rate`, `decayed` and `train_step`."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from vitral.lab.inspection import Inspection
from vitral.lab.solutions import training as solution
from vitral.lab.station import Law, Pair, Prediction, Station
from vitral.nn.vit import VisionTransformer
from vitral.training.optim import is_weight_matrix, schedule

Maker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
RATE = 0.5
SGD = partial(torch.optim.SGD, lr=RATE)
ADAM = partial(torch.optim.Adam, lr=0.1)
STEPS, WARMUP, PEAK = 12, 3, 0.01  # of the run in which the answer is used


class TwoSteps(nn.Module):
    """Two updates by the answer's `train_step` of a model that is as it was at every call."""

    def __init__(self, answer: Any, make: Maker, model: nn.Module):
        super().__init__()
        self.answer, self.make, self.model = answer, make, model

    def forward(self, images: Tensor, labels: Tensor) -> list[Any]:
        """The loss returned and the parameters after each; how often the optimizer was asked to move them."""
        model, updates, found = deepcopy(self.model), [0], []
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)  # as of someone before
        optimizer = self.make(model.parameters())
        optimizer.register_step_post_hook(lambda *_: updates.append(1))
        for _ in range(2):
            found.append(self.answer.train_step(model, optimizer, images, labels))
            found.append(parameters_to_vector(model.parameters()).detach())
        return [*found, sum(updates)]


def two_steps(inspection: Inspection, make: Any, model: nn.Module, images: Tensor, labels: Tensor) -> list[Any]:
    what = f"train_step with {make.func.__name__}"
    return inspection.ask(TwoSteps(inspection.answer, make, model), images, labels, flows=False, what=what)


def small(inspection: Inspection) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images and labels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()
    vector_to_parameters(inspection.normal(21), model.parameters())
    return model, inspection.normal(5, 1, 2, 3), inspection.order(5) % 3


def many_parts() -> VisionTransformer:
    """A model with a convolution, tokens, linear maps, norms and biases."""
    return VisionTransformer(8, 4, 1, 3, embed_dim=4, depth=1, num_heads=1)


def drawn(inspection: Inspection) -> tuple[int, int, float]:
    """Steps, warm-up and peak; three equal parts of a run are left after the warm-up."""
    warmup = inspection.integer(2, 4)
    return warmup + 3 * inspection.integer(3, 5), warmup, inspection.integer(1, 9) / 100


def rates(inspection: Inspection, at: Iterable[int], steps: int, warmup: int, peak: float) -> Tensor:
    found = [inspection.ask("learning_rate", step, steps, warmup, peak, flows=False) for step in at]
    return torch.tensor(found, dtype=torch.float64)


def observe(inspection: Inspection) -> None:
    steps, warmup, peak = drawn(inspection)
    for step in range(steps):
        inspection.ask("learning_rate", step, steps, warmup, peak, flows=False)
    for step in (0, 3):
        inspection.ask("learning_rate", step, steps, 0, peak, flows=False)
    inspection.ask("decayed", many_parts(), flows=False)
    inspection.ask("decayed", nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2)), flows=False)
    model, images, labels = small(inspection)
    for make in (SGD, ADAM):
        two_steps(inspection, make, model, images, labels)


def peak_after_warmup(inspection: Inspection) -> Pair:
    steps, warmup, peak = drawn(inspection)
    return rates(inspection, [warmup], steps, warmup, peak), torch.tensor([peak], dtype=torch.float64)


def even_steps_up(inspection: Inspection) -> Pair:
    steps, warmup, peak = drawn(inspection)
    found = rates(inspection, range(warmup + 1), steps, warmup, peak)
    return found, peak / (warmup + 1) * torch.arange(1, warmup + 2, dtype=torch.float64)


def thirds_of_the_way(inspection: Inspection) -> Pair:
    steps, warmup, peak = drawn(inspection)
    third = (steps - warmup) // 3
    found = rates(inspection, [warmup + third, warmup + 2 * third], steps, warmup, peak)
    return found, torch.tensor([0.75 * peak, 0.25 * peak], dtype=torch.float64)


def matrices_alone(inspection: Inspection) -> Any:
    """In words: which names are missing, and which are too many."""
    model = many_parts()
    too_many = list(inspection.ask("decayed", model, flows=False))
    missing = [name for name, _ in model.named_parameters() if is_weight_matrix(model, name)]
    for name in list(missing):
        if name in too_many:
            too_many.remove(name)
            missing.remove(name)
    parts = [
        f"{what}: {', '.join(map(str, names)) or 'none'}"
        for what, names in (("missing", missing), ("too many", too_many))
    ]
    return "; ".join(parts), "missing: none; too many: none"


def loss_before(inspection: Inspection) -> Pair:
    model, images, labels = small(inspection)
    found = two_steps(inspection, SGD, model, images, labels)[0]
    return torch.tensor(found, dtype=torch.float64), F.cross_entropy(model(images), labels).detach()


def slope(model: nn.Module, at: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the loss where the parameters are `at`."""
    model = deepcopy(model)
    vector_to_parameters(at, model.parameters())
    loss = F.cross_entropy(model(images), labels)
    return parameters_to_vector(torch.autograd.grad(loss, list(model.parameters())))


def first_step(inspection: Inspection) -> Pair:
    model, images, labels = small(inspection)
    before = parameters_to_vector(model.parameters()).detach()
    after = two_steps(inspection, SGD, model, images, labels)[1]
    return after - before, -RATE * slope(model, before, images, labels)


def second_step(inspection: Inspection) -> Pair:
    model, images, labels = small(inspection)
    _, before, _, after, _ = two_steps(inspection, SGD, model, images, labels)
    return after - before, -RATE * slope(model, before, images, labels)


def losses(answer: Any, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of a whole short run with the answer's rate, decay and step."""
    model = deepcopy(model)
    named, decayed = dict(model.named_parameters()), answer.decayed(model)
    groups = [
        {"params": [own for name, own in named.items() if (name in decayed) == pulled], "weight_decay": decay}
        for pulled, decay in ((True, 1.0), (False, 0.0))
    ]
    optimizer, found = torch.optim.AdamW(groups), []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = answer.learning_rate(step, STEPS, WARMUP, PEAK)
        found.append(answer.train_step(model, optimizer, images, labels))
    return torch.tensor(found)


def applied(answer: Any) -> Mapping[str, Pair]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, images, labels = many_parts(), torch.randn(24, 1, 8, 8), torch.randint(3, (24,))
    names = [name for name, _ in model.named_parameters()]
    decayed = answer.decayed(model)
    return {
        f"rates of a run of {STEPS} steps, beside those of `vitral train`": (
            torch.tensor([answer.learning_rate(step, STEPS, WARMUP, PEAK) for step in range(STEPS)]),
            torch.tensor([PEAK * schedule(step, STEPS, WARMUP / STEPS) for step in range(STEPS)]),
        ),
        "parameters of a small ViT that decay, beside those of `vitral train`": (
            torch.tensor([name in decayed for name in names]),
            torch.tensor([is_weight_matrix(model, name) for name in names]),
        ),
        f"losses of a small ViT over {STEPS} steps of training": (
            losses(answer, model, images, labels),
            losses(solution, model, images, labels),
        ),
    }


training = Station(
    name="training",
    number=9,
    title="What makes it learn",
    minutes=30,
    difficulty=3,
    prediction=Prediction(
        "a",
        "Adam divides each gradient by its own size, so its first steps are as long as the rate, right or wrong, and "
        "larger gradients make them no longer. A small rate keeps them short until the gradients agree.",
    ),
    hints=(
        "Three small things. The rate: is this step within the warm-up or behind it? Decay: look at a parameter's "
        "axes and at its name. The step: old gradients must be gone before `backward` adds new ones.",
        "Behind the warm-up, t counts from 0 at step `warmup` to 1 at `steps`; math.cos takes an angle where π is half "
        "a turn. `parameter.ndim` is the number of axes, and a name can be asked with `name.endswith(...)`.",
        "Both halves of the rate stand in the text: `if step < warmup` tells which holds. Decay needs two conditions, "
        "more than one axis, and a name that ends in neither of the two. The step is the text's calls in the right "
        "order: old gradients go before new ones come, and the loss to return is the one from before the update.",
    ),
    observe=observe,
    laws=(
        Law("After `warmup` steps the rate is at its peak.", peak_after_warmup),
        Law("In the warm-up the first step already moves, and the rate grows by as much at each step.", even_steps_up),
        Law(
            "A third of the way down three quarters of the peak are left, after two thirds one quarter.",
            thirds_of_the_way,
        ),
        Law("Decay is for the weights of linear maps and convolutions, and for nothing else.", matrices_alone),
        Law("A step gives the loss back that the model had before it.", loss_before),
        Law("With plain SGD, the first step moves by the rate times the gradient, downhill.", first_step),
        Law("The second step goes by its own gradient alone.", second_step),
    ),
    applied=applied,
)
