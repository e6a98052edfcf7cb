"""Which part of what a model returned is its answer: one rule, whatever a model returns."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from tiny import tiny_vit, with_record
from vitral.base.errors import UsageError
from vitral.base.output import AmbiguousOutput, find_output, find_scores

SCORES = torch.randn(2, 5)
FEATURES = torch.randn(2, 16)
TOKENS = torch.randn(2, 7, 16)
WEIGHTS = torch.randn(2, 4, 7, 7).softmax(-1)

Named = namedtuple("Named", ["features", "scores"])


@dataclass
class Result:
    features: Any
    scores: Any


def kind(value):
    """A short name of what a test is given: tensors have no name that stays."""
    return value if isinstance(value, str) else type(value).__name__


class Five(nn.Module):
    """A model that states how many classes it has."""

    num_classes = 5


@pytest.mark.parametrize(
    ("result", "place"),
    [
        (SCORES, None),
        ({"logits": SCORES, "scores": SCORES + 1}, None),
        ((SCORES,), None),
        ((FEATURES, SCORES), "its element 1, (2, 5), is taken as the scores"),
        ((SCORES, [WEIGHTS, WEIGHTS]), "its element 0, (2, 5)"),
        ([TOKENS, SCORES], "VIT returns a list; its element 1"),
        (([TOKENS], (FEATURES, SCORES)), "its element 1[1]"),
        ({"features": FEATURES, "scores": SCORES}, "VIT returns a dict; its field 'scores'"),
        (Named(FEATURES, SCORES), "VIT returns a Named; its field 'scores'"),
        (Result(FEATURES, SCORES), "VIT returns a Result; its field 'scores'"),
        ((SCORES, SCORES), None),  # the same tensor twice
        ((torch.tensor(0.5), SCORES), "its element 1"),  # a loss
        ((SCORES, SCORES.argmax(1)), "its element 0"),
        ({"last_hidden_state": TOKENS, "scores": SCORES}, "its field 'scores'"),
    ],
    ids=kind,
)
def test_the_scores_are_the_part_of_as_many_columns_as_classes(result, place):
    VIT = type("VIT", (Five,), {})
    output = find_output(VIT(), result, 2)
    assert output.tensor is SCORES and output.scores_classes
    assert (place in output.note) if place else not output.note


@pytest.mark.parametrize(
    ("result", "shapes"),
    [
        ((torch.randn(2, 5), SCORES), r"several parts could be the scores: element 0 \(2, 5\), element 1 \(2, 5\)"),
        ((FEATURES, WEIGHTS), r"no part holds scores of the model's 5 classes: element 0 \(2, 16\), element 1 \(2, 4,"),
        ([FEATURES] * 2 + [TOKENS + i for i in range(7)], r"element 6 \(2, 7, 16\) and 2 more"),
        ({"out": SCORES[:, :, None, None], "aux": SCORES[:, :, None, None] + 1}, r"field 'out' \(2, 5, 1, 1\), field"),
    ],
    ids=["two", "none", "many", "segmenter with two outputs"],
)
def test_where_several_fit_or_none_the_shapes_are_said_and_the_way_out(result, shapes):
    with pytest.raises(AmbiguousOutput, match=shapes) as caught:
        find_output(Five(), result, 2)
    assert "Return the scores (2, 5) alone, or in a dict as 'logits'." in str(caught.value)


@pytest.mark.parametrize(
    ("result", "scores"),
    [
        ((TOKENS, SCORES), True),
        ((SCORES, WEIGHTS), True),
        ((TOKENS, WEIGHTS), False),
        ({"tokens": TOKENS, "attentions": [WEIGHTS, WEIGHTS + 0]}, False),
        ({"pooler_output": FEATURES, "last_hidden_state": TOKENS}, False),
        ({"last_hidden_state": TOKENS, "pooler_output": None}, False),
        ([TOKENS], False),
    ],
    ids=kind,
)
def test_where_the_classes_are_not_known_one_matrix_is_the_scores_and_attention_is_no_answer(result, scores):
    output = find_output(nn.Identity(), result, 2)
    first = [part for part in (result.values() if isinstance(result, dict) else result) if torch.is_tensor(part)]
    assert output.tensor is (SCORES if scores else first[0])
    assert output.scores_classes == scores


def test_several_matrices_of_unknown_classes_are_refused_with_two_ways_out():
    with pytest.raises(AmbiguousOutput, match=r"element 0 \(2, 16\), element 1 \(2, 5\)\. .* set model\.num_classes"):
        find_output(nn.Identity(), (FEATURES, SCORES), 2)
    with pytest.raises(AmbiguousOutput, match="several parts could be the output"):
        find_output(nn.Identity(), [TOKENS, TOKENS + 1], 2)
    assert find_output(nn.Identity(), (FEATURES, SCORES), 2, num_classes=5).tensor is SCORES


@pytest.mark.parametrize("compiled", [False, True])
def test_the_record_says_how_many_classes_there_are(compiled):
    model = with_record(tiny_vit())
    model = torch.compile(model, backend="eager") if compiled else model
    output = find_output(model, (FEATURES, SCORES), 2)
    assert output.tensor is SCORES
    assert output.note.startswith("VisionTransformer returns a tuple")


@pytest.mark.parametrize("result", [{}, (), None, "logits", {"loss": None}], ids=repr)
def test_an_answer_without_a_tensor(result):
    with pytest.raises(UsageError, match=f"returned a {type(result).__name__} that contains no tensor"):
        find_output(nn.Identity(), result, 2)


def test_whole_numbers_are_no_scores():
    for result in (SCORES.argmax(1), (SCORES.argmax(1), SCORES > 0)):
        with pytest.raises(UsageError, match=r"returned torch\.int64 values; return logits, not class indices"):
            find_output(Five(), result, 2)


def test_one_image_whose_axis_was_squeezed_away_has_it_again():
    for result in (SCORES[0], (FEATURES[0], SCORES[0])):
        output = find_output(Five(), result, 1)
        assert torch.equal(output.tensor, SCORES[:1]) and output.scores_classes
        assert r"returns (5,) for one image, without a batch axis" in output.note
    with pytest.raises(UsageError, match=r"returns \(5,\) for 2 images, not one score per class"):
        find_scores(Five(), SCORES[0], 2)


def test_scores_of_places_are_no_scores_of_the_image():
    dense = torch.randn(2, 5, 4, 4)
    for result in (dense, (TOKENS, dense), (dense.movedim(1, -1), TOKENS)):
        assert find_output(Five(), result, 2).tensor.ndim == 4
        with pytest.raises(UsageError, match=r"not one score per class \(B, K\)"):
            find_scores(Five(), result, 2)


def test_a_model_without_a_head_scores_nothing():
    for model in (tiny_vit(num_classes=0), type("Headless", (nn.Module,), {"num_classes": 0})()):
        assert not find_output(model, FEATURES, 2).scores_classes
