"""A moving average of weights: what it holds, and that it goes on after a stop."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitral.training.average import MovingAverage


@given(st.floats(0, 0.999), st.integers(1, 12))
def test_it_is_the_sum_of_all_weights_by_their_shares(decay, steps):
    """After step t: own = k own + (1 - k) weights, k the decay or less at first; written out as one sum."""
    model = nn.Linear(2, 2)
    first = model.weight.detach().clone()
    average, seen = MovingAverage(model, decay), []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 2))
        seen.append(model.weight.detach().clone())
        average.update(model, step)
    kept = [min(decay, step / (9 + step)) for step in range(1, steps + 1)]
    expected = first * torch.tensor(kept).prod()
    for number, weights in enumerate(seen):
        expected = expected + (1 - kept[number]) * torch.tensor(kept[number + 1 :]).prod() * weights
    torch.testing.assert_close(average.model.weight.detach(), expected, rtol=1e-4, atol=1e-5)


def test_statistics_are_averaged_and_counters_copied():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = MovingAverage(model, 0.5)
    for step in range(1, 30):
        model(torch.randn(8, 3) + 5)
        average.update(model, step)
    norm = average.model[1]
    assert norm.num_batches_tracked == 29
    assert norm.running_mean.norm() > 0
    assert not torch.equal(norm.running_mean, model[1].running_mean)


def test_weights_that_two_layers_share_are_averaged_once():
    alone, shared = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    shared.append(shared[0])
    with torch.no_grad():
        shared[0].weight.copy_(alone.weight)
    averages = [MovingAverage(model, 0.9) for model in (alone, shared)]
    with torch.no_grad():
        alone.weight.add_(1)
        shared[0].weight.add_(1)
    for average, model in zip(averages, (alone, shared)):
        average.update(model, 1)
    torch.testing.assert_close(averages[1].model[1].weight, averages[0].model.weight)


def test_the_model_in_training_is_left_as_it_is():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.9)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    average.update(model, 1)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert average.model.weight.data_ptr() != model.weight.data_ptr()
