"""A step that two processes take together is the step that one takes: the same loss, gradient and statistics.

Two processes compute all cases, each alone on the whole batch and together on parts of it, and write how far the two
differ. The batch of 7 gives them unequal parts.
"""

import os

import numpy as np
import pytest
import torch

from together import Together, finished
from vitral.base.errors import UsageError
from vitral.base.launch import find_launch
from vitral.base.preprocessing import Preprocessing
from vitral.data.augment import find_augment
from vitral.data.batches import batches
from vitral.data.dataset import Split
from vitral.data.mix import find_mix
from vitral.training.processes import part_of

LOSSES = ("plain", "smooth", "balanced", "balanced shares", "several classes", "numbers", "masks", "masks with dice")
NORMS = ("BatchNorm1d", "BatchNorm2d", "without momentum", "without affine", "without running statistics", "frozen")
OTHERS = ("used by one", "unused", "seeds", "stopping", "agreed", "waiting")

WORKER = '''
import json, time
from copy import deepcopy
from dataclasses import replace
import numpy as np, torch
from torch import nn
from vitral.base.answer import answer_for
from vitral.base.launch import find_launch
from vitral.training.batch_statistics import share_batch_norms
from vitral.training.distributed import SeveralProcesses, join
from vitral.training.processes import part_of

COUNT = 7
found = {}


def distance(one, other):
    if one is None or other is None:
        return 0.0 if one is other else 1e9
    return float((one - other).abs().max()) / max(1.0, float(one.abs().max()))


def compare(model, images, loss_of, together, shared=False):
    """The largest difference of loss, gradients and buffers between both ways."""
    alone = deepcopy(model)
    alone_loss = loss_of(alone(images))
    alone_loss.backward()
    if shared:
        share_batch_norms(model)
    own = images[part_of(COUNT, together.rank, together.size)]
    loss = loss_of(together.whole(model(own), COUNT))
    loss.backward()
    together.sum_gradients(model)
    pairs = [(alone_loss.detach(), loss.detach())]
    pairs += [(one.grad, other.grad) for one, other in zip(alone.parameters(), model.parameters(), strict=True)]
    assert alone.state_dict().keys() == model.state_dict().keys()
    pairs += list(zip(alone.state_dict().values(), model.state_dict().values()))
    return max(distance(one, other) for one, other in pairs)


class Branch(nn.Module):
    """`first` sees only the first image of the batch, which carries a mark; `never` sees none."""

    def __init__(self):
        super().__init__()
        self.first, self.all, self.never = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        marked = x[:, 0] > 50
        out = self.all(x)
        return out.index_add(0, marked.nonzero()[:, 0], self.first(x[marked])) if marked.any() else out


with join(find_launch()) as together:
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    x = torch.randn(COUNT, 4, generator=generator)
    classes = torch.tensor([0, 0, 0, 0, 1, 2, 2])  # the first process has one class only
    shares = torch.softmax(torch.randn(COUNT, 3, generator=generator), 1)
    labels = classes.numpy()
    one = answer_for("one class")
    linear = nn.Linear(4, 3)
    losses = {
        "plain": (one.loss(), classes),
        "smooth": (one.loss(0.2), classes),
        "balanced": (one.loss(0.1, labels, True), classes),
        "balanced shares": (one.loss(0.1, labels, True), shares),
        "several classes": (answer_for("several classes").loss(0.1), shares > 0.3),
        "numbers": (answer_for("numbers").loss(0.0, shares.double().numpy()), shares.double()),
    }
    for name, (loss_of, targets) in losses.items():
        found[name] = compare(deepcopy(linear), x, lambda out: loss_of(out.float(), targets), together)
    images = torch.randn(COUNT, 3, 6, 6, generator=generator)
    masks = torch.randint(0, 3, (COUNT, 6, 6), generator=generator).byte()
    masks[:3] = 255  # all but one image of the first process have no pixel that counts
    masks[3, :4] = 255
    conv = nn.Conv2d(3, 3, 1)
    for name, dice in (("masks", 0.0), ("masks with dice", 1.0)):
        loss_of = answer_for("segmentation").loss(0.0, masks.numpy(), True, dice)
        found[name] = compare(deepcopy(conv), images, lambda out: loss_of(out, masks), together)

    cross = lambda out: one.loss()(out.flatten(1)[:, :3], classes)
    weighed = lambda norm: nn.Sequential(nn.Conv2d(3, 3, 1), norm, nn.ReLU(), nn.Conv2d(3, 3, 3))
    frozen = weighed(nn.BatchNorm2d(3))
    frozen[1].eval()
    found |= {
        "BatchNorm1d": compare(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), x, cross, together, True),
        "BatchNorm2d": compare(weighed(nn.BatchNorm2d(3)), images + 10, cross, together, True),
        "without momentum": compare(weighed(nn.BatchNorm2d(3, momentum=None)), images, cross, together, True),
        "without affine": compare(weighed(nn.BatchNorm2d(3, affine=False)), images, cross, together, True),
        "without running statistics": compare(
            weighed(nn.BatchNorm2d(3, track_running_stats=False)), images, cross, together, True
        ),
        "frozen": compare(frozen, images, cross, together, True),
    }
    marked = x.clone()
    marked[0, 0] = 100
    found["used by one"] = compare(Branch(), marked, lambda out: one.loss()(out, classes) / 100, together)
    branch = Branch()
    compare(branch, x, cross, together)
    found["unused"] = float(branch.never.weight.grad is not None or branch.first.weight.grad is not None)

    draws = [torch.rand(1) for _ in together.seeded(iter(range(3)), 5, 0)]
    again = [torch.rand(1) for _ in together.seeded(iter(range(2)), 5, 1)]
    both = together.whole(torch.stack(draws)[:2].view(1, 2), 2)
    found["seeds"] = float(draws[1:] != again or bool((both[0] == both[1]).any()))
    found["stopping"] = float(not together.stopping(together.rank == 1) or together.stopping(False))
    found["agreed"] = float(together.agreed(together.rank) != 0)
    # The others wait for the first process longer than for one another in a step.
    patient = SeveralProcesses(replace(together.launch, timeout=1.0))
    time.sleep(1.5 * together.is_first)
    found["waiting"] = float(patient.agreed(together.rank) != 0)
    print(json.dumps(found))
'''


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    """The larger difference in the two processes, by case."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "worker.py").write_text(WORKER)
    answers = finished(Together(dict(os.environ), folder).start("worker.py", OMP_NUM_THREADS="1"))
    found = [answer.done().json for answer in answers]
    return {name: max(one[name] for one in found) for name in found[0]}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_whole_batch(name, differences):
    assert differences[name] < 1e-6


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_take_their_statistics_over_the_whole_batch(name, differences):
    assert differences[name] < 5e-6


@pytest.mark.parametrize("name", OTHERS)
def test_processes_agree(name, differences):
    assert differences[name] < 1e-6


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_a_batch_are_the_batch(mix, size):
    """Pixels, augmentation and pairs are drawn for the whole batch, whoever computes which part."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), rng.integers(0, 3, 20))
    preprocessing = Preprocessing(size=(8, 8))

    def first_two(part):
        augment, mixing = find_augment("photo_strong", (8, 8)), find_mix(mix)
        feed = batches(split, preprocessing, 7, 3, augment, mix=mixing, classes=3, part=part)
        return [next(feed) for _ in range(2)]

    whole = first_two(slice)
    parts = [first_two(lambda count, rank=rank: part_of(count, rank, size)) for rank in range(size)]
    for number, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([own[number][0] for own in parts]), images)
        assert all(torch.equal(own[number][1], labels) for own in parts)


WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}


def test_a_launch_is_read_from_the_environment():
    assert find_launch({}) is None
    found = find_launch(WHOLE)
    assert found is not None
    assert (found.rank, found.size, found.local_rank, found.address) == (1, 2, 1, "here:29500")
    alone = find_launch({"WORLD_SIZE": "1"})
    assert alone is not None and alone.size == 1
    assert find_launch(WHOLE | {"VITRAL_TIMEOUT": "2.5"}).timeout == 2.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MASTER_PORT": ""}, "no MASTER_PORT"),
        ({"RANK": "2"}, "RANK must be below WORLD_SIZE"),
        ({"RANK": "-1"}, "RANK=-1 must be a whole number"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two must be a whole number"),
        ({"WORLD_SIZE": "0"}, "do not fit together"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK at most RANK"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT from 1 to 65535"),
        ({"VITRAL_TIMEOUT": "soon"}, "VITRAL_TIMEOUT=soon must be a number of seconds"),
    ],
)
def test_variables_that_are_wrong_are_refused(change, words):
    with pytest.raises(UsageError, match=words):
        find_launch(WHOLE | change)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_a_variable_alone_is_refused(name):
    with pytest.raises(UsageError, match="unset them to train in one process"):
        find_launch({name: WHOLE[name]})
