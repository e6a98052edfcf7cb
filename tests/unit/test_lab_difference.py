"""The picture of where two tensors differ marks exactly the places where they do."""

import ast
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitral.lab.difference import PICTURE_SIZE, describe_difference

SHAPES = st.lists(st.integers(1, 40), min_size=1, max_size=2).flatmap(
    lambda last: st.lists(st.integers(1, 3), max_size=2).map(lambda before: (*before, *last))
)


@given(shape=SHAPES, seed=st.integers(0, 1000), share=st.sampled_from([0.01, 0.3, 0.9]))
def test_each_mark_is_where_the_two_differ(shape, seed, share):
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(shape, generator=generator)
    apart = torch.rand(shape, generator=generator) < share
    if not apart.any():
        apart.view(-1)[-1] = True
    summary, _, _, *picture = describe_difference(one, one + apart, "yours", "should be").splitlines()

    first = apart.nonzero()[0].tolist()
    assert summary == f"{apart.sum()} of {apart.numel()} numbers differ, the first at {first}"
    if not picture:  # every number around the first differs
        plane = torch.atleast_2d(apart[tuple(first[:-2])])
        assert plane.all() or any(size > most for size, most in zip(plane.shape, PICTURE_SIZE))
        return
    place = re.search(r"\[(.*)\]:", picture[0]).group(1)
    spans = tuple(
        slice(*map(int, own.split(":"))) if ":" in own else ast.literal_eval(own) for own in place.split(", ")
    )
    marks = torch.tensor([[mark == "■" for mark in row.split()] for row in picture[1:]])
    assert torch.equal(marks, torch.atleast_2d(apart[spans]))
    assert marks.any() and not marks.all() and all(size <= most for size, most in zip(marks.shape, PICTURE_SIZE))


@pytest.mark.parametrize(
    "one, other", [(torch.ones(3), torch.ones(2)), (torch.tensor(1.0), torch.tensor(2.0)), (1, "a")]
)
def test_values_without_rows_get_no_picture(one, other):
    assert "■" not in describe_difference(one, other, "yours", "should be")
