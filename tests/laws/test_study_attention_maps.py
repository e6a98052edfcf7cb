"""`right_object`: the mask always finds the right object, a map without information finds it by chance."""

from functools import partial

import numpy as np
import pytest
import torch

from vitral.data.synthetic.cued import cued
from vitral.explain.metric import Case, Scene, patch_shares
from vitral.explain.object_masks import covered
from vitral.explain.scoring import prepared
from vitral.studies.claims.attention_maps import right_object

GRID = (6, 6)


@pytest.fixture(scope="module")
def case():
    data = cued(n=500, objects=2, smallest=0.27, largest=0.28)
    split = data.train
    scene = Scene(split, partial(prepared, data.preprocessing, torch.device("cpu")))
    return Case(
        torch.nn.Identity(), torch.empty(500, 3, 48, 48), split.labels, split.masks, lambda *_: np.empty(0), {}, scene
    )


def test_the_mask_is_right_and_its_negative_is_wrong(case):
    mask = patch_shares(case.masks, GRID)
    assert (right_object(mask, case) == 1).all()
    assert (right_object(-mask, case) == 0).all()


def test_a_constant_map_scores_one_half(case):
    assert (right_object(np.ones((500, *GRID)), case) == 0.5).all()


def test_random_maps_are_right_half_of_the_time(case):
    noise = np.random.default_rng(0).random((500, *GRID))
    assert right_object(noise, case).mean() == pytest.approx(0.5, abs=0.1)


def test_marking_both_shapes_equally_scores_one_half(case):
    both = covered(case.scene.split, GRID).sum(axis=1)
    assert right_object(both, case).mean() == pytest.approx(0.5, abs=0.1)
