"""The tests of station 9: `learning_rate`, `decayed` and `train_step`."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from vitral.lab.recorder import Recorder
from vitral.lab.solutions import training as solution
from vitral.lab.station import Pair, RightPrediction, Station, law
from vitral.nn.vit import VisionTransformer
from vitral.training.optim import is_weight_matrix, schedule

BuildOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
RATE = 0.5
SGD = partial(torch.optim.SGD, lr=RATE)
ADAM = partial(torch.optim.Adam, lr=0.1)
STEPS, WARMUP, PEAK = 12, 3, 0.01  # of the training run that uses the answer


class TwoSteps(nn.Module):
    """Two updates by the answer's `train_step`, on a fresh copy of the model at every call."""

    def __init__(self, answer: Any, make: BuildOptimizer, model: nn.Module):
        super().__init__()
        self.answer, self.make, self.model = answer, make, model

    def forward(self, images: Tensor, labels: Tensor) -> list[Any]:
        """Return the loss and the parameters after each update, and how often the optimizer made one."""
        model, updates, results = deepcopy(self.model), [0], []
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
        optimizer = self.make(model.parameters())
        optimizer.register_step_post_hook(lambda *_: updates.append(1))
        for _ in range(2):
            results.append(self.answer.train_step(model, optimizer, images, labels))
            results.append(parameters_to_vector(model.parameters()).detach())
        return [*results, sum(updates)]


def record_two_steps(recorder: Recorder, make: Any, model: nn.Module, images: Tensor, labels: Tensor) -> list[Any]:
    label = f"train_step with {make.func.__name__}"
    return recorder.call(TwoSteps(recorder.answer, make, model), images, labels, gradients=False, label=label)


def build_small_model(recorder: Recorder) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model, images and labels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()
    vector_to_parameters(recorder.normal(21), model.parameters())
    return model, recorder.normal(5, 1, 2, 3), recorder.permutation(5) % 3


def build_model_with_all_parts() -> VisionTransformer:
    """Return a model with a convolution, tokens, linear layers, norms and biases."""
    return VisionTransformer(8, 4, 1, 3, embed_dim=4, depth=1, num_heads=1)


def draw_schedule(recorder: Recorder) -> tuple[int, int, float]:
    """Return steps, warm-up and peak; the steps after the warm-up can be divided by three."""
    warmup = recorder.integer(2, 4)
    return warmup + 3 * recorder.integer(3, 5), warmup, recorder.integer(1, 9) / 100


def compute_rates(recorder: Recorder, at: Iterable[int], steps: int, warmup: int, peak: float) -> Tensor:
    rates = [recorder.call("learning_rate", step, steps, warmup, peak, gradients=False) for step in at]
    return torch.tensor(rates, dtype=torch.float64)


def observe(recorder: Recorder) -> None:
    steps, warmup, peak = draw_schedule(recorder)
    for step in range(steps):
        recorder.call("learning_rate", step, steps, warmup, peak, gradients=False)
    for step in (0, 3):
        recorder.call("learning_rate", step, steps, 0, peak, gradients=False)
    recorder.call("decayed", build_model_with_all_parts(), gradients=False)
    recorder.call("decayed", nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2)), gradients=False)
    model, images, labels = build_small_model(recorder)
    for make in (SGD, ADAM):
        record_two_steps(recorder, make, model, images, labels)


def compute_gradient(model: nn.Module, at: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the loss at the parameters `at`."""
    model = deepcopy(model)
    vector_to_parameters(at, model.parameters())
    loss = F.cross_entropy(model(images), labels)
    return parameters_to_vector(torch.autograd.grad(loss, list(model.parameters())))


@law()
def peak_after_warmup(recorder: Recorder) -> Pair:
    """After `warmup` steps the rate is at its peak."""
    steps, warmup, peak = draw_schedule(recorder)
    return compute_rates(recorder, [warmup], steps, warmup, peak), torch.tensor([peak], dtype=torch.float64)


@law()
def even_steps_up(recorder: Recorder) -> Pair:
    """In the warm-up the first step has a rate above 0, and the rate grows by the same amount at each step."""
    steps, warmup, peak = draw_schedule(recorder)
    rates = compute_rates(recorder, range(warmup + 1), steps, warmup, peak)
    return rates, peak / (warmup + 1) * torch.arange(1, warmup + 2, dtype=torch.float64)


@law()
def thirds_of_the_way(recorder: Recorder) -> Pair:
    """A third of the way down three quarters of the peak are left, after two thirds one quarter."""
    steps, warmup, peak = draw_schedule(recorder)
    third = (steps - warmup) // 3
    rates = compute_rates(recorder, [warmup + third, warmup + 2 * third], steps, warmup, peak)
    return rates, torch.tensor([0.75 * peak, 0.25 * peak], dtype=torch.float64)


@law()
def matrices_alone(recorder: Recorder) -> Any:
    """Weight decay is for the weights of linear layers and convolutions, and for nothing else."""
    model = build_model_with_all_parts()
    too_many = list(recorder.call("decayed", model))
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


@law()
def loss_before(recorder: Recorder) -> Pair:
    """A step returns the loss of the model before the update."""
    model, images, labels = build_small_model(recorder)
    loss = record_two_steps(recorder, SGD, model, images, labels)[0]
    return torch.tensor(loss, dtype=torch.float64), F.cross_entropy(model(images), labels).detach()


@law()
def first_step(recorder: Recorder) -> Pair:
    """With plain SGD, the first step changes the weights by -(rate x gradient)."""
    model, images, labels = build_small_model(recorder)
    before = parameters_to_vector(model.parameters()).detach()
    after = record_two_steps(recorder, SGD, model, images, labels)[1]
    return after - before, -RATE * compute_gradient(model, before, images, labels)


@law()
def second_step(recorder: Recorder) -> Pair:
    """The second step uses its own gradient alone."""
    model, images, labels = build_small_model(recorder)
    _, before, _, after, _ = record_two_steps(recorder, SGD, model, images, labels)
    return after - before, -RATE * compute_gradient(model, before, images, labels)


def run_training(answer: Any, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the losses of a short training run with the answer's rate, decay and step."""
    model = deepcopy(model)
    named, decayed = dict(model.named_parameters()), answer.decayed(model)
    groups = [
        {"params": [own for name, own in named.items() if (name in decayed) == is_decayed], "weight_decay": decay}
        for is_decayed, decay in ((True, 1.0), (False, 0.0))
    ]
    optimizer, losses = torch.optim.AdamW(groups), []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = answer.learning_rate(step, STEPS, WARMUP, PEAK)
        losses.append(answer.train_step(model, optimizer, images, labels))
    return torch.tensor(losses)


def compare_in_use(answer: Any) -> Mapping[str, Pair]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, images, labels = build_model_with_all_parts(), torch.randn(24, 1, 8, 8), torch.randint(3, (24,))
    names = [name for name, _ in model.named_parameters()]
    decayed = answer.decayed(model)
    return {
        f"the rates of a run of {STEPS} steps, compared with `vitral train`": (
            torch.tensor([answer.learning_rate(step, STEPS, WARMUP, PEAK) for step in range(STEPS)]),
            torch.tensor([PEAK * schedule(step, STEPS, WARMUP / STEPS) for step in range(STEPS)]),
        ),
        "the parameters of a small ViT with weight decay, compared with `vitral train`": (
            torch.tensor([name in decayed for name in names]),
            torch.tensor([is_weight_matrix(model, name) for name in names]),
        ),
        f"the losses of a small ViT over {STEPS} steps of training": (
            run_training(answer, model, images, labels),
            run_training(solution, model, images, labels),
        ),
    }


training = Station(
    number=9,
    title="Training: the rate, the decay and the step",
    minutes=30,
    difficulty=3,
    prediction=RightPrediction(
        "a",
        "Adam divides each gradient by its own size, so that its first steps are as long as the rate, right or wrong, "
        "and larger gradients make them no longer. A small rate keeps them short until the gradients agree.",
    ),
    hints=(
        "There are three small functions. The rate: is this step within the warm-up or after it? The decay: look at a "
        "parameter's axes and at its name. The step: old gradients must be cleared before `backward` adds new ones.",
        "After the warm-up, t runs from 0 at step `warmup` to 1 at `steps`; math.cos takes radians, where π is half a "
        "turn. `parameter.ndim` is the number of axes, and `name.endswith(...)` tests a name.",
        "Both formulas for the rate are in the text: `if step < warmup` selects one. The decay needs two conditions: "
        "more than one axis, and a name that ends in neither of the two. The step is the calls from the text in the "
        "right order: clear the old gradients before the new ones, and return the loss from before the update.",
    ),
    observe=observe,
    compare_in_use=compare_in_use,
)
