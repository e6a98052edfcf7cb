"""Memory that held attention weights, or the result of a call, may hold other values later."""

import torch
from torch import nn

from vitral.recording.operators import storage_of
from vitral.recording.recognizer import Recognizer


def weights_and_result(recognizer):
    """A tensor that is known as weights, and one that is known as the result of a call."""
    weights, result = torch.rand(1, 2, 6, 6).softmax(-1), torch.rand(1, 2, 6, 4)
    recognizer.follower.start(weights, -1, "blocks.0, line 1 of vit.py")
    recognizer.results[storage_of(result)] = (2, ())
    return weights, result


def test_an_exchanged_result_that_lies_where_weights_lay_is_no_weights():
    recognizer = Recognizer(nn.Identity())
    memory, result = weights_and_result(recognizer)
    recognizer.exchange(result, memory)
    assert storage_of(memory) not in recognizer.follower.weights
    assert recognizer.results[storage_of(memory)] == (2, ())


def test_an_exchanged_result_of_no_call_is_no_result_of_the_call_that_lay_there():
    recognizer = Recognizer(nn.Identity())
    _, memory = weights_and_result(recognizer)
    recognizer.exchange(torch.rand(1, 2, 6, 4), memory)
    assert storage_of(memory) not in recognizer.results


def test_a_result_that_is_exchanged_for_a_view_of_itself_is_still_that_of_its_call():
    recognizer = Recognizer(nn.Identity())
    _, result = weights_and_result(recognizer)
    recognizer.exchange(result, result.transpose(1, 2))
    assert recognizer.results[storage_of(result)] == (2, ())


def test_a_result_that_lies_where_a_blank_tensor_lay_is_not_blank():
    dataflow = Recognizer(nn.Identity()).dataflow
    memory, other = torch.rand(2, 3), torch.rand(2, 3)
    dataflow.blank[storage_of(memory)] = 0
    # An operator with two results, of which one lies in that memory.
    dataflow.follow(torch.ops.aten.topk.default, (other, 3), [other], (memory, torch.zeros(2, 3, dtype=torch.long)))
    assert storage_of(memory) not in dataflow.blank
